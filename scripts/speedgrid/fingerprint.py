"""What the figures of a job depend on: the code that its script reaches, derived from its imports, and a hash of what that code does.

The unit is a definition at the top of a module. From a script, every name that a definition uses is followed to the function, class or
value of the project that it stands for, through imports at the top of modules and inside functions. What importing a module does (calls,
conditions, patches of other modules) counts wherever the module is imported; a function, a class or a plain value counts where something
reaches it. A class counts whole, and so does a module that is handed on as a value, named in a text, or imported by a name that the job's
specification has. Code that cannot be followed, such as `exec`, is refused.

The hash is of the parsed code, without docstrings, comments and formatting, without the order of definitions and of methods, without the
annotations outside of classes and what only type checkers read, which do nothing, and without the words that end a process or are said to
a person. A text that names a file beside its module stands for what that file holds, and one that names a script for what that does. The
shell line of the rule that starts a script counts, too.
"""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speedgrid import known_code
from speedgrid.source_code import IMPORTED, PACKAGE, SPECIFIED, STARTED, WHOLE, Code, Reference, Unit, Unreadable

SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Frame:
    """Definitions of a module that are left out of fingerprints, by name, and why no figure depends on them. All else of the module counts,
    what these call included."""

    names: frozenset[str]
    why: str


def _frame(why: str, names: str) -> Frame:
    return Frame(frozenset(names.split()), why)


# Left out for every job: it says something to a person, or names a place for notes.
SAYS = {
    "progress": _frame("what a job says to the person who waits", "PERSON _is_writable _HEARD _TERMINAL say Steps"),
    "notes": _frame("where notes lie in a working folder", "FOLDER DIGESTS CODE JOBS PLANNED RUN busy"),
}
# Of what is left out, what takes a text to say it.
SPEAKING = frozenset({(f"{PACKAGE}.progress", "say")})
# Left out for jobs that have a specification.
FRAME = {
    **SAYS,
    "columns": _frame(
        "names and meanings of columns; another meaning is a new column, or a new SCHEMA_VERSION, which every specification says",
        """STATUSES Column Table KEYS AXES GROUP OUTCOME RUN SIZES MEMORY SUMMARY_MEMORY PROOF STATE REPEATS STATE_SHOWN CEILINGS WORK PAYS
        _percentile PERCENTILES TRUST QUALITY NOTHING_COMPILED FILES DEQUANTIZED""",
    ),
    "schema": _frame(
        "the tables that they make; likewise",
        "SCHEMA_VERSION MODEL CHECKPOINT WARMUP MEASURE PROBE REQUESTS REFERENCE EVALUATE SCORE SUMMARY POINTS RUNS TABLES",
    ),
    "records": _frame(
        "how rows become a file and are read again; likewise",
        """METADATA_KEY SEAL_KEY NO_SEAL SEAL RecordError Without write read facts_of seal_of first_row _rows arrow_schema failed replacing
        _load _seal _sealed _hash _head _names""",
    ),
    "jobtext": _frame("how its specification reaches a job, whose result says what came", "LONGEST MARK handed received"),
}
# What a run does around every job. No script names it; it counts for all of them.
AROUND = (f"{PACKAGE}.job_shell",)
# Scripts whose jobs have no specification, which says the version of the tables: for them columns, tables and records count like all other
# code.
WITHOUT_VERSION = ("write_plan", "aggregate", "render_report")
# Scripts that import every engine and transform by its name in the registry, to ask what it takes.
ASKS_ALL = ("write_plan",)
# Files of the project that a script reads, or folders of them; their bytes count.
READS = {
    "write_plan": ("rules/schemas", "report/published.csv"),
    "render_report": ("report", "techniques.yaml"),
}
# Where the rules are, each with the shell line that starts its script: `nice` before it would be another measurement.
RULES = "rules"
SHELL_LINE = re.compile(r"^    shell:\n((?:        .*\n)+)", re.MULTILINE)
STARTS = re.compile(r'"\$SPEEDGRID_SCRIPTS/(\w+)\.py"')


def of(script: str, specified: tuple[Reference, ...] = (), cut: tuple[Reference, ...] = ()) -> str:
    """The fingerprint of the code that the figures of a job depend on: another one where that code does something else.

    `script` is the name of a file of scripts/. `specified` are the modules that its specification names, each after its package, e.g.
    ("engines", "vllm"). `cut` are functions, each after its module, or after "" where it is the script's own, that such a job does not
    call although its code holds a call. Raises Unreadable where code cannot be followed.
    """
    now, known = _known(SCRIPTS)
    asked = json.dumps([script, specified, cut])
    if asked in known:
        return known[asked]
    found = _of(SCRIPTS, script, specified, cut)
    # What was edited meanwhile would be taken for the code of before once that is there again.
    if known_code.state(sources(SCRIPTS)) == now:
        known[asked] = found
        known_code.keep(now, known)
    return found


@functools.cache
def _known(scripts: Path) -> tuple[str, dict[str, str]]:
    """The state of all files that fingerprints come from, and the fingerprints that are known of it."""
    now = known_code.state(sources(scripts))
    return now, known_code.read(now)


def sources(scripts: Path) -> list[Path]:
    """The files and folders that fingerprints come from."""
    read = sorted({name for names in READS.values() for name in names})
    return [scripts, *(scripts.parent / name for name in (RULES, *read))]


@functools.cache
def _of(scripts: Path, script: str, specified: tuple[Reference, ...], cut: tuple[Reference, ...]) -> str:
    found = hashlib.sha256()
    for name, units in reached(scripts, script, specified, cut).items():
        # What importing a module does is done in its order; what it defines has none.
        done = [unit.digest for unit in units if unit.always and unit.digest]
        found.update(f"{name} {' '.join(done)} {' '.join(sorted(unit.digest for unit in units if not unit.always))}\n".encode())
    for line in _shell_lines(scripts.parent / RULES).get(script, ()):
        found.update(f"{line}\n".encode())
    for name in READS.get(script, ()):
        for path in _files(scripts.parent / name):
            found.update(f"{path.relative_to(scripts.parent)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()[:16]


def reached(scripts: Path, script: str, specified: tuple[Reference, ...] = (), cut: tuple[Reference, ...] = ()) -> dict[str, list[Unit]]:
    """The units that a job of a script depends on, by module, in the order of the file; arguments as for `of`."""
    code = _code(scripts)
    never = {(f"{PACKAGE}.{module}" if module else script, name) for module, name in cut}
    left_out = {f"{PACKAGE}.{module}": one.names for module, one in left_out_of(script).items()}
    modules = {(f"{PACKAGE}.{package}", f"{PACKAGE}.{package}.{name}") for package, name in specified}
    found: dict[str, set[int]] = {}
    seen: set[Reference] = set()
    waiting: list[Reference] = [(script, STARTED), *((name, WHOLE) for name in AROUND if code.path(name))]
    while waiting:
        reference = waiting.pop()
        if reference in seen or reference in never:
            continue
        seen.add(reference)
        name, what = reference
        if what == SPECIFIED:
            # What is named and not there belongs to a technique that no machine can run.
            named = code.modules_in(name) if script in ASKS_ALL else [module for package, module in modules if package == name]
            waiting += [(module, WHOLE) for module in named if code.path(module)]
            continue
        module = code.module(name)
        parent = name.rpartition(".")[0]
        waiting += [(parent, IMPORTED)] if parent else []
        waiting += [(name, IMPORTED)] if what != IMPORTED else []
        if what == STARTED:
            numbers = [n for n, unit in enumerate(module.units) if unit.always]
        elif what == IMPORTED:
            numbers = [n for n, unit in enumerate(module.units) if unit.always and not unit.as_script]
        elif what == WHOLE:
            numbers = [n for n, unit in enumerate(module.units) if not unit.as_script]
        else:
            numbers = module.defined.get(what, [])
            waiting += module.imported.get(what, [])
        silent = {number for one in left_out.get(name, ()) for number in module.defined.get(one, ())}
        for number in numbers:
            if number not in silent:
                found.setdefault(name, set()).add(number)
                waiting += module.units[number].refers
            else:
                # What of the project it calls acts all the same; one import more of the standard library does not.
                waiting += [(at, one) for at, one in module.units[number].refers if at != name or not module.is_from_elsewhere(one)]
    return {name: [code.module(name).units[number] for number in sorted(numbers)] for name, numbers in sorted(found.items())}


def left_out_of(script: str) -> Mapping[str, Frame]:
    """What is left out of the fingerprints of a script's jobs, by module."""
    return SAYS if script in WITHOUT_VERSION else FRAME


@functools.cache
def _code(scripts: Path) -> Code:
    return Code(scripts, SPEAKING)


@functools.cache
def _shell_lines(rules: Path) -> dict[str, list[str]]:
    """The shell lines of all rules, by the script that they start."""
    found: dict[str, list[str]] = {}
    for path in sorted(rules.glob("*.smk")):
        for literals in SHELL_LINE.findall(path.read_text(encoding="utf-8") + "\n"):
            try:
                line = str(ast.literal_eval(f"({literals})"))
            except (ValueError, SyntaxError):
                raise Unreadable(f"{path}: a shell line that is more than a text: {literals.strip()}") from None
            for script in STARTS.findall(line):
                found.setdefault(script, []).append(line)
    return found


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
