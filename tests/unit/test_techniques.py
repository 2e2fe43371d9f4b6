"""Techniques against what their engines and transforms take: whatever a job would refuse is refused when the study is planned."""

import inspect

import pytest
from speedgrid import grid, techniques, transforms, validation
from speedgrid.engines import engine_class
from speedgrid.study import StudyError, merge_registry, validate
from test_validation import keywords

import studies

SCHEMA = studies.schema("techniques")
REGISTRY = validate(studies.registry(), SCHEMA, "techniques.yaml")
ENVIRONMENTS = sorted(path.stem for path in (studies.ROOT / "envs").glob("*.yaml"))
METHODS = SCHEMA["additionalProperties"]["properties"]["transform"]["properties"]["method"]["enum"]
ENGINES = [
    name
    for name in SCHEMA["additionalProperties"]["properties"]["engine"]["enum"]
    if (studies.ROOT / f"scripts/speedgrid/engines/{name}.py").is_file()
]
OWN = {"label": "Mine", "family": "quantization", "summary": "s", "engine": "transformers", "env": "transformers"}


def planned(experiment=None, **technique):
    """The cells of a study with a technique of its own."""
    study = studies.small()
    study["techniques"] = {"mine": {**OWN, **technique}}
    study["experiments"]["generate"] |= {"techniques": ["baseline", "mine"], **(experiment or {})}
    study = validate(study, studies.schema("study"), "my.yaml")
    own = validate(study["techniques"], SCHEMA, "my.yaml: techniques")
    techniques.check(own, ENVIRONMENTS, "my.yaml")
    cells = grid.plan(study, merge_registry(REGISTRY, own, "my.yaml"), "my.yaml")
    techniques.check_cells(cells, study, merge_registry(REGISTRY, own, "my.yaml"), "my.yaml")
    return cells


def complaint(experiment=None, **technique) -> str:
    with pytest.raises(StudyError) as caught:
        planned(experiment, **technique)
    return str(caught.value)


def test_every_technique_of_the_registry_is_one_that_its_engine_and_transform_take():
    techniques.check(REGISTRY, ENVIRONMENTS, "techniques.yaml")


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_transform_is_described_and_has_words_for_what_is_wrong(method):
    def walk(schema):
        assert set(keywords(schema)) <= {*validation.WORDS, "properties", "description"}
        assert schema["additionalProperties"] is False
        for child in schema["properties"].values():
            assert child["description"]
            for option in [child, *child.get("oneOf", [])]:
                if "properties" in option:
                    walk(option)

    walk(transforms.settings_schema(method))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_takes_options_of_the_schema_and_says_which_it_reads(engine):
    options = SCHEMA["additionalProperties"]["properties"]["options"]["properties"]
    for name, values in engine_class(engine).OPTIONS.items():
        assert name in options
        assert set(values or ()) <= set(options[name].get("enum", values or ()))
    module = inspect.getmodule(engine_class(engine))
    read = {
        name
        for name in options
        if f'options.get("{name}"' in inspect.getsource(module) or f'options["{name}"]' in inspect.getsource(module)
    }
    assert read - {"bettertransformer"} <= set(engine_class(engine).OPTIONS) | {"dtype"}


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"method": "prune", "share": "30%"}, "transform.share: expected a number, found text ('30%'); write 0.3"),
        ({"method": "prune", "share": 1.0}, "transform.share: 1.0 is too large; it must be less than 1"),
        ({"method": "prune", "share": 0.3, "axis": "deep"}, "transform.axis: 'deep' is not allowed; allowed are width, depth"),
        ({"method": "prune"}, "transform: needs the key share: share of the layers' weights"),
        ({"method": "prune", "share": 0.3, "recovery": {"token": 5}}, "transform.recovery: unknown key token; did you mean tokens?"),
        ({"method": "distill", "size": 0.4, "train": {}}, "transform.train: needs the key tokens"),
        ({"method": "distill", "size": 0.4}, "transform: needs the key train: how the student is trained"),
        ({"method": "bitsandbytes", "bits": 4, "quant_type": "nf9"}, "transform.quant_type: 'nf9' is not allowed; allowed are nf4, fp4"),
        ({"method": "bitsandbytes", "bits": 4, "quanttype": "nf4"}, "transform: unknown key quanttype; did you mean quant_type?"),
        ({"method": "bitsandbytes", "bits": 3}, "transform.bits: 3 is not allowed; allowed are 4, 8"),
        ({"method": "bitsandbytes", "bits": "4"}, "transform.bits: expected a whole number, found text ('4'); write 4"),
        ({"method": "bitsandbytes"}, "transform: needs the key bits"),
        ({"method": "gguf", "type": "Q4_K_M"}, "transform.type: 'Q4_K_M' is not allowed; allowed are f32,"),
        ({"method": "gptqmodel", "format": "gptq", "group_size": 0}, "transform.group_size: 0 is too small; the least is 1"),
        ({"method": "torchao", "scheme": "int4", "group_size": 100}, "transform.group_size: 100 is not allowed; allowed are 32, 64,"),
        ({"method": "onnx", "quantization": "int4"}, "transform.quantization: 'int4' is not allowed; allowed are none, dynamic_int8"),
        ({"method": "autogptq", "desc_act": 1}, "transform.desc_act: expected true or false, found a number (1)"),
    ],
)
def test_a_wrong_setting_of_a_transform_is_named_when_the_study_is_planned(transform, words):
    assert f"my.yaml: techniques.mine.{words}" in complaint(transform=transform)


@pytest.mark.parametrize(
    ("transform", "dtype", "words"),
    [
        ({"method": "bitsandbytes", "bits": 8, "double_quant": True}, "float32", "double_quant belongs to 4 bits, and bits is 8"),
        ({"method": "torchao", "scheme": "fp8", "group_size": 64}, "bfloat16", "group_size belongs to int4"),
        ({"method": "torchao", "scheme": "int4"}, "float32", "torchao's int4 computes in bfloat16, not in float32"),
        ({"method": "gptqmodel", "format": "awq"}, "float32", "awq takes a model in bfloat16 or float16, not in float32"),
        ({"method": "gptqmodel", "format": "awq", "bits": 8}, "float16", "awq has 4 bits, not 8"),
        ({"method": "onnx", "quantization": "none"}, "bfloat16", "onnxruntime does not compute in bfloat16"),
        ({"method": "onnx", "quantization": "dynamic_int8"}, "float16", "starts from float32, not from float16"),
    ],
)
def test_settings_that_do_not_go_together_or_with_the_number_format_are_named(transform, dtype, words):
    engine = "onnxruntime" if transform["method"] == "onnx" else "transformers"
    line = complaint({"dtype": dtype}, transform=transform, engine=engine)
    assert line.startswith("my.yaml: experiments.generate.techniques: 'mine': ")
    assert words in line


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        ({"env": "nosuch"}, "techniques.mine.env: 'nosuch' is no file of envs/; allowed are evaluation, finetune,"),
        ({"env": "transformer"}, "techniques.mine.env: 'transformer' is no file of envs/; did you mean transformers"),
        ({"env": {"cuda": "vllm", "cpu": "vlm-cpu"}}, "techniques.mine.env: 'vlm-cpu' is no file of envs/; did you mean vllm-cpu"),
        ({"engine": "sglang"}, "techniques.mine.engine: there is no code for the engine sglang"),
        ({"options": {"atention": "sdpa"}}, "techniques.mine.options: unknown key atention; did you mean attention?"),
        ({"options": {"enforce_eager": True}}, "techniques.mine.options: the engine transformers has no option enforce_eager; allowed are"),
        ({"engine": "llamacpp", "options": {"cache": "static"}}, "techniques.mine.options: the engine llamacpp has no option cache"),
        (
            {"engine": "transformers_legacy", "options": {"compile": "forward"}},
            "techniques.mine.options.compile: the engine transformers_legacy has no 'forward'; allowed are module",
        ),
        ({"engine": "transformers_loop", "options": {"attention": "sdpa"}}, "'mine': needs `compile: loop`"),
        ({"options": {"flash_attention": True}}, "techniques.mine.options.flash_attention: true is not allowed; allowed are auto, on, off"),
        ({"engine": "llamacpp"}, "'mine': the engine llamacpp loads gguf alone, and the technique has no `transform` that makes it"),
        ({"engine": "onnxruntime", "checkpoint": "gguf_q8_0"}, "loads onnx alone, and the transform gguf of 'gguf_q8_0' makes gguf"),
        (
            {"checkpoint": "onnx_fp32"},
            "'mine': the engine transformers loads safetensors alone, and the transform onnx of 'onnx_fp32' makes onnx",
        ),
        (
            {"transform": {"method": "bitsandbytes", "bits": 8}, "from": "gguf_f16"},
            "'mine': the transform bitsandbytes loads safetensors alone, and the transform gguf of 'gguf_f16' makes gguf",
        ),
        ({"options": {"sdpa_kernel": "flash", "attention": "eager"}}, "'mine': `sdpa_kernel` is one of `attention: sdpa`"),
        ({"options": {"use_cache": False, "cache": "static"}}, "'mine': `use_cache` is false, and a static cache is asked for"),
        ({"options": {"compile_mode": "max-autotune"}}, "'mine': `compile_mode` belongs to `compile"),
        ({"reference": "javascript:alert(1)"}, "techniques.mine.reference: 'javascript:alert(1)' is not allowed; it is an address"),
        ({"label": "Mine\nand | yours"}, r"techniques.mine.label: 'Mine\nand | yours' is not allowed; it is one line of text"),
        ({"label": "faster\u202e than"}, "is not allowed; it is one line of text, without characters that turn the direction of writing"),
    ],
)
def test_what_an_engine_does_not_take_is_named_when_the_study_is_planned(technique, words):
    assert words in complaint(**technique).replace("techniques: mine", "techniques.mine")


def test_a_technique_for_one_sequence_is_refused_in_a_batch():
    assert planned(options={"prompt_lookup": 5})
    assert "'mine': `prompt_lookup`" in complaint({"batch_size": 2}, options={"prompt_lookup": 5})


def test_a_checkpoint_may_lie_in_a_folder_of_the_users_in_any_format():
    study = validate(studies.small() | {"models": {"tiny": {"local": "x"}}}, studies.schema("study"), "my.yaml")
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["mine"], "baseline": "mine"}
    registry = {**REGISTRY, **validate({"mine": {**OWN, "engine": "llamacpp"}}, SCHEMA, "my.yaml")}
    techniques.check_cells(grid.plan(study, registry, "my.yaml"), study, registry, "my.yaml")


def test_a_technique_that_can_run_nowhere_needs_no_code():
    assert planned(engine="sglang", unavailable="It cannot be had.")
