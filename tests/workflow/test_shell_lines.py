"""No text of a study can be a command: the shell lines of the rules as they stand, filled in by Snakemake's own formatter, run by bash."""

import ast
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.utils import format as filled

ROOT = Path(__file__).resolve().parents[2]
# Writes down what it was called with, in place of the jobs' Python.
WITNESS = '#!/bin/sh\nprintf "%s\\0" "$@" > "$SEEN"\n'
NASTY = (
    *("'", '"', "$(touch pwned)", "`touch pwned`", "; touch pwned", "\n", "\\", "{wildcards}", "{{"),
    *("*", "~", "-", "&", "|", "> pwned", "é", " "),
)


def shell_lines() -> dict[str, str]:
    """The shell line of every rule, by the name of the rule; one that is made from another has its line."""
    found, like = {}, {}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        like |= {name: source for source, name in re.findall(r"^use rule (\w+) as (\w+) with:$", text, flags=re.MULTILINE)}
        for part in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
            _, _, after = part.partition("    shell:\n")
            literals = takewhile(lambda line: line.startswith("        "), after.splitlines())
            found[part.partition(":")[0]] = ast.literal_eval(f"({' '.join(literals)})")
    return found | {name: found[source] for name, source in like.items()}


LINES = shell_lines()
PARTS = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8))
texts = st.lists(PARTS, max_size=6)


def test_every_rule_that_runs_something_is_looked_at():
    rules: set[str] = set()
    for snakefile in ("Snakefile", "rules/together.smk"):
        command = [sys.executable, "-m", "snakemake", "--list-rules", "--snakefile", snakefile]
        rules |= set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    targets = {"all", "prepare"}
    assert rules - targets == set(LINES)


def test_every_value_is_quoted():
    for rule, line in LINES.items():
        values = re.findall(r"\{[^}]*\}", line)
        assert values, rule
        assert all(value.endswith(":q}") for value in values), rule


@pytest.mark.parametrize("rule", LINES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_value_holds_it_reaches_the_job_unchanged_and_runs_nothing(rule, data, tmp_path):
    line = LINES[rule]
    names = re.findall(r"\{(\w+)(?:\.(\w+))?:q\}", line)
    values = {name: "".join(data.draw(texts)) or "x" for name in dict.fromkeys(names) if name[0] != "log"}
    kinds = {kind: SimpleNamespace(**{key: value for (of, key), value in values.items() if of == kind and key}) for kind, _ in names}
    kinds |= {kind: value for (kind, key), value in values.items() if not key}
    for part in tmp_path.iterdir():
        part.unlink()
    (tmp_path / "python").write_text(WITNESS)
    (tmp_path / "python").chmod(0o755)
    command = filled(line, **(kinds | {"log": str(tmp_path / "log")}))
    scripts = "/a folder/with 'quotes' and $HOME"
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SEEN": str(tmp_path / "seen"), "SPEEDGRID_SCRIPTS": scripts}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ, capture_output=True)
    assert done.returncode == 0, done.stderr
    *seen, end = (tmp_path / "seen").read_bytes().split(b"\0")
    assert end == b""
    expected = []
    for word in shlex.split(line.partition(" 3>&2")[0])[1:]:
        value = re.fullmatch(r"\{(\w+)(?:\.(\w+))?:q\}", word)
        expected.append(values[value.groups(default="")] if value else word.replace("$SPEEDGRID_SCRIPTS", scripts))
    assert [word.decode() for word in seen] == expected
    assert {path.name for path in tmp_path.iterdir()} == {"python", "seen", "log"}
