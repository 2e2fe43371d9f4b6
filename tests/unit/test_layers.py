"""The layers of docs/architecture.md: every module of the package is in it, and imports only what stands above it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from speedgrid import workload

import studies

PACKAGE = studies.ROOT / "scripts" / "speedgrid"


def layers() -> list[str]:
    """The modules and packages directly in speedgrid, lowest layer first, as docs/architecture.md has them."""
    text = (studies.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"`scripts/speedgrid/`, in layers.*?```\n(.*?)```", text, re.DOTALL)
    assert block, "docs/architecture.md shows no layers"
    # A line begins with the names that it is about: one, or some with arrows between them.
    heads = [re.match(r"[\w./]+(?: -> [\w.]+)*", line) for line in block[1].splitlines()]
    return [name.removesuffix(".py").rstrip("/") for head in heads if head for name in head[0].split(" -> ")]


def imported(path: Path) -> set[str]:
    """What of the package a file imports, at its top and inside functions: modules and packages directly in speedgrid."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "speedgrid":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speedgrid."):
            found.add((node.module or "").split(".")[1])
    return found


def files(name: str) -> list[Path]:
    return sorted((PACKAGE / name).rglob("*.py")) if (PACKAGE / name).is_dir() else [PACKAGE / f"{name}.py"]


def test_every_module_has_its_place_among_the_layers():
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(layers()) == sorted(there - {"__init__"}), "give each module one line in docs/architecture.md, and none to what is gone"


@pytest.mark.parametrize("name", layers())
def test_a_module_imports_only_what_stands_above_it(name):
    above = set(layers()[: layers().index(name)])
    for path in files(name):
        below = imported(path) - above - {name}
        assert not below, f"{path.relative_to(studies.ROOT)} imports {', '.join(sorted(below))}, which docs/architecture.md has below it"


# What reads or changes something outside of a function's arguments.
OUTSIDE = {
    "open",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "rename",
    "environ",
    "getenv",
    "Popen",
    "exists",
    "is_file",
}


def pure() -> list[str]:
    """The modules that docs/architecture.md calls pure."""
    text = (studies.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^(\w+)\.py +.*; pure$", text, re.MULTILINE)


@pytest.mark.parametrize("name", pure())
def test_a_module_that_is_called_pure_touches_nothing_outside(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    named = {
        node.attr if isinstance(node, ast.Attribute) else node.id for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)
    }
    assert not named & OUTSIDE


def test_the_package_imports_no_script_and_no_script_is_a_library():
    scripts = {path.stem: path for path in (studies.ROOT / "scripts").glob("*.py")}
    found: dict[str, set[str]] = {}
    for path in [*PACKAGE.rglob("*.py"), *scripts.values()]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            for name in names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                if name in scripts:
                    found.setdefault(name, set()).add(path.stem)
    assert not found, "what scripts share belongs in the package"


def test_no_module_has_the_name_of_one_of_pythons():
    """A reader takes `site` for that, and in the folder of a script it is in the way of it."""
    paths = [path for folder in ("scripts", "tools", "tests", "envs") for path in (studies.ROOT / folder).rglob("*.py")]
    names = {path: path.parent.name if path.stem == "__init__" else path.stem for path in paths}
    assert [str(path.relative_to(studies.ROOT)) for path, name in names.items() if name in sys.stdlib_module_names] == []


# Methods of a class, properties among them, beyond which it does more than one thing.
MOST_METHODS = 20


def test_planning_imports_nothing_heavy():
    """Every command waits for it, and the environment of the documentation has none of these packages."""
    code = (
        "import sys, speedgrid.planning, speedgrid.estimates; print(*{'numpy', 'pandas', 'pyarrow', 'scipy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(PACKAGE.parent)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_class_does_everything():
    sizes = {}
    for path in sorted((studies.ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                name = f"{path.relative_to(studies.ROOT / 'scripts')}: {node.name}"
                sizes[name] = sum(isinstance(part, ast.FunctionDef) for part in node.body)
    assert {name: count for name, count in sizes.items() if count > MOST_METHODS} == {}


def test_what_is_special_about_a_workload_is_said_in_one_place():
    """Code asks what a workload has (workload.py), and not which one it is: a new one would be forgotten there."""
    found = []
    for path in sorted((studies.ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare) or path.name == "workload.py":
                continue
            named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & set(workload.WORKLOADS)
            if workload.DEFAULT in named or (named and "workload" in ast.unparse(node)):
                found.append(f"{path.relative_to(studies.ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
