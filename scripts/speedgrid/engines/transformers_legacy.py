"""transformers 4.40 on PyTorch 2.1 and 2.2, with optimum's BetterTransformer: the stacks of early 2024.

Such a stack cannot read all that transformers 5 writes, and reads some of it wrongly without a word: it takes the base of rotary
embeddings for 10,000, whatever the checkpoint says. So a newer checkpoint is read through a folder of links, in which its configuration
and tokenizer are written the old way. What has no old way is refused.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from speedgrid import files, loading
from speedgrid.architectures import in_words_of_transformers_4, says_nothing
from speedgrid.engines import base, evidence, quantized, transformers
from speedgrid.outcomes import MissingDependency, Unsupported


class Engine(transformers.Engine):
    """Options besides those of the engine `transformers`: `bettertransformer`, and `expected_kernel`, the kernel of SDPA that must be
    seen at work where SDPA is free to choose. Without `attention`, transformers chooses: SDPA where it has it for the model, else eager.
    """

    OPTIONS: ClassVar = {
        "attention": ("eager", "sdpa", "flash_attention_2"),
        "dtype": None,
        "sdpa_kernel": None,
        "expected_kernel": None,
        "use_cache": None,
        "compile": ("module",),
        "bettertransformer": None,
    }

    @classmethod
    def problem(cls, options: Mapping, batch_size: int) -> str:
        if options.get("bettertransformer") and options.get("sdpa_kernel") == "flash" and batch_size > 1:
            return "BetterTransformer gives SDPA a mask for a batch of several sequences, which the flash kernel does not take"
        return super().problem(options, batch_size)

    def import_packages(self) -> None:
        super().import_packages()
        if self.options.get("bettertransformer"):
            import optimum.bettertransformer  # noqa: F401

    def open(self) -> None:
        if (self.checkpoint / "config.json").is_file():
            self.links = tempfile.TemporaryDirectory(prefix="speedgrid-")
            self.checkpoint = written_the_old_way(self.checkpoint, Path(self.links.name))
        super().open()
        loading.refuse_framework(self.checkpoint, "transformers 4.40", needs_metadata=True)
        kind = type(self.config)
        refuse_unknown_settings(files.json_object(self.checkpoint / "config.json"), {*kind().to_dict(), *kind.attribute_map})

    def load(self, room: int, batch_size: int = 1) -> None:
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig

        self.language.refuse_room(room)
        loading.refuse_own_head(self.checkpoint, self.config, "transformers 4.40")
        attention = self.options.get("attention")
        if attention == "flash_attention_2" and not find_spec("flash_attn"):
            raise MissingDependency("the Python package flash-attn is not installed in this environment")
        window = getattr(self.config, "sliding_window", None) if getattr(self.config, "use_sliding_window", True) else None
        if window and room > window:
            raise Unsupported(f"transformers 4.40 does not keep to a sliding window of {window} tokens; this needs room for {room}")
        loading.refuse_files(self.checkpoint, self.config)
        if loading.quantization(self._quantization()).startswith("gptq") and not self.device.is_gpu:
            raise Unsupported("AutoGPTQ loads its weights onto an NVIDIA GPU alone")
        told = {"attn_implementation": attention} if attention else {}
        try:
            with loading.refusals(self.checkpoint, attention or ""):
                self.model, found = AutoModelForCausalLM.from_pretrained(
                    self.checkpoint,
                    torch_dtype=getattr(torch, self.options["dtype"]),
                    device_map={"": self.device.kind},
                    use_safetensors=True,
                    trust_remote_code=self.trust_remote_code,
                    local_files_only=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    **told,
                )
        except NotImplementedError:
            # It copies a weight of another shape out of a place where it put none.
            loading.refuse_other_weights(self.checkpoint, self.config, "transformers 4.40")
            raise
        if not self._quantization():
            loading.require_whole(self.model, found)
            if left := found["unexpected_keys"]:
                raise Unsupported(f"transformers 4.40 does not read this checkpoint whole: {len(left)} weights such as {left[0]}")
        self.model.eval()
        self._refuse_wrong_mask()
        # The study's sampling settings are the only ones: a checkpoint's own generation_config.json must not fill in others.
        self.model.generation_config = GenerationConfig()
        if self.options.get("bettertransformer"):
            self.model = self._better_transformer()
        self.compilation = evidence.Compiled()
        self.compiled = torch.compile(self.model) if self.options.get("compile") == "module" else self.model

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        kinds = Counter(type(module).__name__ for module in self.model.modules())
        seen: dict = {
            "dtype": str(next(p.dtype for p in self.model.parameters() if p.is_floating_point())).removeprefix("torch."),
            "attention": self.model.config._attn_implementation,
            "attention_layers": {kind: count for kind, count in kinds.items() if "Attention" in kind},
            **self._short_reply(prompt, settings),
        }
        if self._quantization():
            seen["quantized_layers"] = {kind: count for kind, count in kinds.items() if "QuantLinear" in kind}
        if self.options.get("compile"):
            seen |= self.compilation.evidence(settings["warmup_replies"])
        reason = self._why_not_engaged(seen)
        if self._quantization():
            share = quantized.share_of_model(self.model)
            seen |= share.evidence()
            reason = reason or share.reason(dtype=seen["dtype"])
        return base.Proof(not reason, reason, seen)

    def close(self) -> None:
        if hasattr(self, "links"):
            self.links.cleanup()

    def _why_not_engaged(self, seen: Mapping) -> str:
        """The first thing that was asked for and is not among what was `seen`; empty where all is."""
        asked = self.options.get("attention")
        if asked and seen["attention"] != asked:
            return f"asked for {asked} attention and got {seen['attention']}"
        if seen.get("quantized_layers") == {}:
            return "the checkpoint says that it is quantized, and no quantized layer was loaded"
        if (seen["last_step_positions"] == 1) != self.options.get("use_cache", True):
            return f"the last step computed {seen['last_step_positions']} positions"
        kernel = self.options.get("sdpa_kernel") or self.options.get("expected_kernel")
        if kernel and not seen["sdpa_kernels"]:
            return f"transformers 4.40 writes the attention of {self.config.model_type} out in PyTorch; SDPA was never called"
        if reason := evidence.attention_not_as_asked(asked, kernel, seen):
            return reason
        if kernel == "flash" and not self.device.is_gpu:
            return "FlashAttention is a kernel for NVIDIA GPUs; on this CPU, PyTorch ran a fused kernel of its own"
        return evidence.not_compiled(seen, transformers.CALLED) if "compiled_graphs" in seen else ""

    def _refuse_wrong_mask(self) -> None:
        """Raise Unsupported for eager attention without a KV cache in the models that are told `cache_position` (Llama, Gemma and others).

        Without a cache, transformers 4.40 tells them the last position alone, and every token then sees those that follow it.
        """
        from inspect import signature

        told = "cache_position" in signature(self.model.forward).parameters
        if told and not self.options.get("use_cache", True) and self.model.config._attn_implementation == "eager":
            wrong = "transformers 4.40 computes eager attention wrongly where there is no KV cache"
            raise Unsupported(f"{wrong}: each token of {self.config.model_type} sees later ones; SDPA is right")

    def _better_transformer(self):
        try:
            return self.model.to_bettertransformer()
        except ValueError as error:
            # Of some families by name, of the others by the attention that the model has.
            if not re.search("supports natively|already uses BetterTransformer", str(error)):
                raise
            why = "its attention calls SDPA without it in transformers 4.40"
        except NotImplementedError:
            why = "optimum does not know it"
        raise Unsupported(f"BetterTransformer refuses {self.config.model_type}: {why}")

    def _quantization(self):
        return getattr(self.config, "quantization_config", None)

    def _generation_config(self, settings: Mapping):
        from transformers import GenerationConfig

        sampling = dict(settings["sampling"])
        if not sampling["do_sample"]:
            sampling = {"repetition_penalty": sampling["repetition_penalty"]}
        return GenerationConfig(
            max_new_tokens=settings["max_new_tokens"],
            eos_token_id=None if settings["ignore_eos"] else self.language.end_tokens() or None,
            pad_token_id=0,
            use_cache=self.options.get("use_cache", True),
            **sampling,
        )

    def _attention_kernels(self):
        """The kernels that SDPA may choose from: all of them, or the one that the technique insists on."""
        from torch.backends.cuda import sdp_kernel

        kernel = self.options.get("sdpa_kernel")
        if not kernel:
            return nullcontext()
        return sdp_kernel(enable_flash=kernel == "flash", enable_mem_efficient=kernel == "efficient", enable_math=kernel == "math")


def written_the_old_way(folder: Path, links: Path) -> Path:
    """`folder` itself where transformers 4.40 reads it rightly, else `links`, a folder of links to its files in which the configuration
    and tokenizer are written anew. Raises Unsupported where something in them has no old way.
    """
    new: dict[str, dict] = {}
    if len(told := files.json_object(folder / loading.GENERATION)) > 1:
        # Where a reply ends is all that counts; of the rest it refuses some.
        new[loading.GENERATION] = {"eos_token_id": told["eos_token_id"]} if "eos_token_id" in told else {}
    config = files.json_object(folder / "config.json")
    if (old_config := config_the_old_way(config)) != config:
        new["config.json"] = old_config
    if (folder / "tokenizer.json").is_file():
        tokenizer, settings = files.json_object(folder / "tokenizer.json"), files.json_object(folder / "tokenizer_config.json")
        old_tokenizer, old_settings = tokenizer_the_old_way(tokenizer, settings)
        if (old_tokenizer, old_settings) != (tokenizer, settings):
            check_that_tokenizer_is_understood(old_tokenizer)
            new |= {"tokenizer.json": old_tokenizer, "tokenizer_config.json": old_settings}
    if not new:
        return folder
    for path in folder.iterdir():
        if path.name not in new:
            (links / path.name).symlink_to(path.resolve())
    for name, content in new.items():
        (links / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return links


def config_the_old_way(config: Mapping) -> dict:
    """A config.json as transformers 4.40 reads it: `torch_dtype`, and rotary embeddings as `rope_theta` and `rope_scaling`.

    Raises Unsupported for rotary embeddings that it does not have; their frequencies would be others.
    """
    old = dict(config)
    if "dtype" in old:
        old["torch_dtype"] = old.pop("dtype")
    scaling = old.get("rope_scaling") or {}
    if scaling and scaling.get("type") not in ("linear", "dynamic"):
        raise _no_such_rope(scaling.get("rope_type") or scaling.get("type"))
    rope = dict(old.pop("rope_parameters", None) or {})
    kind = rope.pop("rope_type", "default")
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise _no_such_rope("that differs between layers")
    if kind == "linear":
        rope["rope_scaling"] = {"type": "linear", "factor": rope.pop("factor")}
    elif kind != "default":
        raise _no_such_rope(kind)
    return in_words_of_transformers_4(old | rope)


def refuse_unknown_settings(config: Mapping, known: set[str]) -> None:
    """Raise Unsupported where a config.json of a later transformers sets what 4.40 would pass over, so that the model would be another.

    `known`: the settings that 4.40 has for this kind of model.
    """
    if _version(config.get("transformers_version", "")) <= (4, 40):
        return
    for name in sorted(set(config) - known - {"auto_map", "quantization_config"}):
        if not says_nothing(name, config):
            raise Unsupported(
                f"transformers 4.40 has no setting {name} for {config['model_type']}; the checkpoint says {json.dumps(config[name])}"
            )


def tokenizer_the_old_way(tokenizer: Mapping, settings: Mapping) -> tuple[dict, dict]:
    """A tokenizer.json and tokenizer_config.json as transformers 4.40 with tokenizers 0.19 reads them; unchanged where it does already.

    Raises Unsupported for merges that the old file cannot hold.
    """
    tokenizer, settings = dict(tokenizer), dict(settings)
    merges = tokenizer["model"].get("merges") or []
    if merges and not isinstance(merges[0], str):
        if any(" " in part for pair in merges for part in pair):
            raise Unsupported("the tokenizer merges tokens that hold a space, which tokenizers 0.19 cannot read")
        tokenizer["model"] = {**tokenizer["model"], "merges": [" ".join(pair) for pair in merges]}
    if "backend" in settings or settings.get("tokenizer_class") == "TokenizersBackend":
        kept = {name: value for name, value in settings.items() if name.endswith("_token") or name == "model_max_length"}
        # transformers 4.40 takes spaces away from decoded text unless it is told not to; later ones do so only when told.
        clean = {"clean_up_tokenization_spaces": settings.get("clean_up_tokenization_spaces", False)}
        settings = {**kept, **clean, "tokenizer_class": "PreTrainedTokenizerFast"}
    return tokenizer, settings


def check_that_tokenizer_is_understood(tokenizer: Mapping) -> None:
    """Raise Unsupported unless the installed tokenizers reads all of a tokenizer.json: what it would write is compared with it.

    tokenizer.json is all that decides which tokens a text becomes, so that the tokens are then the same.
    """
    from tokenizers import Tokenizer

    try:
        read = json.loads(Tokenizer.from_str(json.dumps(tokenizer)).to_str())
    except Exception as error:  # it raises no narrower class
        raise Unsupported(f"tokenizers 0.19 cannot read the checkpoint's tokenizer.json: {str(error).partition(chr(10))[0]}") from error
    differing = [part for part in tokenizer if read.get(part) != tokenizer[part]]
    if differing:
        raise Unsupported(f"tokenizers 0.19 reads the {', '.join(differing)} of the checkpoint's tokenizer.json differently")


def _no_such_rope(kind: str | None) -> Unsupported:
    return Unsupported(f"transformers 4.40 does not have rotary embeddings of the kind {kind}")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
