"""docs/columns.md says what schema.py says."""

import write_columns
from speedgrid.schema import TABLES


def test_the_document_is_up_to_date():
    assert write_columns.OUT.read_text(encoding="utf-8") == write_columns.render(), "run `python scripts/write_columns.py`"


def test_every_column_of_every_table_is_described():
    text = write_columns.render()
    assert [column.name for table in TABLES for column in (*table.columns, *table.facts) if f"| `{column.name}` |" not in text] == []
