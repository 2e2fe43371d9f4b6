"""Write docs/columns.md, the reference of every column of every result file, from speedgrid/schema.py. It takes no arguments."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from speedgrid.schema import RUN, SCHEMA_VERSION, STATUSES, TABLES, Column, Table

OUT = Path(__file__).resolve().parent.parent / "docs" / "columns.md"
HEAD = f"""# Columns of the result files

Written by `python tools/write_columns.py` from `scripts/speedgrid/schema.py`; version {SCHEMA_VERSION} of the tables.

All results are Parquet files. Sizes are in bytes and times in seconds; the report picks the unit that reads best. A value that a row does
not have is null. *Facts* hold for a whole file and lie in its metadata, as JSON under the key `speedgrid`:

```python
import json, pyarrow.parquet as pq

table = pq.read_table("results/local/generate/smollm2-135m/baseline/measure.parquet")
facts = json.loads(table.schema.metadata[b"speedgrid"])["facts"]
```
"""


def render() -> str:
    """The whole document."""
    statuses = _table(("status", "what it means"), [(f"`{name}`", meaning) for name, meaning in STATUSES.items()])
    run = f"## Facts of every job\n\nIn every file but `summary` and `runs`.\n\n{_columns(RUN)}"
    parts = [HEAD, f"## Statuses\n\n{statuses}", *map(_section, TABLES), run]
    return "\n".join(parts)


def _section(table: Table) -> str:
    place, _, meaning = table.meaning.partition(": ")
    parts = [f"## {table.name}\n\n`{place}`: {meaning}.\n\n{_columns(table.columns)}"]
    own = [fact for fact in table.facts if fact not in RUN]
    if own:
        parts.append(f"Facts, besides those of every job:\n\n{_columns(own)}")
    return "\n".join(parts)


def _columns(columns: Sequence[Column]) -> str:
    rows = [(f"`{c.name}`", c.type, c.unit, c.meaning, c.better) for c in columns]
    return _table(("column", "type", "unit", "meaning", "better"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
