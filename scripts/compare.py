"""Compare two results of a grid: what got faster or slower, what came and went, and what differs around them.

    ./speedgrid compare A B [--fail-on slower|changed|never] [--floor PERCENT] [--json]

A is the older result, B the newer one: each a results folder, a summary.parquet, or a folder of several results, such as
docs/results/h200. Of a folder the replies of every run are read.

Exits with 0; with 1 where --fail-on is met; with 2 where A or B cannot be read, or where --fail-on cannot be met because both are the very
same runs.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from speedgrid import commands, comparison, records, results
from speedgrid.comparison import Comparison
from speedgrid.report import compared as words


def main() -> int:
    arguments = commands.one("compare").parse_args()
    try:
        compared = comparison.compare(*results.read_both(Path(arguments.a), Path(arguments.b)), arguments.floor / 100)
    except records.RecordError as error:
        print(f"speedgrid: {error}", file=sys.stderr)
        return commands.MISTAKE
    failures = compared.failures(arguments.fail_on)
    if arguments.json:
        told = compared.as_json() | {"fail_on": arguments.fail_on, "failed": bool(failures)}
        commands.say(json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1))
    else:
        commands.say("\n".join(as_text(compared)))
        if failures:
            print(f"\nspeedgrid: {len(failures)} of {len(compared.cells)} cells fail --fail-on {arguments.fail_on}", file=sys.stderr)
    if compared.nothing_new and arguments.fail_on != "never":
        print(f"speedgrid: --fail-on {arguments.fail_on}: A and B are the very same runs; nothing was measured in between", file=sys.stderr)
        return commands.MISTAKE
    return 1 if failures else 0


# Telling


def as_text(compared: Comparison) -> list[str]:
    lines = [f"A  {compared.a}", f"B  {compared.b}", *words.floors(compared)]
    lines += ["", *_columns([words.HEADER, *(words.row(change) for change in compared.cells)])]
    lines += ["", words.counts(compared)]
    if compared.differences:
        told = [("", what, before, "→", after, cells) for what, before, after, cells in words.differences(compared)]
        lines += ["", "What differs", *_columns(told)]
    return [*lines, "", *(f"Note: {note}." for note in compared.notes)]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned lines; all columns but the last are as wide as their widest text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return ["  ".join([*(f"{text:{width}}" for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]


if __name__ == "__main__":
    commands.run(main)
