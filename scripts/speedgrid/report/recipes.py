"""The few lines of code that apply a technique outside of speedgrid, made from its entry in the registry. Pure.

They follow, option by option, what the engine and the transform of that technique call. So a new technique of known options needs
nothing here; a new option or engine is written here too, and tests/unit/test_recipes.py says which is missing.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from speedgrid.workload import WORKLOADS

MODEL = 'MODEL = "organisation/model"  # of the hub, or a folder'
NEW_TOKENS = 256
PROMPT = '"Once upon a time"'
# What choosing a token is where an experiment leaves it out, as its schema has it.
SAMPLING = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
TOKENIZER = "tokenizer = AutoTokenizer.from_pretrained(MODEL)"
FROM_TRANSFORMERS = ("import torch", "from transformers import AutoModelForCausalLM, AutoTokenizer")
# Our names of PyTorch's SDPA kernels, and PyTorch's own, as in engines/transformers.py.
SDPA_KERNELS = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH", "cudnn": "CUDNN_ATTENTION"}
# GGUF types that the converter writes; all others are quantized from its file.
GGUF_AS_CONVERTED = ("f32", "f16", "bf16")
# The types in which the engine `pytorch` loads weights (grid.py), and what it computes in around them.
WEIGHTS_IN = {"bf16_pure": "bfloat16"}
AUTOCAST = {"fp16_scaler": "float16", "bf16_autocast": "bfloat16"}
OPTIMIZERS = {
    "sgd": "torch.optim.SGD({})",
    "adam": "torch.optim.Adam({})",
    "adamw": "torch.optim.AdamW({})",
    "adamw_fused": "torch.optim.AdamW({}, fused=True)",
    "adamw_8bit": "bitsandbytes.optim.AdamW8bit({})",
    "paged_adamw_8bit": "bitsandbytes.optim.PagedAdamW8bit({})",
}


@dataclass(frozen=True)
class Technique:
    """What the code needs of an entry: `transform` makes the checkpoint, where that is not the model as it is; `made_by` is the technique
    whose checkpoint speedgrid alone makes, or empty. `of_images` is whether the model takes images, `trains` whether it is trained.
    `measured` has what the engine held ready in the cell that it was measured in, where there is one: how many tokens of how many
    sequences, and bytes of KV cache, by the names of the evidence. `settings` are those of the experiment that it was measured in, with the
    defaults of the workload, and empty where there is none. `written` is the folder into which the numbers of a model were written out that
    came as a GGUF file, empty for any other."""

    options: Mapping
    dtype: str
    device: str
    of_images: bool = False
    trains: bool = True
    transform: Mapping = field(default_factory=dict)
    made_by: str = ""
    measured: Mapping = field(default_factory=dict)
    settings: Mapping = field(default_factory=dict)
    written: str = ""

    @property
    def method(self) -> str:
        return self.transform.get("method", "")

    @property
    def attention(self) -> str:
        return self.options.get("attention", "sdpa")

    @property
    def new_tokens(self) -> int:
        return self.settings.get("max_new_tokens", NEW_TOKENS)

    @property
    def prompts(self) -> str:
        """The texts that are gone on with: as many as the experiment has at once."""
        batch = self.settings.get("batch_size", 1)
        return f"[{PROMPT}] * {batch}" if batch > 1 else PROMPT

    @property
    def inputs(self) -> str:
        return f'inputs = tokenizer({self.prompts}, return_tensors="pt").to(model.device)'

    @property
    def sampling(self) -> dict:
        """How the experiment chooses tokens, in transformers' words; empty where there is none, so that the model's own way counts."""
        if "sampling" not in self.settings:
            return {}
        asked = {**SAMPLING, **self.settings["sampling"]}
        return asked if asked["do_sample"] else {name: asked[name] for name in ("do_sample", "repetition_penalty")}

    @property
    def asked(self) -> list[str]:
        """What `generate` is told of the replies. What the checkpoint's own generation_config.json may say otherwise is said, too."""
        at_least = [f"min_new_tokens={self.new_tokens}"] if self.settings.get("ignore_eos") else []
        return [f"max_new_tokens={self.new_tokens}", *at_least, *(f"{name}={value}" for name, value in self.sampling.items())]

    @property
    def precision(self) -> str:
        """Its own or else the experiment's; empty where neither is known."""
        return self.options.get("precision") or self.settings.get("precision") or ""

    @property
    def model(self) -> list[str]:
        """The lines that name the model."""
        if self.written and not self.made_by:
            return [f'MODEL = "{self.written}"  # where speedgrid wrote out the numbers of the GGUF file']
        if not self.made_by:
            return [MODEL]
        return [f"# The checkpoint that speedgrid made: a folder under results/checkpoints/MODEL/{self.made_by}/", 'MODEL = "that/folder"']


def code(
    name: str,
    registry: Mapping,
    dtype: str,
    device: str = "cuda",
    workload: str = "",
    unit: str = "",
    measured: Mapping = MappingProxyType({}),
    settings: Mapping = MappingProxyType({}),
    written: str = "",
) -> str:
    """The lines for a technique of a registry, in a number format, on `cuda` or `cpu`; empty where its engine has none here.

    `workload`, `unit` (`image`), `measured`, `settings` and `written` (Technique) are those of the cell that it was measured in, where
    there is one: a technique of the engine `pytorch` is for images and text, and for training and forward passes, in the precision of its
    experiment; one of attention is with a mask or without; and the memory that was measured is that of an engine which makes room for so
    much, where by itself it would take the whole card or the model's whole context.
    """
    entry = registry.get(name, {})
    write = ENGINES.get(entry.get("engine", ""))
    if write is None:
        return ""
    lender = entry.get("checkpoint", name)
    if lender not in registry:
        return ""
    transform = registry.get(lender, {}).get("transform", {})
    own = lender if transform.get("method") in ("prune", "distill") else registry.get(lender, {}).get("from", "")
    options = entry.get("options", {})
    work = {"of_images": unit == "image", "trains": not workload or WORKLOADS[workload].trains}
    kind = options.get("dtype", dtype) or "float32"
    known = {**WORKLOADS[workload].keys, **settings} if workload and settings else {}
    technique = Technique(
        options, kind, device, **work, transform=transform, made_by=own, measured=measured, settings=known, written=written
    )
    return "\n".join(write(technique))


# transformers


def _transformers(technique: Technique) -> list[str]:
    options, compiles = technique.options, technique.options.get("compile")
    imports, load = _loaded(technique)
    told = technique.asked
    if compiles == "static_cache":
        imports.append("from transformers import CompileConfig")
        load.append(f'compiled = CompileConfig(mode="{options.get("compile_mode", "reduce-overhead")}")')
        if technique.device == "cpu":
            load.append("compiled._compile_all_devices = True  # else transformers compiles on GPUs alone")
        told += ['cache_implementation="static"', "compile_config=compiled"]
    elif options.get("cache") == "static":
        told += ['cache_implementation="static"', "disable_compile=True"]
    if options.get("use_cache") is False:
        told.append("use_cache=False")
    if options.get("prompt_lookup"):
        told.append(f"prompt_lookup_num_tokens={options['prompt_lookup']}")
    if compiles == "module":
        load.append("model = torch.compile(model)  # `generate` still calls the original module")
    if compiles == "forward":
        load += _compiled_forward(technique)
    reply = _in_kernel(technique, imports, [f"output = model.generate(**inputs, {', '.join(told)})"])
    return [*imports, "", *load, "", technique.inputs, *reply]


def _loaded(technique: Technique) -> tuple[list[str], list[str]]:
    """Imports, and the lines that load tokenizer and model."""
    if technique.method == "gptqmodel":
        return _with_gptqmodel(technique)
    told = [f"dtype=torch.{technique.dtype}", f'attn_implementation="{technique.attention}"', f'device_map="{technique.device}"']
    imports, lines = list(FROM_TRANSFORMERS), [*technique.model, TOKENIZER]
    if technique.method in ("bitsandbytes", "torchao"):
        more, quantization = (_bitsandbytes if technique.method == "bitsandbytes" else _torchao)(technique)
        imports += more
        lines.append(f"quantization = {quantization}")
        told.append("quantization_config=quantization")
    return imports, [*lines, f"model = AutoModelForCausalLM.from_pretrained(MODEL, {', '.join(told)})"]


def _bitsandbytes(technique: Technique) -> tuple[list[str], str]:
    settings, told = technique.transform, ["load_in_8bit=True"]
    if settings["bits"] == 4:
        told = ["load_in_4bit=True", f'bnb_4bit_quant_type="{settings.get("quant_type", "nf4")}"']
        told += [f"bnb_4bit_use_double_quant={settings.get('double_quant', False)}", f"bnb_4bit_compute_dtype=torch.{technique.dtype}"]
    return ["from transformers import BitsAndBytesConfig"], f"BitsAndBytesConfig({', '.join(told)})"


def _torchao(technique: Technique) -> tuple[list[str], str]:
    settings = technique.transform
    group = settings.get("group_size", 128)
    names, config = {
        "int8": ("Int8WeightOnlyConfig", "Int8WeightOnlyConfig()"),
        "int4": ("Int4WeightOnlyConfig", f'Int4WeightOnlyConfig(group_size={group}, int4_packing_format="tile_packed_to_4d")'),
        "fp8": (
            "Float8DynamicActivationFloat8WeightConfig, PerRow",
            "Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())",
        ),
    }[settings["scheme"]]
    return [f"from torchao.quantization import {names}", "from transformers import TorchAoConfig"], f"TorchAoConfig({config})"


def _with_gptqmodel(technique: Technique) -> tuple[list[str], list[str]]:
    """A checkpoint that GPT-QModel quantizes once, and loads itself."""
    own = f'device="{technique.device}", dtype=torch.{technique.dtype}'
    told = f'{own}, backend=BACKEND("{technique.options.get("kernel", "auto")}"), attn_implementation="{technique.attention}"'
    imports, lines = _quantized_by_gptqmodel(technique)
    return imports, [*lines, f'model = GPTQModel.load("quantized", {told}).model']


def _quantized_by_gptqmodel(technique: Technique) -> tuple[list[str], list[str]]:
    settings = technique.transform
    config, backend, more = ("GPTQConfig", "GPTQ_TORCH", "") if settings["format"] == "gptq" else ("AWQConfig", "AWQ_TORCH", ", sym=False")
    told = f"bits={settings.get('bits', 4)}, group_size={settings.get('group_size', 128)}, fallback=None{more}"
    length = settings.get("sequence", 512)
    # GPT-QModel reads this when it is imported, and does not start with fewer.
    workers = ["import os", 'os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")']
    imports = [*workers, "import torch", "from gptqmodel import BACKEND, GPTQModel", f"from gptqmodel.quantization import {config}"]
    lines = [
        *technique.model,
        TOKENIZER,
        "# Once; `texts` are some hundred passages of the kind that the model will read. They are put one after another and cut into parts",
        "# of one length: of parts that differ, GPT-QModel's AWQ looks at the last alone.",
        'stream = [token for text in texts for token in tokenizer(text)["input_ids"]]',
        f"parts = [stream[at : at + {length}] for at in range(0, len(stream) - {length - 1}, {length})][:{settings.get('samples', 128)}]",
        'examples = [{"input_ids": part, "attention_mask": [1] * len(part)} for part in parts]',
        f'whole = GPTQModel.load(MODEL, {config}({told}), device="{technique.device}", dtype=torch.{technique.dtype})',
        f"whole.quantize(examples, batch_size=1, backend=BACKEND.{backend}, calibration_sort=None)",
        'whole.save("quantized")',
        'tokenizer.save_pretrained("quantized")',
        "",
    ]
    return [*imports, "from transformers import AutoTokenizer"], lines


def _compiled_forward(technique: Technique) -> list[str]:
    lines = []
    if technique.method == "bitsandbytes":
        lines.append("torch._dynamo.config.capture_dynamic_output_shape_ops = True")
        if technique.device == "cpu":
            lines += [
                "with torch.no_grad():",
                "    model(torch.zeros((1, 1), dtype=torch.long))  # the first pass lays four-bit weights out anew",
            ]
    if technique.method == "torchao":
        lines += ["from torchao.quantization.utils import recommended_inductor_config_setter", "recommended_inductor_config_setter()"]
        if technique.device == "cpu":
            lines.append("# On a CPU, save and load the quantized model first: see engines/transformers.py, copy_out_of_file.")
    return [*lines, f'model.forward = torch.compile(model.forward, mode="{technique.options.get("compile_mode", "default")}")']


def _in_kernel(technique: Technique, imports: list[str], lines: list[str]) -> list[str]:
    """The lines, held to the one kernel of SDPA that the technique insists on."""
    kernel = technique.options.get("sdpa_kernel")
    if not kernel:
        return lines
    imports.append("from torch.nn.attention import SDPBackend, sdpa_kernel")
    return [f"with sdpa_kernel(SDPBackend.{SDPA_KERNELS[kernel]}):", *(f"    {line}" for line in lines)]


def _transformers_loop(technique: Technique) -> list[str]:
    """Greedy, or as the experiment draws; engines/transformers_loop.py looks for end tokens as well."""
    imports, load = _loaded(technique)
    imports.append("from transformers import StaticCache")
    if technique.method == "torchao":
        load += ["from torchao.quantization.utils import recommended_inductor_config_setter", "recommended_inductor_config_setter()"]
    loop = [
        f"tokens, steps = [], {technique.new_tokens}",
        'cache = StaticCache(config=model.config, max_cache_len=inputs["input_ids"].shape[1] + steps)',
        *_picked(technique.sampling),
        "",
        f'compiled = torch.compile(step, mode="{technique.options.get("compile_mode", "reduce-overhead")}", fullgraph=True)',
    ]
    run = [
        "with torch.no_grad():",
        '    tokens.append(step(inputs["input_ids"]))  # the prompt, not compiled',
        "    while len(tokens) < steps:",
    ]
    run += ["        torch.compiler.cudagraph_mark_step_begin()", "        tokens.append(compiled(tokens[-1]).clone())"]
    ends = [] if technique.settings.get("ignore_eos", True) else ["# Looks for no end token: cut each reply at its first."]
    return [*imports, "", *load, "", technique.inputs, *loop, *ends, *_in_kernel(technique, imports, run)]


def _picked(sampling: Mapping) -> list[str]:
    """The step of a loop of our own: the next token of each sequence, greedy where nothing is said (transformers_loop.pick)."""
    before, last = [], "logits[:, -1]"
    lines = ["    logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits"]
    if (penalty := sampling.get("repetition_penalty", 1.0)) != 1:
        before = [
            "words = model.config.get_text_config().vocab_size",
            'seen = torch.zeros((len(inputs["input_ids"]), words), dtype=torch.bool, device=model.device)',
            "torch._dynamo.mark_static_address(seen)",
        ]
        lines += ["    seen.scatter_(1, token, True)", f"    logits = {last}.float()"]
        lines.append(f"    logits = torch.where(seen, torch.where(logits < 0, logits * {penalty}, logits / {penalty}), logits)")
        last = "logits"
    if not sampling.get("do_sample"):
        return [*before, "", "def step(token):", *lines, f"    return {last}.argmax(-1, keepdim=True)"]
    lines.append(f"    logits = {last}.float() / {sampling['temperature']}")
    if top_k := sampling["top_k"]:
        lines.append(f"    logits = logits.masked_fill(logits < logits.topk(min({top_k}, logits.shape[-1])).values[:, -1:], -torch.inf)")
    if sampling["top_p"] < 1:
        lines += [
            "    ordered, order = logits.sort()",
            f"    unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - {sampling['top_p']}",
            "    unlikely[:, -1] = False",
            "    logits = logits.masked_fill(unlikely.scatter(1, order, unlikely), -torch.inf)",
        ]
    drawn = "    return (chances / torch.empty_like(chances).exponential_(1)).argmax(-1, keepdim=True)"
    return [*before, "", "def step(token):", *lines, "    chances = logits.softmax(-1)", drawn]


def _transformers_legacy(technique: Technique) -> list[str]:
    """transformers 4.40, whose words for some things were others."""
    options = technique.options
    told = [f"torch_dtype=torch.{technique.dtype}", f'device_map="{technique.device}"']
    if attention := options.get("attention"):
        told.append(f'attn_implementation="{attention}"')
    imports = [*FROM_TRANSFORMERS, "from transformers import AutoConfig"]
    newer = _saved_before_5("this is transformers 4.40", "take weights that an earlier release saved")
    lines = [*technique.model, *newer, TOKENIZER]
    source = "MODEL"
    if technique.method == "autogptq":
        source = '"quantized"'
        settings = technique.transform
        own = f"bits={settings.get('bits', 4)}, group_size={settings.get('group_size', 128)}, desc_act={settings.get('desc_act', False)}"
        imports.append("from auto_gptq import AutoGPTQForCausalLM, BaseQuantizeConfig")
        lines += [
            "# Once; `texts` are some hundred passages of the kind that the model will read.",
            "examples = [tokenizer(text, truncation=True, max_length=512) for text in texts]",
            f'config = BaseQuantizeConfig({own}, model_file_base_name="model")',
            f"whole = AutoGPTQForCausalLM.from_pretrained(MODEL, config, torch_dtype=torch.{technique.dtype})",
            "whole.quantize(examples)",
            'whole.save_quantized("quantized", use_safetensors=True)',
            "",
        ]
    lines.append(f"model = AutoModelForCausalLM.from_pretrained({source}, {', '.join(told)})")
    if options.get("bettertransformer"):
        lines.append("model = model.to_bettertransformer()")
    if options.get("compile"):
        lines.append("model = torch.compile(model)  # `generate` still calls the original module")
    cache = "" if options.get("use_cache", True) else ", use_cache=False"
    reply = f"output = model.generate(**inputs, {', '.join(technique.asked)}{cache})"
    kernel = options.get("sdpa_kernel")
    if kernel:
        on = ", ".join(
            f"enable_{name}={kernel == one}" for name, one in (("flash", "flash"), ("mem_efficient", "efficient"), ("math", "math"))
        )
        imports.append("from torch.backends.cuda import sdp_kernel")
        return [*imports, "", *lines, "", technique.inputs, f"with sdp_kernel({on}):", f"    {reply}"]
    return [*imports, "", *lines, "", technique.inputs, reply]


# Other engines for text


def _vllm(technique: Technique) -> list[str]:
    options, model = technique.options, "MODEL"
    told = [f'dtype="{technique.dtype}"']
    if options.get("quantization"):
        told.append(f'quantization="{options["quantization"]}"')
    if options.get("enforce_eager"):
        told.append("enforce_eager=True")
    imports, lines = ["from vllm import LLM, SamplingParams"], technique.model
    if technique.method == "gptqmodel":
        quantize, lines = _quantized_by_gptqmodel(technique)
        return [
            *quantize,
            "",
            *lines,
            "# Then, where vLLM is installed",
            *imports,
            "",
            *_asks_vllm('"quantized"', told, technique),
        ]
    return [*imports, "", *lines, *_asks_vllm(model, told, technique)]


def _asks_vllm(model: str, told: list[str], technique: Technique) -> list[str]:
    measured, batch_size = technique.measured, technique.settings.get("batch_size")
    room = {"max_model_len": measured.get("max_model_len"), "max_num_seqs": batch_size}
    prompts = technique.prompts if (batch_size or 1) > 1 else f"[{PROMPT}]"
    new_tokens = technique.new_tokens
    if "max_new_tokens" not in technique.settings:
        new_tokens = min(NEW_TOKENS, (room["max_model_len"] or 2 * NEW_TOKENS) // 2)
    asked = [f"max_tokens={new_tokens}", *(["ignore_eos=True"] if technique.settings.get("ignore_eos") else [])]
    if sampling := technique.sampling:
        # Greedy, to vLLM, is a temperature of 0, and nothing of a checkpoint's own counts beside what is said here.
        asked += [f"{name}={value}" for name, value in {"temperature": 0.0, **sampling}.items() if name != "do_sample"]
    said = "# vLLM takes nine tenths of the GPU for its cache, whatever it needs; gpu_memory_utilization=0.3 takes three."
    if cache := measured.get("kv_cache_bytes"):
        # What vLLM sizes by that share has its size already, and it need not wait for it to be free (engines/vllm.py).
        room |= {"kv_cache_memory_bytes": cache, "gpu_memory_utilization": 0.01}
        holds = f", room for {measured['kv_cache_tokens']} tokens" if measured.get("kv_cache_tokens") else ""
        said = f"# The KV cache is as large as when it was measured{holds}. By itself vLLM takes nine tenths of the GPU for it."
    longer = ["# Longer texts, or more at once, need more."] if any(room.values()) else []
    told = [*told, *(f"{name}={value}" for name, value in room.items() if value)]
    return [
        said,
        *longer,
        f"llm = LLM(model={model}, {', '.join(told)})",
        f"output = llm.generate({prompts}, SamplingParams({', '.join(asked)}))",
    ]


def _llamacpp(technique: Technique) -> list[str]:
    """Shell, in a checkout of llama.cpp that was built."""
    kind = technique.transform.get("type", "")
    lines = ["# In a shell, in a build of llama.cpp"]
    file = "model.gguf"
    if kind == "original":
        file = shlex.quote(technique.transform.get("file", "MODEL.gguf"))
        lines += [] if "file" in technique.transform else [f"# {file} is the file that the model came as"]
    elif technique.written and not technique.made_by:
        lines += ["# MODEL.gguf is the file that the model came as", f"llama-quantize --allow-requantize MODEL.gguf {file} {kind.upper()}"]
    else:
        lines += _converted(technique, kind, file)
    attention = technique.options.get("flash_attention")
    where = "--n-gpu-layers 999 --split-mode none" if technique.device == "cuda" else "--device none"
    if room := technique.measured.get("n_ctx"):
        lines.append("# With room for as many tokens as when it was measured; by itself it makes room for the model's whole context")
        where += f" --ctx-size {room} --parallel {technique.measured.get('n_seq_max', 1)}"
    where += f" --flash-attn {attention}" if attention else ""
    return [*lines, " ".join([f"llama-server --model {file} {where}", *_server_picks(technique)])]


def _server_picks(technique: Technique) -> list[str]:
    """How the server chooses tokens where a request does not say, which by itself it does in a way of its own (engines/llamacpp.py)."""
    settings, sampling = technique.settings, technique.sampling
    told = [f"--predict {settings['max_new_tokens']}"] if "max_new_tokens" in settings else []
    told += ["--ignore-eos"] if settings.get("ignore_eos") else []
    if not sampling:
        return told
    if (penalty := sampling["repetition_penalty"]) != 1:
        told.append(f"--repeat-penalty {penalty} --repeat-last-n -1")
    if not sampling["do_sample"]:
        return [*told, "--temp 0"]
    chosen = f"--temp {sampling['temperature']} --top-k {sampling['top_k']} --top-p {sampling['top_p']}"
    return [*told, f"--samplers 'penalties;temperature;top_k;top_p' {chosen}"]


def _converted(technique: Technique, kind: str, file: str) -> list[str]:
    """The lines that make a GGUF file of a checkpoint of transformers."""
    if technique.made_by:
        lines = [f"# MODEL is the checkpoint that speedgrid made: a folder under results/checkpoints/MODEL/{technique.made_by}/"]
    else:
        lines = ["# MODEL is a folder with the model's safetensors"]
    if kind in GGUF_AS_CONVERTED:
        return [*lines, f"python convert_hf_to_gguf.py MODEL --outfile {file} --outtype {kind}"]
    whole = {"float16": "f16", "bfloat16": "bf16"}.get(technique.dtype, "f32")
    lines.append(f"python convert_hf_to_gguf.py MODEL --outfile whole.gguf --outtype {whole}")
    return [*lines, f"llama-quantize whole.gguf {file} {kind.upper()}"]


def _onnxruntime(technique: Technique) -> list[str]:
    half, quantized = technique.dtype == "float16", technique.transform.get("quantization") == "dynamic_int8"
    imports = [
        *(["import torch"] if half else []),
        f"from optimum.exporters.onnx import {'onnx_export_from_model' if half else 'main_export'}",
        "from optimum.onnxruntime import ORTModelForCausalLM",
        f"from transformers import AutoConfig, {'AutoModelForCausalLM, ' if half else ''}AutoTokenizer",
    ]
    lines = [
        *technique.model,
        'FOLDER = "onnx"  # of the export, which is made once',
        *_saved_before_5("what exports has transformers 4", "instead let FOLDER be an export of speedgrid, in results/checkpoints"),
    ]
    more, told = "", ["FOLDER"]
    if quantized:
        imports[:0] = ["import os", "from onnxruntime.quantization import QuantType, quantize_dynamic"]
        more = ", no_post_process=True"
        lines.append("# Without tied weights stored once, so that the last layer is quantized, too.")
    if half:
        lines += [
            "# SDPA in float16 is exported as a product in float32.",
            'whole = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float16, attn_implementation="eager")',
            'onnx_export_from_model(whole, FOLDER, task="text-generation-with-past", do_validation=False)',
            "AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)",
        ]
    else:
        lines.append(f'main_export(MODEL, FOLDER, task="text-generation-with-past"{more})')
    if quantized:
        lines += [
            "# A processor without VNNI needs QuantType.QUInt8; a model of more than 2 GiB use_external_data_format=True.",
            'quantize_dynamic(f"{FOLDER}/model.onnx", f"{FOLDER}/model_int8.onnx", op_types_to_quantize=["MatMul"], per_channel=True,'
            " weight_type=QuantType.QInt8)",
            'os.replace(f"{FOLDER}/model_int8.onnx", f"{FOLDER}/model.onnx")',
        ]
    if technique.device == "cuda":
        told.append('provider="CUDAExecutionProvider"')
        told.append(f'provider_options={{"use_tf32": "{int(technique.options.get("tf32", False))}"}}')
    lines += ["tokenizer = AutoTokenizer.from_pretrained(FOLDER)", f"model = ORTModelForCausalLM.from_pretrained({', '.join(told)})"]
    # Tokenizers of transformers 4 that come as a file alone make types of tokens, too, which a graph does not take.
    inputs = technique.inputs.replace("return_tensors", "return_token_type_ids=False, return_tensors")
    return [*imports, "", *lines, "", inputs, f"output = model.generate(**inputs, {', '.join(technique.asked)})"]


def _saved_before_5(why: str, instead: str) -> list[str]:
    """Lines that stop at a checkpoint that transformers 5 saved, where an older one would read it: that fails at the tokenizer or, worse,
    takes the base of rotary embeddings for another without a word (transforms/onnx.py)."""
    return [
        'if (AutoConfig.from_pretrained(MODEL).transformers_version or "") >= "5":',
        f'    raise SystemExit("transformers 5 saved this model, and {why}, which reads it wrongly: {instead}")',
    ]


# Training, passes and attention alone


def _pytorch(technique: Technique) -> list[str]:
    """What the technique changes in a training loop or a forward pass of PyTorch, whose batches are the reader's."""
    options = technique.options
    precision, adapter = technique.precision, options.get("adapter")
    dtype = WEIGHTS_IN.get(precision, technique.dtype if not precision else "float32")
    kind = "AutoModelForImageClassification" if technique.of_images else "AutoModelForCausalLM"
    imports, told = ["import torch", f"from transformers import {kind}"], [f"dtype=torch.{dtype}"]
    if not technique.of_images:
        told.append(f'attn_implementation="{technique.attention}"')
    lines = [*technique.model]
    if precision:
        lines.append(f"torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = {precision == 'tf32'}")
    if adapter == "qlora":
        imports.append("from transformers import BitsAndBytesConfig")
        four = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16'
        lines.append(f"quantization = BitsAndBytesConfig({four})")
        told += ["quantization_config=quantization", f'device_map="{technique.device}"']
    load = f"model = {kind}.from_pretrained(MODEL, {', '.join(told)})"
    lines.append(load if adapter == "qlora" else f'{load}.to("{technique.device}")')
    if options.get("channels_last"):
        lines.append("model = model.to(memory_format=torch.channels_last)  # and each batch of images likewise")
    lines += _checkpointed(options, imports)
    if adapter:
        imports.append("from peft import LoraConfig, get_peft_model")
        if options.get("checkpointing"):
            lines.append("model.enable_input_require_grads()")
        lines.append('model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))')
    # As they come, models of transformers are set to evaluate, and then no layer is checkpointed.
    lines += [f"model.{'train' if technique.trains else 'eval'}()", "forward = " + _compiled_model(options)]
    return [*imports, "", *lines, "", *(_training_step if technique.trains else _passes)(technique)]


def _checkpointed(options: Mapping, imports: list[str]) -> list[str]:
    if options.get("checkpointing") == "full":
        return ['model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})']
    if not options.get("checkpointing"):
        return []
    imports.append("from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts")
    return [
        "# Kept are products and attention; what else a layer computes is computed again.",
        "aten = torch.ops.aten",
        "kept = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten._scaled_dot_product_flash_attention.default,",
        "        aten._scaled_dot_product_efficient_attention.default}",
        "def policy(context, op, *arguments, **named):",
        "    return CheckpointPolicy.MUST_SAVE if op in kept else CheckpointPolicy.PREFER_RECOMPUTE",
        'selective = {"use_reentrant": False, "context_fn": lambda: create_selective_checkpoint_contexts(policy)}',
        "model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=selective)",
    ]


def _compiled_model(options: Mapping) -> str:
    if not options.get("compile"):
        return "model"
    mode = options.get("compile_mode", "default")
    told = ([f'mode="{mode}"'] if mode != "default" else []) + (["fullgraph=True"] if options.get("fullgraph") else [])
    return f"torch.compile({', '.join(['model', *told])})"


def _pixels(precision: str) -> str:
    """A batch of images in the number format of the weights, as the model's argument."""
    return f"pixel_values=images.to(torch.{WEIGHTS_IN[precision]})" if precision in WEIGHTS_IN else "pixel_values=images"


def _passes(technique: Technique) -> list[str]:
    precision = technique.precision
    batch, told = ("images", _pixels(precision)) if technique.of_images else ("tokens", "input_ids=tokens, use_cache=False")
    lines = [f"logits = forward({told}).logits"]
    if technique.options.get("compile_mode") in ("reduce-overhead", "max-autotune"):
        lines.insert(0, "torch.compiler.cudagraph_mark_step_begin()")
    around = "with torch.inference_mode()"
    if precision in AUTOCAST:
        around += f', torch.autocast("{technique.device}", torch.{AUTOCAST[precision]})'
    return [f"{around}:", f"    for {batch} in batches:", *(f"        {line}" for line in lines)]


def _training_step(technique: Technique) -> list[str]:
    options, precision = technique.options, technique.precision
    parts, scaled = options.get("accumulate", 1), precision == "fp16_scaler"
    # As the experiment has them, or, of a technique that none measured, as any has that does not say.
    asked = {**WORKLOADS["train"].keys, **technique.settings}
    made = OPTIMIZERS[options.get("optimizer", asked["optimizer"])]
    optimizer = made.format(f"[p for p in model.parameters() if p.requires_grad], lr={asked['learning_rate']:g}")
    lines = ["import bitsandbytes"] if "bitsandbytes" in optimizer else []
    lines.append(f"optimizer = {optimizer}" + ("" if "optimizer" in options else "  # or yours"))
    if scaled:
        lines.append(f'scaler = torch.amp.GradScaler("{technique.device}")')
    loss, batch = "forward(input_ids=tokens, labels=tokens, use_cache=False).loss", "tokens"
    if technique.of_images:
        loss, batch = f"torch.nn.functional.cross_entropy(forward({_pixels(precision)}).logits.float(), labels)", "images, labels"
    compute = [f"loss = {loss}" + (f" / {parts}" if parts > 1 else "")]
    if precision in AUTOCAST:
        compute = [f'with torch.autocast("{technique.device}", torch.{AUTOCAST[precision]}):', f"    {compute[0]}"]
    compute.append("scaler.scale(loss).backward()" if scaled else "loss.backward()")
    if parts > 1:
        chunks = f"zip(*(part.chunk({parts}) for part in batch))" if technique.of_images else f"batch.chunk({parts})"
        compute = [f"for {batch} in {chunks}:", *(f"    {line}" for line in compute)]
    step = ["optimizer.zero_grad(set_to_none=True)", *compute]
    if norm := asked["clip_norm"]:
        step += ["scaler.unscale_(optimizer)"] if scaled else []
        step.append(f"torch.nn.utils.clip_grad_norm_(model.parameters(), {norm})")
    step += ["scaler.step(optimizer)", "scaler.update()"] if scaled else ["optimizer.step()"]
    return [*lines, f"for {'batch' if parts > 1 else batch} in batches:", *(f"    {line}" for line in step)]


def _attention(technique: Technique) -> list[str]:
    """q, k and v are (batch, heads, length, head size). What no experiment measured has the mask of a language model."""
    options, settings = technique.options, technique.settings
    causal, shapes = settings.get("causal", True), "# q, k, v: (batch, heads, length, head size)"
    imports, lines, out = _attends(options.get("attention", ""), causal)
    if options.get("compile"):
        mode = f', mode="{options["compile_mode"]}"' if "compile_mode" in options else ""
        lines += ["def attend(q, k, v):", f"    return {out}", f"attend = torch.compile(attend{mode})"]
        out = "attend(q, k, v)"
    lines += _in_kernel(technique, imports, [f"out = {out}"])
    if settings.get("backward"):
        lines.append("out.backward(upstream)  # upstream: the gradient of out; q, k and v require theirs")
    if causal and not settings:
        shapes += "; causal: no position sees a later one"
    return [*imports, "", shapes, *lines]


def _attends(kind: str, causal: bool) -> tuple[list[str], list[str], str]:
    """What a kind of attention imports, what it has before its call, and the call."""
    if kind == "flash_attention_2":
        call = f"flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal={causal}).transpose(1, 2)"
        return ["import torch", "from flash_attn import flash_attn_func"], [], call
    if kind == "flex_attention":
        names = "create_block_mask, flex_attention" if causal else "flex_attention"
        imports = ["import torch", f"from torch.nn.attention.flex_attention import {names}"]
        lines = ["flex = torch.compile(flex_attention)"]
        if not causal:
            return imports, lines, "flex(q, k, v)"
        lines.append("length = q.shape[-2]")
        lines.append("mask = create_block_mask(lambda b, h, query, key: query >= key, None, None, length, length, device=q.device)")
        return imports, lines, "flex(q, k, v, block_mask=mask)"
    if kind == "eager":
        scores, hidden = "(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5)", ""
        lines = []
        if causal:
            lines = ["later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)"]
            hidden = '.masked_fill(later, float("-inf"))'
        return ["import torch"], lines, f"{scores}{hidden}.softmax(dim=-1) @ v"
    return ["import torch"], [], f"torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal={causal})"


ENGINES = {
    "transformers": _transformers,
    "transformers_loop": _transformers_loop,
    "transformers_legacy": _transformers_legacy,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
    "onnxruntime": _onnxruntime,
    "pytorch": _pytorch,
    "attention": _attention,
}
