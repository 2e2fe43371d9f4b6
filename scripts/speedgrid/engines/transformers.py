"""Hugging Face transformers: `AutoModelForCausalLM` and its own `generate`."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, ClassVar

from speedgrid import loading
from speedgrid.engines import base, evidence, gptq, quantized
from speedgrid.outcomes import MissingDependency, Unsupported

# Our names of PyTorch's SDPA kernels, and PyTorch's own.
SDPA_KERNELS = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH", "cudnn": "CUDNN_ATTENTION"}

# The last tokens of a reply that are looked at for numbers that are not finite.
CHECKED = 64
# What ran where torch.compile was told to take a module.
CALLED = "`generate` called the original module"
# A reply that is watched: enough for its first pass and its last one.
A_SHORT_REPLY = {"max_new_tokens": 4, "ignore_eos": True}
# Sequences that are scored at once, and bytes of their logits, on a GPU and on a CPU.
ROWS, LOGITS_BYTES = 32, {True: 2 * 2**30, False: 128 * 2**20}


class Engine(base.Engine):
    # Whether a reply was watched for numbers that are not finite.
    watched = False

    OPTIONS: ClassVar = {
        "attention": None,
        "dtype": None,
        "sdpa_kernel": None,
        "cache": None,
        "use_cache": None,
        "compile": ("static_cache", "forward", "module"),
        "compile_mode": None,
        "prompt_lookup": None,
        "kernel": None,
    }

    @classmethod
    def problem(cls, options: Mapping, batch_size: int) -> str:
        if batch_size > 1 and options.get("prompt_lookup"):
            return "`prompt_lookup`: prompt lookup decoding of transformers takes one sequence at a time, and batch_size is more"
        if options.get("use_cache") is False and ("cache" in options or options.get("compile") == "static_cache"):
            return "`use_cache` is false, and a static cache is asked for"
        if "compile_mode" in options and options.get("compile") in (None, "module"):
            return "`compile_mode` belongs to `compile: static_cache` or `compile: forward`"
        return base.attention_problem(options)

    def import_packages(self) -> None:
        import logging

        import accelerate  # noqa: F401 - transformers names it only in the middle of an error
        import torch
        import transformers
        import transformers.modeling_utils  # transformers imports most of itself when it is first used, which would count as loading

        # LLM.int8() says at every single matrix product that it casts to float16, which would be timed along.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        torch.set_num_threads(self.threads)
        transformers.utils.logging.disable_progress_bar()

    def load(self, room: int, batch_size: int = 1) -> None:
        import torch
        from transformers import GenerationConfig

        if self.options.get("attention") == "flash_attention_2" and not find_spec("flash_attn"):
            raise MissingDependency("the Python package flash-attn is not installed in this environment")
        told = getattr(self.config, "quantization_config", None)
        self.method = method = told.get("quant_method") if isinstance(told, Mapping) else None
        if method in ("gptq", "awq"):
            self.model = gptq.load(method, self.checkpoint, self.device, self.options, self.threads, self.trust_remote_code)
        else:
            self.model = loading.read_model(
                self.checkpoint,
                config=self.config,
                dtype=getattr(torch, self.options["dtype"]),
                attn_implementation=self.options.get("attention", "sdpa"),
                device_map={"": self.device.kind},
                trust_remote_code=self.trust_remote_code,
            )
        if method == "torchao":
            from torchao.quantization.utils import recommended_inductor_config_setter

            # torchao sets these when it quantizes, not when it loads.
            recommended_inductor_config_setter()
            if not self.device.is_gpu:
                copy_out_of_file(self.model)
        self._refuse_model(room)
        self.model.eval()
        # The study's sampling settings are the only ones: a checkpoint's own generation_config.json must not fill in others.
        self.model.generation_config = GenerationConfig()
        if self.options.get("compile") and method == "bitsandbytes":
            # How many outliers an INT8 layer finds is known only as it runs; unless told, PyTorch ends a graph at each such layer.
            torch._dynamo.config.capture_dynamic_output_shape_ops = True
            if not self.device.is_gpu:
                # The first pass on a CPU with AVX-512 BF16 lays four-bit weights out anew, which what is compiled before does not know.
                with torch.no_grad():
                    self.model(torch.zeros((1, 1), dtype=torch.long))
        self.compilation = evidence.Compiled()
        self.compiled = torch.compile(self.model) if self.options.get("compile") == "module" else self.model
        if self.options.get("compile") == "forward":
            self.model.forward = torch.compile(self.model.forward, mode=self.options.get("compile_mode", "default"))

    def _refuse_model(self, room: int) -> None:
        """Raise Unsupported where the loaded model cannot do what the technique asks of it, or has no place for `room` tokens."""
        loading.refuse_wrong_attention(self.config, self.options.get("attention", "sdpa"))
        kind, keeps_state = self.config.model_type, getattr(self.model, "_is_stateful", False)
        if keeps_state and self.options.get("prompt_lookup"):
            raise Unsupported(
                f"prompt lookup takes guessed tokens back, and {kind} keeps a state of all tokens, from which none can be taken"
            )
        if self.options.get("prompt_lookup") and not keeps_cache(self.model):
            raise Unsupported(
                f"prompt lookup takes guessed tokens back out of the KV cache, and transformers keeps none for {kind} that allows it"
            )
        if keeps_state and self.options.get("compile") == "loop":
            raise Unsupported(f"{kind} keeps a state of all tokens beside or in place of a KV cache, which the loop does not start anew")
        self.language.refuse_room(room)

    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> base.Reply:
        import torch

        ids = torch.tensor([list(prompt)] * settings["batch_size"], device=self.device.kind)
        mask = torch.ones_like(ids)
        config = self._generation_config(settings)
        clock, watch = TokenClock(), self.watch_numbers()
        torch.manual_seed(seed)
        self.device.synchronize()
        clock.start()
        with self._unfit_refused(), self._attention_kernels():
            output = self.compiled.generate(ids, attention_mask=mask, generation_config=config, streamer=clock, **watch)
            self.device.synchronize()
            seconds = clock.seconds()
        if self.options.get("compile"):
            self.compilation.look()
        steps = output.shape[1] - len(prompt)
        if steps != len(clock.token_s):
            raise RuntimeError(f"generate returned {steps} tokens and streamed {len(clock.token_s)}")
        ends = [] if settings["ignore_eos"] else self.language.end_tokens()
        return base.Reply([until_end(row, ends) for row in output[:, len(prompt) :].tolist()], clock.token_s, seconds)

    @contextmanager
    def _unfit_refused(self) -> Iterator[None]:
        """Turn the error of a pass into Unsupported where sizes do not fit that the code of the model chose: where a KV cache of fixed
        length was asked for, and that code makes something as long as the tokens so far, such as the biases of ALiBi; and where a pass of
        the model ends so by itself, with nothing that was asked for."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            unfit, kind, said = loading.UNFIT.search(str(error)), self.config.model_type, loading.line(error)
            with uncompiled(self.options):
                alone = not unfit or runs(self.model)
            if not alone:
                raise Unsupported(f"transformers {loading.version()} does not run this {kind}: a pass ends with {said!r}") from error
            asked = self.options.get("cache") == "static" or self.options.get("compile") in ("static_cache", "loop")
            # To a static cache belongs a mask of four dimensions, of which such code takes two.
            if not asked or not (unfit or "values to unpack" in str(error)):
                raise
            raise Unsupported(f"transformers does not run this {kind} with a static KV cache: a pass ends with {said!r}") from error

    def watch_numbers(self) -> dict:
        """What `generate` is told besides: to see whether the numbers of the first reply of a process, which is never counted, are finite.

        On a GPU the kernel that draws from others would end the process, and a greedy reply of such numbers looks like any other.
        """
        if self.watched:
            return {}
        self.watched = True
        return {"logits_processor": [Finite(self.not_finite)]}

    def check_numbers(self, tokens: Sequence[int]) -> None:
        """Of the last tokens alone, as logits of a whole prompt take memory that was not counted; nothing is left to do where the first
        reply was watched as it was computed."""
        if not self.watched:
            self._over_passes([tokens[-CHECKED:]], lambda place, logits: Finite(self.not_finite)(None, logits), as_it_is=True)

    def _loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[base.Likelihood]:
        import torch

        def score(place: int, logits) -> base.Likelihood:
            context, continuation = requests[place]
            logits = logits[len(context) - 1 :].float()
            targets = torch.tensor(list(continuation), device=logits.device)
            greedy = bool((logits.argmax(dim=-1) == targets).all())
            return base.Likelihood(torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0].tolist(), greedy)

        return self._over_passes([[*context, *continuation[:-1]] for context, continuation in requests], score)

    def _next_tokens(self, sequences: Sequence[Sequence[int]], count: int) -> list[base.Likeliest]:
        return self._over_passes(sequences, lambda place, logits: likeliest(logits, count))

    def _next_tokens_alone(self, sequences: Sequence[Sequence[int]], count: int) -> list[base.Likeliest]:
        """The same by the model as it is, whatever is compiled."""

        def read(place: int, logits) -> base.Likeliest:
            return likeliest(logits, count)

        return [self._over_passes([sequence], read, as_it_is=True)[0] for sequence in sequences]

    def attends_both_ways(self, tokens: Sequence[int]) -> bool:
        said: list[bool] = []
        attentions = [module for module in self.model.modules() if isinstance(getattr(module, "is_causal", None), bool)]
        hooks = [module.register_forward_hook(lambda module, *passed: said.append(module.is_causal)) for module in attentions]
        try:
            self.next_tokens_alone([tokens], 1)
        finally:
            for hook in hooks:
                hook.remove()
        return False in said

    def _over_passes(self, sequences: Sequence[Sequence[int]], read: Callable[[int, object], object], as_it_is: bool = False) -> list:
        """What `read` makes of the logits of each sequence, (tokens, vocabulary), given with the sequence's place; in order.

        Scoring is one forward pass. Sequences of one length are computed together, as they are: no sequence is padded, so that none depends
        on what is scored beside it, whatever the model makes of positions and padding. A technique that compiles gets the pass compiled,
        and there all sequences are padded on the right to one length, and all batches to one size, so that there is one shape to compile:
        that is beyond what a causal model sees, and within `window` no length changes what it computes.

        `as_it_is`: without what is compiled.
        """
        import torch

        compiled = self.options.get("compile") in ("static_cache", "loop", "forward") and not as_it_is
        forward = torch.compile(self.model.forward) if compiled and self.options["compile"] != "forward" else self.model.forward
        longest = max(map(len, sequences))
        pads = compiled and longest <= self.language.window()
        apart = rows_are_apart(self.model, self.options)
        rows = rows_at_once(longest, self.language.text_config.vocab_size, self.device.is_gpu) if apart else 1
        found: list = [None] * len(sequences)
        with (
            torch.inference_mode(),
            self._unfit_refused(),
            self._attention_kernels(),
            uncompiled(self.options) if as_it_is else nullcontext(),
        ):
            for places in batches([longest if pads else len(sequence) for sequence in sequences], rows):
                padded = [[*sequences[place], *[0] * (longest - len(sequences[place]))] if pads else sequences[place] for place in places]
                padded += [[0] * longest] * (rows - len(places)) if pads else []
                logits = forward(input_ids=torch.tensor(padded, device=self.device.kind), use_cache=False).logits
                for row, place in enumerate(places):
                    found[place] = read(place, logits[row, : len(sequences[place])])
        return found

    @contextmanager
    def rounded_once_more(self, seed: int) -> Iterator[None]:
        import torch

        draw = torch.Generator(device=self.device.kind).manual_seed(seed)

        def rounded(module, inputs, output):
            if not isinstance(output, torch.Tensor) or not output.is_floating_point():
                return output
            # Half the distance to the next number of the format, up or down.
            by = torch.finfo(output.dtype).eps / 2 * (2 * torch.rand(output.shape, generator=draw, device=output.device) - 1)
            return (output.float() * (1 + by)).to(output.dtype)

        hooks = [module.register_forward_hook(rounded) for module in self.model.modules() if not any(module.children())]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def sizes(self) -> dict[str, int | None]:
        from itertools import chain

        held = chain.from_iterable(map(inner_tensors, chain(self.model.parameters(), self.model.buffers())))
        tensors = {t.data_ptr(): t for t in held if t.numel()}
        return {
            "parameters": quantized.share_of_model(self.model).parameters,
            "trainable_parameters": self.model.num_parameters(only_trainable=True),
            "model_bytes": sum(t.numel() * t.element_size() for t in tensors.values()),
        }

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        seen: dict = {
            "attention": self.model.config._attn_implementation,
            "dtype": str(next(p.dtype for p in self.model.parameters() if p.is_floating_point())).removeprefix("torch."),
        }
        too_little = ""
        if (told := getattr(self.model.config, "quantization_config", None)) is not None:
            seen["quantized_layers"] = dict(Counter(filter(None, map(quantized_kind, self.model.modules()))))
            share = quantized.share_of_model(self.model)
            seen |= share.evidence()
            too_little = share.reason(method_of(told), seen["dtype"])
        elif self.method:
            # As transformers does with MXFP4 where there are no kernels for it.
            seen["dequantized_from"] = self.method
        if self.options.get("compile"):
            seen |= self.compilation.evidence(settings["warmup_replies"])
            # The very same reply once more, as another length would be compiled anew; a short one where nothing was compiled, since the
            # profiler takes most of a minute for the kernels of 128 tokens one by one.
            asked = settings if seen["compiled_graphs"] else {**settings, **A_SHORT_REPLY}
            seen |= evidence.profiled(lambda: self.generate(prompt, asked, 0), self.device.is_gpu)
        elif self.options.get("prompt_lookup"):
            seen |= lookup_evidence(len(prompt), *self._watched_reply(prompt, settings))
        else:
            seen |= self._short_reply(prompt, settings)
        reason = not_as_asked(seen, self.options, len(prompt)) or too_little
        return base.Proof(not reason, reason, seen)

    def _short_reply(self, prompt: Sequence[int], settings: Mapping) -> dict:
        """Of one more reply, a short one: the kernels that ran, its sequences, and the positions that its passes computed of each.

        The first pass computes the whole prompt, unless something of the reply before was kept; the last one position where there is a
        KV cache, all where there is none.
        """
        found: list = []
        short = {**settings, **A_SHORT_REPLY}
        kernels = evidence.profiled(lambda: found.append(self._watched_reply(prompt, short)), self.device.is_gpu)
        shapes, cache = found[0]
        (sequences, first), (_, last) = shapes[0], shapes[-1]
        return {"sequences": sequences, "first_step_positions": first, "last_step_positions": last, "cache": cache, **kernels}

    def _generation_config(self, settings: Mapping):
        from transformers import CompileConfig, GenerationConfig

        sampling = dict(settings["sampling"])
        if not sampling.pop("do_sample"):
            sampling = {"repetition_penalty": sampling["repetition_penalty"]}
        else:
            sampling["do_sample"] = True
        cache = {"use_cache": self.options.get("use_cache", True)}
        if self.options.get("compile") == "static_cache":
            # On a CPU transformers compiles only when it is told that every device may.
            compile_config = CompileConfig(mode=self.options.get("compile_mode", "reduce-overhead"))
            compile_config._compile_all_devices = True
            cache |= {"cache_implementation": "static", "compile_config": compile_config}
        else:
            cache |= {"disable_compile": True}
            if self.options.get("cache") == "static":
                cache |= {"cache_implementation": "static"}
        if self.options.get("prompt_lookup"):
            cache |= {"prompt_lookup_num_tokens": self.options["prompt_lookup"]}
        return GenerationConfig(
            max_new_tokens=settings["max_new_tokens"],
            eos_token_id=None if settings["ignore_eos"] else self.language.end_tokens() or None,
            pad_token_id=0,
            **cache,
            **sampling,
        )

    def _watched_reply(self, prompt: Sequence[int], settings: Mapping) -> tuple[list[tuple[int, int]], str]:
        """The sequences of each pass of one more reply with the positions that it computed, and the class of its cache."""
        import torch

        shapes = []
        hook = self.model.get_input_embeddings().register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
        ids = torch.tensor([list(prompt)] * settings["batch_size"], device=self.device.kind)
        config = self._generation_config(settings)
        config.return_dict_in_generate = True
        try:
            with self._attention_kernels():
                output = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        finally:
            hook.remove()
        cache = output.past_key_values
        return shapes, "none" if cache is None else type(cache).__name__

    def _attention_kernels(self):
        """The kernels that SDPA may choose from: all of them, or the one that the technique insists on."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        kernel = self.options.get("sdpa_kernel")
        return sdpa_kernel(getattr(SDPBackend, SDPA_KERNELS[kernel])) if kernel else nullcontext()


def uncompiled(options: Mapping):
    """The context in which a forward pass that a technique has compiled runs as it was written."""
    import torch

    return torch.compiler.set_stance("force_eager") if options.get("compile") == "forward" else nullcontext()


def lookup_evidence(prompt_tokens: int, shapes: Sequence[tuple[int, int]], cache: str) -> dict:
    """Of the passes of a reply (Engine._watched_reply): prompt lookup is active where some pass checked guessed tokens, so that it computed
    more positions than were new."""
    new = [prompt_tokens, *[1] * (len(shapes) - 1)]
    guessed = sum(positions > wanted for (_, positions), wanted in zip(shapes, new, strict=True))
    return {"cache": cache, "passes": len(shapes), "passes_with_guesses": guessed}


def runs(model) -> bool:
    """Whether two tokens go through a model without a cache: whether the sizes of its parts fit each other."""
    import torch

    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device), use_cache=False)
    except (RuntimeError, ValueError) as error:
        return not loading.UNFIT.search(str(error))
    return True


def keeps_cache(model) -> bool:
    """Whether a pass of a model leaves a KV cache behind from which tokens can be taken."""
    import torch

    with torch.no_grad():
        left = model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device), use_cache=True)
    cache: Any = getattr(left, "past_key_values", None)
    try:
        cache.activate_past_recording()  # without which some layers give none back
        cache.crop(0)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return True


def method_of(quantization) -> str:
    """The method that a `quantization_config` names, a mapping or an object of transformers."""
    told = quantization if isinstance(quantization, Mapping) else quantization.to_dict()
    method = told.get("quant_method") or "bitsandbytes"
    return getattr(method, "value", method)


def not_as_asked(seen: Mapping, options: Mapping, prompt_tokens: int) -> str:
    """The first thing that was asked for and is not among what was `seen`; empty where all is."""
    asked = options.get("attention")
    if seen.get("quantized_layers") == {}:
        return "the checkpoint says that it is quantized, and no quantized layer was loaded"
    if asked and seen["attention"] != asked:
        return f"asked for {asked} attention and got {seen['attention']}"
    if "compiled_graphs" in seen and (reason := evidence.not_compiled(seen, CALLED)):
        return reason
    if seen.get("passes_with_guesses") == 0:
        return "no run of tokens came twice in prompt and reply, so nothing could be guessed"
    if seen.get("first_step_positions", prompt_tokens) != prompt_tokens:
        return f"the first step computed {seen['first_step_positions']} of the prompt's {prompt_tokens} tokens"
    if "last_step_positions" in seen and (seen["last_step_positions"] == 1) != options.get("use_cache", True):
        kept = "there was no KV cache" if options.get("use_cache", True) else "a KV cache was kept"
        return f"the last step computed {seen['last_step_positions']} positions: {kept}"
    if options.get("cache") == "static" and seen.get("cache", "StaticCache") != "StaticCache":
        return f"asked for a static cache and got {seen['cache']}"
    if "first_step_positions" not in seen:
        return ""
    return evidence.attention_not_as_asked(asked, options.get("sdpa_kernel"), seen)


def rows_are_apart(model, options: Mapping) -> bool:
    """Whether the sequences of a batch leave each other's figures alone: some quantized products choose scales or outliers for a whole
    batch. BetterTransformer masks a batch, and its flash kernel takes no mask."""
    quantization = getattr(model.config, "quantization_config", None)
    told = quantization if isinstance(quantization, Mapping) else getattr(quantization, "to_dict", dict)()
    return told.get("quant_method") != "torchao" and not told.get("load_in_8bit") and not options.get("bettertransformer")


def rows_at_once(longest: int, vocabulary: int, gpu: bool) -> int:
    """How many sequences of `longest` tokens to score at once, so that their logits in 32 bits stay within bounds."""
    return max(1, min(ROWS, LOGITS_BYTES[gpu] // (4 * longest * vocabulary)))


def likeliest(logits, count: int) -> base.Likeliest:
    """The `count` likeliest next tokens from logits (tokens, vocabulary)."""
    import torch

    found = torch.log_softmax(logits.float(), dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return base.Likeliest(found.indices.tolist(), found.values.tolist())


def batches(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """The places of sequences that are computed together: of one length, at most `rows` of them; the longest, which need most memory,
    first."""
    by_length: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        by_length.setdefault(length, []).append(place)
    groups = [by_length[length] for length in sorted(by_length, reverse=True)]
    return [group[start : start + rows] for group in groups for start in range(0, len(group), rows)]


def quantized_kind(module) -> str | None:
    """The class of a quantized layer, or of its weight where the layer is an ordinary one, as with torchao; None for other modules."""
    weight = getattr(module, "weight", None)
    for thing in (module, weight):
        if type(thing).__module__.partition(".")[0] in ("bitsandbytes", "gptqmodel", "torchao") and hasattr(module, "in_features"):
            return type(thing).__name__
    # Layers and experts of transformers' own for a format, such as FP8.
    own = module.parameters(recurse=False)
    return type(module).__name__ if any(quantized.numbers(parameter)[1] for parameter in own) else None


def inner_tensors(tensor) -> list:
    """The tensors that a tensor of torchao is made of; any other tensor by itself."""
    if not type(tensor).__module__.startswith("torchao"):
        return [tensor]
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]


def copy_out_of_file(model) -> None:
    """Copy weights from the mapped file of their checkpoint into memory of PyTorch's own: all, since one alone keeps the file in memory.

    In the file they start at any multiple of 8 bytes. On a CPU, PyTorch 2.13's product of bfloat16 with weights in int8, which compiled
    code calls, reads 16 bytes at once where several rows are multiplied, and ends the process where weights start in between.
    """
    for parameter in model.parameters():
        for tensor in inner_tensors(parameter):
            tensor.data = tensor.data.clone()


def until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens of a sequence up to its first end token; the padding that follows in a batch was not produced."""
    return tokens[: next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))]


class Finite:
    """A processor of logits for `generate` that changes none, and raises what it was given where a sequence has no finite one at its most:
    nothing can be drawn from NaN or infinite ones. Tokens that the settings of sampling leave out are at minus infinity."""

    def __init__(self, failure: Callable[[], Exception]):
        self.failure = failure

    def __call__(self, ids, scores):
        if not scores.amax(dim=-1).isfinite().all():
            raise self.failure()
        return scores


class TokenClock:
    """A streamer for `generate` that notes when each token was there.

    `generate` hands over each token after copying it to the host, so the device has finished it; the copy is one that its own stopping
    rule would wait for anyway.
    """

    def start(self) -> None:
        self.token_s: list[float] = []
        self.prompt_came = False
        self.started = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def put(self, tokens) -> None:
        if self.prompt_came:
            # A step gives every sequence one token; where tokens are guessed ahead and accepted together, it gives one sequence several.
            now = self.seconds()
            self.token_s += [now] * (tokens.shape[1] if tokens.dim() == 2 else 1)
        self.prompt_came = True

    def end(self) -> None:
        """Nothing is left to do when the reply ends; `generate` calls this."""
