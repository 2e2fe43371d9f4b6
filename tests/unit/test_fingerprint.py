"""Which jobs run again after an edit: those whose code does something else, and no others."""

import ast
import functools
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from speedgrid import fingerprint, known_code, planning, source_code
from speedgrid.planning import stages
from speedgrid.study import validate

import studies

STUDY = {
    "study": "code",
    "gpus": {"gpu": {"device": "cuda"}},
    "models": {
        "lm": {"train": {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1}},
        "shape": {"architecture": {"model_type": "gpt2"}},
        "heads": {"attention": {"heads": 2, "head_dim": 16}},
    },
    "experiments": {
        "fixed": {
            "models": ["lm"],
            "techniques": [
                *("baseline", "vllm", "gguf_q4_k_m", "onnx_fp32", "bnb_int8", "gptq_int4", "torchao_int8", "prune_50", "distill_small"),
                *("baseline_torch22", "gptq_int4_autogptq", "sglang"),
            ],
            "prompt": "x",
            "replies": 4,
        },
        "auto": {"models": ["lm"], "techniques": ["baseline"], "prompt": "x", "replies": "auto"},
        "growth": {"workload": "growth", "models": ["lm"], "techniques": ["baseline"], "prompt": "x", "lengths": [8, 16]},
        "train": {"workload": "train", "models": ["shape"], "techniques": ["torch_eager"], "baseline": "torch_eager", "sequence": 8},
        "largest": {"workload": "largest", "models": ["shape"], "techniques": ["torch_eager"], "baseline": "torch_eager", "sequence": 8},
        "forward": {"workload": "forward", "models": ["shape"], "techniques": ["torch_eager"], "baseline": "torch_eager", "sequence": 8},
        "attention": {
            "workload": "attention",
            "models": ["heads"],
            "techniques": ["attention_flash"],
            "baseline": "attention_flash",
            "lengths": [8, 16],
        },
    },
}


# Jobs of which a study has one or a few, without an engine or a transform of their own.
ALONE = ("prepare_model", "probe", "build_requests", "score", "write_plan", "aggregate", "render_report")
TABULATE = {"aggregate", "render_report"}


@functools.cache
def planned() -> planning.Grid:
    study = validate(STUDY, studies.schema("study"), "code.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    return planning.Grid(study, registry, "code.yaml", has_gpu=True)


def code_of(stage: str, wildcards) -> str:
    """The fingerprint that the rule of a stage has for a job."""
    return planned().stage(stage).params["code"](wildcards)


def jobs() -> dict[str, str]:
    """The fingerprint of every kind of job, by its stage, and its engine and experiment or its transform."""
    found = {script: planning.code(script) for script in ALONE}
    for cell in planned().cells:
        asked = SimpleNamespace(
            **dict(zip(("gpu", "experiment", "model", "technique"), cell.key, strict=True)), dtype=cell.options["dtype"]
        )
        name = f"{cell.engine} {cell.experiment}"
        found |= {f"warmup {name}": code_of("warmup", asked), f"measure {name}": code_of("measure", asked)}
        if cell.evaluate:
            found[f"evaluate {cell.engine}"] = code_of("evaluate", asked)
        if cell.has_reference:
            found["reference transformers"] = code_of("reference", asked)
        if cell.transform:
            found[f"quantize {cell.transform['method']}"] = code_of("quantize", asked)
    return found


@functools.cache
def kinds() -> frozenset[str]:
    return frozenset(jobs())


def of(*starts: str) -> set[str]:
    """The jobs whose name starts with one of these."""
    return {name for name in kinds() if name.startswith(starts)}


def of_engine(*engines: str) -> set[str]:
    return {name for name in kinds() for engine in engines if f" {engine}" in name and not name.startswith("quantize")}


def in_experiments(*experiments: str) -> set[str]:
    return {name for name in kinds() for experiment in experiments if name.endswith(f" {experiment}")}


ENGINES = ("transformers", "vllm", "llamacpp", "onnxruntime", "pytorch", "attention")
GENERATE = ("fixed", "auto")
TRAINING = ("train", "largest", "forward")
EVERY_MEASUREMENT = of("warmup", "measure", "evaluate", "reference", "quantize", "probe", "prepare_model", "build_requests", "score")
WATCHED = of("measure") | {"probe"}
# The jobs that run again where all that a module defines is changed; that of the plan, which takes a second, is left out. Modules that are
# not here: an engine concerns its own cells, a transform its own checkpoints, a workload its own cells, a module of the report the report,
# and a script the jobs that run it.
# A workload says which contract of engines it measures, also where the engine itself is not there.
UNKNOWN_ENGINE = of("warmup sglang", "measure sglang")
SCRIPTS = {
    # It holds nothing but a name of workloads/repeat.py.
    "measure": set(),
    "evaluate_quality": of("evaluate"),
    **{name: set() for name in ("clean", "compare", "doctor", "list_techniques", "new_study", "show_technique", "terminal")},
}
CONCERNS = {
    # What the page, and `runs: auto`, tell to type.
    "commands": {"aggregate", "render_report"},
    # What is near to a name that is mistyped in a command.
    "validation": {"aggregate", "render_report"},
    # What CUDA takes of a card, and how much of one is counted on.
    "known": {"aggregate", "render_report"},
    # What plans writes the plan and makes no figure.
    **{
        name: set()
        for name in (
            "drafts",
            "draft_text",
            "training_drafts",
            "families",
            "dialogue",
            "estimates",
            "passes",
            "fingerprint",
            "cell",
            "foreseen",
            "selection",
            "grid",
            "inventory",
            "known_code",
            "live",
            "refresh",
            "specification",
            "lock",
            "planning",
            "readiness",
            "resources",
            "source_code",
            "sources",
            "survey",
            "snakemake_options",
            "snakemake_seam",
            "study",
            "strict_yaml",
            "techniques",
        )
    },
    # Growth and attention count their operations themselves.
    # llama.cpp is asked whether it keeps to the windows of layers.
    "bisection": in_experiments("largest"),
    "architectures": (in_experiments(*GENERATE) & of("measure"))
    | in_experiments(*TRAINING)
    | {"aggregate", "quantize onnx", "quantize autogptq"}
    | of_engine("transformers_legacy"),
    "ceilings": (in_experiments(*GENERATE) & of("measure"))
    | in_experiments(*TRAINING)
    | of_engine("llamacpp")
    | {"aggregate", "render_report"},
    # The page keeps its charts in a folder with a mark, too; and tables leave out what is of other weights of the user's than are there.
    "checkpoints": EVERY_MEASUREMENT | {"render_report", "aggregate"},
    "files": EVERY_MEASUREMENT | {"render_report", "aggregate"},
    "inputs": set(),
    "comparison": {"render_report"},
    "differences": {"render_report"},
    "amounts": {"render_report"},
    "packages": {"render_report"},
    "corpus": of("prepare_model", "quantize", "evaluate", "reference", "build_requests", "score") | in_experiments(*TRAINING),
    # Where those lie that are not on every machine.
    "places": of("quantize", "evaluate", "reference", "build_requests", "score"),
    "environments": set(),
    # What is named in fingerprint.FRAME; of these modules it is all.
    "jobtext": set(),
    "notes": set(),
    "progress": set(),
    # What a job records of its phases.
    "busy": EVERY_MEASUREMENT,
    # Nothing imports it for a job: it is what a run does around each.
    "job_shell": EVERY_MEASUREMENT | {"aggregate", "render_report"},
    "claims": EVERY_MEASUREMENT,
    "compiled": of("measure", "warmup"),
    "drivers": EVERY_MEASUREMENT,
    "hardware": EVERY_MEASUREMENT,
    "this_machine": EVERY_MEASUREMENT,
    "containers": EVERY_MEASUREMENT,
    "loading": (of_engine(*ENGINES) - of_engine("attention")) | of("quantize") | UNKNOWN_ENGINE | {"prepare_model"},
    "meters": EVERY_MEASUREMENT,
    "models": {"prepare_model"},
    "hub": {"prepare_model"},
    "downloads": {"prepare_model"},
    "gguf_header": {"prepare_model", "quantize gguf"},
    "gguf_origin": {"prepare_model", "quantize gguf"},
    "monitor": WATCHED,
    "noise": {"aggregate", "render_report"},
    "outcomes": EVERY_MEASUREMENT | {"render_report", "aggregate"},
    "probe": {"probe"},
    "programs": {"prepare_model", "quantize gguf"},
    "raised": of_engine("vllm") | {"quantize gguf"},
    "random_weights": {"prepare_model"},
    # How a file is written and read is left out; what a record says of its job is not.
    "records": EVERY_MEASUREMENT | TABULATE,
    "results": {"render_report"},
    "workload": {"aggregate", "render_report"},
    # Columns and tables are left out; which statuses have figures is not.
    "columns": EVERY_MEASUREMENT | TABULATE,
    "schema": TABULATE,
    "sensors": WATCHED,
    "sharpen": {"aggregate", "render_report"},
    "stage": EVERY_MEASUREMENT,
    "standing": {"aggregate", "render_report"},
    "state": WATCHED | {"aggregate", "render_report"},
    "disturbance": {"aggregate", "render_report"},
    # Only names: the modules behind them count one by one, so that what the page alone says of figures has nothing measured again.
    "stats": set(),
    "stats.samples": {"measure transformers auto", "score", "aggregate", "render_report"},
    "stats.percentiles": {"aggregate", "render_report"},
    "stats.series": {"measure transformers auto", "aggregate", "render_report"},
    "stats.speeds": {"aggregate", "render_report"},
    "stats.stopping": of("measure"),
    "stats.student": {"measure transformers auto", "aggregate", "render_report"},
    "stats.verdicts": {"aggregate", "render_report"},
    # The names of its limits, which a run sets around every job.
    "supervision": EVERY_MEASUREMENT | {"aggregate", "render_report"},
    # Where a user without a home keeps what libraries compile.
    "user_cache": EVERY_MEASUREMENT | {"aggregate", "render_report"},
    "engines": EVERY_MEASUREMENT,
    "engines.base": of_engine(*ENGINES) | {"quantize autogptq"} | UNKNOWN_ENGINE,
    "engines.evidence": of_engine("transformers", "vllm", "pytorch", "attention") | {"quantize autogptq"},
    "engines.gptq": of_engine("transformers") | {"quantize autogptq"},
    "engines.language": of_engine("transformers", "vllm", "llamacpp", "onnxruntime") | {"quantize autogptq"} | UNKNOWN_ENGINE,
    # What is read of a configuration must be numbers where its rotary embeddings have some.
    "rotary": (of_engine(*ENGINES) - of_engine("attention")) | of("quantize") | UNKNOWN_ENGINE,
    "engines.llamacpp_library": of_engine("llamacpp") | {"quantize gguf"},
    "engines.onnxruntime": of_engine("onnxruntime") | {"quantize onnx"},
    "engines.transformers": of_engine("transformers", "onnxruntime", "pytorch", "attention") | {"quantize autogptq"},
    "engines.quantized": of_engine("transformers", "vllm", "llamacpp", "onnxruntime") | of("quantize autogptq", "quantize bitsandbytes"),
    "engines.transformers_legacy": of_engine("transformers_legacy") | {"quantize autogptq"},
    "transforms": EVERY_MEASUREMENT,
    "transforms.awq_packing": of("quantize gptqmodel"),
    "transforms.gptqmodel": of("quantize gptqmodel", "quantize autogptq"),
    "transforms.prune": of("quantize prune", "quantize distill"),
    "transforms.pruning": of("quantize prune", "quantize distill"),
    "transforms.training": of("quantize prune", "quantize distill"),
    "workloads.base": of("measure", "warmup"),
    # It is looked once, in the cold start, whether what replies is causal.
    "workloads.causality": of("warmup") & in_experiments(*GENERATE),
    # Replies of growing length take the prompt of those of one.
    "workloads.generate": in_experiments(*GENERATE, "growth"),
    "workloads.repeat": of("measure", "warmup"),
    "workloads.score": of("evaluate"),
    "workloads.train": in_experiments(*TRAINING),
    "quality.cloze": {"build_requests", "score"},
    # The page says what such a score is of, and what is open follows from what keeps the quality.
    "quality.excerpts": {"build_requests", "score", "aggregate", "render_report"},
    # The page says how the bound for what keeps the arithmetic is made.
    "quality.distance": of("evaluate", "reference") | {"render_report"},
    "quality.fidelity": of("evaluate"),
    "quality.paired": {"score", "aggregate", "render_report"},
    "quality.questions": of("evaluate"),
    "quality.scores": {"score", "aggregate", "render_report"},
    "quality.tasks": {"build_requests", "score"},
    "report.advice": {"aggregate", "render_report"},
    "report.bulk": {"aggregate", "render_report"},
    "report.cells": {"aggregate"},
    "report.collect": {"aggregate", "render_report"},
    "report.command": {"aggregate", "render_report"},
    "report.early_scores": {"aggregate", "render_report"},
    "report.tables": {"aggregate", "render_report"},
    "report.timeline": {"aggregate", "render_report"},
    "report.units": {"aggregate", "render_report"},
    "report.language": {"aggregate", "render_report"},
    "report.questions": {"aggregate", "render_report"},
    "report.work": {"aggregate"},
}


def concerned(file: str) -> set[str]:
    """The jobs that the module in a file concerns."""
    name = module_of(file)
    if not name.startswith("speedgrid"):
        return SCRIPTS.get(name, of(name))
    name = name.removeprefix("speedgrid.")
    package, _, own = name.rpartition(".")
    if name in CONCERNS:
        return CONCERNS[name]
    by_package = {
        "engines": lambda: of_engine(own),
        "transforms": lambda: of(f"quantize {own}"),
        "workloads": lambda: in_experiments(own),
        "report": lambda: {"render_report"},
        "report.charts": lambda: {"render_report"},
        "planning": set,
    }
    assert package in by_package, f"{name} is new: write down in CONCERNS which jobs run again where it is changed"
    return by_package[package]()


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the project's code and of what its jobs read."""
    folder = tmp_path_factory.mktemp("code")
    for name in ("scripts", "report", "rules"):
        shutil.copytree(studies.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(studies.ROOT / "techniques.yaml", folder)
    return folder


def derived_from(copy: Path, patch: pytest.MonkeyPatch) -> None:
    """Fingerprints are of the code of the copy, and none is kept."""
    patch.setattr(fingerprint, "SCRIPTS", copy / "scripts")
    patch.setattr(fingerprint, "_known", lambda scripts: ("", {}))
    patch.setattr(known_code, "keep", lambda now, found: None)


@pytest.fixture(scope="module")
def before(copy) -> dict[str, str]:
    """The fingerprints of the copy as it is, to which every test brings it back."""
    with pytest.MonkeyPatch.context() as patch:
        derived_from(copy, patch)
        return jobs()


@pytest.fixture
def after(copy, before, monkeypatch):
    """The jobs that run again where files of the copy have another text: `after({file: text})`."""
    derived_from(copy, monkeypatch)

    def forget(files) -> None:
        fingerprint._of.cache_clear()
        fingerprint._shell_lines.cache_clear()
        known = fingerprint._code(copy / "scripts")._modules
        for file in files:
            # Any module may name another file.
            known.pop(module_of(file), None) if file.endswith(".py") else known.clear()

    def edited(files: dict[str, str]) -> set[str]:
        kept = {file: (copy / file).read_text(encoding="utf-8") for file in files}
        try:
            for file, text in files.items():
                (copy / file).write_text(text, encoding="utf-8")
            forget(files)
            now = jobs()
        finally:
            for file, text in kept.items():
                (copy / file).write_text(text, encoding="utf-8")
            forget(files)
        return {name for name in before if before[name] != now[name]}

    return edited


def module_of(file: str) -> str:
    """The name of a module, as Python imports it, of a file of scripts/."""
    return file.removeprefix("scripts/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def source(file: str) -> str:
    return (studies.ROOT / file).read_text(encoding="utf-8")


class Altered(ast.NodeTransformer):
    """Makes every function and class at the top of a module another one, and every plain value there; `only` one of them, if named."""

    def __init__(self, only: str = ""):
        self.only = only

    def visit_FunctionDef(self, node):
        if self.only in ("", node.name):
            node.body.append(ast.parse("edited = True").body[0])
        return node

    visit_ClassDef = visit_FunctionDef

    def visit_Assign(self, node):
        if not self.only and not any(isinstance(part, ast.Call) for part in ast.walk(node)):
            node.value = ast.Tuple([node.value, ast.Constant("edited")], ast.Load())
        return node

    def of(self, file: str) -> str:
        return ast.unparse(self.visit(ast.parse(source(file))))


FILES = sorted(str(path.relative_to(studies.ROOT)) for path in (studies.ROOT / "scripts").rglob("*.py"))


@pytest.mark.parametrize("file", [file for file in FILES if ast.parse(source(file)).body[1:]])
def test_an_edited_module_runs_those_jobs_again_that_it_concerns(after, file):
    again = after({file: Altered().of(file)})
    assert again - {"write_plan"} == concerned(file) - {"write_plan"}


def test_comments_docstrings_formatting_annotations_what_is_for_type_checkers_and_order_run_nothing_again(after):
    for_types = ast.parse(
        "from typing import TYPE_CHECKING as OF_CHECKERS\nif OF_CHECKERS:\n    from speedgrid import files as checked"
    ).body

    class Reworded(ast.NodeTransformer):
        def visit(self, node):
            self.generic_visit(node)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                said = ast.Expr(ast.Constant("Said in other words."))
                node.body = [said, *node.body[ast.get_docstring(node) is not None :]]
            if isinstance(node, ast.FunctionDef):
                node.returns = None
            if isinstance(node, ast.arg) and node.annotation:
                node.annotation = ast.Name("object", ast.Load())
            if isinstance(node, ast.Module | ast.FunctionDef):
                node.body = [one for statement in node.body for one in annotated(statement)]
            if isinstance(node, ast.Module):
                node.body = [*by_name(node.body), *for_types]
            if isinstance(node, ast.FunctionDef | ast.For | ast.With):
                node.body = [*ast.parse("never_used: dict\nself.kept: dict\npass\n'said'").body, *node.body]
            if isinstance(node, ast.ClassDef):
                methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
                others = [one for one in node.body if one not in methods]
                node.body = [*others[:1], *sorted(methods, key=lambda one: one.name, reverse=True), *others[1:]]
            return node

    def annotated(statement):
        """A variable with an annotation, where it has none; and with one more before."""
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
            values = (None, statement.value)
            return [ast.AnnAssign(statement.targets[0], ast.Name("object", ast.Load()), value, simple=1) for value in values]
        return [statement]

    def by_name(body):
        """The plain functions of a module in another order, each in the place of one of them."""
        places = [n for n, one in enumerate(body) if isinstance(one, ast.FunctionDef) and not one.decorator_list]
        moved = dict(zip(places, sorted((body[n] for n in places), key=lambda one: one.name), strict=True))
        return [moved.get(n, one) for n, one in enumerate(body)]

    # Written down from the tree, a file has lost its comments and its layout.
    reworded = {file: ast.unparse(ast.fix_missing_locations(Reworded().visit(ast.parse(source(file))))) for file in FILES}
    assert all(reworded[file] != source(file) for file in FILES)
    assert after(reworded) == set()


@pytest.mark.parametrize(
    ("file", "definition", "again"),
    [
        ("speedgrid/ceilings.py", "measured_facts", of("measure") & in_experiments(*GENERATE)),
        ("speedgrid/ceilings.py", "break_even", {"aggregate"}),
        ("speedgrid/standing.py", "flat", {"aggregate", "render_report", "write_plan"}),
        ("speedgrid/comparison.py", "compare", {"render_report"}),
        ("speedgrid/corpus.py", "training_text", of("prepare_model", "quantize") | in_experiments(*TRAINING)),
        ("speedgrid/stats/stopping.py", "stop", {"measure transformers auto"}),
        ("speedgrid/stats/verdicts.py", "over", {"aggregate", "render_report"}),
        ("speedgrid/workloads/generate.py", "ended_early", of("measure", "warmup") & in_experiments(*GENERATE)),
        ("speedgrid/workloads/repeat.py", "counted", of("measure")),
        ("speedgrid/grid.py", "plan", {"write_plan"}),
        ("speedgrid/job_shell.py", "variables", EVERY_MEASUREMENT | TABULATE | {"write_plan"}),
        ("speedgrid/job_shell.py", "before_command", EVERY_MEASUREMENT | TABULATE | {"write_plan"}),
        ("speedgrid/programs.py", "logged", {"prepare_model", "quantize gguf", "write_plan"}),
        ("speedgrid/records.py", "Record", EVERY_MEASUREMENT | TABULATE),
        ("speedgrid/records.py", "_finite", EVERY_MEASUREMENT | {"aggregate"}),
        ("speedgrid/records.py", "read", TABULATE),
    ],
)
def test_an_edited_function_runs_those_jobs_again_that_call_it(after, file, definition, again):
    file = f"scripts/{file}"
    assert after({file: Altered(definition).of(file)}) == again


def test_what_importing_a_module_does_concerns_all_that_import_it(after):
    file = "scripts/speedgrid/stats/student.py"
    text = source(file)
    assert after({file: f"{text}\nunused = 1\nUNUSED = re.compile('x')\n\n\ndef unused_too(): ...\n"}) == set()
    again = after({file: f"{text}\nnp.seterr(all='raise')\n"})
    assert again >= of("measure", "warmup", "score", "aggregate", "render_report")
    assert not again & of("evaluate vllm", "quantize bitsandbytes", "probe", "prepare_model")


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("report/style.css", {"render_report"}),
        ("techniques.yaml", {"render_report"}),
        ("report/published.csv", {"render_report", "write_plan"}),
        ("scripts/speedgrid/noise.csv", {"render_report", "aggregate"}),
        ("rules/schemas/study.schema.yaml", {"write_plan"}),
        ("rules/measure.smk", set()),
    ],
)
def test_other_files_that_a_job_reads_count_by_their_bytes(after, file, again):
    assert after({file: source(file) + "\n"}) == again


@pytest.mark.parametrize(
    ("rules", "script", "again"),
    [("measure", "measure", of("measure")), ("measure", "warmup", of("warmup")), ("report", "aggregate", {"aggregate"})],
)
def test_the_shell_line_of_a_rule_counts_for_the_jobs_that_it_starts(after, rules, script, again):
    """`nice`, or a variable before it, is another measurement, and Snakemake's memory of the line does not come along with the results."""
    file, line = f"rules/{rules}.smk", f'python "$SPEEDGRID_SCRIPTS/{script}.py"'
    assert after({file: source(file).replace(line, f"nice {line}")}) == again
    assert after({file: source(file).replace(f"        '{line}", f"        # Why it is so.\n        '{line}")}) == set()


def test_the_shell_line_of_every_script_is_found():
    assert {*ALONE, *(stage.script for stage in stages.STAGES.values())} <= set(fingerprint._shell_lines(studies.ROOT / "rules"))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("job_shell", "unset PYTHONHOME, or delete that folder and run again"),
        ("environments", "; delete that folder and run again"),
        ("stage", "the package pyarrow is missing"),
        ("stage", "result file to write"),
    ],
)
def test_what_is_said_to_a_person_in_other_words_runs_nothing_again(after, file, words):
    file = f"scripts/speedgrid/{file}.py"
    assert words in source(file)
    assert after({file: source(file).replace(words, "in other words")}) - {"write_plan"} == set()


# Functions that jobs never call although their code holds a call (planning.stages.CUTS): each with the function or method that holds it.
# `facts` and `look` are asked for by one of a cell's two jobs; `counted` and `_limit` decide by the specification of the job, and
# test_generate.py and test_work.py have them do so.
CUT_IN = {"measured_facts": "facts", "check": "look", "stop": "counted", "within": "_limit"}
BY_SPECIFICATION = {"counted", "_limit"}


def source_of(module: str) -> str:
    return fingerprint._code(fingerprint.SCRIPTS).path(module).read_text(encoding="utf-8")


def definition(module: str, name: str) -> list[ast.stmt]:
    """The statements at the top of a module that define a name."""
    return [statement for statement in ast.parse(source_of(module)).body if getattr(statement, "name", "") == name]


def callers(module: str, tree: ast.AST, called: str, methods: bool = False) -> set[str]:
    """The innermost functions of a tree that call something of a name: of another module or this one, or as a method of some object."""
    modules = set(fingerprint._code(fingerprint.SCRIPTS).module(module).imported)

    def found(node: ast.AST, within: str) -> Iterator[str]:
        if isinstance(node, ast.Call) and called in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
            of_module = isinstance(node.func, ast.Name) or getattr(node.func.value, "id", "") in modules
            if of_module != methods:
                yield within
        for child in ast.iter_child_nodes(node):
            yield from found(child, child.name if isinstance(child, ast.FunctionDef) else within)

    return set(found(tree, ""))


@pytest.mark.parametrize("cut", stages.CUTS, ids=lambda cut: cut.function)
def test_what_is_cut_out_of_a_fingerprint_is_needed_there_and_cannot_be_called(cut):
    """A cut that is wrong lets old figures survive an edit; one that is needless hides that it is."""
    asked = [(script, cell) for script in ("warmup", "measure", "evaluate_quality") for cell in planned().cells if cut.holds(script, cell)]
    holding = CUT_IN[cut.function]
    would_reach = 0
    for script, cell in asked:
        specified, cuts = stages.code_asked_for(script, cell)
        assert (cut.module, cut.function) in cuts
        others = tuple(other for other in cuts if other != (cut.module, cut.function))
        units = fingerprint.reached(fingerprint.SCRIPTS, script, specified, others)
        modules = {name for name, found in units.items() for unit in found if (f"speedgrid.{cut.module}", cut.function) in unit.refers}
        would_reach += bool(modules)
        for module in modules:
            tree = ast.parse(source_of(module))
            elsewhere = callers(module, tree, cut.function) ^ {holding}
            assert not elsewhere, f"{module} calls {cut.function} in {elsewhere}: may {script} jobs reach that?"
        if holding not in BY_SPECIFICATION:
            # The script and the workloads alone have a Work, whose method it is.
            found = names(fingerprint.SCRIPTS, script, specified=specified, cut=cuts)
            for module, name in {(module, name) for module, name in found if module == script or ".workloads." in module}:
                calling = set().union(*(callers(module, statement, holding, methods=True) for statement in definition(module, name)))
                assert not calling - {holding}, f"{module}.{name} calls {holding}, which CUTS says that {script} jobs do not"
    assert would_reach, "no job would reach it: it need not be cut"


FRAMED = [(module, name) for module, one in sorted(fingerprint.FRAME.items()) for name in sorted(one.names)]
# What starts programs, waits, or sets something for the process or its children: it acts on a job.
ACTS = {"subprocess", "Popen", "run", "system", "fork", "kill", "sleep", "environ", "putenv", "setrlimit", "nice", "sched_setaffinity"}


@pytest.mark.parametrize(("module", "name"), FRAMED)
def test_what_is_left_out_of_fingerprints_is_there_and_acts_on_no_job(module, name):
    """`logged`, which runs llama.cpp's converter and pip, was left out with the module that says what a job does."""
    statements = [statement for statement in ast.parse(source_of(f"speedgrid.{module}")).body if name in source_code._binds(statement)]
    assert statements, f"{module}.{name} is gone: take it out of FRAME"
    nodes = [node for statement in statements for node in ast.walk(statement)]
    named = {getattr(node, "attr", "") or getattr(node, "id", "") for node in nodes if isinstance(node, ast.Attribute | ast.Name)}
    assert not named & ACTS, f"{module}.{name} acts on a job: it must count, in a module of its own or without its name in FRAME"


def test_what_is_left_out_is_left_out_alone(tmp_path):
    """Neither what stands beside it nor what it calls."""
    said = "from speedgrid.a import g\ndef say(text): g()\ndef logged(command): pass\ndef unused(): pass\n"
    script = "from speedgrid.progress import say, logged\nsay('')\nlogged([])"
    assert reached(tmp_path, {"script.py": script, "speedgrid/progress.py": said, "speedgrid/a.py": A}) == {"progress.logged", "a.g"}


def test_an_import_more_for_what_is_left_out_measures_nothing_again(after):
    file = "scripts/speedgrid/records.py"
    text = source(file).replace("import contextlib\n", "import contextlib\nimport bz2\n")
    text = text.replace(
        "    data = path.read_bytes()\n    seal = _sealed(data)\n", "    data = bz2.compress(path.read_bytes())\n    seal = _sealed(data)\n"
    )
    assert text.count("bz2") == 2
    # The page seals no file.
    assert after({file: text}) - {"write_plan"} == {"aggregate"}


def test_a_column_that_is_new_or_said_in_other_words_measures_nothing_again(after):
    files = [f"scripts/speedgrid/{name}.py" for name in ("columns", "schema")]

    class Reworded(ast.NodeTransformer):
        def visit_Call(self, node):
            self.generic_visit(node)
            if getattr(node.func, "id", "") == "Column" and len(node.args) > 4:
                node.args[4] = ast.BinOp(node.args[4], ast.Add(), ast.Constant(" in other words"))
            return node

        def visit_Tuple(self, node):
            self.generic_visit(node)
            if any(getattr(getattr(one, "func", None), "id", "") == "Column" for one in node.elts):
                new = [ast.Constant(text) for text in ("new", "double", "", "New", "A column more")]
                node.elts.append(ast.Call(ast.Name("Column", ast.Load()), new, []))
            return node

    edited = {file: ast.unparse(ast.fix_missing_locations(Reworded().visit(ast.parse(source(file))))) for file in files}
    assert all(text.count("A column more") > 10 for text in edited.values())
    assert after(edited) - {"write_plan"} == TABULATE


# What else a run puts into the environment of its process, which jobs inherit, and why no figure depends on it.
SET_BESIDE = {
    "snakemake_seam.Run(workflow).noted()": "the commands that messages name",
    'grid.job_variables() | {"SPEEDGRID_SCRIPTS": str(SCRIPTS)}': "job_shell.limits; and where the scripts lie, and the texts and data"
    " (places.py), of which specifications name the content",
    '"SPEEDGRID_SCRIPTS"': "likewise",
    "GOES_ON": "that this run takes the place of another",
    '"PIP_EXTRA_INDEX_URL"': "while an environment is made, which says what it has",
}


def test_what_a_run_sets_for_its_jobs_counts_for_each():
    """It stood in a module that no fingerprint counted."""
    files = [*(studies.ROOT / "rules").glob("*.smk"), *(studies.ROOT / "scripts/speedgrid/planning").glob("*.py")]
    files += [studies.ROOT / "scripts/speedgrid" / f"{name}.py" for name in ("snakemake_seam", "environments", "live", "refresh")]
    found = {}
    for path in files:
        for update, key in re.findall(r"os\.environ(?:\.(?:update|setdefault)\((.*)\)|\[(.*?)\] = )", path.read_text(encoding="utf-8")):
            found.setdefault(update or key, set()).add(path.name)
    assert set(found) == set(SET_BESIDE), "what acts on jobs belongs in job_shell.py"
    assert "job_shell.prepare(os.environ" in source("scripts/speedgrid/snakemake_seam.py")


# What the launcher sets or takes away, and why no figure depends on it. What acts on jobs is set for them by job_shell, also where
# Snakemake is started without the launcher.
OF_THE_LAUNCHER = {
    **dict.fromkeys(("PYTHONUTF8", "PYTHONHOME", "PYTHONPATH"), "for Snakemake's own Python; jobs find what job_shell says"),
    "name": "job_shell.SWITCHES, likewise",
    "PYTHONNOUSERSITE": "for the scripts of other commands",
    "PATH": "where nvidia-smi, conda and `which` are found; an environment's own programs come first, and which Python runs is checked",
    **dict.fromkeys(("SPEEDGRID_SHARPEN", "SPEEDGRID_MINUTES", "SPEEDGRID_PAGE_ONLY"), "which jobs are planned"),
    **dict.fromkeys(
        ("SNAKEMAKE_CONDA_PREFIX", "SPEEDGRID_PYTHON", "commands.CLUSTER", "SPEEDGRID_TORCH"),
        "where environments are made, by which Python and with which build of PyTorch, whose version results say",
    ),
    **dict.fromkeys(("commands.LAUNCHER", "commands.SNAKEMAKE", "SPEEDGRID_CALLED_FROM"), "the commands and paths that messages name"),
    **dict.fromkeys(("commands.AFTERWARDS", "SPEEDGRID_TOGETHER", "NO_MKDOCS_2_WARNING", "PIP_DISABLE_PIP_VERSION_CHECK"), "no job"),
}


def set_or_taken_away(tree: ast.AST) -> Iterator[str]:
    """The names of the variables that code changes in something called `environ`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and ast.unparse(node.value).endswith("environ"):
            yield ast.unparse(node.slice).strip("'")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith(("environ.pop", "environ.setdefault")):
                yield ast.unparse(node.args[0]).strip("'")
            elif called == "dict" and node.args and ast.unparse(node.args[0]) == "os.environ":
                yield from (keyword.arg for keyword in node.keywords if keyword.arg)
        elif isinstance(node, ast.Dict) and node.keys and ast.unparse(node.keys[0]).startswith("'SPEEDGRID_"):
            yield from (ast.unparse(key).strip("'") for key in node.keys if key)


def test_what_the_launcher_sets_is_known_to_change_no_figure():
    assert set(set_or_taken_away(ast.parse(source("speedgrid")))) == set(OF_THE_LAUNCHER), "what acts on jobs belongs in job_shell.py"


def test_jobs_without_a_specification_count_schema_and_records():
    """The specification of all others says their version of the tables (test_specification.py), so that these need not count."""
    rules = "".join(path.read_text(encoding="utf-8") for path in (studies.ROOT / "rules").glob("*.smk"))
    assert set(re.findall(r'planning\.code\("(\w+)"\)', rules)) == set(fingerprint.WITHOUT_VERSION)
    assert not {stage.script for stage in stages.STAGES.values()} & set(fingerprint.WITHOUT_VERSION)


# --- how code is followed, in projects of a few lines


def reached(folder: Path, files: dict[str, str], **asked) -> set[str]:
    """The definitions that script.py reaches, as module.name."""
    for name, text in {"speedgrid/__init__.py": "", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        if path.parent != folder and not (path.parent / "__init__.py").exists():
            (path.parent / "__init__.py").touch()
    return {f"{module.removeprefix('speedgrid.')}.{name}" for module, name in names(folder, "script", **asked) if module != "script"}


def names(folder: Path, script: str, **asked) -> set[tuple[str, str]]:
    """The same with their modules, of a script of a folder."""
    code = fingerprint._code(folder)
    return {
        (module, name)
        for module, units in fingerprint.reached(folder, script, **asked).items()
        for name, numbers in code.module(module).defined.items()
        for unit in (code.module(module).units[number] for number in numbers)
        if unit.digest and unit in units
    }


A = "def f(): return g()\ndef g(): pass\ndef h(): pass\nVALUE = 1\nclass C:\n    def method(self): return h()\n"


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("from speedgrid import a\na.f()", {"f", "g"}),
        ("from speedgrid import a as b\nb.g()", {"g"}),
        ("from speedgrid.a import f as other\nother()", {"f", "g"}),
        ("from speedgrid.a import f\ndef unused(): f()", set()),
        ("def used():\n    from speedgrid.a import g\n    g()\nused()", {"g"}),
        ("def used():\n    from speedgrid import a\n    return [a.VALUE for _ in ()]\nused()", {"VALUE"}),
        ("from speedgrid.a import C\nclass D(C): pass\nD", {"C", "h"}),
        ("from speedgrid import a\ndef show(what): pass\nshow(a)", {"f", "g", "h", "C", "VALUE"}),
        ("from speedgrid import a\na.VALUE = 2", {"VALUE"}),
        ("from speedgrid.a import C\ndef f(x: C) -> C: pass\nf", set()),
        ("name = 'speedgrid.a.C'\nprint(name)", {"f", "g", "h", "C", "VALUE"}),
        ("try:\n    from speedgrid.a import f\nexcept ImportError:\n    f = None\nf()", {"f", "g"}),
        ("from speedgrid.a import g\n@note\ndef noted(): g()", {"g"}),
        ("from functools import cache\nfrom speedgrid.a import g\n@cache\ndef kept(): g()", set()),
        ("from speedgrid.a import g\nclass Noted:\n    kept = note(g)", {"g"}),
        ("from speedgrid.a import g\nclass Noted:\n    @note\n    def kept(self): g()", {"g"}),
        (
            "from speedgrid.a import g\nclass Plain:\n    kept = field(default_factory=lambda: g())\n    @property\n    def p(self): g()",
            set(),
        ),
        ("run(['python', '-c', 'from speedgrid.a import g; g()'])", {"f", "g", "h", "C", "VALUE"}),
        ("run(['python', '-c', 'import os; from speedgrid import b, a as c; c.g()'])", {"f", "g", "h", "C", "VALUE"}),
        ("from speedgrid.a import g\nif __name__ == '__main__':\n    g()", {"g"}),
        ("from speedgrid.a import g\ndef kept(made=note(g)): pass", {"g"}),
        ("from speedgrid.a import g\ndef kept(made=lambda: g()): pass", set()),
        ("from speedgrid.a import g\nPATTERN = re.compile(g())", {"g"}),
        ("from speedgrid.a import VALUE\nPATTERN = re.compile(VALUE)", set()),
        ("from speedgrid.a import VALUE\nPATTERN = torch.compile(VALUE)", {"VALUE"}),
        ("from speedgrid.a import VALUE\nPATTERN = re.compile(VALUE)\nprint(PATTERN)", {"VALUE"}),
        ("run(['python', 'scripts/other.py'])", {"g", "f"}),
        ("run(['python', Path(__file__).with_name('other.py')])", {"g", "f"}),
        ("from other import nothing\nnothing", set()),
        ("from speedgrid.b import f\nf()", {"f", "g"}),
        ('from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from speedgrid.a import C\ndef f(x: "C"): pass\nf(1)', set()),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from speedgrid.a import C\nelse:\n    from speedgrid.a import g\ng()",
            {"g"},
        ),
        ("import typing\nif not typing.TYPE_CHECKING:\n    from speedgrid.a import g\n    g()", {"g"}),
        ("TYPE_CHECKING = True\nif TYPE_CHECKING:\n    from speedgrid.a import g\n    g()", {"g"}),
        ("from typing import TYPE_CHECKING\nTYPE_CHECKING = True\nif TYPE_CHECKING:\n    from speedgrid.a import g\n    g()", {"g"}),
        ("from speedgrid import a\nvars(a)['f']()", {"f", "g", "h", "C", "VALUE"}),
        ("import sys\nfrom speedgrid.a import g\nsys.modules['x'] = None\ndel sys.modules['x']\nif 'x' in sys.modules:\n    g()", {"g"}),
    ],
)
def test_a_script_reaches_what_its_names_stand_for(tmp_path, script, wanted):
    other = "from speedgrid.a import f\nnothing = 1\nif __name__ == '__main__':\n    f()"
    files = {"script.py": script, "other.py": other, "speedgrid/a.py": A, "speedgrid/b.py": "from speedgrid.a import f, h"}
    found = reached(tmp_path, files)
    assert {name for name in found if name.startswith("a.")} == {f"a.{name}" for name in wanted}


def test_a_module_that_the_specification_names_counts_whole_and_the_others_do_not(tmp_path):
    files = {
        "script.py": "from speedgrid import engines\nengines.pick('x')",
        "speedgrid/engines/__init__.py": "import importlib\ndef pick(n): return importlib.import_module(f'speedgrid.engines.{n}')",
        "speedgrid/engines/one.py": "from speedgrid.a import g\ndef run(): g()",
        "speedgrid/engines/two.py": "def run(): pass",
        "speedgrid/a.py": A,
    }
    assert reached(tmp_path, files) == {"engines.pick", "engines.importlib"}
    assert {"engines.one.run", "a.g"} == reached(tmp_path, files, specified=(("engines", "one"),)) - {"engines.pick", "engines.importlib"}
    assert reached(tmp_path, files, specified=(("engines", "not_here"),)) == {"engines.pick", "engines.importlib"}
    assert "a.g" not in reached(tmp_path, files, specified=(("engines", "one"),), cut=(("a", "g"),))


ORDERED = """
class C:
    x: int = 1

    @property
    def b(self): return LIMIT

    @b.setter
    def b(self, value): pass

    def a(self):
        found: list[int]
        found = []

LIMIT = 1
LIMIT = 2
C, LIMIT
"""


@pytest.mark.parametrize(
    ("before", "after", "is_other"),
    [
        ("LIMIT = 1\nLIMIT = 2", "LIMIT = 2\nLIMIT = 1", True),
        ("found: list[int]\n", "found: list[str]\n", False),
        ("        found: list[int]\n", "", False),
        ("        found: list[int]\n        found = []\n", "        if self:\n            pass\n            found: dict\n", True),
        ("x: int = 1", "x: str = 1", True),
        ("x: int = 1", "x: int", True),
        ("    x: int = 1\n", "    x: int = 1\n    y: int\n", True),
        ("LIMIT = 1\n", "LIMIT: int\nLIMIT = 1\n", False),
        ("LIMIT = 1\n", "LIMIT: noted()\nLIMIT = 1\n", True),
        # A name of the function's own, and no longer that of the module.
        ("return LIMIT", "LIMIT: int; return LIMIT", True),
        ("return LIMIT", "other: int; return LIMIT", False),
        ("return LIMIT", "pass; 'said'; return LIMIT", False),
        ("    def a(self):\n        found: list[int]\n        found = []\n", "", True),
        ("class C:\n", "class C:\n    def a(self):\n        found = []\n\n    a = property(a)\n", True),
    ],
)
def test_what_an_edit_does_counts_and_not_where_it_stands(tmp_path, before, after, is_other):
    assert before in ORDERED
    assert (hashed(tmp_path / "before", ORDERED) != hashed(tmp_path / "after", ORDERED.replace(before, after))) == is_other


SAID = """
import sys
from speedgrid import a
from speedgrid.a import f

def job(name, late):
    f(f"{name}: begins")
    a.f("one" + (", late" if late else ""))
    kept = f"{name}: kept"
    print(f"{name}: handed on")
    parser.add_argument("--job", help="the job's specification", required=True)
    sys.exit(f"{name} is missing in {sys.prefix}")
job
"""


@pytest.mark.parametrize(
    ("before", "after", "is_other"),
    [
        ("{name}: begins", "begun: {name}", False),
        ("{name}: begins", "begins", False),
        ("{name}: begins", "{name()}: begins", True),
        ('"one"', '"another"', False),
        ('", late"', '", too late"', False),
        ("if late", "if late()", True),
        ("{name} is missing in {sys.prefix}", "there is no {name}", False),
        ('sys.exit(f"{name} is missing in {sys.prefix}")', "sys.exit(3)", True),
        ("{name}: kept", "{name}: kept so", True),
        ("the job's specification", "as JSON", False),
        (', help="the job\'s specification"', "", False),
        ("required=True", "required=False", True),
        # Another process may read it.
        ("{name}: handed on", "{name}: handed on so", True),
        ('a.f("one"', 'a.g("one"', True),
    ],
)
def test_words_that_are_said_or_end_the_process_do_nothing(tmp_path, monkeypatch, before, after, is_other):
    assert before in SAID
    monkeypatch.setattr(fingerprint, "SPEAKING", frozenset({("speedgrid.a", "f")}))
    assert (hashed(tmp_path / "before", SAID) != hashed(tmp_path / "after", SAID.replace(before, after))) == is_other


def test_the_order_of_methods_counts_only_where_something_else_has_their_name(tmp_path):
    first, second = "    def a(self): return 1\n", "    def b(self): return 2\n"
    again = "    a = note(a)\n"
    found = [
        hashed(tmp_path / str(number), "class C:\n" + "".join(body) + "C\n")
        for number, body in enumerate([(first, second), (second, first), (first, again, second), (again, first, second)])
    ]
    assert found[0] == found[1]
    assert len({*found}) == 3


def hashed(folder: Path, script: str) -> str:
    """The fingerprint of a script of a folder of its own."""
    reached(folder, {"script.py": script, "speedgrid/a.py": A})
    return fingerprint._of(folder, "script", (), ())


def test_a_file_beside_a_module_counts_where_what_names_it_is_reached(tmp_path):
    """`READS` was kept by hand: a table that a module of a measuring job read would have changed nothing."""
    told = "def peaks(): return read(Path(__file__).with_name('peaks.json'))\ndef other(): pass\n"
    kinds = {"uses": "from speedgrid.a import peaks\npeaks()", "leaves": "from speedgrid.a import other\nother()"}
    found = {}
    for content in ("1", "2"):
        for kind, script in kinds.items():
            folder = tmp_path / kind / content
            reached(folder, {"script.py": script, "speedgrid/a.py": told, "speedgrid/peaks.json": content})
            found[kind, content] = fingerprint._of(folder, "script", (), ())
    assert found["uses", "1"] != found["uses", "2"]
    assert found["leaves", "1"] == found["leaves", "2"]


# Modules that look beside themselves otherwise than by `with_name`, and why no job has another figure for what lies there.
LOOK_ELSEWHERE = {
    "speedgrid.commands": "whether it is a clone",
    "speedgrid.environments": "what makes environments, which have a hash of their own",
    "speedgrid.fingerprint": "the code itself",
    "speedgrid.this_machine": "the commit of the project, which is a fact",
    "speedgrid.planning.load": "the study and the registry, which are told to jobs",
    "speedgrid.report.catalogues": "READS",
    "speedgrid.report.rendering": "READS",
    "advise": "no job",
}


def test_every_file_of_the_package_that_code_reads_is_one_that_counts():
    code = fingerprint._code(fingerprint.SCRIPTS)
    elsewhere, beside = set(), set()
    for file in FILES:
        tree = ast.parse(source(file))
        named = [node.func.value for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "with_name"]
        seen = {part for node in named for part in ast.walk(node)}
        if any(isinstance(node, ast.Name) and node.id == "__file__" and node not in seen for node in ast.walk(tree)):
            elsewhere.add(module_of(file))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        beside |= {(studies.ROOT / file).with_name(text) for text in texts if code.data_beside(module_of(file), text)}
    assert elsewhere == set(LOOK_ELSEWHERE), "what lies there must count: by `with_name` of a text, or in fingerprint.READS"
    data = {path for path in (studies.ROOT / "scripts/speedgrid").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert data == beside, "a file that no code names for `with_name` changes no fingerprint"


def test_every_import_of_the_project_is_followed_in_whatever_form_it_stands():
    """By a second reading of the imports, which knows no forms but those of Python's grammar."""
    code = fingerprint._code(fingerprint.SCRIPTS)
    for file in FILES:
        wanted = set()
        tree = ast.parse(source(file))
        idle = [
            part for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) for part in node.body
        ]
        for node in ast.walk(tree):
            if node in idle:
                continue
            if isinstance(node, ast.ImportFrom):
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                wanted |= {name if code.path(name) else node.module for name in whole}
            elif isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
        wanted = {name for name in wanted if name and code.path(name)}
        loaded = {where for unit in code.module(module_of(file)).units for where, _ in unit.refers}
        assert wanted <= loaded, file


def test_a_script_that_another_one_imports_does_not_run(tmp_path):
    files = {"script.py": "from other import f\nf()", "other.py": "def f(): pass\ndef main(): pass\nif __name__ == '__main__':\n    main()"}
    assert reached(tmp_path, files) == {"other.f"}


@pytest.mark.parametrize(
    "line",
    [
        "exec('1')",
        "eval('1')",
        "globals()['f']()",
        "import sys\nvars(sys.modules[__name__])['f']()",
        "import sys\nsys.modules.get('speedgrid.a').f()",
        "import sys\nsys.modules.pop('speedgrid.a').f()",
        "import sys\nsys.modules.values()",
        "import sys\nloaded = sys.modules",
        "import sys\ngetattr(sys, 'modules')",
        "import sys as s\ns.modules.get('speedgrid.a').f()",
        "from sys import modules",
        "from sys import modules as loaded",
        "print(list(map(vars, ())))",
        "vars()['f']()",
        "locals()['f']()",
        "from builtins import vars as names",
        "import importlib\nimportlib.import_module('speedgrid.' + 'a')",
        "from importlib import import_module\nimport_module('speedgrid.a')",
        "from speedgrid.a import *",
        "from . import a",
        "from . import a as b",
        "from .a import f",
        "from importlib import import_module as load\nload('speedgrid.a')",
        "import importlib as il\nil.import_module('speedgrid.' + 'a')",
        "import runpy\nrunpy.run_path('a.py')",
        "import pkgutil\npkgutil.resolve_name('speedgrid.a:f')",
        "from importlib.util import spec_from_file_location\nspec_from_file_location('a', 'speedgrid/a.py')",
        "import speedgrid.a",
        "from speedgrid import engines\nprint(engines)",
        "print(int.__subclasses__())",
        "class C:\n    def __init_subclass__(cls): pass\nC",
        "def __getattr__(name): pass",
    ],
)
def test_code_that_cannot_be_followed_is_refused_with_its_place(tmp_path, line):
    with pytest.raises(source_code.Unreadable) as caught:
        reached(tmp_path, {"script.py": line, "speedgrid/a.py": A, "speedgrid/engines/__init__.py": ""})
    number = 1 if " as load" in line or line.startswith("import sys as") else 2 if line.startswith("class") else len(line.splitlines())
    assert f"script.py:{number}: " in str(caught.value)
