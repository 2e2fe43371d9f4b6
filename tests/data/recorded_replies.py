"""The recorded replies of tests/data, as runs."""

import csv
from pathlib import Path
from typing import Any

from speedgrid import noise, stats

DATA = Path(__file__).resolve().parent


def machines() -> list[str]:
    return list(dict.fromkeys(row["machine"] for row in _rows()))


def device(machine: str) -> str:
    return "cuda" if machine.startswith("h200") else "cpu"


def runs(machine: str) -> dict[str, list[stats.Run]]:
    """The runs of every technique of a machine, each from its replies and what was read of the machine meanwhile."""
    found: dict[str, dict[str, list[dict]]] = {}
    for row in _rows():
        if row["machine"] == machine:
            found.setdefault(row["technique"], {}).setdefault(row["run"], []).append(row)
    return {technique: [_run(machine, replies) for replies in own.values()] for technique, own in found.items()}


def _rows() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for name in ("replies.csv", "repeats.csv"):
        with open(DATA / name, encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return rows


def _run(machine: str, rows: list[dict[str, str]]) -> stats.Run:
    replies = [
        {
            "new_tokens": int(row["new_tokens"]),
            "items": None,
            "batch_size": 1,
            "reply_s": float(row["reply_s"]),
            "ttft_s": float(row["ttft_s"]) if row.get("ttft_s") else None,
        }
        for row in rows
    ]
    facts: dict[str, Any] = {"device": device(machine)}
    if first := rows[0].get("gpu_busy"):
        facts |= {"phases": ["counting replies"], "phase_s": [float(rows[0]["counted_s"])], "phase_gpu": [float(first)]}
        facts |= {"disturbed": "others" if int(rows[0]["disturbed"]) else ""}
        facts |= {name: float(rows[0][name]) for name in ("cpu_foreign", "cpu_stolen")}
    return noise.run(facts, replies)
