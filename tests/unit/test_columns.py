"""docs/columns.md says what schema.py says, and docs/techniques.md what the registry says."""

import write_columns
import write_techniques
from speedgrid.planning import read_yaml
from speedgrid.schema import TABLES


def test_the_document_is_up_to_date():
    assert write_columns.OUT.read_text(encoding="utf-8") == write_columns.render(), "run `python tools/write_columns.py`"


def test_every_column_of_every_table_is_described():
    text = write_columns.render()
    assert [column.name for table in TABLES for column in (*table.columns, *table.facts) if f"| `{column.name}` |" not in text] == []


def test_the_list_of_techniques_is_up_to_date():
    written = write_techniques.document(read_yaml("techniques.yaml"))
    assert write_techniques.TARGET.read_text(encoding="utf-8") == written, "run `python tools/write_techniques.py`"
