"""A first study of a model: which techniques it measures, and that what is written can be planned."""

import dataclasses
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import draft_text, drafts, estimates, planning
from speedgrid.drafts import Source, Wish
from speedgrid.estimates import Machine

import studies

REGISTRY = planning.read_registry()
GPU = Machine(True, 24e9, name="NVIDIA GeForce RTX 4090")
CPU = Machine(False, 64e9)


def source(name: str = "llama-3.2-1b", **changes) -> Source:
    told = estimates.shapes()[name]
    model = estimates.of_config(told["architecture"], told["dtype"], told["parameters"])
    entry = {"hub": "some/model", "revision": "0" * 40}
    return dataclasses.replace(Source(name, entry, model, told["dtype"], told="some model"), **changes)


def nothing(name: str) -> str:
    return "needs an NVIDIA GPU" if "cuda" in REGISTRY[name]["requires"] else ""


def everything(name: str) -> str:
    return ""


def test_one_of_each_family_is_measured_and_the_baseline_first():
    made = drafts.draft(source(), REGISTRY, GPU, Wish(), everything)
    families = [REGISTRY[name]["family"] for name in made.techniques]
    assert made.techniques[0] == "baseline"
    assert len(families) == len(set(families))
    assert {"attention", "compile", "engine", "quantization"} <= set(families)


def test_all_is_everything_that_runs_here_and_fits():
    few, many = (drafts.draft(source(), REGISTRY, CPU, Wish(all=flag), nothing).techniques for flag in (False, True))
    assert set(few) < set(many)
    assert not any("cuda" in REGISTRY[name]["requires"] or REGISTRY[name]["engine"] == "transformers_legacy" for name in many)


def test_what_the_machine_lacks_is_left_out_with_the_reason_said_once():
    lacking = ("vllm", "torch_compile", "static_cache")
    made = drafts.draft(source(), REGISTRY, GPU, Wish(), lambda name: "needs patience" if name in lacking else "")
    assert not set(lacking) & set(made.techniques)
    assert made.left_out["vllm"] == "needs patience"
    assert "torch_compile, vllm, static_cache: needs patience" in made.told_left_out()
    # What is for another kind of model is no matter of the machine.
    assert "gguf_original" not in made.left_out


@pytest.mark.parametrize(("vram", "fits"), [(24e9, {"vllm", "torch_compile_loop"}), (17e9, {"torch_compile_loop"})])
def test_what_does_not_fit_is_left_out(vram, fits):
    made = drafts.draft(source("llama-3.1-8b"), REGISTRY, GPU, Wish(vram=vram), everything)
    assert {name for name in ("vllm", "torch_compile_loop") if name in made.techniques} == fits


@pytest.mark.parametrize(("vram", "baseline"), [(20e9, "baseline"), (12e9, "gguf_q8_0"), (9.8e9, "gguf_q8_0"), (8e9, "gguf_q4_k_m")])
def test_where_the_model_does_not_fit_the_nearest_to_it_that_does_is_the_baseline(tmp_path, vram, baseline):
    """Who has 8 GB wants to know which 4-bit format to take, and was told to take a smaller model."""
    wish = Wish(vram=vram)
    made = drafts.draft(source("llama-3.1-8b"), REGISTRY, GPU, wish, everything)
    assert made.techniques[0] == baseline
    assert len(made.techniques) == len(set(made.techniques)) > 1
    assert bool(made.instead) == (baseline != "baseline")
    # Which of the quantizations to take is then the question.
    assert sum(REGISTRY[name]["family"] == "quantization" for name in made.techniques) > 2 or not made.instead
    path = tmp_path / "study.yaml"
    path.write_text(draft_text.text(source("llama-3.1-8b"), made, REGISTRY, wish, "x"), encoding="utf-8")
    cells = planning.read_grid(path).cells
    assert [cell.technique for cell in cells if cell.is_baseline] == [baseline]
    # Nothing loads the model that does not fit, to hold others against it.
    assert any(cell.has_reference for cell in cells) == (baseline == "baseline")


def test_a_model_of_which_nothing_fits_is_refused_with_the_least_that_it_needs():
    """It named what the model needs as it is alone, so that nobody knew how far off a card was."""
    said = r"unquantized needs about 16.* GB, and there are 2\.0 GB for it; the least that .* needs is about (\S+) GB \((\w+)\)"
    with pytest.raises(ValueError, match=said) as refused:
        drafts.draft(source("llama-3.1-8b"), REGISTRY, GPU, Wish(vram=2e9), everything)
    least, name = re.search(said, str(refused.value)).groups()
    made = drafts.draft(source("llama-3.1-8b"), REGISTRY, GPU, Wish(vram=1.02e9 * float(least)), everything)
    assert made.techniques[0] == name


def test_what_does_not_fit_whole_is_measured_in_every_quantization_that_does_with_vllm_among_the_engines():
    """On a card of 8 GB a model of 8 billion parameters was measured in llama.cpp and transformers, and in no engine for many users."""
    made = drafts.draft(source("llama-3.1-8b"), REGISTRY, GPU, Wish(vram=7.5e9), everything)
    assert {"gguf_q4_k_m", "awq_int4", "vllm_awq_int4"} <= set(made.techniques)
    assert "vllm_fp8" in made.left_out
    whole = drafts.draft(source("llama-3.1-8b"), REGISTRY, GPU, Wish(), everything)
    assert "vllm" in whole.techniques
    assert "vllm_awq_int4" not in whole.techniques, "one of each family"


def test_a_batch_is_in_the_study_and_in_its_memory(tmp_path):
    wish = Wish(batch=8)
    made = drafts.draft(source(), REGISTRY, GPU, wish, everything)
    path = tmp_path / "study.yaml"
    path.write_text(draft_text.text(source(), made, REGISTRY, wish, "x"), encoding="utf-8")
    assert {cell.settings["batch_size"] for cell in planning.read_grid(path).cells} == {8}
    tight = Machine(True, 3.7e9)
    assert drafts.draft(source(), REGISTRY, tight, Wish(), everything).instead == ""
    assert drafts.draft(source(), REGISTRY, tight, Wish(batch=512), everything).instead.startswith("unquantized it needs about")


def test_a_goal_shapes_the_list():
    by_goal = {goal: drafts.draft(source(), REGISTRY, GPU, Wish(goal=goal), everything).techniques for goal in drafts.GOALS}
    count = {goal: sum(REGISTRY[name]["family"] == "quantization" for name in names) for goal, names in by_goal.items()}
    assert count["quality"] == 0 < count["speed"] == 1 < count["memory"]


@pytest.mark.parametrize("goal", ["memory", "quality"])
def test_few_minutes_leave_out_what_the_goal_is_not_about(goal):
    """`--goal memory --minutes 3` measured torch.compile and SDPA, and left four of six quantizations out."""
    whole = drafts.draft(source(), REGISTRY, CPU, Wish(goal=goal), everything)
    wanted = [name for name in whole.techniques if REGISTRY[name]["family"] in drafts.OF_GOAL[goal]]
    for share in (0.3, 0.5, 0.8):
        short = drafts.draft(source(), REGISTRY, CPU, Wish(goal=goal, minutes=share * whole.seconds / 60), everything)
        kept = [name for name in short.techniques[1:] if name in wanted]
        assert short.left_out
        assert kept == short.techniques[1:] or kept == wanted


def test_techniques_that_are_named_are_taken_and_no_others():
    made = drafts.draft(source(), REGISTRY, CPU, Wish(techniques=("prune_30", "prune_depth_25", "baseline")), nothing)
    assert made.techniques == ["baseline", "prune_30", "prune_depth_25"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prune_3", "--techniques prune_3: did you mean prune_30"),
        ("sdpa_flash_attn", "--techniques sdpa_flash_attn: did you mean"),
        ("torch_fp32", "--techniques torch_fp32: is not for replies of today's software"),
        ("gguf_original", "--techniques gguf_original: is for models that come as a GGUF file"),
        ("flash_attn", "--techniques flash_attn: needs an NVIDIA GPU"),
    ],
)
def test_a_named_technique_that_cannot_be_measured_is_a_mistake(name, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        drafts.draft(source(), REGISTRY, CPU, Wish(techniques=(name,)), nothing)


@pytest.mark.parametrize(("name", "lacking"), [("smollm2-135m", {"gguf_q3_k_m"}), ("llama-3.2-1b", set())])
def test_a_form_that_rows_of_a_model_do_not_allow_is_left_out(name, lacking):
    """Q3_K_M of SmolLM2 had no tensor in that form, so that its cell was measured for nothing: its rows of 576 are no multiple of 256."""
    made = drafts.draft(source(name), REGISTRY, CPU, Wish(all=True), everything)
    offered = {"gguf_q8_0", "gguf_q4_k_m", "gguf_q3_k_m"}
    assert offered - set(made.techniques) == lacking
    for one in lacking:
        with pytest.raises(ValueError, match=f"--techniques {one}: packs 256 weights of a row together, which rows of 576 do not allow"):
            drafts.draft(source(name), REGISTRY, CPU, Wish(techniques=(one,)), everything)


@given(minutes=st.floats(5, 500), is_gpu=st.booleans(), name=st.sampled_from(sorted(estimates.shapes())))
def test_a_draft_takes_no_more_minutes_than_were_given_where_a_baseline_and_one_technique_can(minutes, is_gpu, name):
    machine = Machine(True, 200e9, name="NVIDIA H200") if is_gpu else Machine(False, 300e9)
    made = drafts.draft(source(name), REGISTRY, machine, Wish(minutes=minutes), everything)
    assert made.techniques[0] == "baseline"
    budget_s = 60 * Wish(minutes=minutes).further_minutes
    assert len(made.techniques) == 2 or made.seconds + budget_s <= 60 * minutes, "with further runs of what is open"
    unlimited = drafts.draft(source(name), REGISTRY, machine, Wish(), everything)
    assert set(made.techniques) <= set(unlimited.techniques)


def test_a_file_of_llama_cpp_is_used_as_it_is_where_the_model_is_one():
    for is_gguf in (True, False):
        made = drafts.draft(source(is_gguf=is_gguf), REGISTRY, CPU, Wish(), nothing)
        assert ("gguf_original" in made.techniques) == is_gguf


SHAPE = {"architecture": estimates.shapes()["qwen3-8b"]["architecture"], "dtype": "bfloat16"}
CASES = {
    "hub": source(),
    "japanese": source(languages=("ja",)),
    "shape": source("qwen3-8b", entry=SHAPE, is_random=True),
    "an odd name": dataclasses.replace(source(told="x\n# y: [\u2028"), name="on"),
    "unknown size": source(model=None),
    "float16": source(dtype="float16"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wish", [Wish(), Wish(minutes=20, all=True)], ids=["plain", "all"])
def test_what_is_written_can_be_planned(tmp_path, case, wish):
    one = CASES[case]
    made = drafts.draft(one, REGISTRY, CPU, wish, nothing)
    path = tmp_path / "mine.yaml"
    path.write_text(draft_text.text(one, made, REGISTRY, wish, f"{studies.ROOT}/rules/schemas/study.schema.yaml"), encoding="utf-8")
    grid = planning.read_grid(path)
    assert [cell.technique for cell in grid.cells] == made.techniques
    assert grid.study["models"][one.name].get("hub", "some/model") == "some/model"
    evaluate = grid.study["experiments"]["generate"]["evaluate"]
    assert bool(evaluate) != one.is_random
    if evaluate:
        assert ("japanese" in evaluate["text"]) == ("ja" in one.languages)


@pytest.mark.parametrize("name", estimates.shapes())
def test_the_configuration_of_a_shape_is_read_as_it_was_written(tmp_path, name):
    """An epsilon of 1e-06 came back as a text, so that no model could be built."""
    told = estimates.shapes()[name]
    one = source(name, entry={"architecture": told["architecture"], "dtype": told["dtype"]}, is_random=True)
    path = tmp_path / "mine.yaml"
    path.write_text(draft_text.text(one, drafts.Draft(["baseline"]), REGISTRY, Wish(), "x"), encoding="utf-8")
    assert planning.read_study(path)[0]["models"][one.name]["architecture"] == told["architecture"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_as_a_number(value):
    assert yaml.safe_load(draft_text.quoted({"x": [value]})) == {"x": [value]}


@given(st.text(max_size=90))
def test_any_path_gives_a_name_that_a_study_takes(told):
    name = drafts.name_of(told)
    assert name
    assert len(name) <= 60
    assert name[0].isalnum()
    assert all(sign.isascii() and (sign.isalnum() or sign in "._-") for sign in name)


def test_a_machine_without_the_environment_of_the_baseline_says_so_once():
    with pytest.raises(ValueError, match=r"^the baseline cannot run here: it needs the environment$"):
        drafts.draft(source(), REGISTRY, CPU, Wish(), lambda name: "needs the environment")
