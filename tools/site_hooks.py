"""Hooks of MkDocs for the documentation: the README as its first page, and the pages that are written from the code.

The command line and the keys of a study are written whenever the site is built, so that they are never out of date. Links of docs/ that
lead out of it become plain text: the site does not have their targets.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import study_keys
import yaml
from speedgrid import commands

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
OF_THE_COMMAND_LINE = """# Command line

What `./speedgrid --help` and `./speedgrid COMMAND --help` say.
"""


def on_files(files, config):
    """Add the pages that are made, before MkDocs looks at links."""
    from mkdocs.structure.files import File

    made = {"index.md": first_page(), "cli.md": command_line(), "study.md": keys_of_a_study()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links that lead out of docs/ as text."""
    return LINK.sub(lambda found: found[0] if not found[3].startswith("../") else f"`{found[2]}`", markdown)


def first_page() -> str:
    """The README, whose links count from docs/."""

    def rewritten(found: re.Match) -> str:
        image, text, target = found.groups()
        if target.startswith("docs/"):
            return f"{image}[{text}]({target.removeprefix('docs/')})"
        return found[0] if re.match(r"https?:|#", target) else f"`{text}`" if not text.startswith("`") else text

    return LINK.sub(rewritten, (ROOT / "README.md").read_text(encoding="utf-8"))


def command_line() -> str:
    """The help of every command."""
    whole = commands.whole("./speedgrid", "the repository")
    parts = [OF_THE_COMMAND_LINE, _shown(whole.format_help())]
    for name in commands.COMMANDS:
        parts += [f"## {name}\n", _shown(commands.one(name, "./speedgrid", "the repository").format_help())]
    return "\n".join(parts)


def keys_of_a_study() -> str:
    schema = yaml.safe_load((ROOT / "rules" / "schemas" / "study.schema.yaml").read_text(encoding="utf-8"))
    return study_keys.document(schema)


def _shown(text: str) -> str:
    return f"```text\n{text}```\n"
