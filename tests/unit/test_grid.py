"""From a study to its cells, and every way to be told that a study is wrong."""

import copy
import json
import re
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import grid
from speedgrid import study as study_checks
from speedgrid.cell import checkpoint_record, probe_job
from speedgrid.planning.order import PlannedRun, in_order
from speedgrid.study import StudyError, check_devices, merge_registry, validate
from speedgrid.workload import takes

import studies

STUDY_SCHEMA, TECHNIQUES_SCHEMA = studies.schema("study"), studies.schema("techniques")
REGISTRY = validate(studies.registry(), TECHNIQUES_SCHEMA, "techniques.yaml")


def planned(study, registry=REGISTRY):
    return grid.plan(validate(study, STUDY_SCHEMA, "my.yaml"), registry, "my.yaml")


def complaint(study) -> str:
    with pytest.raises(StudyError) as caught:
        planned(study)
    return str(caught.value)


def test_the_grid_is_the_product_of_its_axes_in_the_order_of_the_study():
    cells = planned(studies.small())
    assert [cell.key for cell in cells] == [
        (gpu, "generate", model, technique)
        for gpu, model, technique in product(["local", "cpu"], ["tiny", "shape"], ["baseline", "sdpa", "bnb_int8"])
    ]


def test_excluded_cells_are_left_out():
    study = studies.small()
    study["experiments"]["generate"]["exclude"] = [{"gpu": "cpu", "technique": "sdpa"}, {"model": "shape", "technique": "bnb_int8"}]
    keys = {cell.key for cell in planned(study)}
    assert len(keys) == 12 - 2 - 2
    assert ("cpu", "generate", "tiny", "sdpa") not in keys
    assert ("local", "generate", "shape", "bnb_int8") not in keys


def test_only_a_technique_with_a_transform_has_a_checkpoint_of_its_own():
    by_key = {cell.key: cell for cell in planned(studies.small())}
    assert by_key["local", "generate", "tiny", "sdpa"].checkpoint_record == "models/tiny/prepared.parquet"
    own = {by_key[gpu, "generate", "tiny", "bnb_int8"].checkpoint_record for gpu in ("local", "cpu")}
    assert own == {"results/checkpoints/tiny/bnb_int8/float32/quantize.parquet"}


def test_a_technique_overrides_the_number_format_of_the_experiment():
    study = studies.small()
    study["experiments"]["generate"]["techniques"].append("bf16")
    formats = {cell.technique: cell.options["dtype"] for cell in planned(study)}
    assert formats == {"baseline": "float32", "sdpa": "float32", "bnb_int8": "float32", "bf16": "bfloat16"}


def test_a_study_may_add_techniques_but_not_redefine_them():
    own = {"mine": {"label": "Mine", "family": "attention", "summary": "s", "engine": "transformers", "env": "transformers"}}
    own = validate(own, TECHNIQUES_SCHEMA, "my.yaml: techniques")
    assert "mine" in merge_registry(REGISTRY, own, "my.yaml")
    with pytest.raises(StudyError, match=r"techniques\.sdpa: the registry has this name already"):
        merge_registry(REGISTRY, {"sdpa": own["mine"]}, "my.yaml")


def test_each_stage_is_told_only_what_it_uses():
    def jobs(**changed):
        study = studies.small()
        study["experiments"]["generate"] |= changed
        return {stage: planned(study)[2].job(stage) for stage in ("quantize", "warmup", "measure", "evaluate")}

    before = jobs()

    def changed_by(**change):
        after = jobs(**change)
        return {stage for stage in before if before[stage] != after[stage]}

    assert changed_by(replies=9) == {"measure"}
    assert changed_by(max_new_tokens=9) == {"warmup", "measure"}
    assert changed_by(evaluate={"max_bytes": 4096}) == {"evaluate"}
    assert changed_by(baseline="sdpa") == set()


def test_a_cell_is_held_against_the_unmodified_model_and_random_weights_against_nothing():
    study = studies.small()
    study["experiments"]["generate"] |= {"evaluate": {"tasks": [{"task": "cloze"}]}, "baseline": "bnb_int8"}
    tiny, shape = (next(cell for cell in planned(study) if cell.model == model) for model in ("tiny", "shape"))
    told = json.loads(tiny.job("evaluate"))
    assert told["requests"] == "results/requests/generate/requests.parquet"
    assert told["reference"] == "results/local/generate/tiny/reference.parquet"
    assert [json.loads(shape.job("evaluate"))[name] for name in ("requests", "reference")] == ["", ""]
    valid = validate(study, STUDY_SCHEMA, "config.yaml")
    reference = grid.reference_cell(tiny, valid, REGISTRY)
    # The baseline of this experiment is quantized itself, and no reference.
    assert (reference.technique, reference.transform, reference.checkpoint_record) == ("baseline", {}, "models/tiny/prepared.parquet")


def test_what_keeps_the_arithmetic_may_take_the_answers_of_a_baseline_that_is_the_unmodified_model():
    def takers(baseline: str) -> set[str]:
        study = studies.small()
        study["experiments"]["generate"] |= {"evaluate": {"tasks": [{"task": "cloze"}]}, "baseline": baseline}
        return {cell.technique for cell in planned(study) if json.loads(cell.job("evaluate")).get("may_take_over")}

    assert takers("baseline") == {"sdpa"}
    assert takers("sdpa") == {"baseline"}
    assert takers("bnb_int8") == set()


def test_a_transform_may_start_from_the_checkpoint_of_another():
    own = {name: {**REGISTRY["bnb_int8"], "label": name} for name in ("first", "second")}
    own["second"]["from"] = "first"
    study = studies.small()
    study["experiments"]["generate"]["techniques"] = ["baseline", "second"]
    cell = planned(study, {**REGISTRY, **own})[1]
    assert (cell.made_by, cell.source, cell.checkpoint_record) == ("second", "first", checkpoint_record("tiny", "second", "float32"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"from": "sdpa"}, r"techniques\.bnb_int8\.from: 'sdpa' makes no checkpoint; those that do are "),
        ({"from": "bnb_int8"}, r"techniques\.bnb_int8\.from: goes round in a circle: bnb_int8 from bnb_int8"),
        ({"from": "bnb_nf4", "transform": ...}, r"techniques\.bnb_int8\.from: the technique has no `transform`"),
    ],
)
def test_what_a_transform_starts_from_is_checked(change, words):
    entry = {key: value for key, value in {**REGISTRY["bnb_int8"], **change}.items() if value is not ...}
    with pytest.raises(StudyError, match=words):
        planned(studies.small(), {**REGISTRY, "bnb_int8": entry})


def test_a_label_reaches_no_job():
    relabelled = copy.deepcopy(REGISTRY)
    relabelled["sdpa"] |= {"label": "Another", "summary": "Other words."}
    for stage in ("warmup", "measure", "evaluate"):
        assert [c.job(stage) for c in planned(studies.small())] == [c.job(stage) for c in planned(studies.small(), relabelled)]


def at(path, value):
    """A change of a study: the value at a dotted path, or its removal where the value is `...`."""

    def change(study):
        *parents, last = path.split(".")
        for key in parents:
            study = study[key]
        if value is ...:
            del study[last]
        else:
            study[last] = value

    return change


MISTAKES = {
    "unknown technique": (
        at("experiments.generate.techniques", ["baseline", "flash9"]),
        "experiments.generate.techniques: 'flash9' is unknown; did you mean sdpa_flash or ",
    ),
    "unknown model": (at("experiments.generate.models", ["big"]), "experiments.generate.models: 'big' is unknown; allowed are tiny, shape"),
    "unknown gpu": (at("experiments.generate.gpus", ["a100"]), "experiments.generate.gpus: 'a100' is unknown; allowed are local, cpu"),
    "unknown key": (at("experiments.generate.repliez", 3), "experiments.generate: unknown key repliez; did you mean replies"),
    "unknown key at the top": (at("modles", {}), "my.yaml: unknown key modles; did you mean models?"),
    "unknown sampling key": (at("experiments.generate.sampling", {"temp": 1}), "experiments.generate.sampling: unknown key temp"),
    "wrong type": (
        at("experiments.generate.replies", "many"),
        "experiments.generate.replies: 'many' is not allowed; allowed is a whole number or auto or keys and values",
    ),
    "a list for a mapping": (at("models", ["tiny"]), "models: expected keys and values, found a list"),
    "negative count": (at("experiments.generate.replies", -3), "experiments.generate.replies: -3 is too small; the least is 1"),
    "no warm-up": (at("experiments.generate.warmup_replies", 0), "experiments.generate.warmup_replies: 0 is too small; the least is 1"),
    "no models": (at("models", ...), "my.yaml: needs the key models"),
    "no techniques": (at("experiments.generate.techniques", []), "experiments.generate.techniques: must not be empty"),
    "no prompt": (at("experiments.generate.prompt", ...), "experiments.generate: needs exactly one of prompt, prompt_tokens; it has none"),
    "two prompts": (
        at("experiments.generate.prompt_tokens", 4),
        "experiments.generate: needs exactly one of prompt, prompt_tokens; it has prompt and prompt_tokens",
    ),
    "two origins": (
        at("models.tiny.local", "x"),
        "models.tiny: needs exactly one of train, architecture, attention, local, gguf, hub; it has train and local",
    ),
    "no origin": (at("models.tiny", {}), "models.tiny: needs exactly one of train, architecture, attention, local, gguf, hub; it has none"),
    "hub without revision": (at("models.tiny", {"hub": "a/b"}), "models.tiny: needs the key revision beside hub: "),
    "a vocabulary too small for bytes": (
        at("models.shape.architecture.vocab_size", 100),
        "models.shape.architecture.vocab_size: 100 is too small; the least is 257",
    ),
    "a size of text": (
        at("models.shape.architecture.n_embd", "64"),
        "models.shape.architecture.n_embd: expected a whole number, found text ('64'); write 64",
    ),
    "a size below nothing": (
        at("models.shape.architecture.n_layer", -2),
        "models.shape.architecture.n_layer: -2 is too small; the least is 1",
    ),
    "half a layer": (
        at("models.shape.architecture.n_layer", 1.5),
        "models.shape.architecture.n_layer: expected a whole number, found a number (1.5)",
    ),
    "heads that do not divide the width": (
        at("models.shape.architecture", {"model_type": "gpt2", "n_embd": 65, "n_head": 4}),
        "models.shape.architecture.n_head: 4 does not divide n_embd, 65",
    ),
    "heads that do not divide heads, within": (
        at("models.shape.architecture", {"model_type": "gemma3", "text_config": {"num_attention_heads": 4, "num_key_value_heads": 3}}),
        "models.shape.architecture.text_config.num_key_value_heads: 3 does not divide num_attention_heads, 4",
    ),
    "revision of a local model": (
        at("models.tiny", {"local": "x", "revision": "0" * 40}),
        "models.tiny.revision: only a `hub` model has one; this one is `local`",
    ),
    "heads do not divide": (at("models.tiny.train.kv_heads", 3), "models.tiny.train.kv_heads: 3 does not divide heads, 2"),
    "odd width": (at("models.tiny.train.hidden_size", 33), "models.tiny.train.hidden_size: 33 is not a multiple of twice the heads, 2"),
    "long sequence": (at("models.tiny.train.sequence", 999), "models.tiny.train.sequence: 999 is longer than context, 256"),
    "baseline not measured": (
        at("experiments.generate.baseline", "bf16"),
        "experiments.generate.baseline: 'bf16' is not one of the experiment's techniques: baseline, sdpa, bnb_int8",
    ),
    "empty grid": (at("experiments.generate.exclude", [{"gpu": "local"}, {"gpu": "cpu"}]), "experiments: the grid is empty"),
    "exclusion of nothing": (
        at("experiments.generate.exclude", [{"model": "no"}]),
        "experiments.generate.exclude.0.model: 'no' is unknown",
    ),
    "exclusion of the baseline": (at("experiments.generate.exclude", [{"technique": "baseline"}]), "leaves out the baseline itself"),
    "bad name": (at("gpus", {"../up": {}}), "gpus: '../up' is not allowed; a name has letters, digits,"),
    "bad number format": (
        at("experiments.generate.dtype", "int3"),
        "experiments.generate.dtype: 'int3' is not allowed; allowed are float32,",
    ),
    "bad device": (at("gpus.local.device", "tpu"), "gpus.local.device: 'tpu' is not allowed; allowed are auto, cuda, cpu"),
    "a price of nothing": (at("gpus.local.price_per_hour", 0), "gpus.local.price_per_hour: 0 is too small; it must be more than 0"),
    "a price in words": (at("gpus.local.price_per_hour", "2 USD"), "gpus.local.price_per_hour: expected"),
    "bad threads": (at("threads", "all"), "threads: 'all' is not allowed; allowed is auto or a whole number"),
    "evaluate is true": (at("experiments.generate.evaluate", True), "experiments.generate.evaluate: true is not allowed"),
    "evaluate has an unknown key": (
        at("experiments.generate.evaluate", {"texts": "x"}),
        "experiments.generate.evaluate: unknown key texts",
    ),
    "evaluate has a wrong type": (
        at("experiments.generate.evaluate", {"max_bytes": "x"}),
        "experiments.generate.evaluate.max_bytes: expected",
    ),
    "a task without its data": (
        at("experiments.generate.evaluate", {"tasks": [{"task": "hellaswag"}]}),
        "experiments.generate.evaluate.tasks.0: hellaswag needs the key dataset: its `revision` on the hub, or a local `folder`",
    ),
    "a task of our own with data": (
        at("experiments.generate.evaluate", {"tasks": [{"task": "cloze", "fewshot": 2}]}),
        "experiments.generate.evaluate.tasks.0: cloze is made from the held-out text; it takes `limit` and no other key",
    ),
    "code with data": (
        at("experiments.generate.evaluate", {"tasks": [{"task": "stdlib", "dataset": {"folder": "x"}}]}),
        "experiments.generate.evaluate.tasks.0: stdlib is made from Python's standard library; it takes `limit` and no other key",
    ),
    "a task twice": (
        at("experiments.generate.evaluate", {"tasks": [{"task": "cloze"}, {"task": "cloze"}]}),
        "experiments.generate.evaluate.tasks.1.task: 'cloze' is there twice",
    ),
    "a data set that is not pinned": (
        at("experiments.generate.evaluate", {"tasks": [{"task": "hellaswag", "dataset": {"revision": "main"}}]}),
        "experiments.generate.evaluate.tasks.0.dataset.revision: 'main' is not allowed",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_and_key(name):
    change, expected = MISTAKES[name]
    study = studies.small()
    change(study)
    line = complaint(study)
    assert line.startswith("my.yaml: ")
    assert "\n" not in line
    assert expected in line


def patterns_of_rules() -> list[list[str]]:
    """The parts of every path that a rule writes: results, logs and models."""
    text = "".join(path.read_text(encoding="utf-8") for path in (studies.ROOT / "rules").glob("*.smk"))
    return [path.split("/") for path in sorted(set(re.findall(r'"((?:results|logs|models)/[^"]+)"', text)))]


def fits(one: str, other: str) -> bool:
    return one == other or "{" in one or "{" in other


def test_no_name_can_be_that_of_another_file_of_the_results():
    axes = {"gpu": "gpus", "experiment": "experiments", "model": "models", "technique": "techniques"}
    taken = {
        (axis, literal)
        for one, other in product(patterns_of_rules(), repeat=2)
        for at, (part, literal) in enumerate(zip(one, other, strict=False))
        if (axis := axes.get(part.strip("{}"))) and "{" not in literal and all(map(fits, one[:at], other[:at]))
    }
    assert {("gpus", "summary.parquet"), ("gpus", "requests"), ("experiments", "probe.parquet"), ("techniques", "score.parquet")} <= taken
    for axis, name in taken | {("gpus", "Plan.JSON"), ("gpus", "CHECKPOINTS")}:
        with pytest.raises(StudyError, match="this name is that of a file or folder of the results"):
            study_checks.check(
                {"gpus": {}, "models": {}, "experiments": {}, axis: {name: {}}}, {name: {}} if axis == "techniques" else {}, "f"
            )


def test_names_that_a_disk_may_not_tell_apart_are_refused():
    study = studies.small()
    study["models"]["Tiny"] = study["models"]["tiny"]
    assert complaint(study).startswith("my.yaml: models.Tiny: differs from tiny by capitals alone; ")


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_study_that_is_no_mapping(document):
    assert complaint(document).startswith("my.yaml: expected keys and values at the top, found ")


@pytest.mark.parametrize("schema", [STUDY_SCHEMA, TECHNIQUES_SCHEMA], ids=["study", "techniques"])
def test_every_property_of_the_schemas_is_described(schema):
    def undescribed(node, path=""):
        if isinstance(node, dict):
            for name, child in node.get("properties", {}).items():
                target = schema["$defs"][child["$ref"].rpartition("/")[2]] if "$ref" in child else {}
                if not (child.get("description") or target.get("description")):
                    yield f"{path}.{name}"
            for key, child in node.items():
                yield from undescribed(child, f"{path}.{key}")
        elif isinstance(node, list):
            for child in node:
                yield from undescribed(child, path)

    assert list(undescribed(schema)) == []


def test_devices_are_checked_against_those_of_the_machine():
    here = ["NVIDIA H200"]
    check_devices({"a": {"device": "auto"}, "b": {"device": "cpu"}, "c": {"device": "cuda", "name": "h200"}}, here)
    check_devices({"a": {"device": "auto"}, "b": {"device": "cpu"}}, [])
    with pytest.raises(StudyError, match=r"gpus\.a\.name: no GPU of this machine is called 'A100'; it has NVIDIA H200"):
        check_devices({"a": {"device": "auto", "name": "A100"}}, here)
    with pytest.raises(StudyError, match=r"gpus\.a\.device: `cuda` was asked for and this machine has no NVIDIA GPU"):
        check_devices({"a": {"device": "cuda"}}, [])


names = st.from_regex(re.compile(r"[a-z][a-z0-9._-]{0,8}", re.ASCII), fullmatch=True)
axes = st.lists(names, min_size=1, max_size=3, unique=True)
GENERATE = sorted(name for name, entry in REGISTRY.items() if takes("generate", entry["engine"]))


@given(gpus=axes, models=axes, techniques=st.lists(st.sampled_from(GENERATE), min_size=1, unique=True), data=st.data())
def test_any_valid_study_gives_each_cell_once(gpus, models, techniques, data):
    baseline = data.draw(st.sampled_from(techniques))
    entry = st.fixed_dictionaries({"gpu": st.sampled_from(gpus), "model": st.sampled_from(models)})
    exclude = data.draw(st.lists(entry, max_size=2))
    study = {
        "study": "any",
        "gpus": {name: {} for name in gpus},
        "models": {name: {"architecture": {"model_type": "llama"}} for name in models},
        "experiments": {"e": {"models": models, "techniques": techniques, "baseline": baseline, "prompt_tokens": 4, "exclude": exclude}},
    }
    left = [key for key in product(gpus, models, techniques) if not any(e["gpu"] == key[0] and e["model"] == key[1] for e in exclude)]
    if not left:
        assert "the grid is empty" in complaint(study)
        return
    cells = planned(study)
    assert [(cell.gpu, cell.model, cell.technique) for cell in cells] == left
    assert len({cell.folder for cell in cells}) == len(cells)
    for cell in cells:
        assert json.loads(cell.job("measure"))["technique"] == cell.technique
        assert cell.is_baseline == (cell.technique == baseline)


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.sampled_from(["local", "tiny", "baseline", "auto", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*STUDY_SCHEMA["properties"], "tiny", "train", "hub", "prompt"]), inner)
    ),
    max_leaves=12,
)


@given(
    path=st.sampled_from(["gpus", "models", "models.tiny", "models.tiny.train", "experiments", "experiments.generate", "study", "seed"]),
    value=documents,
)
def test_whatever_stands_in_a_study_it_plans_or_says_what_is_wrong(path, value):
    study = studies.small()
    at(path, value)(study)
    try:
        cells = planned(study)
    except StudyError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("my.yaml: ")
    else:
        assert cells


# Where a technique can run, and what its cells load

OWN = {"family": "engine", "summary": "s", "engine": "transformers", "label": "L"}


def own_registry(**techniques):
    own = validate({name: OWN | entry for name, entry in techniques.items()}, TECHNIQUES_SCHEMA, "my.yaml: techniques")
    return merge_registry(REGISTRY, own, "my.yaml")


def cells_of(registry, technique, has_gpu):
    study = studies.small()
    study["gpus"] |= {"a100": {"device": "cuda"}}
    study["experiments"]["generate"]["techniques"] = ["baseline", technique]
    cells = grid.plan(validate(study, STUDY_SCHEMA, "my.yaml"), registry, "my.yaml", has_gpu)
    return {cell.gpu: cell for cell in cells if (cell.technique, cell.model) == (technique, "tiny")}


@pytest.mark.parametrize("has_gpu", [True, False])
def test_a_technique_may_need_another_stack_on_another_device(has_gpu):
    registry = own_registry(mine={"env": {"cuda": "with-cuda", "cpu": "without"}})
    envs = {gpu: cell.env for gpu, cell in cells_of(registry, "mine", has_gpu).items()}
    assert envs == {"local": "with-cuda" if has_gpu else "without", "cpu": "without", "a100": "with-cuda"}


@pytest.mark.parametrize("has_gpu", [True, False])
def test_what_cannot_run_on_a_device_needs_no_stack_there(has_gpu):
    envs = {gpu: cell.env for gpu, cell in cells_of(own_registry(mine={"env": "big", "requires": ["cuda"]}), "mine", has_gpu).items()}
    assert envs == {"local": "big" if has_gpu else "report", "cpu": "report", "a100": "big"}
    cells = cells_of(own_registry(mine={"env": "big", "unavailable": "nobody builds it"}), "mine", has_gpu)
    assert {cell.env for cell in cells.values()} == {"report"}
    assert json.loads(cells["local"].job("measure"))["unavailable"] == "nobody builds it"


@pytest.mark.parametrize("has_gpu", [True, False])
def test_a_technique_whose_environment_cannot_be_made_here_writes_down_why_and_runs_once_it_can(has_gpu):
    registry = own_registry(mine={"env": {"cuda": "vllm", "cpu": "vllm-cpu"}})
    can = cells_of(registry, "mine", has_gpu)["local"]
    registry["mine"] = registry["mine"] | {"lacks": {"vllm-cpu": "its environment (vllm-cpu) needs glibc 2.31 or newer"}}
    cell = cells_of(registry, "mine", has_gpu)["local"]
    if has_gpu:
        assert (cell.env, cell.cannot_run, cell.job("measure")) == ("vllm", False, can.job("measure"))
        return
    assert (cell.env, cell.cannot_run) == ("report", True)
    assert json.loads(cell.job("measure"))["lacks"] == "its environment (vllm-cpu) needs glibc 2.31 or newer"
    assert "lacks" not in json.loads(can.job("measure"))  # so that its jobs differ, and run again


def test_a_technique_may_load_the_checkpoint_of_another():
    registry = own_registry(mine={"env": "transformers", "checkpoint": "bnb_int8"})
    mine, maker = (cells_of(registry, name, False)["local"] for name in ("mine", "bnb_int8"))
    assert mine.checkpoint_record == maker.checkpoint_record == "results/checkpoints/tiny/bnb_int8/float32/quantize.parquet"
    assert mine.job("quantize") == maker.job("quantize")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"checkpoint": "sdpa"}, "techniques.mine.checkpoint: 'sdpa' makes no checkpoint; those that do are bnb_int8"),
        ({"checkpoint": "nothing"}, "techniques.mine.checkpoint: 'nothing' makes no checkpoint"),
        ({"checkpoint": "bnb_int8", "transform": {"method": "bitsandbytes"}}, "has both `transform` and `checkpoint`"),
    ],
)
def test_a_checkpoint_that_nobody_makes_is_refused(entry, words):
    with pytest.raises(StudyError) as caught:
        planned(studies.small(), own_registry(mine={"env": "transformers", **entry}))
    assert words in str(caught.value)


def test_calibration_text_is_a_text_or_a_data_set():
    study = studies.small()
    assert planned(study)[0].calibration == {"text": "stdlib"}
    study["models"]["tiny"]["calibration"] = {"text": "a.txt", "dataset": {"hub": "a/b", "revision": "0" * 40, "file": "f", "column": "c"}}
    assert "models.tiny.calibration: needs exactly one of text, dataset; it has text and dataset" in complaint(study)


# The order in which a device takes its runs


@given(others=st.integers(0, 12), runs=st.integers(1, 6))
def test_the_baseline_runs_first_between_and_after_the_others(others, runs):
    study = studies.small()
    study["gpus"] = {"local": {"device": "auto"}}
    names = [f"t{number}" for number in range(others)]
    own = {name: {**REGISTRY["sdpa"], "label": name} for name in names}
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["baseline", *names], "baseline_runs": runs}
    cells = planned(study, {**REGISTRY, **own})
    order = in_order(cells)
    assert sorted((turn.cell.technique, turn.run) for turn in order) == sorted(
        [*((name, 1) for name in names), *(("baseline", run) for run in range(1, runs + 1))]
    )
    again = [place for place, turn in enumerate(order) if turn.cell.is_baseline]
    assert order[0].cell.is_baseline
    assert [order[place].run for place in again] == list(range(1, runs + 1))
    if runs > 1:
        assert again[-1] == len(order) - 1
        between = [len(order[place].beside) for place in again[1:]]
        assert sum(between) == others
        assert max(between) - min(between) <= 1
        for before, place in pairwise(again):
            assert [turn.cell.measures[0] for turn in order[before + 1 : place]] == list(order[place].beside)


def in_rounds(others: int, **runs: int) -> list[PlannedRun]:
    study = studies.small()
    study["gpus"] = {"local": {"device": "auto"}}
    names = [f"t{number}" for number in range(others)]
    own = {name: {**REGISTRY["sdpa"], "label": name} for name in names}
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["baseline", *names], **runs}
    return in_order(planned(study, {**REGISTRY, **own}))


@given(others=st.integers(1, 8), runs=st.integers(2, 5))
def test_cells_that_run_several_times_do_so_in_rounds_of_an_order_of_their_own(others, runs):
    order = in_rounds(others, runs=runs)
    rounds = [order[begin : begin + others + 1] for begin in range(0, len(order), others + 1)]
    assert len(order) == runs * (others + 1)
    for number, taken in enumerate(rounds, 1):
        assert {turn.run for turn in taken} == {number}
        assert len({turn.cell.key for turn in taken}) == others + 1
        for turn in taken:
            assert list(turn.beside) == (turn.cell.measures[number - 2 : number - 1] if number > 2 else [])
    assert [turn.cell.key for turn in order] == [turn.cell.key for turn in in_rounds(others, runs=runs)], "the seed decides"
    if others > 5:
        assert len({tuple(turn.cell.technique for turn in taken) for taken in rounds}) > 1


def test_a_baseline_that_runs_more_often_than_the_others_lies_between_their_rounds():
    order = in_rounds(3, runs=2, baseline_runs=4)
    assert [turn.run for turn in order if turn.cell.is_baseline] == [1, 2, 3, 4]
    assert [place for place, turn in enumerate(order) if turn.cell.is_baseline] == [0, 3, 6, 9]
    assert [turn.run for turn in order if not turn.cell.is_baseline] == [1, 1, 1, 2, 2, 2]
    for before, place in pairwise(place for place, turn in enumerate(order) if turn.cell.is_baseline):
        assert [turn.cell.measures[turn.run - 1] for turn in order[before + 1 : place]] == list(order[place].beside)


@pytest.mark.parametrize(
    ("told", "baseline", "others"), [({}, 2, 1), ({"baseline_runs": 3}, 3, 1), ({"runs": 3}, 3, 3), ({"runs": 1}, 4, 1)]
)
def test_how_often_cells_run(told, baseline, others):
    study = studies.small()
    study["experiments"]["generate"] |= told
    cells = planned(study)
    assert {cell.runs for cell in cells if cell.is_baseline} == {baseline}
    assert {cell.runs for cell in cells if not cell.is_baseline} == {others}


def test_each_run_of_the_baseline_has_a_file_and_a_job_of_its_own():
    cells = planned(studies.small())
    baseline = next(cell for cell in cells if cell.is_baseline)
    assert len(set(baseline.measures)) == baseline.runs == 2
    assert len({baseline.job("measure", run) for run in range(1, 3)}) == 2
    assert [len(cell.measures) for cell in cells if not cell.is_baseline] == [1] * 8


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        (0, "experiments.generate.replies: 0 is too small; the least is 1"),
        ("many", "'many' is not allowed; allowed is a whole number or auto or keys and values"),
        ({"share": 0}, "experiments.generate.replies.share: 0 is too small; it must be more than 0"),
        ({"at_least": 50, "at_most": 40}, "experiments.generate.replies: at_least is 50, more than at_most"),
    ],
)
def test_replies_are_a_number_or_a_precision(replies, said):
    study = studies.small()
    study["experiments"]["generate"]["replies"] = replies
    assert said in complaint(study)


def on_cluster(**slurm) -> dict:
    study = studies.small()
    study["gpus"] = {"a": {"device": "cuda", "name": "A100", "slurm": slurm}, "h": {"device": "cuda", "name": "H100"}}
    return study


def test_where_a_cluster_has_a_device_reaches_no_job():
    study, elsewhere = (validate(on_cluster(partition=name), STUDY_SCHEMA, "my.yaml") for name in ("one", "two"))
    for one, other in zip(*(grid.plan(s, REGISTRY, "my.yaml") for s in (study, elsewhere)), strict=True):
        assert [one.job(stage) for stage in ("quantize", "warmup", "measure", "evaluate")] == [
            other.job(stage) for stage in ("quantize", "warmup", "measure", "evaluate")
        ]
    assert probe_job("a", study) == probe_job("a", elsewhere)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda gpus: gpus["a"]["slurm"].update(gres="gpu:a100:1", gpu_model="a100"), "gpus.a.slurm: has both `gpu_model` and `gres`"),
        (lambda gpus: gpus.update(a={"device": "cpu", "slurm": {"gres": "gpu:1"}}), "gpus.a.slurm.gres: asks for a GPU"),
        (lambda gpus: gpus["a"].pop("name"), "gpus.a: needs the key name"),
        (lambda gpus: gpus["a"]["slurm"].update(partition="x; rm -rf /"), "gpus.a.slurm.partition: 'x; rm -rf /' is not allowed"),
        (lambda gpus: gpus["a"]["slurm"].update(nodes=["n1", "-w"]), "gpus.a.slurm.nodes"),
        (lambda gpus: gpus["a"]["slurm"].update(nodes=[]), "gpus.a.slurm.nodes"),
    ],
)
def test_a_cluster_entry_that_cannot_be_meant_is_one_line(change, words):
    study = on_cluster(partition="gpu")
    change(study["gpus"])
    assert words in complaint(study)


def test_a_baselines_runs_must_not_be_spread_over_nodes_unasked():
    def check(**slurm):
        study = validate(on_cluster(**slurm), STUDY_SCHEMA, "my.yaml")
        study["gpus"]["h"]["slurm"] = {"nodes": ["h1"]}
        study_checks.check_nodes(study, grid.repeated(grid.plan(study, REGISTRY, "my.yaml")), "my.yaml")

    with pytest.raises(StudyError, match=r"my\.yaml: gpus\.a\.slurm: needs the key nodes"):
        check()
    check(nodes="any")
    check(nodes=["n1", "n2"])
