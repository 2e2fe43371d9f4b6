"""PyTorch itself: a model of transformers that is trained or run forward, with the techniques of PyTorch applied to it."""

import copy
import gc
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import ClassVar

from speedgrid import hardware, loading
from speedgrid.engines import base, evidence
from speedgrid.outcomes import Unsupported

# What a product of matrices is computed in, as schema.PROBE names its formats.
MULTIPLIES_IN = {"fp32": "float32", "tf32": "tf32", "fp16_scaler": "float16", "bf16_autocast": "bfloat16", "bf16_pure": "bfloat16"}
# Rank of the adapters, the one of QLoRA's experiments with all linear layers.
RANK = 16
QLORA_PRECISIONS = ("bf16_autocast", "bf16_pure")
AUTOCAST = {"fp16_scaler": "float16", "bf16_autocast": "bfloat16"}


class Engine(base.TorchRuntime):
    """A model of transformers."""

    # Not `dtype`: that is the precision's.
    OPTIONS: ClassVar = {
        **dict.fromkeys(("precision", "channels_last", "checkpointing", "accumulate", "optimizer", "adapter")),
        "attention": ("eager", "sdpa", "flex_attention"),
        "compile": ("module",),
        "compile_mode": None,
        "fullgraph": None,
    }

    @classmethod
    def problem(cls, options: Mapping, batch_size: int) -> str:
        if options.get("adapter") == "qlora" and options["precision"] not in QLORA_PRECISIONS:
            return f"QLoRA computes in bfloat16 here, and the precision asked for is {options['precision']}"
        told = [name for name in ("compile_mode", "fullgraph") if name in options]
        if told and "compile" not in options:
            return f"`{told[0]}` belongs to `compile`, which is not asked for"
        return ""

    def import_packages(self) -> None:
        import torch
        import transformers
        import transformers.modeling_utils  # transformers imports most of itself when it is first used, which would count as loading

        torch.set_num_threads(self.threads)
        transformers.utils.logging.disable_progress_bar()

    @property
    def precision(self) -> str:
        return self.options["precision"]

    def load(self, training: bool, deterministic: bool) -> None:
        import torch
        from transformers import AutoModelForImageClassification

        self._set_arithmetic(deterministic)
        self.config = loading.read_config(self.checkpoint, self.trust_remote_code)
        self.of_images = type(self.config) in AutoModelForImageClassification._model_mapping
        where: dict = {"config": self.config, "dtype": getattr(torch, self.options["dtype"]), "trust_remote_code": self.trust_remote_code}
        if not self.of_images:
            where["attn_implementation"] = self.options.get("attention", "sdpa")
        if self.options.get("adapter") == "qlora":
            loading.unquantized(self.checkpoint, "QLoRA")
            loading.check(self.checkpoint, self.trust_remote_code)
            where["quantization_config"] = self._four_bits()
            where["device_map"] = {"": self.device.kind}
        self.model = loading.read_model(self.checkpoint, AutoModelForImageClassification if self.of_images else None, **where)
        if "quantization_config" not in where:
            self.model.to(self.device.kind)
        self._apply(training)

    def take_layers(self, layers: int) -> None:
        """The loaded model is let go first. Random weights change neither time nor memory."""
        import torch
        from transformers import AutoModelForCausalLM

        config = copy.deepcopy(self.config)
        shape = config.get_text_config()
        if self.options.get("adapter") == "qlora":
            raise Unsupported("the four bits of QLoRA are those of a checkpoint, and a model that grows by layers has none")
        if not hasattr(shape, "num_hidden_layers"):
            raise Unsupported(f"a model of the family {config.model_type} has no number of layers that could grow")
        shape.num_hidden_layers = layers
        if kinds := getattr(shape, "layer_types", None):
            shape.layer_types = [kinds[number % len(kinds)] for number in range(layers)]
        self.model = self.forward = None
        gc.collect()
        kind = {"attn_implementation": self.options.get("attention", "sdpa"), "dtype": getattr(torch, self.options["dtype"])}
        with torch.device(self.device.kind):
            self.model = AutoModelForCausalLM.from_config(config, trust_remote_code=self.trust_remote_code, **kind)
        self._apply(training=True)

    def _apply(self, training: bool) -> None:
        """Do to the model what the technique asks for, and make `forward` of it."""
        import torch

        self.model.train(training)
        if self.options.get("channels_last"):
            self._keep_channels_last()
        if self.options.get("checkpointing"):
            self._checkpoint_activations()
        if self.options.get("adapter"):
            self._add_adapters()
        self.forward = self.model
        if self.options.get("compile"):
            mode, whole = self.options.get("compile_mode", "default"), self.options.get("fullgraph", False)
            self.forward = torch.compile(self.model, mode=None if mode == "default" else mode, fullgraph=whole)

    def autocast(self):
        import torch

        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(self.device.kind, getattr(torch, dtype)) if dtype else nullcontext()

    def place(self, images):
        import torch

        images = images.to(self.device.kind, getattr(torch, self.options["dtype"]))
        return images.contiguous(memory_format=torch.channels_last) if self.options.get("channels_last") else images

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        compiled, self.forward = self.forward, self.model
        try:
            yield
        finally:
            self.forward = compiled

    @contextmanager
    def plain(self) -> Iterator[None]:
        checkpointed = self.options.get("checkpointing")
        if checkpointed:
            self.model.gradient_checkpointing_disable()
        try:
            with self.uncompiled():
                yield
        finally:
            if checkpointed:
                self._checkpoint_activations()

    def sizes(self) -> dict[str, int | None]:
        from speedgrid.engines.transformers import inner_tensors

        tensors = {t.data_ptr(): t for held in (*self.model.parameters(), *self.model.buffers()) for t in inner_tensors(held) if t.numel()}
        trainable = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        # transformers knows how many weights four bits stand for; the adapters, which it does not know, are those that train.
        whole = self.model.num_parameters() if not self.options.get("adapter") else self.model.get_base_model().num_parameters()
        return {
            "parameters": whole,
            "trainable_parameters": trainable,
            "model_bytes": sum(t.numel() * t.element_size() for t in tensors.values()),
        }

    def multiplies_in(self) -> str:
        return MULTIPLIES_IN[self.precision]

    def prove(self, run) -> base.Proof:
        """Watch one `run` of the model: the formats that its matrix products and convolutions give, and how often its layers work."""
        import torch

        seen: dict = {"weights": str(next(self.model.parameters()).dtype).removeprefix("torch.")}
        formats: Counter = Counter()
        layouts: Counter = Counter()
        runs: Counter = Counter()

        def watch(module, inputs, output) -> None:
            formats[str(output.dtype).removeprefix("torch.")] += 1
            runs[module] += 1
            if output.dim() == 4:
                is_last = output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()
                layouts["channels last" if is_last else "channels first"] += 1

        products = [m for m in self.model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)) or type(m).__name__ == "Conv1D"]
        hooks = [module.register_forward_hook(watch) for module in products]
        try:
            with self.uncompiled():
                run()
        finally:
            for hook in hooks:
                hook.remove()
        seen["products_in"] = dict(formats)
        if self.options.get("adapter"):
            seen |= self._adapters_seen()
            if not seen["adapters"]:
                return base.Proof(False, "asked for adapters, and the model has none", seen)
            if self.options["adapter"] == "qlora" and not seen["four_bit_layers"]:
                return base.Proof(False, "asked for weights in four bits, and no layer has them", seen)
        wanted = {"tf32": "float32"}.get(self.precision, MULTIPLIES_IN[self.precision])
        if wanted not in formats:
            return base.Proof(False, f"asked for {self.precision}, and no layer gave {wanted}", seen)
        if self.device.is_gpu and self.options["dtype"] == "float32":
            seen["tf32"] = torch.backends.cuda.matmul.allow_tf32
        if self.options.get("channels_last"):
            seen["layouts"] = dict(layouts)
            if not layouts["channels last"]:
                return base.Proof(False, "asked for channels last, and no convolution gave them", seen)
        if self.options.get("checkpointing"):
            seen["run_again_in_backward"] = f"{sum(count > 1 for count in runs.values())} of {len(runs)} layers with weights"
            if max(runs.values()) < 2:
                return base.Proof(False, "asked for checkpointing, and no layer was run a second time", seen)
        if self.options.get("compile"):
            seen |= evidence.compiled()
            if reason := evidence.not_compiled(seen):
                return base.Proof(False, reason, seen)
        return base.Proof(True, "", seen)

    def _four_bits(self):
        """NF4 with double quantization, as in QLoRA (T. Dettmers et al., 2023)."""
        import torch
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )

    def _add_adapters(self) -> None:
        """LoRA on every linear layer but the output head, with peft's own defaults for the rest (E. Hu et al., 2021)."""
        from peft import LoraConfig, get_peft_model

        if self.of_images:
            raise Unsupported("adapters are for language models here; this model takes images")
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        if self.options.get("checkpointing"):
            # Without a gradient at its input a checkpointed layer would compute none for its adapters.
            self.model.enable_input_require_grads()
        self.model = get_peft_model(self.model, settings)

    def _adapters_seen(self) -> dict:
        from peft.tuners.lora import LoraLayer

        layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        four_bits = sum(type(layer.get_base_layer()).__name__ == "Linear4bit" for layer in layers)
        return {"adapters": len(layers), "four_bit_layers": four_bits}

    def _set_arithmetic(self, deterministic: bool) -> None:
        import torch

        if self.device.is_gpu and "bf16" in self.precision and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise Unsupported(f"{self.device.name} does not compute in bfloat16")
        if self.precision == "tf32":
            hardware.check_tf32(self.device)
        # PyTorch lets convolutions use TF32 unless told otherwise, so that what many call float32 is not.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        if deterministic:
            # Read when cuBLAS starts; without it its products may differ from run to run.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        # Deterministic mode also fills every new tensor, which costs time and guards against errors that are not ours.
        torch.utils.deterministic.fill_uninitialized_memory = False

    def _keep_channels_last(self) -> None:
        import torch

        if not any(isinstance(module, torch.nn.Conv2d) for module in self.model.modules()):
            raise Unsupported("channels last is a layout of images; this model has no convolutions")
        self.model.to(memory_format=torch.channels_last)

    def _checkpoint_activations(self) -> None:
        if not getattr(self.model, "supports_gradient_checkpointing", False):
            raise Unsupported(f"{type(self.model).__name__} of transformers has no gradient checkpointing")
        settings: dict = {"use_reentrant": False}
        if self.options["checkpointing"] == "selective":
            settings["context_fn"] = partial(_keep_products)
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)


def _keep_products():
    """Contexts of selective checkpointing that keep what matrix products and attention give, the dear part, and nothing else."""
    import torch
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    aten = torch.ops.aten
    kept = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}
    for name in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu"):
        op = getattr(aten, f"_scaled_dot_product_{name}", None)
        if op is not None:
            kept.add(op.default)

    def policy(context, op, *arguments, **options):
        return CheckpointPolicy.MUST_SAVE if op in kept else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)
