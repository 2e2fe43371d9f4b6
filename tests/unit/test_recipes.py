"""The code that a reader applies a technique with: there for every technique that can run, and it holds what the engine is told."""

import ast
import re

import pytest
from speedgrid.engines.transformers import SDPA_KERNELS
from speedgrid.report import recipes
from speedgrid.study import read

import studies

REGISTRY = read(studies.ROOT / "techniques.yaml", "techniques.yaml")
ORIGINAL = "llama-server --model MODEL.gguf --n-gpu-layers 999 --split-mode none"
NAMES = [name for name, entry in REGISTRY.items() if "unavailable" not in entry]
# What each option is, in the code of the engine that takes it: a text that must be there, with the option's value in place of {}.
SEEN = {
    "attention": "{}",
    "dtype": "{}",
    "sdpa_kernel": "{}",
    "cache": "{}",
    "use_cache": "use_cache={}",
    "compile": "compile",
    "compile_mode": "{}",
    "prompt_lookup": "prompt_lookup_num_tokens={}",
    "bettertransformer": "to_bettertransformer",
    "flash_attention": "--flash-attn {}",
    "quantization": "{}",
    "enforce_eager": "enforce_eager={}",
    "fullgraph": "fullgraph={}",
    "channels_last": "channels_last",
    "checkpointing": "gradient_checkpointing_enable",
    "accumulate": "chunk({})",
    "adapter": "LoraConfig",
    "kernel": "{}",
}
PRECISION = {
    "fp32": "allow_tf32 = False",
    "tf32": "allow_tf32 = True",
    "fp16_scaler": "GradScaler",
    "bf16_autocast": "torch.autocast",
    "bf16_pure": "dtype=torch.bfloat16",
}
SPELLED = {"adamw_fused": "fused=True", "adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_every_technique_has_code_that_says_what_its_engine_is_told(name, device):
    entry, code = REGISTRY[name], recipes.code(name, REGISTRY, "bfloat16", device)
    assert code
    if entry["engine"] != "llamacpp":
        ast.parse(code)
    for option, value in entry.get("options", {}).items():
        if entry["engine"] == "attention" and option == "attention":
            continue
        if option == "precision":
            assert PRECISION[value] in code
        elif option == "optimizer":
            assert SPELLED[value] in code
        elif option == "tf32":
            assert device == "cpu" or '"use_tf32": "1"' in code
        elif option == "dtype" and entry["engine"] == "onnxruntime":
            # An export is in float32 unless told, and PyTorch exports SDPA in float32 whatever it is told.
            assert ('dtype=torch.float16, attn_implementation="eager"' in code) == (value == "float16")
        elif option != "expected_kernel":
            text = str(value).upper() if option == "sdpa_kernel" and entry["engine"] != "transformers_legacy" else str(value)
            assert SEEN[option].format(text) in code, f"{name}: nothing says {option}: {value}"


@pytest.mark.parametrize("name", [name for name in NAMES if {"transform", "checkpoint"} & set(REGISTRY[name])])
def test_the_checkpoint_of_a_technique_is_in_its_code(name):
    maker = REGISTRY[REGISTRY[name].get("checkpoint", name)]
    method, code = maker["transform"]["method"], recipes.code(name, REGISTRY, "bfloat16")
    words = {
        "bitsandbytes": "BitsAndBytesConfig",
        "gptqmodel": "GPTQModel.load",
        "autogptq": "AutoGPTQForCausalLM",
        "torchao": "TorchAoConfig",
        "gguf": "convert_hf_to_gguf.py",
        "onnx": "onnx_export_from_model(" if name == "onnx_fp16" else "main_export(",
        "prune": "speedgrid made",
        "distill": "speedgrid made",
    }
    if name == "gguf_original":
        assert [line for line in code.splitlines() if not line.startswith("#")] == [ORIGINAL]
    else:
        assert words[method] in code
    assert ("speedgrid made" in code) == (method in ("prune", "distill") or "from" in maker)


def test_a_techniques_own_number_format_comes_before_the_experiments():
    assert "dtype=torch.float16" in recipes.code("fp16", REGISTRY, "float32")
    assert "dtype=torch.float32" in recipes.code("sdpa", REGISTRY, "float32")


@pytest.mark.parametrize("name", NAMES)
def test_who_has_a_gguf_file_alone_is_told_of_no_other_checkpoint_that_is_not_there(name):
    """The code of Q4_K_M converted safetensors, which that person does not have."""
    code = recipes.code(name, REGISTRY, "float32", "cpu", written="models/mine/checkpoint")
    assert "organisation/model" not in code
    assert "a folder with the model's safetensors" not in code
    if name in ("gguf_q4_k_m", "gguf_f16"):
        assert f"llama-quantize --allow-requantize MODEL.gguf model.gguf {name.removeprefix('gguf_').upper()}" in code
    if name == "sdpa":
        assert 'MODEL = "models/mine/checkpoint"' in code


def test_what_is_not_known_has_no_code():
    assert recipes.code("nothing", REGISTRY, "float32") == ""
    assert recipes.code("mine", {"mine": {"engine": "one of tomorrow"}}, "float32") == ""


def test_the_names_of_kernels_are_the_engines():
    assert recipes.SDPA_KERNELS == SDPA_KERNELS


@pytest.mark.parametrize("name", ["sdpa", "torch_compile", "torch_compile_loop", "bnb_nf4", "gguf_q4_k_m", "vllm_fp8"])
def test_code_is_a_few_lines(name):
    assert len(recipes.code(name, REGISTRY, "bfloat16").splitlines()) <= 24


def test_code_of_an_engine_that_makes_room_makes_as_much_as_was_measured():
    """The page said that vLLM needs 17.4 GB beside code that takes nine tenths of the card and the model's whole context."""
    measured = {"max_model_len": 256, "kv_cache_tokens": 640, "kv_cache_bytes": 83886080}
    work = {"workload": "generate", "settings": {"batch_size": 1}}
    code = recipes.code("vllm", REGISTRY, "bfloat16", measured=measured, **work)
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "LLM"]
    told = {one.arg: ast.unparse(one.value) for one in call.keywords}
    sizes = {"max_model_len": "256", "max_num_seqs": "1", "kv_cache_memory_bytes": "83886080", "gpu_memory_utilization": "0.01"}
    assert sizes.items() <= told.items()
    assert "room for 640 tokens" in code
    # Of a model whose cache nobody can size, vLLM took what was free.
    unsized = recipes.code("vllm", REGISTRY, "bfloat16", measured=measured | {"kv_cache_bytes": None}, **work)
    assert "max_model_len=256, max_num_seqs=1)" in unsized
    assert "nine tenths of the GPU for its cache" in unsized
    assert "max_model_len" not in recipes.code("vllm", REGISTRY, "bfloat16")
    room = recipes.code("gguf_q4_k_m", REGISTRY, "bfloat16", measured={"n_ctx": 512, "n_seq_max": 2})
    assert room.endswith(" --ctx-size 512 --parallel 2")
    assert "ctx-size" not in recipes.code("gguf_q4_k_m", REGISTRY, "bfloat16")


REPLIES = [name for name in NAMES if REGISTRY[name]["engine"] not in ("pytorch", "attention", "llamacpp")]
GREEDY = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
DRAWN = {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2}


def code_of(name: str, **settings) -> str:
    return recipes.code(name, REGISTRY, "bfloat16", "cuda", "generate", "token", settings=settings)


def told_of(code: str, function: str) -> dict[str, object]:
    """What the one call of a function is told by name."""
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and ast.unparse(node.func) == function]
    return {one.arg: ast.literal_eval(one.value) for one in call.keywords if one.arg and isinstance(one.value, ast.Constant)}


@pytest.mark.parametrize("name", [name for name in REPLIES if REGISTRY[name]["engine"] not in ("transformers_loop", "vllm")])
def test_replies_of_transformers_are_those_of_the_experiment(name):
    """A study of 128 tokens, drawn, was shown beside code for up to 256, chosen as the checkpoint's own file says."""
    greedy = told_of(code_of(name, sampling=GREEDY, max_new_tokens=128, ignore_eos=True), "model.generate")
    assert {"max_new_tokens": 128, "min_new_tokens": 128, "do_sample": False, "repetition_penalty": 1.0}.items() <= greedy.items()
    assert not {"temperature", "top_k", "top_p"} & set(greedy), "which mean nothing then"
    drawn = code_of(name, sampling=DRAWN, max_new_tokens=64, ignore_eos=False, batch_size=4)
    assert ({"max_new_tokens": 64} | DRAWN).items() <= told_of(drawn, "model.generate").items()
    assert "min_new_tokens" not in drawn
    assert 'tokenizer(["Once upon a time"] * 4, ' in drawn
    unknown = told_of(recipes.code(name, REGISTRY, "bfloat16"), "model.generate")
    assert unknown["max_new_tokens"] == recipes.NEW_TOKENS
    assert not {"do_sample", "min_new_tokens", "temperature", "repetition_penalty"} & set(unknown)
    assert len(drawn.splitlines()) == len(recipes.code(name, REGISTRY, "bfloat16").splitlines()), "as short as before"


@pytest.mark.parametrize("name", [name for name in REPLIES if REGISTRY[name]["engine"] == "vllm"])
def test_replies_of_vllm_are_those_of_the_experiment(name):
    greedy = told_of(code_of(name, sampling=GREEDY, max_new_tokens=128, ignore_eos=True), "SamplingParams")
    assert greedy == {"max_tokens": 128, "ignore_eos": True, "temperature": 0.0, "repetition_penalty": 1.0}
    drawn = code_of(name, sampling=DRAWN, max_new_tokens=64, ignore_eos=False, batch_size=4)
    wanted = {key: value for key, value in DRAWN.items() if key != "do_sample"}
    assert told_of(drawn, "SamplingParams") == {"max_tokens": 64, **wanted}
    assert 'llm.generate(["Once upon a time"] * 4, ' in drawn
    assert told_of(recipes.code(name, REGISTRY, "bfloat16"), "SamplingParams") == {"max_tokens": recipes.NEW_TOKENS}


@pytest.mark.parametrize("name", [name for name in NAMES if REGISTRY[name]["engine"] == "llamacpp"])
def test_replies_of_llama_cpp_are_those_of_the_experiment(name):
    """The server draws by itself, at a temperature of 0.8."""
    greedy = code_of(name, sampling=GREEDY, max_new_tokens=128, ignore_eos=True)
    assert greedy.endswith(" --predict 128 --ignore-eos --temp 0")
    drawn = code_of(name, sampling=DRAWN, max_new_tokens=64, ignore_eos=False)
    assert drawn.endswith(
        " --predict 64 --repeat-penalty 1.2 --repeat-last-n -1"
        " --samplers 'penalties;temperature;top_k;top_p' --temp 0.7 --top-k 40 --top-p 0.9"
    )
    assert "--temp" not in recipes.code(name, REGISTRY, "bfloat16")


@pytest.mark.parametrize("name", [name for name in REPLIES if REGISTRY[name]["engine"] == "transformers_loop"])
def test_the_loop_of_our_own_chooses_tokens_as_the_experiment_did(name):
    unknown = recipes.code(name, REGISTRY, "bfloat16")
    greedy = code_of(name, sampling=GREEDY, max_new_tokens=128, ignore_eos=True)
    assert greedy == unknown.replace(f"steps = [], {recipes.NEW_TOKENS}", "steps = [], 128")
    ended = code_of(name, sampling=GREEDY, max_new_tokens=128, ignore_eos=False)
    assert "Looks for no end token" in ended
    drawn = code_of(name, sampling=DRAWN, max_new_tokens=64, ignore_eos=True, batch_size=2)
    ast.parse(drawn)
    for said in ("/ 0.7", "topk(min(40, ", "1 - 0.9", "logits * 1.2, logits / 1.2", "exponential_", '["Once upon a time"] * 2'):
        assert said in drawn
    plain = code_of(name, sampling=DRAWN | {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}, ignore_eos=True)
    assert "exponential_" in plain
    assert not {"topk", "cumsum", "seen"} & set(re.findall(r"\w+", plain))


def test_what_gpt_qmodel_reads_when_it_is_imported_is_set_before():
    code = recipes.code("gptq_int4", REGISTRY, "bfloat16", "cpu")
    assert -1 < code.find("GPTQMODEL_CPU_WORKERS") < code.find("from gptqmodel")


def test_gpt_qmodel_is_shown_calibrated_on_parts_of_one_length():
    """Of parts that differ in length its AWQ looks at the last alone (transforms/gptqmodel.py), and the code made such ones."""
    awq = REGISTRY["awq_int4"]
    registry = {**REGISTRY, "short": {**awq, "transform": {**awq["transform"], "sequence": 16, "samples": 5}}}
    for name, length, parts in (("awq_int4", 512, 6), ("gptq_int4", 512, 6), ("short", 16, 5)):
        code = recipes.code(name, registry, "bfloat16")
        made = [line for line in code.splitlines() if line.startswith(("stream =", "parts =", "examples ="))]
        known: dict = {"texts": [[1] * 700] * 5, "tokenizer": lambda text: {"input_ids": text}}
        exec("\n".join(made), known)
        assert [len(one["input_ids"]) for one in known["examples"]] == [length] * parts
        assert known["examples"][-1]["attention_mask"] == [1] * length


@pytest.mark.parametrize("workload", ["train", "forward"])
@pytest.mark.parametrize(
    "name", [name for name in NAMES if REGISTRY[name]["engine"] == "pytorch" and "adapter" not in REGISTRY[name]["options"]]
)
def test_a_model_of_images_is_loaded_and_fed_as_one(name, workload):
    """Its code had a language model and tokens, and trained where forward passes were measured."""
    code = recipes.code(name, REGISTRY, "float32", "cuda", workload, "image")
    ast.parse(code)
    assert "AutoModelForImageClassification" in code
    assert not {"AutoModelForCausalLM", "input_ids", "attn_implementation"} & set(re.findall(r"\w+", code))
    assert ("loss" in code, "model.train()" in code, "inference_mode" in code) == (*[workload == "train"] * 2, workload == "forward")
    assert ("images.to(torch.bfloat16)" in code) == (REGISTRY[name]["options"].get("precision") == "bf16_pure")


def test_a_model_that_is_trained_is_set_to_train():
    """Layers of transformers are checkpointed in training mode alone, which `from_pretrained` does not set."""
    for name in ("torch_eager", "gradient_checkpointing", "finetune_qlora_checkpointing"):
        code = recipes.code(name, REGISTRY, "float32")
        assert code.index("from_pretrained") < code.index("model.train()") < code.index("forward = ")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in NAMES
        if REGISTRY[name]["engine"] in ("onnxruntime", "transformers_legacy") and recipes.code(name, REGISTRY, "float32")
    ],
)
def test_code_for_an_older_transformers_stops_at_what_transformers_5_saved(name):
    """It cannot read such tokenizers, and takes the base of rotary embeddings for another without a word."""
    code = recipes.code(name, REGISTRY, "float32", "cpu")
    guard = 'if (AutoConfig.from_pretrained(MODEL).transformers_version or "") >= "5":'
    assert "import AutoConfig" in code
    assert (
        -1
        < code.find(guard)
        < min(at for at in map(code.find, ("AutoTokenizer.from", "main_export(MODEL", "CausalLM.from_pretrained(")) if at > -1)
    )
    if REGISTRY[name]["engine"] == "onnxruntime":
        # So that speedgrid's own export, whose tokenizer is in words of transformers 4, can take its place.
        assert "AutoTokenizer.from_pretrained(FOLDER)" in code
        assert "ORTModelForCausalLM.from_pretrained(FOLDER" in code
        assert "file_name" not in code
        assert "return_token_type_ids=False" in code


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", [name for name in NAMES if REGISTRY[name]["engine"] == "attention"])
def test_attention_has_the_mask_and_the_pass_of_its_experiment(name, compiled, causal, backward):
    """The page of a study without a mask showed `is_causal=True`."""
    registry = REGISTRY
    if compiled:
        registry = {name: REGISTRY[name] | {"options": REGISTRY[name]["options"] | {"compile": "module", "compile_mode": "max-autotune"}}}
    settings = {"causal": causal, "backward": backward}
    code = recipes.code(name, registry, "float16", "cuda", "attention", "pass", settings=settings)
    ast.parse(code)
    said = {"is_causal=True", "causal=True", "block_mask=mask", ".masked_fill(later"}
    assert any(text in code for text in said) == causal, code
    assert ("out.backward(" in code) == backward
    assert ('torch.compile(attend, mode="max-autotune")' in code) == compiled
    assert "causal:" not in code
    unknown = recipes.code(name, registry, "float16")
    assert any(text in unknown for text in said)
    assert "causal: no position sees a later one" in unknown, "whoever reads `show` is told which of the two it is"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("workload", ["train", "largest", "forward"])
def test_a_technique_of_pytorch_has_the_precision_of_its_experiment(workload, device):
    """Checkpointing that was measured under autocast had code that trains in float32, and ResNet-50 with SGD code with AdamW."""

    def code(name: str, **settings) -> str:
        return recipes.code(name, REGISTRY, "float32", device, workload, "token", settings=settings)

    assert f'torch.autocast("{device}", torch.bfloat16)' in code("torch_eager", precision="bf16_autocast")
    assert "dtype=torch.bfloat16" in code("torch_eager", precision="bf16_pure")
    assert "allow_tf32 = True" in code("torch_eager", precision="tf32")
    assert "allow_tf32 = False" in code("torch_eager", batch_size=1), "what an experiment leaves out is in float32"
    assert "autocast" not in code("torch_tf32", precision="bf16_autocast"), "a technique's own comes before it"


def test_a_step_has_the_optimizer_of_its_experiment():
    def code(name: str, **settings) -> str:
        return recipes.code(name, REGISTRY, "float32", "cuda", "train", "image", settings=settings)

    told = code("torch_fp32", optimizer="sgd", learning_rate=0.1, clip_norm=0.5)
    assert "torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)  # or yours" in told
    assert "clip_grad_norm_(model.parameters(), 0.5)" in told
    assert "AdamW8bit" in code("finetune_full_8bit", optimizer="sgd")
    for name in ("torch_fp32", "torch_fp16_scaler"):
        unclipped = code(name, clip_norm=0)
        ast.parse(unclipped)
        assert not {"clip_grad_norm_", "unscale_"} & set(re.findall(r"\w+", unclipped))
    assert "clip_grad_norm_(model.parameters(), 1.0)" in code("torch_fp32", batch_size=1), "as an experiment that leaves it out does"
