"""onnxruntime, through optimum's `ORTModelForCausalLM`: the `generate` of transformers around an ONNX graph with a KV cache.

PyTorch chooses the tokens and onnxruntime computes the model, in memory of its own; so memory is not read off PyTorch.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from math import prod
from pathlib import Path
from typing import Any, ClassVar

from speedgrid import drivers, hardware, this_machine
from speedgrid.engines import base, quantized
from speedgrid.engines.transformers import Finite, TokenClock, until_end
from speedgrid.hardware import Device
from speedgrid.outcomes import SAYS_NO, MissingDependency, OutOfMemory, Unsupported, first_line

WEIGHTS = "model.onnx"
# What onnxruntime says of an operator that has no code for a number format.
WRONG_TYPE = re.compile(r"Type '.+' of input parameter .+ is invalid")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Operators that multiply 8-bit weights with activations: in the graph, and as onnxruntime fuses them when it loads it.
QUANTIZED_PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits", *QUANTIZED_PRODUCTS)


class Engine(base.Engine):
    OPTIONS: ClassVar = {"dtype": None, "tf32": None}
    uses_torch = False
    loads_safetensors = False
    LOADS = "onnx"
    model: Any = None  # that of optimum, once it is loaded
    watched = False  # whether a reply was watched for numbers that are not finite

    def import_packages(self) -> None:
        import logging

        import onnxruntime
        import optimum.onnxruntime  # noqa: F401
        import torch
        import transformers

        logging.getLogger("optimum").setLevel(logging.ERROR)
        torch.set_num_threads(self.threads)
        transformers.utils.logging.disable_progress_bar()
        self.version = onnxruntime.__version__
        prepare(self.device)

    def load(self, room: int, batch_size: int = 1) -> None:
        self.language.refuse_room(room)
        self.graph = graph_facts(self.checkpoint / WEIGHTS)
        if "int8" in self.graph["weights"] and not has_vnni(this_machine.instruction_sets()):
            raise Unsupported("the INT8 weights were made for processors with VNNI; this one lacks it and would compute wrongly")
        if self.tf32:
            hardware.check_tf32(self.device)
        self.model = open_model(self.checkpoint, self.device, self.threads, tf32=self.tf32)

    @property
    def tf32(self) -> bool:
        return self.options.get("tf32", False)

    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> base.Reply:
        import torch

        ids = torch.tensor([list(prompt)] * settings["batch_size"], device=self.model.device)
        mask = torch.ones_like(ids)
        config = self._generation_config(settings)
        clock, watch = TokenClock(), {} if self.watched else {"logits_processor": [Finite(self.not_finite)]}
        self.watched = True
        torch.manual_seed(seed)
        with failures():
            clock.start()
            output = self.model.generate(ids, attention_mask=mask, generation_config=config, streamer=clock, **watch).cpu()
            seconds = clock.seconds()
        steps = output.shape[1] - len(prompt)
        if steps != len(clock.token_s):
            raise RuntimeError(f"generate returned {steps} tokens and streamed {len(clock.token_s)}")
        ends = [] if settings["ignore_eos"] else self.language.end_tokens()
        return base.Reply([until_end(row, ends) for row in output[:, len(prompt) :].tolist()], clock.token_s, seconds)

    def check_numbers(self, tokens: Sequence[int]) -> None:
        """The first reply was watched as it was computed."""

    def _loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[base.Likelihood]:
        import torch

        scores = []
        for context, continuation in requests:
            logits = self._logits([*context, *continuation[:-1]])[len(context) - 1 :]
            targets = torch.tensor(list(continuation), device=logits.device)
            greedy = bool((logits.argmax(dim=-1) == targets).all())
            scores.append(base.Likelihood(torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0].tolist(), greedy))
        return scores

    def _next_tokens(self, sequences: Sequence[Sequence[int]], count: int) -> list[base.Likeliest]:
        import torch

        found = (torch.log_softmax(self._logits(ids), dim=-1) for ids in sequences)
        top = (logarithms.topk(min(count, logarithms.shape[-1]), dim=-1) for logarithms in found)
        return [base.Likeliest(one.indices.tolist(), one.values.tolist()) for one in top]

    def _logits(self, ids: Sequence[int]):
        """Logits after each token of one sequence, (tokens, vocabulary), in 32 bits. One sequence at a time: dynamic INT8 has one scale for
        all activations of a batch."""
        import torch

        with torch.inference_mode(), failures():
            batch = torch.tensor([list(ids)], device=self.model.device)
            return self.model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits[0].float()

    def sizes(self) -> dict[str, int | None]:
        noted = self.model.session.get_modelmeta().custom_metadata_map.get("speedgrid.parameters")
        return {
            "parameters": int(noted) if noted else None,
            "trainable_parameters": None,
            "model_bytes": self.graph["weight_bytes"],
        }

    def multiplies_in(self) -> str:
        if self.tf32:
            return "tf32"
        return "int8" if self.model.session.get_modelmeta().custom_metadata_map.get("speedgrid.quantization", "none") != "none" else ""

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        provider = PROVIDERS[self.device.kind]
        seen = {
            "onnxruntime": self.version,
            "providers": self.model.session.get_providers(),
            "tf32": self.model.session.get_provider_options().get(provider, {}).get("use_tf32") == "1",
            "io_binding": self.model.use_io_binding,
            "threads": self.model.session.get_session_options().intra_op_num_threads,
            "weights": self.graph["weights"],
            "cache_inputs": len(self.model.key_value_input_names),
        }
        seen |= self._profiled_reply(prompt, {**settings, "max_new_tokens": 4, "ignore_eos": True})
        asked = self.model.session.get_modelmeta().custom_metadata_map.get("speedgrid.quantization", "none")
        reason = not_as_asked(seen, provider, self.threads, self.options["dtype"], asked, self.tf32)
        if asked != "none":
            seen |= self.graph["quantized"].evidence()
            reason = reason or self.graph["quantized"].reason(dtype="float32")
        return base.Proof(not reason, reason, seen)

    def close(self) -> None:
        self.model = None

    def _generation_config(self, settings: Mapping):
        from transformers import GenerationConfig

        sampling = dict(settings["sampling"])
        if not sampling.pop("do_sample"):
            sampling = {"repetition_penalty": sampling["repetition_penalty"]}
        else:
            sampling["do_sample"] = True
        return GenerationConfig(
            max_new_tokens=settings["max_new_tokens"],
            eos_token_id=None if settings["ignore_eos"] else self.language.end_tokens() or None,
            pad_token_id=0,
            use_cache=True,
            **sampling,
        )

    def _profiled_reply(self, prompt: Sequence[int], settings: Mapping) -> dict:
        """What onnxruntime itself recorded of one more short reply: the operators that ran, and where.

        A session is profiled from its start or not at all, so that the checkpoint is loaded again; the counted replies ran unprofiled.
        """
        import torch

        ids = torch.tensor([list(prompt)] * settings["batch_size"], device=self.model.device)
        self.model = None
        with tempfile.TemporaryDirectory(prefix="speedgrid-") as scratch:
            self.model = open_model(self.checkpoint, self.device, self.threads, Path(scratch) / "profile", tf32=self.tf32)
            shapes, forward = [], self.model.forward

            @wraps(forward)
            def watched(input_ids, **named):
                shapes.append(tuple(input_ids.shape))
                return forward(input_ids, **named)

            self.model.forward = watched
            self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=self._generation_config(settings))
            self.model.forward = forward
            events = json.loads(Path(self.model.session.end_profiling()).read_text())
        (sequences, first), (_, last) = shapes[0], shapes[-1]
        return {"sequences": sequences, "first_step_positions": first, "last_step_positions": last, **operators(events)}


def prepare(device: Device) -> None:
    """See that onnxruntime can compute on a device, and on a GPU let it find the libraries of CUDA that PyTorch's packages bring.

    Raises outcomes.MissingDependency where this build of onnxruntime is not for the device, and outcomes.Unsupported for a driver too old.
    """
    import onnxruntime

    wanted = PROVIDERS[device.kind]
    if wanted not in onnxruntime.get_available_providers():
        raise MissingDependency(f"onnxruntime {onnxruntime.__version__} in this environment is a build without {wanted}")
    if not device.is_gpu:
        return
    from onnxruntime.capi.build_and_package_info import cuda_version

    if device.gpu and (problem := drivers.problem(cuda_version, device.gpu.driver)):
        raise Unsupported(f"onnxruntime {onnxruntime.__version__} is built for {problem}")
    onnxruntime.preload_dlls()


def open_model(folder: Path, device: Device, threads: int, profile: Path | None = None, config=None, tf32: bool = False):
    """The ONNX model of a folder in a session of onnxruntime; `profile` to record what runs, `config` where the folder holds none yet.

    `tf32`: let a GPU multiply float32 in TF32, with 10 bits of mantissa. onnxruntime does that unless told otherwise, and PyTorch does not.
    Raises outcomes.Unsupported where onnxruntime cannot load the graph, and outcomes.OutOfMemory where memory does not suffice.
    """
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoConfig, GenerationConfig

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    provider = PROVIDERS[device.kind]
    with failures("load the graph"):
        model = ORTModelForCausalLM.from_pretrained(
            folder,
            # A copy: optimum writes its own name into it, which a PyTorch model would take for its kind of attention.
            config=deepcopy(config) or AutoConfig.from_pretrained(folder, local_files_only=True),
            # The study's sampling settings are the only ones: a checkpoint's own generation_config.json must not fill in others.
            generation_config=GenerationConfig(),
            provider=provider,
            provider_options={"use_tf32": str(int(tf32))} if device.is_gpu else {},
            session_options=options,
            local_files_only=True,
        )
    # optimum knows these by kind of model, and not for every shape: heads of a width of their own, or grouped ones in Phi-3.
    heads, width = (model.input_shapes[model.key_value_input_names[0]][axis] for axis in (1, 3))
    model.num_key_value_heads, model.embed_size_per_head = heads, width
    return model


@contextmanager
def failures(doing: str = "") -> Iterator[None]:
    """Turn what onnxruntime raises into an expected failure: OutOfMemory where it speaks of memory, Unsupported where it says that it has
    no code for a node or number format; the rest is a bug, and raised as it is. `doing`: what it was to do, where that is known."""
    try:
        yield
    except Exception as error:  # onnxruntime's own classes have no common base
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        line = first_line(error)
        if any(words in str(error).lower() for words in ("failed to allocate memory", "bad_alloc", "out of memory")):
            raise OutOfMemory(f"onnxruntime: {line}") from error
        if type(error).__name__ == "NotImplemented" or SAYS_NO.search(line) or WRONG_TYPE.search(line):
            raise Unsupported(f"onnxruntime cannot {doing or 'compute this'}: {line}") from error
        raise


def graph_facts(path: Path) -> dict:
    """What a graph holds: bytes of `weights` by number format and altogether, the number of products with 8-bit weights, and the share of
    the weights that are multiplied with which they are (`quantized`).

    Raises outcomes.Unsupported where there is no such graph.
    """
    import onnx

    if not path.is_file():
        raise Unsupported(f"the checkpoint has no {path.name}, the only format that onnxruntime loads")
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's class depends on its build
        raise Unsupported(f"{path.name} is not a whole ONNX graph: {str(error).partition(chr(10))[0]}") from error
    weights: Counter = Counter()
    matrices = {}
    for tensor in graph.initializer:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        count = prod(tensor.dims)
        weights[kind.name] += count * kind.itemsize
        if len(tensor.dims) > 1:
            matrices[tensor.name] = (tensor.name, count, kind.name in ("int8", "uint8"))
    multiplied = {name for node in graph.node if node.op_type in PRODUCTS for name in node.input}
    return {
        "quantized": quantized.share(
            (matrices[name] for name in sorted(multiplied & set(matrices))), sum(count for _, count, _ in matrices.values())
        ),
        "weights": dict(weights),
        "weight_bytes": sum(weights.values()),
        "quantized_products": sum(node.op_type in QUANTIZED_PRODUCTS for node in graph.node),
    }


def has_vnni(instruction_sets: Sequence[str]) -> bool:
    """Whether a processor adds products of signed 8-bit numbers in 32 bits, by the names of this_machine.INSTRUCTION_SETS; others add
    them in 16 bits first, which overflow without a word."""
    return any("VNNI" in name or name == "AMX INT8" for name in instruction_sets)


def operators(events: Iterable[Mapping]) -> dict:
    """From onnxruntime's profile: how many nodes each provider ran, and the matrix products among them by operator and provider."""
    nodes = {}
    for event in events:
        about = event.get("args", {})
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["name"]] = (about["op_name"], about["provider"])
    products = Counter(f"{operator} on {provider}" for operator, provider in nodes.values() if operator in PRODUCTS)
    return {
        "nodes": dict(Counter(provider for _, provider in nodes.values())),
        "products": dict(products),
        "quantized_products": sum(operator in QUANTIZED_PRODUCTS for operator, _ in nodes.values()),
    }


def not_as_asked(seen: Mapping, provider: str, threads: int, dtype: str, quantization: str, tf32: bool = False) -> str:
    """Why what was seen is not what was asked for; empty where it is."""
    if seen["providers"][0] != provider:
        return f"asked for {provider}, and onnxruntime fell back to {seen['providers'][0]}"
    if seen["tf32"] != tf32:
        return "asked for TF32, and onnxruntime multiplies in float32" if tf32 else "asked for float32, and onnxruntime multiplies in TF32"
    elsewhere = [product for product in seen["products"] if not product.endswith(provider)]
    if elsewhere:
        return f"asked for {provider}, and onnxruntime ran {elsewhere[0]}"
    if seen["threads"] != threads:
        return f"asked for {threads} threads, and onnxruntime uses {seen['threads']}"
    if not seen["cache_inputs"] or seen["last_step_positions"] != 1:
        return f"the last step computed {seen['last_step_positions']} positions: the graph has no KV cache"
    if quantization != "none" and not seen["quantized_products"]:
        return "asked for INT8, and no product with 8-bit weights ran"
    if quantization == "none" and seen["weights"].get(dtype, 0) < 0.9 * sum(seen["weights"].values()):
        return f"asked for {dtype}, and the weights are {' and '.join(sorted(seen['weights']))}"
    return ""
