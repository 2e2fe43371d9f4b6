"""vLLM: its offline `LLM`, on a GPU or, with vLLM's build for CPUs, on a CPU. The same code runs on both."""

import json
import math
import multiprocessing
import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

from speedgrid import checkpoints, drivers, files, loading, raised, supervision, this_machine
from speedgrid.engines import base, evidence, quantized
from speedgrid.outcomes import Fault, Outcome, OutOfMemory, Unsupported

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_USE_MODELSCOPE": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    # vLLM's own command line starts its processes in this way; a copy of this one (`fork`) could hold a half-used GPU.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # Scoring a text as long as the model's context: the last token is scored and never fed, yet counts in the length.
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    "VLLM_CONFIGURE_LOGGING": "1",
}
# The KV cache is given out in blocks of 16 tokens on a GPU and of 128 on a CPU; the larger one serves both.
BLOCK_TOKENS = 128
# The most next tokens that vLLM is asked for after each token of a text.
MOST_LIKELIEST = 256
# What the configuration of a model has whose layers keep a running state, or an index of what to attend to.
NOT_KEYS_AND_VALUES = ("mamba_d_state", "mamba_d_conv", "linear_num_key_heads", "conv_kernel", "conv_L_cache", "state_size", "index_topk")
# Stands before each record of the file of errors.
RECORD = "\x1e"
# How the engine's process notes the end of its worker's.
DIED = "died unexpectedly"
# What vLLM's processes say when another of them has failed; the cause is what that one said.
AFTERMATH = re.compile(
    r"See (stack trace|root cause)|stack trace above|EngineDeadError|EngineCore encountered|Engine core init|Executor failed"
    r"|Call to \w+ method failed",
    re.IGNORECASE,
)


class Engine(base.Engine):
    """vLLM runs the model in processes of its own, and this one sends it requests.

    The KV cache is as large as the experiment needs and a little more, where vLLM by itself would take nine tenths of the GPU: so the
    figure for memory says what the technique needs. Prefix caching is off, because a prompt that is the same each time would hit it.

    On a CPU vLLM leaves one of the job's cores to its scheduler, which never sleeps, and computes on the others.
    """

    OPTIONS: ClassVar = {"dtype": None, "quantization": None, "enforce_eager": None}
    uses_torch = False
    scored_at_once = 16

    def import_packages(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="speedgrid-vllm-")
        self.errors = Path(self.scratch.name) / "errors.txt"
        logging_config = Path(self.scratch.name) / "logging.json"
        logging_config.write_text(json.dumps(_logging(self.errors)))
        os.environ.update(ENVIRONMENT, VLLM_LOGGING_CONFIG_PATH=str(logging_config))
        # It would take the place of the size of the KV cache that is asked for here.
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
        if not self.device.is_gpu:
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = threads_binding(self.threads, this_machine.physical_cores(), _cores())
        import torch
        import vllm
        from vllm.platforms import current_platform

        self.version = vllm.__version__
        driver = self.device.gpu.driver if self.device.gpu else ""
        if self.device.is_gpu and (problem := drivers.problem(torch.version.cuda or "", driver)):
            raise Unsupported(f"vLLM {self.version} is built for {problem}")
        if current_platform.device_type != self.device.kind:
            built = current_platform.device_type or "no device that is here"
            raise Unsupported(f"vLLM {self.version} in this environment runs on {built}, and the job is for {self.device.kind}")

    def load(self, room: int, batch_size: int = 1) -> None:
        from vllm import LLM

        # One token more than the context is scored and not fed; what goes beyond has no positions in the model.
        if room > self.language.context() + 1:
            raise Unsupported(f"the model takes {self.language.context()} tokens, and prompt and reply together are {room}")
        loading.refuse_own_head(self.checkpoint, self.config, "vLLM")
        # Beside Mistral's `consolidated.safetensors` it would take their `params.json` for the configuration, and their tokenizer.
        folder = checkpoints.as_read(self.checkpoint, Path(self.scratch.name) / "checkpoint")
        self.asked: list[Timing] = []
        self.sent = 0
        cache = cache_bytes(self.language.text_config, self.options["dtype"], room, batch_size)
        # vLLM does not start where its share of the memory is not free; nothing is sized by that share where the KV cache has its size.
        memory = {"kv_cache_memory_bytes": cache, "gpu_memory_utilization": 0.01} if cache else {}
        self.fills_memory = self.device.is_gpu and not cache
        eager = self.options.get("enforce_eager", False)
        graphs = {} if eager or not self.device.gpu else {"max_cudagraph_capture_size": graph_tokens(self.device.gpu.compute_capability)}
        try:
            with self._failures("load the model"):
                self.llm = LLM(
                    model=str(folder),
                    trust_remote_code=self.trust_remote_code,
                    load_format="safetensors",
                    dtype=self.options["dtype"],
                    quantization=self.options.get("quantization"),
                    enforce_eager=eager,
                    compilation_config=graphs,
                    max_model_len=room,
                    max_num_seqs=batch_size,
                    enable_prefix_caching=False,
                    max_logprobs=MOST_LIKELIEST,
                    seed=0,
                    disable_log_stats=False,
                    use_tqdm_on_load=False,
                    generation_config="vllm",
                    worker_extension_cls="speedgrid.engines.vllm.Worker",
                    **memory,
                )
        except Exception as error:
            # A bug may be a checkpoint that its configuration does not fit, in no words that say so.
            if not isinstance(error, Outcome):
                loading.refuse_other_weights(self.checkpoint, self.config, "vLLM")
            raise
        self.engine = self.llm.llm_engine

    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> base.Reply:
        """A reply is timed around the loop over `LLMEngine.step` that `LLM.generate` itself runs; each turn of it brings the tokens of
        one step. The worker's random numbers are seeded before: a seed on the request itself would make vLLM leave its fused sampler."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        batch, ends = settings["batch_size"], self.language.end_tokens()
        params = [SamplingParams(**sampling_words(settings, ends), output_kind=RequestOutputKind.DELTA) for _ in range(batch)]
        names = [str(self.sent + i) for i in range(batch)]
        self.sent += batch
        tokens: dict[str, list[int]] = {name: [] for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        last = {}
        with self._failures("answer"):
            self.llm.collective_rpc("speedgrid_seed", args=(seed,))
            started = time.perf_counter()
            for name, one in zip(names, params, strict=True):
                self.engine.add_request(name, TokensPrompt(prompt_token_ids=list(prompt)), one)
            while self.engine.has_unfinished_requests():
                outputs = self.engine.step()
                now = time.perf_counter() - started
                for output in outputs:
                    new = output.outputs[0].token_ids
                    tokens[output.request_id] += new
                    times[output.request_id] += [now] * len(new)
                    if output.finished:
                        last[output.request_id] = output
            seconds = time.perf_counter() - started
        reply = base.Reply([tokens[name] for name in names], together(list(times.values())), seconds)
        if settings["ignore_eos"] and reply.new_tokens != batch * settings["max_new_tokens"]:
            raise RuntimeError(f"vLLM gave {reply.new_tokens} tokens instead of {batch} times {settings['max_new_tokens']}")
        self.asked.append(Timing.of(reply, [last[name] for name in names]))
        return reply

    def _loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[base.Likelihood]:
        """All requests go to vLLM at once. The last token of each is not fed: it is the only one that may be sampled, and its
        log-probability is that of the model before anything was forbidden."""
        prompts = [[*context, *continuation[:-1]] for context, continuation in requests]
        answers = self._scored(prompts, 0, [continuation[-1] for _, continuation in requests])
        scores = []
        for answer, ids, (context, continuation) in zip(answers, prompts, requests, strict=True):
            fed = [answer.prompt_logprobs[i][ids[i]] for i in range(len(context), len(ids))]
            found = [*fed, answer.outputs[0].logprobs[0][continuation[-1]]]
            scores.append(base.Likelihood([one.logprob for one in found], all(one.rank == 1 for one in found)))
        return scores

    def _next_tokens(self, sequences: Sequence[Sequence[int]], count: int) -> list[base.Likeliest]:
        answers = []
        for answer in self._scored(sequences, min(count, MOST_LIKELIEST)):
            after = [*answer.prompt_logprobs[1:], answer.outputs[0].logprobs[0]]
            # vLLM adds the token that stands there, whatever its rank, and of equal ones each has the same.
            ranked = [sorted((one.rank, token, one.logprob) for token, one in found.items())[:count] for found in after]
            answers.append(base.Likeliest(*([[one[part] for one in found] for found in ranked] for part in (1, 2))))
        return answers

    def check_numbers(self, tokens: Sequence[int]) -> None:
        """Looks at what follows the sequence alone: log-probabilities of all of it would take memory that was not counted."""
        from vllm import SamplingParams, TokensPrompt

        with self._failures("score"):
            settings = SamplingParams(max_tokens=1, temperature=0.0, logprobs=1, detokenize=False)
            (answer,) = self.llm.generate([TokensPrompt(prompt_token_ids=list(tokens[:-1]))], [settings], use_tqdm=False)
        if not all(math.isfinite(one.logprob) for one in answer.outputs[0].logprobs[0].values()):
            raise self.not_finite()

    def _scored(self, prompts: Sequence[Sequence[int]], count: int, last: Sequence[int] | None = None) -> list:
        """vLLM's answers to prompts, with the log-probabilities of each prompt's own tokens and of the `count` likeliest beside each; one
        more token is sampled for what follows the prompt, the one in `last` where it is given."""
        from vllm import SamplingParams, TokensPrompt

        common = {"max_tokens": 1, "temperature": 0.0, "logprobs": count, "prompt_logprobs": count, "detokenize": False}
        allowed = [{"allowed_token_ids": [token]} for token in last] if last else [{}] * len(prompts)
        params = [SamplingParams(**common, **one) for one in allowed]
        with self._failures("score"):
            return self.llm.generate([TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts], params, use_tqdm=False)

    def sizes(self) -> dict[str, int | None]:
        """Parameters by the shapes in the checkpoint, since vLLM pads and merges weights; bytes by the tensors that vLLM holds, where it
        has not packed them away for the CPU's kernels."""
        packed = _quantization_config(self.checkpoint)
        shapes = {name: entry["shape"] for name, entry in checkpoints.all_tensors(self.checkpoint).items()}
        known = not packed or packed.get("quant_method") in ("gptq", "awq")
        return {
            "parameters": parameters(shapes, packed.get("bits", 4)) if known else None,
            "trainable_parameters": None,
            "model_bytes": self._worker_seen()["model_bytes"],
        }

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        """What vLLM resolved its settings to, what its worker has loaded, and how its own clock compares with ours."""
        from statistics import median

        # Here, so that no figure of the start holds the time of it.
        loading.refuse_other_weights(self.checkpoint, self.config, "vLLM")
        config, worker = self.engine.vllm_config, self._worker_seen()
        seen = {
            "vllm": self.version,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "executor": str(config.parallel_config.distributed_executor_backend),
            "async_scheduling": bool(config.scheduler_config.async_scheduling),
            "prefix_caching": bool(config.cache_config.enable_prefix_caching),
            "max_model_len": config.model_config.max_model_len,
            "kv_cache_tokens": (config.cache_config.num_gpu_blocks or 0) * config.cache_config.block_size,
            "kv_cache_bytes": config.cache_config.kv_cache_memory_bytes,
            **{name: value for name, value in worker.items() if name != "model_bytes"},
            "cached_prompt_tokens": sum(timing.cached_tokens for timing in self.asked),
            # Ours over the engine's own, less one.
            "ttft_over_vllms_own": round(median(timing.ttft_s / timing.own_ttft_s for timing in self.asked) - 1, 4),
            "reply_over_vllms_own": round(median(timing.reply_s / timing.own_reply_s for timing in self.asked) - 1, 4),
        }
        if self.fills_memory:
            seen["took_what_was_free"] = True
        asked = self.options.get("quantization") or _quantization_config(self.checkpoint).get("quant_method", "")
        reason = not_as_asked(seen, asked, self.options.get("enforce_eager", False), self.device.is_gpu)
        if asked:
            share = quantized.share((kind, count, _is_quantized(kind)) for kind, count in seen["layer_weights"].items())
            seen |= share.evidence()
            reason = reason or share.reason()
        return base.Proof(not reason, reason, seen)

    def close(self) -> None:
        llm, self.llm, self.engine = getattr(self, "llm", None), None, None
        if llm is not None:
            started = multiprocessing.active_children()
            llm.llm_engine.engine_core.shutdown()
            for process in started:
                process.join(timeout=30)
        if scratch := getattr(self, "scratch", None):
            scratch.cleanup()

    def _worker_seen(self) -> dict:
        (seen,) = self.llm.collective_rpc("speedgrid_seen")
        return seen

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        """Turn vLLM's failures into outcomes, with the real cause; what is no refusal in words is a bug (raised.py), and so is what this
        process itself raises beyond them.

        An error of the engine's own processes reaches this process only as `see root cause above`, and the file of errors has it.
        """
        killed = supervision.killed_for_memory()
        try:
            yield
        except Exception as error:
            here = raised.Raised.of(error)
            if AFTERMATH.search(f"{here.kind}: {here.text}"):
                log = self.errors.read_text(errors="replace") if self.errors.is_file() else ""
                raise failure(here.text, log, doing, supervision.killed_for_memory() > killed) from error
            outcome = here.outcome("vLLM", doing)
            # A bug of this process keeps its own traceback: it may be ours.
            if isinstance(outcome, Fault):
                raise
            raise outcome from error


class Worker:
    """What is asked of vLLM's worker process; vLLM puts it under the worker's own class (`worker_extension_cls`)."""

    # Of the worker's own class.
    get_model: Callable[[], Any]
    vllm_config: Any
    model_config: Any
    model_runner: Any

    def speedgrid_seed(self, seed: int) -> None:
        from vllm.utils.torch_utils import set_random_seed

        set_random_seed(seed)

    def speedgrid_seen(self) -> dict:
        from itertools import chain

        import torch

        model, compilation = self.get_model(), self.vllm_config.compilation_config
        methods = [method for module in model.modules() if (method := getattr(module, "quant_method", None)) is not None]
        kernels = [kernel for method in methods if (kernel := getattr(method, "kernel", None)) is not None]
        attention = [module.attn_backend.get_name() for module in model.modules() if hasattr(module, "attn_backend")]
        weights = [getattr(module, "weight", None) for module in model.modules()]
        packed_away = any(weight is not None and not weight.numel() for weight in weights)
        storages = {s.data_ptr(): s.nbytes() for t in chain(model.parameters(), model.buffers()) if (s := t.untyped_storage()).nbytes()}
        return {
            "model_class": type(model).__name__,
            "attention": dict(Counter(attention)),
            "layers": dict(Counter(type(method).__name__ for method in methods)),
            "layer_weights": layer_weights(model.modules()),
            "kernels": dict(Counter(type(kernel).__name__ for kernel in kernels)),
            "enforce_eager": bool(self.model_config.enforce_eager),
            "compilation": getattr(compilation.mode, "name", str(compilation.mode)),
            "cuda_graphs": getattr(compilation.cudagraph_mode, "name", str(compilation.cudagraph_mode)),
            "cuda_graph_tokens": compilation.max_cudagraph_capture_size,
            "fused_sampler": _fused_sampler(self.model_runner),
            "threads": torch.get_num_threads(),
            "model_bytes": None if packed_away else sum(storages.values()),
        }


def layer_weights(modules: Iterable) -> dict[str, int]:
    """The weights of the linear layers and experts of a worker's model, by vLLM's method for them, whatever they are packed in.

    By the sizes that the layers tell; one that tells none is left out, and so are embeddings and the last layer.
    """
    found: Counter = Counter()
    for module in modules:
        method = getattr(module, "quant_method", None)
        if method is None or "Embedding" in type(method).__name__ or hasattr(module, "num_embeddings"):
            continue
        linear = [getattr(module, name, None) for name in ("input_size", "output_size")]
        # Each expert has three matrices: gate, up and down.
        experts = [getattr(module, name, None) for name in ("local_num_experts", "hidden_size", "intermediate_size_per_partition")]
        for sizes, matrices in ((linear, 1), (experts, 3)):
            known = [size for size in sizes if isinstance(size, int)]
            if len(known) == len(sizes):
                found[type(method).__name__] += matrices * prod(known)
                break
    return dict(found)


@dataclass(frozen=True)
class Timing:
    """A reply by our clock and by vLLM's own metrics of its requests, seconds."""

    ttft_s: float
    reply_s: float
    own_ttft_s: float
    own_reply_s: float
    cached_tokens: int

    @classmethod
    def of(cls, reply: base.Reply, outputs: Sequence) -> "Timing":
        """Of a batch the slowest counts, as it does for us."""
        own = [output.metrics for output in outputs]
        first = min(metrics.arrival_time for metrics in own)
        waits = [metrics.arrival_time - first + metrics.first_token_latency for metrics in own]
        ends = [wait + metrics.last_token_ts - metrics.first_token_ts for wait, metrics in zip(waits, own, strict=True)]
        return cls(reply.ttft_s, reply.reply_s, max(waits), max(ends), sum(output.num_cached_tokens or 0 for output in outputs))


def sampling_words(settings: Mapping, ends: Sequence[int]) -> dict:
    """The settings of a reply in the words of vLLM's SamplingParams.

    vLLM would add end tokens of its own choice: it is told to ignore those, and to stop at ours.
    """
    sampling = settings["sampling"]
    words = {
        "max_tokens": settings["max_new_tokens"],
        "ignore_eos": True,
        "stop_token_ids": [] if settings["ignore_eos"] else list(ends),
        "detokenize": False,
        "repetition_penalty": sampling.get("repetition_penalty", 1.0),
    }
    if not sampling["do_sample"]:
        return words | {"temperature": 0.0}
    return words | {"temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": sampling["top_k"]}


def graph_tokens(compute_capability: str) -> int:
    """The most tokens of a step that vLLM captures as a CUDA graph by its defaults, on a GPU such as "9.0".

    Without being told it captures steps of no more than twice `max_num_seqs` tokens, which for one sequence at a time would leave its
    prompt without a graph; who leaves `max_num_seqs` alone has the most (`VllmConfig._set_cudagraph_sizes`).
    """
    return 1024 if compute_capability.startswith("10.") else 512


def together(times: Sequence[Sequence[float]]) -> list[float]:
    """When each step was there for all sequences that took it, from the times of each sequence's tokens."""
    steps = max(map(len, times))
    return [max(own[step] for own in times if step < len(own)) for step in range(steps)]


def cache_bytes(config, dtype: str, room: int, batch_size: int) -> int | None:
    """Bytes of KV cache for `batch_size` sequences of `room` tokens and a quarter more, for what vLLM sets aside and rounds up.

    `config`: that of the language model. None where its layers keep something else than the keys and values of heads.
    """
    layers, heads, hidden = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention", "chunked_attention"}
    if not (layers and heads and hidden) or others or any(getattr(config, name, None) for name in NOT_KEYS_AND_VALUES):
        return None
    width = getattr(config, "head_dim", None) or hidden // heads
    if rank := getattr(config, "kv_lora_rank", None):
        # Latent attention, as a DeepSeek-V3 has it: whole keys, which vLLM keeps where it has no kernel for latents, are the more.
        rotary = config.qk_rope_head_dim
        width = max(config.qk_nope_head_dim + rotary, config.v_head_dim, -(-(rank + rotary) // heads))
    shared = getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False)
    named = getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None)
    kv_heads = 1 if shared else named or heads
    blocks = batch_size * (-(-room // BLOCK_TOKENS) + 1) + 1
    return 2 * layers * kv_heads * width * {"float32": 4}.get(dtype, 2) * -(-blocks * 5 // 4) * BLOCK_TOKENS


def threads_binding(threads: int, physical: int, cores: Sequence[int]) -> str:
    """VLLM_CPU_OMP_THREADS_BIND for a job of `threads` threads on a machine of `physical` cores, of which `cores` lists a CPU each.

    Where the job may use every core, vLLM's own rule: all but one, which its scheduler needs.
    """
    return "auto" if threads >= physical else ",".join(map(str, cores[:threads]))


def parameters(shapes: Mapping[str, Sequence[int]], bits: int) -> int:
    """Number of weights by the shapes of a checkpoint's tensors; packed ones are counted as what they hold, without their scales."""
    from math import prod

    total = 0
    for name, shape in shapes.items():
        kind = name.rpartition(".")[2]
        if kind == "qweight":
            total += prod(shape) * 32 // bits
        elif kind not in ("qzeros", "scales", "g_idx"):
            total += prod(shape)
    return total


def not_as_asked(seen: Mapping, quantized: str, eager: bool, on_gpu: bool) -> str:
    """Why what runs is not what was asked for; empty where it is."""
    if quantized and not any(_is_quantized(kind) for kind in seen["layers"]):
        return f"{quantized} weights were asked for, and vLLM computes with unquantized layers"
    if seen["prefix_caching"] or seen["cached_prompt_tokens"]:
        return "the prompt was taken from vLLM's prefix cache instead of being computed"
    if seen["enforce_eager"] != eager:
        return "asked for vLLM {} compilation and got the other".format("without" if eager else "with")
    if not eager and (reason := evidence.variable_against_compiling()):
        return f"asked for vLLM with compilation, and {reason}"
    if on_gpu and not eager and seen["cuda_graphs"] == "NONE":
        return "vLLM runs without CUDA graphs"
    return ""


def failure(said: str, log: str, doing: str, killed_for_memory: bool = False) -> Outcome | Fault:
    """What has become of vLLM's own processes. `said`: the words in this process, which tell no more than that they are gone; `log`: their
    file of errors; `killed_for_memory`: whether the kernel has killed any process for want of memory meanwhile."""
    # What follows on the death of a worker is said by those that waited for it.
    before, *_ = log.split(DIED)
    if found := cause(before):
        return found.outcome("vLLM", doing)
    number = lost(said, log)
    if number == -signal.SIGKILL or killed_for_memory:
        return OutOfMemory("vLLM: its process was killed, as the system does for want of memory")
    how = f"was ended by {signal.Signals(-number).name}" if number and number < 0 else "ended without a word"
    return Fault(f"vLLM cannot {doing}: its process {how}")


def cause(log: str) -> raised.Raised | None:
    """The error that stopped vLLM, from its file of errors; None where it names none.

    Each record is what was logged, with its traceback; the last one that does not speak of another process is the cause.
    """
    for record in reversed(log.split(RECORD)):
        found = raised.Raised.last(record)
        if found and not AFTERMATH.search(f"{found.kind}: {found.text}"):
            return found
    return None


def lost(said: str, log: str) -> int | None:
    """The exit status of a process of vLLM that left no error of its own; None where nobody has noted it."""
    found = re.search(rf"{DIED} \(exit code: (-?\d+)\)", log) or re.search(r"'EngineCore\w*': (-?\d+)", said)
    return int(found[1]) if found else None


def _is_quantized(kind: str) -> bool:
    return not kind.startswith("Unquantized") and not kind.endswith("KVCacheMethod")


def _fused_sampler(runner) -> bool | None:
    """Whether top-k and top-p are taken by FlashInfer's kernel; None where this version of vLLM does not say."""
    sampler = getattr(runner, "sampler", None)
    if sampler is not None and hasattr(sampler, "use_flashinfer"):
        return bool(sampler.use_flashinfer)
    chosen = getattr(getattr(sampler, "topk_topp_sampler", None), "forward", None)
    return chosen.__name__ == "forward_cuda" if chosen else None


def _cores() -> list[int]:
    """One CPU of each physical core that this process may run on."""
    first: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first.setdefault(path.read_text() if path.is_file() else str(cpu), cpu)
    return list(first.values())


def _quantization_config(checkpoint: Path) -> dict:
    """How the checkpoint says that it is quantized; empty where it does not."""
    return files.json_object(checkpoint / "config.json").get("quantization_config") or {}


def _logging(errors: Path) -> dict:
    """What every process of vLLM logs: to the job's log as usual, and errors with their tracebacks to a file as well."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {"format": "vllm %(levelname)s %(asctime)s %(process)d %(filename)s:%(lineno)d %(message)s"},
            "records": {"format": f"{RECORD}%(message)s"},
        },
        "handlers": {
            "lines": {"class": "logging.StreamHandler", "formatter": "lines"},
            "errors": {"class": "logging.FileHandler", "filename": str(errors), "level": "ERROR", "delay": True, "formatter": "records"},
        },
        "loggers": {"vllm": {"handlers": ["lines", "errors"], "level": "INFO", "propagate": False}},
    }
