"""Result files: atomic Parquet with the columns that schema.py declares.

A file is complete or not there: it is written beside its place, flushed to the disk, and renamed. It is sealed: its metadata hold a hash of
all its bytes but the hash's own, so that a single bit that changed since is found. Files of before have no seal and are read as they are.
"""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speedgrid.schema import SCHEMA_VERSION, Column, Table

METADATA_KEY = b"speedgrid"
SEAL_KEY = b"speedgrid_sha256"
NO_SEAL = b"0" * 64
# How the format writes it: a key, then the head of a string of 64 bytes (Thrift's compact protocol), then the string.
SEAL = re.compile(re.escape(SEAL_KEY) + rb"\x18\x40([0-9a-f]{64})")


class RecordError(ValueError):
    """A result file that cannot be read or written; the message is one line that names the file."""


# Columns that nobody asks a record for: their names, or what says them by its facts.
Without = Collection[str] | Callable[[Mapping], Collection[str]]


@dataclass(frozen=True)
class Record:
    """A result file: its rows, and the facts that hold for the whole file."""

    rows: list[dict]
    facts: dict
    is_there: bool = True  # False for one in the place of a file that is missing, cannot be read, or is of something else
    seal: str = field(default="", compare=False)  # the hash of all its bytes; empty where the file has none
    # Of one in the place of a file of other settings: the keys that differ. Of scores: the techniques that are not in its rows.
    left_out: Sequence[str] = ()

    @property
    def status(self) -> str:
        """`ok`, or the first other status among the rows. A row that only says where a series of sizes ended is none of the cell's."""
        return next((row["status"] for row in self._own if row["status"] != "ok"), "ok")

    @property
    def reason(self) -> str:
        return next((row["reason"] for row in self._own if row["status"] != "ok"), "") or ""

    @property
    def identity(self) -> str:
        """What it is to the jobs that start from it: the hash of the weights that it tells of, else of the file; empty for neither."""
        first = self.rows[0] if self.rows else {}
        return (first["checkpoint_sha256"] or "") if "checkpoint_sha256" in first else self.seal

    @property
    def _own(self) -> list[dict]:
        return [row for row in self.rows if row.get("point") is None or row.get("reply") is not None]


def of_one_status(runs: Sequence[Record]) -> list[tuple[int, Record]]:
    """Those of a cell's runs, the first one first, that ended as that did, each with its number: one that failed, or in which the technique
    was not active, is of something else."""
    return [(number, record) for number, record in enumerate(runs, 1) if record.status == runs[0].status]


def write(path: str | Path, table: Table, rows: Sequence[Mapping], facts: Mapping | None = None) -> None:
    """Write `rows` and `facts` as `table` declares them; columns left out become null, undeclared ones are an error.

    A number that is not finite becomes null: nothing that reads a table may take it for a figure. Jobs give such numbers a status.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {**(facts or {}), "schema_version": SCHEMA_VERSION} if table.facts else dict(facts or {})
    for given, declared, kind in ((_names(rows), table.columns, "column"), (facts, table.facts, "fact")):
        unknown = sorted(set(given) - {column.name for column in declared})
        if unknown:
            raise RecordError(f"{path}: {kind} {', '.join(unknown)} is not declared in the table {table.name}")
    known = {column.name: _finite(facts.get(column.name)) for column in table.facts}
    head = {"table": table.name, "schema_version": SCHEMA_VERSION, "sealed": True, "facts": known}
    metadata = {METADATA_KEY: json.dumps(head, ensure_ascii=False), SEAL_KEY: NO_SEAL}
    content = pa.Table.from_pylist(
        [{name: _finite(value) for name, value in row.items()} for row in rows], schema=arrow_schema(table.columns).with_metadata(metadata)
    )
    with replacing(path) as temporary:
        pq.write_table(content, temporary, compression="zstd", write_page_checksum=True)
        _seal(temporary)


def read(path: str | Path, table: Table, without: Without = ()) -> Record:
    """Read a file that `write` made; columns named in `without`, which its facts may decide, are None in every row: for long lists that
    saves most of the time.

    Raises RecordError where it is missing, damaged, of another table or of another version of the tables.
    """
    content, head, seal = _load(path)
    if head.get("table") is None:
        raise RecordError(f"{path}: was not written by speedgrid; move it away or delete it, and run again")
    if head["table"] != table.name:
        raise RecordError(f"{path}: holds the table {head.get('table')!r}, not {table.name!r}; delete it and run again")
    if head.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(f"{path}: version {head.get('schema_version')} of the tables, this is {SCHEMA_VERSION}; delete it and run again")
    missing = [column for column in table.columns if column.name not in content.column_names]
    lacking = [column.name for column in missing if not column.newer]
    if lacking:
        names = ", ".join(f"`{name}`" for name in lacking)
        raise RecordError(f"{path}: is damaged or of an older speedgrid: it lacks {names}; delete it and run again")
    if not isinstance(head.get("facts"), dict) or (table.facts and not content.num_rows):
        raise RecordError(f"{path}: is damaged: it lacks rows or facts; delete it and run again")
    nothing = {column.name: None for column in missing}
    left_out = without(head["facts"]) if callable(without) else without
    return Record([nothing | row for row in _rows(content, left_out)], head["facts"], seal=seal)


def facts_of(path: str | Path) -> dict:
    """The facts of a result file of whatever version, from its end alone: nothing is known of whether its rows are whole. Empty for what is
    no such file. Raises ImportError where pyarrow is not installed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            metadata = pq.ParquetFile(file).metadata.metadata or {}
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return {}
    told = _head(metadata.get(METADATA_KEY, b"{}")).get("facts")
    return told if isinstance(told, dict) else {}


def seal_of(path: str | Path) -> str:
    """The hash of all bytes of a result file, as it says it; empty where it says none, or is not there."""
    try:
        found = _sealed(Path(path).read_bytes())
    except OSError:
        return ""
    return found.group(1).decode() if found else ""


def _rows(content, without: Collection[str]) -> list[dict]:
    """The rows of an Arrow table as dicts; columns of numbers at once, and not value by value."""
    import pyarrow as pa

    columns, names = [], content.column_names  # which Arrow makes anew each time that it is asked
    for name in names:
        column = content[name]
        if name in without:
            columns.append([None] * content.num_rows)
        elif column.null_count == 0 and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            columns.append(column.to_numpy().tolist())
        else:
            columns.append(column.to_pylist())
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def first_row(path: str | Path, table: Table) -> dict:
    """The first row of a file of this table, of whatever version; empty where there is no such file."""
    try:
        content, head, _ = _load(path)
    except RecordError:
        return {}
    return content.slice(0, 1).to_pylist()[0] if head.get("table") == table.name and content.num_rows else {}


def _finite(value: object) -> object:
    """The value, None where it is a number that is not finite; of a list the same of what it holds."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list) and any(isinstance(one, float) and not math.isfinite(one) for one in value):
        return [_finite(one) for one in value]
    return value


def arrow_schema(columns: Sequence[Column]):
    """The Arrow schema of `columns`, with unit and meaning as the metadata of each field."""
    import pyarrow as pa

    lists = {"list<string>": pa.list_(pa.string()), "list<double>": pa.list_(pa.float64()), "list<int64>": pa.list_(pa.int64())}
    lists["list<list<int64>>"] = pa.list_(lists["list<int64>"])
    types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(), **lists}
    return pa.schema([pa.field(c.name, types[c.type], metadata={"unit": c.unit, "meaning": c.meaning}) for c in columns])


def absent(table: Table, status: str, reason: str, left_out: Sequence[str] = ()) -> Record:
    """What stands for a record of `table` that is missing, cannot be read, or is of other settings, whose keys are then `left_out`: one row
    without figures, that says so."""
    row = {column.name: None for column in table.columns} | {"status": status, "reason": reason}
    return Record([row], {column.name: None for column in table.facts}, is_there=False, left_out=left_out)


def failed(path: str | Path) -> Path:
    """The twin of a result file that holds a failure which nobody expected."""
    return Path(path).with_suffix(".failed.parquet")


class replacing:
    """Context manager for writing a file whole: gives a temporary path, and renames it to `path` if nothing went wrong."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None:
            with contextlib.suppress(OSError):  # the first error is the one to be told
                self.temporary.unlink(missing_ok=True)
            return
        with open(self.temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(self.temporary, self.path)


def _load(path: str | Path):
    """The Arrow table of a file, what `write` put into its metadata, and its seal, empty where it has none.

    Raises RecordError for what is missing, damaged or changed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = Path(path).read_bytes()
        seal = _sealed(data)
        if seal and seal.group(1) != _hash(data, seal):
            raise RecordError(f"{path}: was damaged or changed after it was written; delete it and run again")
        # On this thread alone: `read_table` starts threads, and a program that ends right after a reading died of them now and then
        # ("terminate called without an active exception").
        content = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such result file") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not a readable Parquet file ({str(error).partition(chr(10))[0]}); delete it and run again") from None
    head = _head((content.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    if head.get("sealed") and not seal:
        raise RecordError(f"{path}: was damaged or changed after it was written; delete it and run again")
    return content, head, seal.group(1).decode() if seal else ""


def _seal(path: Path) -> None:
    """Put the hash of a file in the place that `write` kept for it."""
    data = path.read_bytes()
    seal = _sealed(data)
    if seal is None:
        raise RuntimeError(f"{path}: this version of pyarrow lays out metadata in another way, so that no hash can be put there")
    with open(path, "rb+") as file:
        file.seek(seal.start(1))
        file.write(_hash(data, seal))


def _sealed(data: bytes) -> re.Match | None:
    """Where the seal of a file is, which comes after all its rows; None where it has none."""
    at = data.rfind(SEAL_KEY)
    return SEAL.match(data, at) if at >= 0 else None


def _hash(data: bytes, seal: re.Match) -> bytes:
    digest = hashlib.sha256(memoryview(data)[: seal.start(1)])
    digest.update(NO_SEAL)
    digest.update(memoryview(data)[seal.end(1) :])
    return digest.hexdigest().encode()


def _head(text: bytes) -> dict:
    """What `write` put into the file's metadata; empty where something else is there."""
    try:
        head = json.loads(text)
    except ValueError:
        return {}
    return head if isinstance(head, dict) else {}


def _names(rows: Sequence[Mapping]) -> set[str]:
    return {name for row in rows for name in row}
