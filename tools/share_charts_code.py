"""Let pages load the code that draws their charts (Vega) from one file, in the place of a copy in each.

    .venv-test/bin/python tools/share_charts_code.py docs/results/vega.js docs/results/h200/NAME/report.html ...

A page is one file, as `report` writes it, and nine tenths of it are this code; where many pages are published together they share it. The
file is written where it is not there yet. A page whose code is another one is refused: a later version of Vega needs a file of its own, so
that every page is drawn by the code that it was written with. A page that has the reference already stays as it is, and nothing else of
any page changes.

The page allows its scripts by their hashes. For a script in a file that takes `integrity`, which browsers refuse in a page that is opened
from a folder; so `'self'`, for a page that comes from a server, and `file:` stand beside the hash of the code, which says with what code
the page was written. What that gives up: if a text from outside got into the page as markup, which escaping prevents, it could load a
script of the same server or folder. Scripts in the page itself stay forbidden but for its own.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

from markupsafe import escape

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from speedgrid import records
from speedgrid.report import page

# Where the file cannot be loaded, each chart's place says so, in the page's own words for a chart that cannot be drawn.
INSTEAD = "globalThis.vegaEmbed ??= () => {{ throw new Error({}); }};"


class NotShared(Exception):
    """A page that cannot load its charts' code from the file, and why."""


def carried(html: str) -> str | None:
    """The charts' code in a page, which is the first of its scripts; None where it is loaded from a file. Raises NotShared for what is no
    page of ours."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = [in_page(page.script_source(script)) in html for script in scripts]
    if len(scripts) != 2 or not all(allowed):
        raise NotShared("not a page that speedgrid wrote, with the two scripts that it allows")
    return None if "<script src=" in html else scripts[0]


def shared(html: str, code: str, address: str) -> str:
    """The page with a reference to its charts' code, which it holds once, at a relative address."""
    instead = INSTEAD.format(page.embedded(f"{address} could not be loaded"))
    for old, new in (
        (f"<script>{code}</script>", f"{reference(address)}\n<script>{instead}</script>"),
        (in_page(page.script_source(code)), in_page(f"{page.script_source(code)} 'self' file: {page.script_source(instead)}")),
    ):
        before, found, after = html.partition(old)
        if not found or old in after:
            raise NotShared("its charts' code, or the hash of it, is not there exactly once")
        html = before + new + after
    return html


def reference(address: str) -> str:
    return f'<script src="{in_page(address)}"></script>'


def in_page(text: str) -> str:
    """A text as the template writes it; no Markup, which escapes whatever is added to it."""
    return str(escape(text))


def share(file: Path, pages: list[Path]) -> list[Path]:
    """Change the pages, all or none, and write the file where it is not there. Gives the pages that changed. Raises NotShared."""
    kept = file.read_bytes().decode() if file.exists() else None
    changed: dict[Path, str] = {}
    for path in pages:
        html = path.read_bytes().decode()
        address = quote(Path(os.path.relpath(file, path.parent)).as_posix())
        try:
            code = carried(html)
            if code is None:
                if reference(address) not in html:
                    raise NotShared(f"it loads its charts' code from another file than {file}")
                continue
            kept = code if kept is None else kept
            if code != kept:
                raise NotShared(f"its charts are drawn by other code than {file} holds, of another version; name another file for it")
            changed[path] = shared(html, code, address)
        except NotShared as error:
            raise NotShared(f"{path}: {error}") from None
    if kept is not None and changed:
        for path, text in {file: kept, **changed}.items():
            with records.replacing(path) as temporary:
                temporary.write_bytes(text.encode())
    return list(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="the file that holds the code, beside the pages")
    parser.add_argument("pages", type=Path, nargs="+", help="pages as `report` writes them")
    told = parser.parse_args()
    try:
        changed = share(told.file, told.pages)
    except (NotShared, OSError) as error:
        sys.exit(f"share_charts_code: {error}")
    print(f"{len(changed)} of {len(told.pages)} pages changed; the code is in {told.file}")


if __name__ == "__main__":
    main()
