"""vLLM: its offline `LLM`, on a GPU or, with the build for CPUs, on a CPU.

A reply is timed around the loop over `LLMEngine.step` that `LLM.generate` itself runs, so that each step's tokens can be given a time.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from speedgrid import checkpoints
from speedgrid.engines import base
from speedgrid.outcomes import OutOfMemory, Unsupported

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The last token of a text is scored and never fed, so a text of the model's whole context needs room for one more.
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
BLOCK = 128
SMALLEST_CACHE = 64 * 2**20
# What vLLM says of itself while it loads, as it says it; the engine's own process has no other way to tell.
SAID = {
    "attention_backend": r"Using (\w+) (?:attention )?backend",
    "linear_kernel": r"Using (\w+) for \w*LinearMethod",
    "moe_kernel": r"Using (\w+) .*MoE",
}


class Engine(base.Engine):
    uses_torch = False

    def import_packages(self) -> None:
        os.environ.update(ENVIRONMENT)
        if not self.device.is_gpu:
            # vLLM's CPU worker binds its threads to cores of its own choice, as many as it is told here.
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = _cores(self.threads)
        import vllm  # noqa: F401

    def load(self, room: int, batch_size: int = 1) -> None:
        """Load with a KV cache for what will be asked and twice as much, instead of all the memory that is left: the figure for memory
        then says what the technique needs. Prefix caching is off, since a prompt that is the same each time would hit it."""
        from vllm import LLM

        self.length = room + 1
        said = []
        with _output_kept(said):
            try:
                self.llm = LLM(
                    model=str(self.checkpoint),
                    dtype=self.options["dtype"],
                    quantization=self.options.get("quantization"),
                    enforce_eager=self.options.get("enforce_eager", False),
                    max_model_len=self.length,
                    max_num_seqs=max(batch_size, 8),
                    kv_cache_memory_bytes=self._cache_bytes(batch_size),
                    enable_prefix_caching=False,
                    trust_remote_code=self.trust_remote_code,
                    disable_log_stats=False,
                )
            except Exception as error:
                raise _reason(error, "".join(said)) from error
        self.said = "".join(said)
        self.requests = 0
        self.differences: list[float] = []

    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> base.Reply:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        batch = settings["batch_size"]
        limits = {"max_tokens": settings["max_new_tokens"], "ignore_eos": settings["ignore_eos"], "detokenize": False}
        ends = None if settings["ignore_eos"] else self.end_tokens()
        sampling = _sampling(settings["sampling"])
        params = [
            SamplingParams(seed=seed * batch + i, stop_token_ids=ends, output_kind=RequestOutputKind.DELTA, **limits, **sampling)
            for i in range(batch)
        ]
        tokens: dict[str, list[int]] = {}
        when: dict[str, list[float]] = {}
        engine = self.llm.llm_engine
        # The same call that `LLM.generate` makes first; it names the requests.
        clock = time.perf_counter()
        self.llm.enqueue([{"prompt_token_ids": list(prompt)}] * batch, params, use_tqdm=False)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.perf_counter() - clock
            for output in outputs:
                new = list(output.outputs[0].token_ids)
                tokens.setdefault(output.request_id, []).extend(new)
                when.setdefault(output.request_id, []).extend([now] * len(new))
                if output.finished:
                    self._compare_clocks(output.metrics, when[output.request_id])
        seconds = time.perf_counter() - clock
        steps = max(map(len, when.values()))
        together = [max(times[step] for times in when.values() if step < len(times)) for step in range(steps)]
        return base.Reply([tokens[name] for name in sorted(tokens, key=_number)], together, seconds)

    def loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-probabilities as vLLM gives them of a prompt's tokens. The last token is not fed: it is the one that may be sampled."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": [*context, *continuation[:-1]]} for context, continuation in requests]
        params = [
            SamplingParams(
                max_tokens=1, temperature=0.0, prompt_logprobs=0, logprobs=0, allowed_token_ids=[continuation[-1]], detokenize=False
            )
            for _, continuation in requests
        ]
        scores = []
        answers = self.llm.generate(prompts, params, use_tqdm=False)
        for answer, prompt, (context, continuation) in zip(answers, prompts, requests, strict=True):
            ids = prompt["prompt_token_ids"]
            inside = [answer.prompt_logprobs[i][ids[i]].logprob for i in range(len(context), len(ids))]
            last = answer.outputs[0].logprobs[0][continuation[-1]].logprob
            scores.append([*inside, last])
        return scores

    def sizes(self) -> dict[str, int | None]:
        loading = re.search(r"Model loading took ([\d.]+) GiB", self.said)
        plain = not self._vllm_config().model_config.quantization
        count = checkpoints.parameters(self.checkpoint) if plain else None
        return {
            "parameters": count,
            "trainable_parameters": None,
            "model_bytes": round(float(loading[1]) * 2**30) if loading else None,
        }

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        """What vLLM resolved its settings to. A quantized checkpoint must have been taken as one, and prefix caching must be off."""
        from statistics import median

        config = self._vllm_config()
        seen = {
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "enforce_eager": config.model_config.enforce_eager,
            "compilation": str(config.compilation_config.mode),
            "cudagraphs": str(config.compilation_config.cudagraph_mode),
            "prefix_caching": config.cache_config.enable_prefix_caching,
            "cache_blocks": config.cache_config.num_gpu_blocks,
            "cache_block_tokens": config.cache_config.block_size,
            "max_model_len": config.model_config.max_model_len,
            "executor": str(config.parallel_config.distributed_executor_backend),
        }
        seen |= {name: found[-1] for name, pattern in SAID.items() if (found := re.findall(pattern, self.said))}
        if self.differences:
            # Our decode time of each reply over that of the engine's own per-request metrics.
            seen["decode_s_over_engines_own"] = round(median(self.differences), 4)
        asked = self.options.get("quantization") or _quantization_of(self.checkpoint)
        if asked and not seen["quantization"]:
            return base.Proof(False, f"the checkpoint is quantized ({asked}), and vLLM loaded it as if it were not", seen)
        if seen["prefix_caching"]:
            return base.Proof(False, "prefix caching was on, so the prompt of the counted replies was not computed", seen)
        return base.Proof(True, "", seen)

    def close(self) -> None:
        llm, self.llm = getattr(self, "llm", None), None
        if llm is not None:
            with suppress(Exception):
                llm.llm_engine.engine_core.shutdown()

    def _vllm_config(self):
        return self.llm.llm_engine.vllm_config

    def _cache_bytes(self, batch_size: int) -> int:
        """Bytes of KV cache for twice the tokens that will be asked for: keys and values of every layer, in the number format."""
        config = self._text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * width * (4 if self.options["dtype"] == "float32" else 2)
        tokens = batch_size * (-(-self.length // BLOCK) + 1) * BLOCK
        return max(SMALLEST_CACHE, 2 * tokens * token)

    def _compare_clocks(self, metrics, times: Sequence[float]) -> None:
        """Keep how our time from the first to the last token compares with the engine's own."""
        own = metrics.last_token_ts - metrics.first_token_ts if metrics else 0
        if own > 0 and times[-1] > times[0]:
            self.differences.append((times[-1] - times[0]) / own)


def _sampling(sampling: Mapping) -> dict:
    """The study's sampling in the words of vLLM, for which a temperature of 0 means the likeliest token."""
    words = {"repetition_penalty": sampling.get("repetition_penalty", 1.0)}
    if not sampling["do_sample"]:
        return words | {"temperature": 0.0}
    return words | {"temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": sampling["top_k"]}


def _quantization_of(checkpoint: Path) -> str:
    """How the checkpoint says that it is quantized; empty where it is not."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return (config.get("quantization_config") or {}).get("quant_method", "")


def _cores(threads: int) -> str:
    """The first cores that this process may run on, in the words of vLLM."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))


def _number(request_id: str) -> int:
    """The number in a request's name; vLLM may add letters after it."""
    return int(re.match(r"\d+", request_id)[0])


def _reason(error: Exception, said: str) -> Exception:
    """What stopped vLLM from loading, as an expected failure where it is one.

    The engine runs in a process of its own, whose error reaches this one only as text: the last one of a known kind that it printed.
    """
    found = re.findall(r"(\w*(?:Error|Exception)): (.+)", said) or [(type(error).__name__, str(error))]
    causes = [(kind, text) for kind, text in found if "See root cause above" not in text and "core initialization failed" not in text]
    kind, text = (causes or found)[-1]
    text = re.sub(r"\x1b\[[\d;]*m", "", text).strip()
    if "OutOfMemory" in kind or re.search(r"out of memory|less than (?:desired|requested)|larger than the available KV cache", text):
        return OutOfMemory(f"vLLM: {text}")
    if kind in ("ValueError", "NotImplementedError", "ValidationError") or "not supported" in text or "No valid" in text:
        return Unsupported(f"vLLM: {text}")
    return error


@contextmanager
def _output_kept(kept: list[str]) -> Iterator[None]:
    """Keep what this process and those that it starts print, and print it in the end all the same."""
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        before = [os.dup(1), os.dup(2)]
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in zip((1, 2), before, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
            file.seek(0)
            kept.append(file.read())
            sys.stderr.write(kept[-1])
