"""Result files: what is written is read back, and nothing half-written or foreign is taken for a result."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import records
from speedgrid.records import RecordError
from speedgrid.schema import EVALUATE, MEASURE, MODEL, SUMMARY, TABLES, WARMUP

KEYS = {"gpu": "g", "experiment": "e", "model": "m", "technique": "t", "status": "ok", "reason": ""}


def test_rows_and_facts_come_back(tmp_path):
    row = {**KEYS, "reply": 1, "token_s": [0.1, 0.2], "token_ids": [[3, 4]], "text": ["☃ </script>"]}
    records.write(tmp_path / "a.parquet", MEASURE, [row], {"engaged": True, "packages": ["torch==1"], "seed": 3})
    record = records.read(tmp_path / "a.parquet", MEASURE)
    assert {name: record.rows[0][name] for name in row} == row
    assert record.rows[0]["ttft_s"] is None
    assert record.facts["engaged"] is True
    assert record.facts["packages"] == ["torch==1"]
    assert set(record.facts) == {column.name for column in MEASURE.facts}


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"bytes": st.integers(0, 2**62), "nats": st.floats(allow_nan=False, allow_infinity=False), "document": st.text()}
        ),
        min_size=1,
    )
)
def test_any_values_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "evaluate.parquet"
    rows = [{**KEYS, **row} for row in rows]
    records.write(path, EVALUATE, rows)
    assert [{name: row[name] for name in rows[0]} for row in records.read(path, EVALUATE).rows] == rows


def test_an_undeclared_column_or_fact_is_refused_and_nothing_is_written(tmp_path):
    for rows, facts in (([{"speed": 1.0}], {}), ([], {"speed": 1.0})):
        with pytest.raises(RecordError, match="speed is not declared in the table warmup"):
            records.write(tmp_path / "w.parquet", WARMUP, rows, facts)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "w.parquet"
    records.write(path, WARMUP, [KEYS])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), records.replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_result_is_said_in_one_line(tmp_path):
    path = tmp_path / "x.parquet"
    with pytest.raises(RecordError, match=r"x\.parquet: no such result file"):
        records.read(path, WARMUP)
    records.write(path, WARMUP, [KEYS])
    with pytest.raises(RecordError, match="holds the table 'warmup', not 'measure'"):
        records.read(path, MEASURE)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RecordError, match="was damaged or changed after it was written") as caught:
        records.read(path, WARMUP)
    path.write_bytes(b"PAR1")
    with pytest.raises(RecordError, match="not a readable Parquet file"):
        records.read(path, WARMUP)
    assert "\n" not in str(caught.value)


def test_another_version_of_the_tables_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SCHEMA_VERSION", 999)
    records.write(tmp_path / "w.parquet", WARMUP, [KEYS])
    monkeypatch.undo()
    with pytest.raises(RecordError, match="version 999 of the tables"):
        records.read(tmp_path / "w.parquet", WARMUP)


def test_a_column_that_came_later_is_empty_in_files_from_before(tmp_path):
    newer = [column.name for column in SUMMARY.columns if column.newer]
    before = replace(SUMMARY, columns=[column for column in SUMMARY.columns if not column.newer])
    records.write(tmp_path / "s.parquet", before, [KEYS])
    (row,) = records.read(tmp_path / "s.parquet", SUMMARY).rows
    assert set(row) == {column.name for column in SUMMARY.columns}
    assert newer
    assert [row[name] for name in newer] == [None] * len(newer)


def test_a_file_of_an_older_table_names_the_columns_that_it_lacks(tmp_path):
    older = replace(WARMUP, columns=[column for column in WARMUP.columns if column.name != "load_s"])
    records.write(tmp_path / "w.parquet", older, [KEYS])
    with pytest.raises(RecordError, match="of an older speedgrid: it lacks `load_s`; delete it and run again"):
        records.read(tmp_path / "w.parquet", WARMUP)


def test_the_status_of_a_record_is_the_first_that_is_not_ok():
    failed = {**KEYS, "status": "oom", "reason": "too big"}
    assert records.Record([KEYS], {}).status == "ok"
    assert (records.Record([KEYS, failed], {}).status, records.Record([KEYS, failed], {}).reason) == ("oom", "too big")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_are_declared_once_and_described(table):
    columns = [*table.columns, *table.facts]
    names = [column.name for column in table.columns]
    assert len(names) == len(set(names))
    assert all(column.meaning and column.label for column in columns)
    assert records.arrow_schema(columns).names == [column.name for column in columns]
    for column in columns:
        if column.name.endswith("_s"):
            assert column.unit in ("s", "token/s", "FLOP/s", "1/s"), column.name


def test_units_of_the_summary_agree_with_where_its_figures_come_from():
    known = {c.name: c.unit for table in (MODEL, WARMUP, MEASURE) for c in (*table.columns, *table.facts)}
    for column in SUMMARY.columns:
        if known.get(column.name):
            assert column.unit == known[column.name], column.name


# Damage


def measured(path: Path) -> records.Record:
    """A file of raw replies, as a cell has it, and what it says."""
    rng = random.Random(3)
    rows = [
        {
            **KEYS,
            "reply": reply,
            "reply_s": rng.random(),
            "token_s": [rng.random() for _ in range(20)],
            "token_ids": [[1, 2]],
            "text": ["a"],
        }
        for reply in range(12)
    ]
    records.write(path, MEASURE, rows, {"host": "bench", "job": json.dumps({"seed": 1}), "started_at": "2025-03-01T10:00:00+00:00"})
    return records.read(path, MEASURE)


def test_no_flipped_bit_is_read_as_a_sound_file_with_other_values(tmp_path):
    path = tmp_path / "measure.parquet"
    before, rng = measured(path), random.Random(7)
    data = path.read_bytes()
    # Bits from everywhere, and all of those from where the seal itself lies.
    seal = data.rfind(records.SEAL_KEY) * 8
    flips = [rng.randrange(len(data) * 8) for _ in range(1500)] + list(range(seal, seal + 8 * (len(records.SEAL_KEY) + 66)))
    for bit in flips:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(RecordError) as caught:
            records.read(path, MEASURE)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith("delete it and run again")
    path.write_bytes(data)
    assert records.read(path, MEASURE) == before


def test_what_planning_reads_of_a_damaged_file_is_nothing_or_its_facts(tmp_path):
    """A name of a column that is no UTF-8 any more was a traceback of every command."""
    path = tmp_path / "measure.parquet"
    facts = measured(path).facts
    data = path.read_bytes()
    for name in re.finditer(rb"reply_s", data):
        damaged = bytearray(data)
        damaged[name.start() + 2] ^= 0x80
        path.write_bytes(damaged)
        assert records.facts_of(path) in ({}, facts)


def test_a_file_that_another_program_wrote_anew_is_not_taken_for_what_was_measured(tmp_path):
    path = tmp_path / "measure.parquet"
    measured(path)
    content = pq.read_table(path)
    faster = [value / 2 for value in content["reply_s"].to_pylist()]
    pq.write_table(content.set_column(content.column_names.index("reply_s"), content.field("reply_s"), pa.array(faster)), path)
    with pytest.raises(RecordError, match="was damaged or changed after it was written"):
        records.read(path, MEASURE)


def test_a_file_of_before_has_no_seal_and_is_read(tmp_path, monkeypatch):
    path = tmp_path / "measure.parquet"
    sealed = measured(path)
    content = pq.read_table(path)
    head = json.loads(content.schema.metadata[records.METADATA_KEY])
    del head["sealed"]
    pq.write_table(content.replace_schema_metadata({records.METADATA_KEY: json.dumps(head)}), path)
    assert records.read(path, MEASURE) == sealed


@given(text=st.text())
def test_no_text_in_a_file_is_taken_for_its_seal(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("records") / "warmup.parquet"
    text = f"{text}speedgrid_sha256\x18@{'a' * 64}"
    records.write(path, WARMUP, [{**KEYS, "reason": text}], {"host": text, "job": text})
    record = records.read(path, WARMUP)
    assert (record.rows[0]["reason"], record.facts["host"]) == (text, text)


def test_other_programs_read_the_files(tmp_path):
    path = tmp_path / "measure.parquet"
    replies = [row["reply_s"] for row in measured(path).rows]
    assert list(pd.read_parquet(path).reply_s) == replies
