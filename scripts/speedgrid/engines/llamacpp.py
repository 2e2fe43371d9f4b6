"""llama.cpp through its C API, as llama-cpp-python binds it. Nothing here uses PyTorch, and the process does not load it."""

import math
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from speedgrid import ceilings, this_machine
from speedgrid.engines import base
from speedgrid.engines.language import unchanging_length
from speedgrid.engines.llamacpp_library import (
    INSTRUCTION_SETS,
    Batch,
    Log,
    bindings,
    built_for,
    check_processor,
    positions_in_file,
    share_of_file,
    system_info,
    weights,
)
from speedgrid.outcomes import MissingDependency, Unsupported

FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
# Bytes of logits that scoring holds at once: a row has four for every token of the vocabulary.
LOGITS_BYTES = 64 * 2**20
# Decoding steps of the reply that tells which share of a step is llama.cpp's computing.
STEPS_TIMED = 32


class Engine(base.Engine):
    OPTIONS: ClassVar = {"dtype": None, "flash_attention": None}
    uses_torch = False
    loads_safetensors = False
    LOADS = "gguf"
    native_model = native_context = None
    step: Any = None  # a Batch, once the model is loaded

    def import_packages(self) -> None:
        import numpy  # noqa: F401 - scoring needs it

        self.lib = llama_cpp = bindings()
        self.log = Log(llama_cpp)
        llama_cpp.llama_backend_init()
        self.build = system_info(llama_cpp.llama_print_system_info().decode())
        check_processor(self.build, this_machine.instruction_sets())
        if self.device.is_gpu and not llama_cpp.llama_supports_gpu_offload():
            raise MissingDependency(
                "llama.cpp in this environment was built for CPUs, and this machine has an NVIDIA GPU;"
                " install the CUDA toolkit (nvcc), delete the environment and run again"
            )

    def open(self) -> None:
        with hidden("torch"):
            super().open()

    def load(self, room: int, batch_size: int = 1) -> None:
        lib = self.lib
        path = weights(self.checkpoint)
        self.log.forget()
        settings = lib.llama_model_default_params()
        settings.n_gpu_layers = -1 if self.device.is_gpu else 0
        # The one GPU that the cell is about; on a CPU none at all, which a build for CUDA would use for long prompts.
        settings.split_mode = lib.LLAMA_SPLIT_MODE_NONE
        settings.main_gpu = 0 if self.device.is_gpu else -1
        self.native_model = lib.llama_model_load_from_file(str(path).encode(), settings)
        if not self.native_model:
            raise self.log.failure(f"llama.cpp cannot load {path.name}")
        self.refuse_positions(path, room)
        self.language.refuse_room(room)
        self.refuse_window(room)

        context = context_for(room, unchanging_length(self.language.text_config.to_dict()))
        # What llama.cpp's own tools set; the rest are its defaults: batches of 2048 and 512 tokens, a KV cache in float16.
        settings = lib.llama_context_default_params()
        settings.n_ctx = batch_size * context
        settings.n_seq_max = batch_size
        settings.n_threads = settings.n_threads_batch = self.threads
        settings.flash_attn_type = FLASH_ATTENTION[self.options.get("flash_attention", "auto")]
        settings.swa_full = False
        self.native_context = lib.llama_init_from_model(self.native_model, settings)
        if not self.native_context:
            raise self.log.failure("llama.cpp cannot make room for the sequences")
        self.memory = lib.llama_get_memory(self.native_context)
        self.tokens_at_once = lib.llama_n_batch(self.native_context)
        self.vocabulary_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.native_model))
        self.step = Batch(lib, batch_size)

    def refuse_positions(self, path: Path, room: int) -> None:
        """Raise Unsupported where a sequence of `room` tokens, of which the last is never fed, is longer than a table of positions, beyond
        which llama.cpp reads whatever lies there. (How far a model goes without such a table, its configuration says: `refuse_room`.)"""
        lib, needed = self.lib, room - 1
        rotary = lib.llama_model_rope_type(self.native_model) != lib.LLAMA_ROPE_TYPE_NONE
        trained = lib.llama_model_n_ctx_train(self.native_model)
        # Looked into only where it may matter: a table is as long as the sequences that the model was trained on.
        if rotary or needed <= trained:
            return
        known = positions_in_file(path, trained)
        if known and needed > known:
            raise Unsupported(f"the model has embeddings of {known:,} positions, and prompt and reply together need {needed:,}")

    def refuse_window(self, room: int) -> None:
        """Raise Unsupported where `room` tokens are longer than a sliding window that llama.cpp does not keep to, as Mistral's:
        it would attend to more than the model does."""
        config = self.language.text_config.to_dict()
        widths = {width for width in ceilings.windows(config, config.get("num_hidden_layers") or 1) if width}
        # It reads the width of some families, and has their layers see all the same.
        keeps = self.lib.llama_model_n_swa(self.native_model) in widths and not re.search(r"is_swa_any\s+= 0\b", self.log.text)
        if widths and room - 1 > min(widths) and not keeps:
            raise Unsupported(
                f"llama.cpp computes {self.config.model_type} without its sliding window of {min(widths):,} tokens, and prompt and reply"
                f" together need {room - 1:,}"
            )

    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> base.Reply:
        return self._reply(prompt, settings, seed, self._decode)

    def _reply(self, prompt: Sequence[int], settings: Mapping, seed: int, decode: Callable[[Batch], None]) -> base.Reply:
        """A reply whose batches are computed by `decode`."""
        lib, count, sampling = self.lib, settings["batch_size"], settings["sampling"]
        ends = set() if settings["ignore_eos"] else set(self.language.end_tokens())
        replies: list[list[int]] = [[] for _ in range(count)]
        token_s: list[float] = []
        # Every sequence computes its prompt, and nothing is kept from the reply before.
        rows = [(token, at, sequence, at == len(prompt) - 1) for sequence in range(count) for at, token in enumerate(prompt)]
        parts = [Batch.of(lib, rows[i : i + self.tokens_at_once]) for i in range(0, len(rows), self.tokens_at_once)]
        samplers = [self._sampler(sampling, prompt, sequence_seed(seed, sequence)) for sequence in range(count)]
        pick = self._likeliest if likeliest_alone(sampling) else self._sampled
        lib.llama_memory_clear(self.memory, False)
        lib.llama_synchronize(self.native_context)

        def run(batch: Batch) -> None:
            decode(batch)
            for row, sequence in batch.outputs:
                # Picking reads the logits, and so waits until the device has computed them.
                replies[sequence].append(pick(samplers[sequence], row))

        try:
            started = time.perf_counter()
            for batch in parts:
                run(batch)
            token_s.append(time.perf_counter() - started)
            going = [sequence for sequence in range(count) if replies[sequence][-1] not in ends]
            while going and len(token_s) < settings["max_new_tokens"]:
                at = len(prompt) + len(token_s) - 1
                self.step.put([(replies[sequence][-1], at, sequence, True) for sequence in going])
                run(self.step)
                token_s.append(time.perf_counter() - started)
                if ends:
                    going = [sequence for sequence in going if replies[sequence][-1] not in ends]
            lib.llama_synchronize(self.native_context)
            return base.Reply(replies, token_s, time.perf_counter() - started)
        finally:
            for sampler in samplers:
                lib.llama_sampler_free(sampler)
            for batch in parts:
                batch.free()

    def _loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[base.Likelihood]:
        scores = []
        for context, continuation in requests:
            found, greedy = [], True
            for token, row in zip(continuation, self._rows([*context, *continuation[:-1]], len(context) - 1), strict=True):
                found.append(float(row[token]))
                greedy = greedy and int(row.argmax()) == token
            scores.append(base.Likelihood(found, greedy))
        return scores

    def _next_tokens(self, sequences: Sequence[Sequence[int]], count: int) -> list[base.Likeliest]:
        import numpy

        answers = []
        for ids in sequences:
            tokens, logarithms = [], []
            for row in self._rows(ids, 0):
                top = numpy.argsort(-row, kind="stable")[:count]
                tokens.append(top.tolist())
                logarithms.append(row[top].tolist())
            answers.append(base.Likeliest(tokens, logarithms))
        return answers

    def _rows(self, ids: Sequence[int], first: int) -> Iterator:
        """Natural logarithms of the probabilities of all next tokens, after each token of a sequence from the one at `first` on."""
        lib = self.lib
        # Few enough at once that their logits stay within bounds, whatever the size of the vocabulary.
        at_once = max(1, min(self.tokens_at_once, LOGITS_BYTES // (4 * self.vocabulary_size)))
        rows = [(token, at, 0, at >= first) for at, token in enumerate(ids)]
        lib.llama_memory_clear(self.memory, False)
        for start in range(0, len(rows), at_once):
            batch = Batch.of(lib, rows[start : start + at_once])
            try:
                self._decode(batch)
                for row, _ in batch.outputs:
                    yield logarithms(self._logits(row))
            finally:
                batch.free()

    def sizes(self) -> dict[str, int | None]:
        return {
            "parameters": self.lib.llama_model_n_params(self.native_model),
            "trainable_parameters": None,
            "model_bytes": self.lib.llama_model_size(self.native_model),
        }

    def multiplies_in(self) -> str:
        # Its kernels for quantized weights round activations to 8 bits (ggml's vec_dot_type, and MMQ on a GPU).
        quantized = self.lib.llama_model_size(self.native_model) < 1.5 * self.lib.llama_model_n_params(self.native_model)
        return "int8" if quantized else ""

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        seen = {"build": self.build, "threads": self.lib.llama_n_threads(self.native_context), **loaded(self.log.text)}
        if unused := sorted(set(this_machine.instruction_sets()) & (set(INSTRUCTION_SETS.values()) - built_for(self.build))):
            seen["instruction_sets_not_built_for"] = unused
        short = {**settings, "max_new_tokens": min(settings["max_new_tokens"], 1 + STEPS_TIMED)}
        _, seen["sampling_share"] = self.sampling_shares(prompt, short)
        reason = not_as_asked(seen, self.threads, self.options.get("flash_attention", "auto"), self.device.is_gpu)
        if not re.search(r"\bB?F(16|32)\b", seen["file_type"]) and (share := share_of_file(weights(self.checkpoint))):
            seen |= share.evidence()
            reason = reason or share.reason()
        return base.Proof(not reason, reason, seen)

    def sampling_shares(self, prompt: Sequence[int], settings: Mapping) -> tuple[float, float]:
        """The shares of the time to the first token, and of the decoding steps after it, that pass outside of `llama_decode` in one reply;
        0 where it has no further steps.

        Nearly all of it is picking tokens, on the CPU and from the logits of the whole vocabulary: where llama.cpp's sampler does it, that
        shows on a fast GPU. llama-bench picks none, so that its figures are to be compared with what is left.
        """
        inside: list[float] = []

        def timed(batch: Batch) -> None:
            started = time.perf_counter()
            self._decode(batch)
            self.lib.llama_synchronize(self.native_context)
            inside.append(time.perf_counter() - started)

        token_s = self._reply(prompt, settings, 0, timed).token_s
        steps = len(token_s) - 1
        step_s, first = token_s[-1] - token_s[0], sum(inside[: len(inside) - steps])
        return round(1 - first / token_s[0], 4), round(1 - sum(inside[len(inside) - steps :]) / step_s, 4) if steps else 0.0

    def close(self) -> None:
        if self.step:
            self.step.free()
        if self.native_context:
            self.lib.llama_free(self.native_context)
        if self.native_model:
            self.lib.llama_model_free(self.native_model)
        self.step = self.native_context = self.native_model = None

    def _decode(self, batch: Batch) -> None:
        status = self.lib.llama_decode(self.native_context, batch.native)
        if status:
            raise self.log.failure(f"llama.cpp cannot compute the batch (llama_decode returned {status})")

    def _sampled(self, sampler, row: int) -> int:
        return self.lib.llama_sampler_sample(sampler, self.native_context, row)

    def _likeliest(self, greedy, row: int) -> int:
        """The token that llama.cpp's sampler `greedy` picks: the first of the likeliest. For that it lists all tokens of the vocabulary
        anew at each step, which takes a fifth of a step on a fast GPU, and a look at the logits a hundredth."""
        logits = self._logits(row)
        token = int(logits.argmax())
        # Of numbers that are none NumPy takes the first for the largest, and llama.cpp does not.
        return self._sampled(greedy, row) if math.isnan(logits[token]) else token

    def _logits(self, row: int):
        """The logits of all tokens after a row of the last batch, in llama.cpp's own memory, which the next batch overwrites."""
        import numpy

        return numpy.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.native_context, row), (self.vocabulary_size,))

    def _sampler(self, sampling: Mapping, prompt: Sequence[int], seed: int):
        """llama.cpp's samplers in the order in which transformers applies its own."""
        lib = self.lib
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        steps = []
        penalty = sampling.get("repetition_penalty", 1.0)
        if penalty != 1:
            # Over the whole sequence. A length of -1 would mean no penalty at all, contrary to what other engines make of it.
            steps.append(
                lib.llama_sampler_init_penalties(self.vocabulary_size, lib.llama_n_ctx_seq(self.native_context), penalty, 0.0, 0.0)
            )
        if sampling["do_sample"]:
            steps += [
                lib.llama_sampler_init_temp(sampling["temperature"]),
                lib.llama_sampler_init_top_k(sampling["top_k"]),
                lib.llama_sampler_init_top_p(sampling["top_p"], 1),
                lib.llama_sampler_init_dist(seed),
            ]
        else:
            steps.append(lib.llama_sampler_init_greedy())
        for step in steps:
            lib.llama_sampler_chain_add(chain, step)
        if penalty != 1:
            for token in prompt:
                lib.llama_sampler_accept(chain, token)
        return chain


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Let a package seem not to be there. transformers imports PyTorch where it can, even for a tokenizer; this engine's memory would
    then be PyTorch's for the most part."""
    if package in sys.modules:
        yield
        return
    quiet = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    told = os.environ.setdefault(quiet, "1")
    sys.modules[package] = None  # type: ignore[assignment]  # what Python takes for a package that is not there
    try:
        yield
    finally:
        del sys.modules[package]
        if told == "1":
            os.environ.pop(quiet, None)


def context_for(room: int, unchanging: int | None) -> int:
    """Tokens of the context in which llama.cpp takes a sequence of `room` tokens: a multiple of 256, as it rounds up itself.

    `unchanging`: engines.language.unchanging_length, which decides here with the length of the context, and not with that of a text. Raises
    outcomes.Unsupported where a text is within it and no context that holds the text is.
    """
    context = -(-room // 256) * 256
    if unchanging and room <= unchanging < context:
        raise Unsupported(
            f"the model's rotary embeddings change at {unchanging} tokens, and llama.cpp chooses them by the size of its context, which is"
            f" {context} tokens for a text of {room}"
        )
    return context


def logarithms(logits):
    """Natural logarithms of the probabilities that logits stand for, in memory of their own."""
    import numpy

    logits = logits.astype(numpy.float64)
    top = logits.max()
    return logits - top - numpy.log(numpy.exp(logits - top).sum())


def likeliest_alone(sampling: Mapping) -> bool:
    """Whether the next token is the likeliest as the model has it, which no sampler has to find."""
    return not sampling["do_sample"] and sampling.get("repetition_penalty", 1.0) == 1


def sequence_seed(seed: int, sequence: int) -> int:
    """A seed of 32 bits for one sequence of a reply; never the largest, by which llama.cpp means chance."""
    return random.Random(f"{seed}/{sequence}").randrange(2**32 - 1)


def loaded(log: str) -> dict:
    """What llama.cpp said of the model and of its context when it loaded them."""
    patterns = {
        "file_type": r"print_info: file type\s+= (.+)",
        "flash_attention": r"flash_attn\s+= (\w+)",
        "flash_attention_found": r"Flash Attention (enabled|not supported)",
        "kv_cache_k": r"\bK \((\w+)\)",
        "kv_cache_v": r"\bV \((\w+)\)",
        "load_mode": r"load_mode = (\w+)",
        "layers_on_gpu": r"offloaded (\d+/\d+) layers to GPU",
        "gpu": r"using device (.+?) - \d+ MiB free",
    }
    numbers = {name: rf"\b{name}\s+= (\d+)" for name in ("n_ctx", "n_seq_max", "n_batch", "n_ubatch")}
    seen: dict = {name: match[1].strip() for name, pattern in patterns.items() if (match := re.search(pattern, log))}
    seen |= {name: int(match[1]) for name, pattern in numbers.items() if (match := re.search(pattern, log))}
    seen["tensors"] = {kind: int(count) for kind, count in re.findall(r"- type\s+(\w+):\s+(\d+) tensors", log)}
    seen["model_buffers_mib"] = {name: float(size) for name, size in re.findall(r"(\w+) model buffer size =\s+([\d.]+) MiB", log)}
    if found := seen.pop("flash_attention_found", None):
        seen["flash_attention"] = "enabled" if found == "enabled" else "disabled"
    return seen


def not_as_asked(seen: Mapping, threads: int, flash_attention: str, gpu: bool) -> str:
    """Why what was loaded is not what was asked for; empty where it is."""
    # Such as "all F32", "Q8_0" or "Q4_K - Medium"; of the IQ types some are mixtures of several that share a number of bits.
    kind = re.search(r"IQ\d|T?Q\d_\w|B?F\d\d|\w+FP4", seen["file_type"])
    if kind and not any(name.upper().startswith(kind[0]) for name in seen["tensors"]):
        return f"the file is {seen['file_type']} by its name, and no tensor is of that type, whose blocks do not fit the rows of this model"
    if seen["threads"] != threads:
        return f"asked for {threads} threads, and llama.cpp uses {seen['threads']}"
    asked = {"on": "enabled", "off": "disabled"}.get(flash_attention)
    if asked and seen["flash_attention"] != asked:
        return f"asked for flash attention {asked}, and llama.cpp has it {seen['flash_attention']}"
    done, _, layers = seen.get("layers_on_gpu", "").partition("/")
    if gpu and (not done or done != layers):
        return f"{done or 'none'} of the model's {layers or 'layers'} were put on the GPU"
    return ""
