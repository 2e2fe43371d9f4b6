"""The documentation as a site, built as CI and people do: strictly, from locked packages, and with nothing loaded from elsewhere."""

import re
import subprocess

import pytest
import working_copy
from speedgrid import commands, planning

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]


@pytest.fixture(scope="module")
def copy(root, tmp_path_factory):
    """A copy whose site has been built."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("documented"))
    made = root / ".venv-docs"
    if (made / "made-from").exists():  # spares a minute; a lock that differs is noticed all the same
        (folder / ".venv-docs").symlink_to(made)
    done = working_copy.launcher(folder, "docs")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return folder


def pages(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("site/*.html")}


def test_the_pages_that_the_code_tells_are_there(copy):
    found = pages(copy)
    assert all(f'<h2 id="{name}">' in found["cli.html"] for name in commands.COMMANDS)
    assert "<code>repeat_disturbed</code>" in found["study.html"]
    assert all(f"<code>{name}</code>" in found["techniques.html"] for name in planning.read_registry())
    assert "<code>reply_s</code>" in found["columns.html"]
    assert 'src="results/h200/engines-8b/page.png"' in found["index.html"]
    assert (copy / "site/results/h200/decode-8b/report.html").is_file()


def test_nothing_is_loaded_from_elsewhere(copy):
    for name, text in pages(copy).items():
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="([^"]+)"|<link[^>]*\brel="(?:stylesheet|icon)"[^>]*\bhref="([^"]+)"', text)
        assert [one for pair in loaded for one in pair if re.match(r"(https?:)?//", one)] == [], name


@pytest.mark.parametrize(
    ("added", "said"),
    [("[x](nowhere.md)", "'nowhere.md'"), ("[x](cli.md#nothing)", "anchor '#nothing'"), ("![x](gone.png)", "'gone.png'")],
)
def test_a_link_that_leads_nowhere_fails_the_build(copy, added, said):
    page = copy / "docs" / "drivers.md"
    text = page.read_text(encoding="utf-8")
    try:
        page.write_text(f"{text}\n{added}\n", encoding="utf-8")
        done = working_copy.launcher(copy, "docs")
    finally:
        page.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


def test_the_completion_of_shells_is_that_of_the_commands_and_techniques(copy):
    """To mend it: .venv-docs/bin/python tools/write_completions.py"""
    folders = [copy / "scripts" / "completion", copy / "scripts" / "completion" / "installed"]
    files = [folder / f"speedgrid.{shell}" for folder in folders for shell in commands.SHELLS]
    before = [path.read_text(encoding="utf-8") for path in files]
    subprocess.run([copy / ".venv-docs" / "bin" / "python", "tools/write_completions.py"], cwd=copy, check=True)
    assert [path.read_text(encoding="utf-8") for path in files] == before
