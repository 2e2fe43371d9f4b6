"""The documentation: what it links is there, and what it says of keys and commands is what the code has."""

import re

import pytest
import site_hooks
import study_keys
import yaml
from speedgrid import commands, planning

PAGES = sorted([*planning.ROOT.glob("*.md"), *planning.ROOT.glob("docs/**/*.md")])
SCHEMA = yaml.safe_load((planning.ROOT / "rules/schemas/study.schema.yaml").read_text(encoding="utf-8"))


def keys(part):
    """Every key that a schema describes, at every depth."""
    found = set(part.get("properties", {}))
    items = [part["items"]] if "items" in part else []
    for inner in (*part.get("properties", {}).values(), *part.get("$defs", {}).values(), *items):
        found |= keys(inner)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(planning.ROOT)))
def test_what_a_page_links_is_there(page):
    """Also for who reads it in the repository, where nothing checks links."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for _, _, target in site_hooks.LINK.findall(text)]
    missing = [target for target in targets if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()]
    assert missing == []


def test_every_key_of_a_study_is_in_the_reference():
    text = study_keys.document(SCHEMA)
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    assert keys(SCHEMA) == {key.rpartition(".")[2] for key, *_ in rows}
    assert all(takes.strip() and meaning.strip() for _, takes, _, meaning in rows)
    told = {key: (takes, default) for key, takes, default, _ in rows}
    assert told["replies"][0] == "a whole number from 1 to 100,000,000 or `auto` or [keys and values](#precision)"
    assert told["replies"][1] == "`100`"
    assert (told["techniques"], told["study"]) == (("a list of: text", "required"), ("a name", "required"))
    assert told["max_bytes"] == ("a whole number from 256", "`65536`")
    for link in re.findall(r"\]\(#([\w-]+)\)", text):
        assert f"{{#{link}}}" in text


def test_the_page_of_the_command_line_has_what_help_says():
    text = site_hooks.command_line()
    for name in commands.COMMANDS:
        assert f"## {name}\n\n```text\nusage: ./speedgrid {name} " in text
        assert all(flag in text for action in commands.one(name)._actions for flag in action.option_strings)


def test_links_of_the_readme_count_from_docs_on_the_site():
    text = site_hooks.first_page()
    assert "](docs/" not in text
    assert "](results/h200/engines-8b/page.png)" in text
    assert "](techniques.yaml)" not in text
    assert "techniques.yaml" in text


WRITTEN_OUT = [
    (page, block)
    for page in PAGES
    for block in re.findall(r"^```yaml\n(study:.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
]


def test_a_page_has_a_study_written_out():
    """Without one the next test has nothing to plan, and is skipped."""
    assert WRITTEN_OUT


@pytest.mark.parametrize(("page", "block"), WRITTEN_OUT, ids=[page.name for page, _ in WRITTEN_OUT])
def test_a_study_that_a_page_has_written_out_can_be_planned(page, block, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(block.replace("local: /data/checkpoints/finetuned", "architecture: {model_type: gpt2}"), encoding="utf-8")
    grid = planning.read_grid(path)
    assert {cell.workload for cell in grid.cells} == {"largest", "train"}, page.name


def test_every_fault_names_tests_that_are_there():
    text = (planning.ROOT / "docs/faults.md").read_text(encoding="utf-8")
    faults = re.findall(r"^\| (?!fault )(?!-)(.*?) \| .*? \| (.*) \|$", text, re.MULTILINE)
    assert len(faults) > 10
    for fault, tests in faults:
        named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/\w+/test_\w+\.py)\)", tests)
        assert named, f"{fault}: names no test"
        for name, file in named:
            assert f"\ndef {name}(" in (planning.ROOT / file).read_text(encoding="utf-8"), f"{fault}: {file} has no {name}"


def test_the_version_is_the_same_wherever_it_is_said():
    """`--version` and the wheel have the launcher's."""
    launcher, citation, changes = (
        (planning.ROOT / name).read_text(encoding="utf-8") for name in ("speedgrid", "CITATION.cff", "CHANGELOG.md")
    )
    (version,) = re.findall(r'^__version__ = "(.*)"$', launcher, re.MULTILINE)
    assert yaml.safe_load(citation)["version"] == version
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == version
