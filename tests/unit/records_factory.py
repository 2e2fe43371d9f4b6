"""Result files of a made-up study, written through records.write: what the tests of aggregation and report read.

The figures follow from a few numbers per technique and a fixed seed, so that a test can say what must come out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from speedgrid import records
from speedgrid.schema import CHECKPOINT, EVALUATE, MEASURE, MEASURED, MODEL, PROBE, SCORE, WARMUP

MIB = 2**20
# What the jobs were told, of which the tables read the settings.
JOB = {"settings": {}}
EVALUATED = {"text": "stdlib", "max_bytes": 65536}


class Jobs(dict):
    """What the job of each record would be told now: what it was told, unless this says otherwise."""

    def __missing__(self, record: str) -> dict:
        told = records.facts_of(record).get("job")
        return json.loads(told) if told else JOB


JOBS: Mapping[str, dict] = Jobs()

MACHINE = {
    "host": "bench-01",
    "device": "cpu",
    "device_name": "AMD EPYC 9354 32-Core Processor",
    "cpu": "AMD EPYC 9354 32-Core Processor",
    "cpu_flags": "AVX2 AVX-512",
    "cores": 2,
    "threads": 2,
    "memory": 24 * 2**30,
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
    "python": "3.11.2",
    "packages": ["numpy==2.4.6", "safetensors==0.7.0", "torch==2.9.1", "transformers==5.3.0"],
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "seed": 7,
}

# The shape of a Llama of 5.1 million parameters.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 1076,
    "vocab_size": 2048,
    "tie_word_embeddings": False,
}

GPU_MACHINE = MACHINE | {
    "device": "cuda",
    "device_name": "NVIDIA H200",
    "device_uuid": "GPU-6f3f",
    "device_memory": 141 * 2**30,
    "compute_capability": "9.0",
    "driver": "570.86.15",
    "cuda": "12.8",
}


@dataclass
class Made:
    """How a cell turns out: its speed in token/s, spread, memory in MiB, bits per byte, and whatever went wrong."""

    technique: str
    label: str
    family: str = "reference"
    speed: float = 50.0
    spread: float = 0.02
    peak: float = 900
    bits_per_byte: float | None = 1.9
    first_reply: float = 1.5
    lossless: bool = True
    transform: bool = False
    status: str = "ok"
    reason: str = ""
    replies: int = 20
    again: Sequence[float] = ()  # speeds of further runs, which begin ten minutes after one another
    recorded: Sequence[Sequence[float]] = ()  # in the place of all that: seconds of the replies of each run
    begins: str = "2025-03-01T10:00:00+00:00"
    new_tokens: int = 64
    texts: Sequence[str] = ("return self.items.pop()",)
    facts: Mapping = field(default_factory=dict)


DEFAULT_CELLS = (
    Made("baseline", "Baseline (eager attention)", speed=48.0),
    Made("sdpa", "SDPA", "attention", speed=50.5),
    Made("torch_compile", "torch.compile (static cache)", "compile", speed=92.0, peak=1010, first_reply=38.0),
    Made(
        *("torch_compile_naive", "torch.compile (one line)", "compile", 48.3),
        status="not_engaged",
        reason="no compiled code ran: `generate` called the original module",
    ),
    Made("no_kv_cache", "No KV cache", "kv-cache", speed=14.0, peak=930),
    Made("bf16", "bfloat16", "precision", speed=61.0, spread=0.05, peak=780, bits_per_byte=1.904, lossless=False),
    Made("bnb_int8", "bitsandbytes INT8", "quantization", 21.0, peak=840, bits_per_byte=1.92, lossless=False, transform=True),
    Made(
        *("bnb_nf4", "bitsandbytes NF4", "quantization"),
        lossless=False,
        transform=True,
        status="missing_dependency",
        reason="the Python package bitsandbytes is not installed in this environment",
    ),
)


def write_group(
    root: Path,
    cells: Sequence[Made] = DEFAULT_CELLS,
    *,
    gpu: str = "local",
    experiment: str = "generate",
    model: str = "stdlib-llama",
    machine: Mapping = MACHINE,
    parameters: int = 5_140_000,
    evaluate: bool = True,
    quality_meaningful: bool = True,
    seed: int = 7,
) -> list[dict]:
    """Write every record of one gpu, experiment and model under `root`; the cells as the plan lists them."""
    rng = np.random.default_rng(seed)
    model_record = root / "models" / model / "prepared.parquet"
    prepared = {"model": model, "status": "ok", "reason": "", "origin": "train", "parameters": parameters, "seconds": 95.0}
    prepared |= {"quality_meaningful": quality_meaningful, "checkpoint_bytes": parameters * 4, "checkpoint_sha256": "ab" * 32}
    records.write(model_record, MODEL, [prepared], facts("prepare_model", machine))
    probed = {"gpu": gpu, "status": "ok", "reason": "", "runs": 9}
    rows = [
        {**probed, "kind": "read", "method": "torch.sum", "dtype": "float32", "size": 2**28, "best": 10e9, "median": 9e9},
        {**probed, "kind": "gemm", "method": "torch.mm", "dtype": "float32", "size": 2048, "best": 60e9, "median": 55e9},
    ]
    records.write(root / "results" / gpu / "probe.parquet", PROBE, rows, facts("probe", machine))
    score_record = _write_scores(root, cells, (gpu, experiment, model), machine) if evaluate and quality_meaningful else ""
    grid = [_write_cell(root, made, (gpu, experiment, model), model_record, machine, parameters, evaluate, rng) for made in cells]
    return [cell | {"score": score_record} for cell in grid]


def write_plan(root: Path, grid: Sequence[Mapping], study_told: Mapping | None = None) -> Path:
    """Write the plan of a study with the cells of `grid`."""
    path = root / "plan.json"
    names = ("model_record", "checkpoint_record", "probe", "requests", "reference", "score")
    written = [record for cell in grid for record in (*(cell[name] for name in names), *cell["sources"], *cell["again"])]
    written += [f"{cell['folder']}/{stage}.parquet" for cell in grid for stage in ("warmup", "measure", "evaluate")]
    jobs = {record: JOBS[record] for record in written}
    path.write_text(json.dumps({"study": study_told or study(), "cells": list(grid), "jobs": jobs}), encoding="utf-8")
    return path


PHASES = {"phases": ["starting", "counting replies", "writing the result"], "phase_s": [30.0, 89.0, 1.0]}


def facts(stage: str, machine: Mapping = MACHINE) -> dict:
    times = {"started_at": "2025-03-01T10:00:00+00:00", "ended_at": "2025-03-01T10:02:00+00:00"}
    return {**machine, "stage": stage, **times, "job": json.dumps(JOB), "rss_peak": 900 * MIB} | PHASES


def study(experiments: Sequence[str] = ("generate",), models: Sequence[str] = ("stdlib-llama",), cells=DEFAULT_CELLS) -> dict:
    """What render_report.py is told of the study."""
    settings = {
        "workload": "generate",
        "prompt": "class Stack:\n    def __init__(self):",
        "replies": 20,
        "warmup_replies": 3,
        "max_new_tokens": 64,
        "ignore_eos": True,
        "baseline": "baseline",
        "sampling": {"do_sample": True, "temperature": 0.8},
        "evaluate": {"text": "stdlib", "max_bytes": 65536},
    }
    return {
        "name": "default",
        "title": "Speed-up techniques on this machine",
        "seed": 7,
        "compare_with": "",
        "experiments": dict.fromkeys(experiments, settings),
        "models": {model: {"train": {"hidden_size": 256}} for model in models},
        "gpus": {"local": {"device": "auto"}},
        "prices": {},
        "techniques": {
            made.technique: {
                "label": made.label,
                "summary": f"What {made.label} changes.",
                "reference": "https://example.org/technique",
                "family": made.family,
                "lossless": made.lossless,
            }
            for made in cells
        },
        "study_file": "config.yaml",
        "study_sha256": "cd" * 32,
    }


def _write_scores(root: Path, cells: Sequence[Made], group: tuple, machine: Mapping) -> str:
    """Bits per byte as the cells have them, a distance and an accuracy that go with them, and a task that could not be had."""
    keys = dict(zip(("gpu", "experiment", "model"), group, strict=True)) | {"status": "ok", "reason": ""}
    rows: list[dict] = [keys | {"task": "nosuch", "status": "unsupported", "reason": "lm-eval has no task 'nosuch'"}]
    unchanged = next((made.bits_per_byte for made in cells if made.technique == "baseline"), None) or 1.9
    for made in cells:
        if made.status not in MEASURED or made.bits_per_byte is None:
            continue
        loss = made.bits_per_byte / unchanged - 1
        row = keys | {"technique": made.technique}
        against = {"test": "bootstrap", "loss": loss, "loss_low": loss - 0.001, "loss_high": loss + 0.001, "resolution": 0.001}
        hits = {"test": "mcnemar", "loss": loss, "loss_low": loss - 0.02, "loss_high": loss + 0.02, "resolution": 0.02, "p": 0.5}
        found = {"verdict": "loss" if loss > 0.001 else "no measurable loss"}
        bits = {"task": "held_out", "metric": "bits_per_byte", "better": "lower", "value": made.bits_per_byte, "items": 80}
        rows.append(row | bits | (against | found if made.technique != "baseline" else {}))
        rows.append(
            row | {"task": "held_out", "metric": "kl_divergence", "better": "lower", "value": loss, "low": 0.0, "high": 0.1, "items": 16}
        )
        right = {"task": "cloze", "metric": "acc", "better": "higher", "value": 0.45 - loss, "stderr": 0.05, "chance": 0.25, "items": 100}
        same = {"verdict": "no measurable loss"}
        rows.append(row | right | (hits | same if made.technique != "baseline" else {}))
    path = root / "results" / "/".join(group) / "score.parquet"
    records.write(path, SCORE, rows, facts("score", machine))
    return str(path)


def _write_cell(root, made: Made, group: tuple, model_record: Path, machine, parameters, evaluate, rng) -> dict:
    keys = dict(zip(("gpu", "experiment", "model", "technique"), (*group, made.technique), strict=True))
    folder = root / "results" / "/".join((*group, made.technique))
    outcome = {"status": made.status, "reason": made.reason}
    failed = [{**keys, **outcome}] if made.status not in MEASURED else []
    checkpoint_record = model_record
    if made.transform:
        checkpoint_record = root / "results" / "checkpoints" / group[2] / made.technique / "quantize.parquet"
        row = {"model": group[2], "technique": made.technique, "method": "bitsandbytes", "seconds": 6.5}
        records.write(checkpoint_record, CHECKPOINT, [row | (outcome if failed else {"status": "ok"})], facts("quantize", machine))
    cold = {"import_s": 4.2, "load_s": 0.4, "first_reply_s": made.first_reply, "second_reply_s": 1.3}
    warm = {**keys, "status": "ok", **cold, "cold_start_s": 4.6 + made.first_reply, "nothing_compiled": True}
    records.write(folder / "warmup.parquet", WARMUP, failed or [warm], facts("warmup", machine))

    finished = [] if failed and made.replies == DEFAULT_CELLS[0].replies else list(_replies(made, keys, rng))
    for row in finished:
        row |= outcome if not failed else {"status": "ok"}
    measured = facts("measure", machine) | {"started_at": made.begins} | _measured(made, machine, parameters)
    records.write(folder / "measure.parquet", MEASURE, finished + failed, measured)
    again = []
    others = [replace(made, recorded=(own,)) for own in made.recorded[1:]] or [replace(made, speed=speed) for speed in made.again]
    for run, other in enumerate(others, 2):
        again.append(str(folder / f"measure-{run}.parquet"))
        later = (datetime.fromisoformat(made.begins) + timedelta(minutes=10 * (run - 1))).isoformat()
        rows = [{**row, "status": "ok"} for row in _replies(other, keys, rng)]
        records.write(Path(again[-1]), MEASURE, rows, measured | {"started_at": later})

    if evaluate:
        nats = (made.bits_per_byte or 0) * np.log(2)
        scored = [{**keys, "status": "ok", "document": f"d{i}.py", "bytes": 8000, "tokens": 2500, "nats": 8000 * nats} for i in range(8)]
        told = facts("evaluate", machine) | {"job": json.dumps(JOB | {"evaluate": EVALUATED})}
        records.write(folder / "evaluate.parquet", EVALUATE, failed or scored, told)
    return {
        **keys,
        **{name: getattr(made, name) for name in ("label", "family", "lossless")},
        "engine": "transformers",
        "workload": "generate",
        "env": "transformers",
        "dtype": "float32",
        "is_baseline": made.technique == "baseline",
        "use_cache": made.technique != "no_kv_cache",
        "probe": str(root / "results" / group[0] / "probe.parquet"),
        "folder": str(folder),
        "again": again,
        "checkpoint_record": str(checkpoint_record),
        "model_record": str(model_record),
        "evaluate": EVALUATED if evaluate else None,
        "sources": [],
        "requests": "",
        "reference": "",
    }


def _replies(made: Made, keys: dict, rng):
    times = made.recorded[0] if made.recorded else made.new_tokens / made.speed * rng.lognormal(0, made.spread, made.replies)
    for number, seconds in enumerate(map(float, times), 1):
        first = seconds / made.new_tokens * 1.6
        times = np.linspace(first, seconds, made.new_tokens).tolist()
        yield {
            **keys,
            "reply": number,
            "seed": 7 + number,
            "started_s": number * seconds,
            "prompt_tokens": 40,
            "batch_size": 1,
            "new_tokens": made.new_tokens,
            "steps": made.new_tokens,
            "reply_s": seconds,
            "ttft_s": first,
            "token_s": times,
            "token_ids": [list(range(made.new_tokens))],
            "text": [made.texts[(number - 1) % len(made.texts)]],
        }


def _measured(made: Made, machine: Mapping, parameters: int) -> dict:
    if made.status not in MEASURED:
        return {}
    on_gpu = machine["device"] == "cuda"
    before = 0 if on_gpu else 610 * MIB
    memory = {"memory_source": "allocator" if on_gpu else "process", "memory_before": before}
    memory |= {"memory_loaded": before + 120 * MIB, "memory_peak": int(made.peak * MIB)}
    memory |= {"memory_load_peak": int(made.peak * MIB), "memory_reserved": int(made.peak * 1.2 * MIB) if on_gpu else None}
    evidence = json.dumps({"attention": made.family, "compiled_graphs": 0 if made.status == "not_engaged" else 2})
    sizes = dict.fromkeys(("parameters", "trainable_parameters"), parameters)
    sizes |= dict.fromkeys(("model_bytes", "checkpoint_bytes"), parameters * 4)
    sizes |= {"config": json.dumps(CONFIG), "weights_read": parameters * 4, "multiplies_in": ""}
    proof = {"engaged": made.status == "ok", "evidence": evidence, "checkpoint_sha256": "ab" * 32}
    return {**proof, "load_s": 0.4, **sizes, **memory, **made.facts}
