"""What the result tables (schema.py) are put together from: what a column and a table are, how a cell can end, what names a cell, and the
columns that several tables have."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

# How a cell can end. Only those of MEASURED give it figures.
STATUSES = {
    "ok": "measured",
    "not_engaged": "measured, but the technique that was asked for was not active",
    "oom": "out of memory",
    "unsupported": "not possible for this model, device or engine",
    "missing_dependency": "a package or tool is missing",
    "timeout": "the time budget ran out",
    "not_finite": "what the model computes is no finite number",
    "wrong_result": "computes something else than the unmodified model, although it should compute the same",
    "ended_early": "measured, but the replies ended before there was anything to time",
    "failed": "ended by a bug or by something unknown; the next run tries the cell again",
    "not_run": "no job has come to it yet",
    "interrupted": "stopped from outside; no result: the cell is measured again",
}
MEASURED = ("ok", "not_engaged", "ended_early")
FAILED, NOT_RUN = "failed", "not_run"
# The `test` of a score that is the baseline's own: the technique was proven to compute the same model, and was not asked the tasks.
SAME_MODEL = "same_model"


@dataclass(frozen=True)
class Column:
    """A column: its name, Arrow type, unit (empty for none), label in the report, meaning, and which direction is better.

    `newer`: it was added within this SCHEMA_VERSION; in files that were written before, it is None in every row.
    """

    name: str
    type: str
    unit: str
    label: str
    meaning: str
    better: Literal["higher", "lower", ""] = ""
    newer: bool = False


@dataclass(frozen=True)
class Table:
    """A Parquet file: the columns of its rows, and the facts that hold for the whole file."""

    name: str
    meaning: str
    columns: Sequence[Column]
    facts: Sequence[Column] = ()


KEYS = (
    Column("gpu", "string", "", "Device", "Name of the device in the study"),
    Column("experiment", "string", "", "Experiment", "Name of the experiment in the study"),
    Column("model", "string", "", "Model", "Name of the model in the study"),
    Column("technique", "string", "", "Technique", "Name of the technique in the registry"),
)
# What names a cell, in the order of its folders.
AXES = tuple(column.name for column in KEYS)
# What names a group: the cells that are compared with one another, a baseline among them.
GROUP = AXES[:3]
Row = TypeVar("Row", bound=Mapping)


def cell_of(row: Mapping) -> tuple[str, ...]:
    """The cell of a row or of an entry of the plan: its names in the order of AXES."""
    return tuple(row[axis] for axis in AXES)


def group_of(row: Mapping) -> tuple[str, str, str]:
    """The group of a row or of an entry of the plan: its names in the order of GROUP."""
    return row["gpu"], row["experiment"], row["model"]


def by_group(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows by their groups, both in their order."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault(group_of(row), []).append(row)
    return found


def items_of(row: Mapping) -> int:
    """How many items a row of MEASURE has: tokens of a reply; images, tokens or passes of other workloads."""
    return row["new_tokens"] if row["items"] is None else row["items"]


OUTCOME = (
    Column("status", "string", "", "Status", "What came of it: " + ", ".join(STATUSES)),
    Column("reason", "string", "", "Reason", "Why it is not `ok`, in words"),
)

RUN = (
    Column("schema_version", "int64", "", "Schema", "Version of these tables"),
    Column("stage", "string", "", "Stage", "The job that wrote the file"),
    Column("started_at", "string", "", "Start", "When the job began, UTC, ISO 8601"),
    Column("ended_at", "string", "", "End", "When the job ended, UTC, ISO 8601"),
    Column("host", "string", "", "Host", "Name of the machine or node"),
    Column("device", "string", "", "Device", "What was measured on: `cuda` or `cpu`"),
    Column("device_name", "string", "", "Device name", "Name of the GPU as its driver gives it, or of the processor"),
    Column("device_uuid", "string", "", "Device UUID", "Identity of the GPU"),
    Column("device_memory", "int64", "B", "Device memory", "All memory of the device"),
    Column("compute_capability", "string", "", "Compute capability", "Compute capability of the GPU, such as 9.0"),
    Column("driver", "string", "", "Driver", "Version of the NVIDIA driver"),
    Column("cuda", "string", "", "CUDA", "Version of CUDA that the engine was built for"),
    Column("env", "string", "", "Environment", "Software stack that the job ran in, a file of envs/"),
    Column("cpu", "string", "", "CPU", "Model of the processor"),
    Column("cpu_flags", "string", "", "Instruction sets", "Which of AVX2, AVX-512 and AMX the processor has"),
    Column("cores", "int64", "", "Cores", "Physical cores that the job may use"),
    Column("threads", "int64", "", "Threads", "CPU threads that the engine used"),
    Column("memory", "int64", "B", "Memory", "All memory of the machine"),
    Column("platform", "string", "", "Platform", "Operating system and kernel"),
    Column("python", "string", "", "Python", "Version of Python"),
    Column("packages", "list<string>", "", "Packages", "Every installed package as name==version"),
    Column(
        "variables",
        "string",
        "",
        "Variables",
        "Variables of the environment that change speed, arithmetic or which libraries are loaded, as `NAME=value`",
        newer=True,
    ),
    Column("git_commit", "string", "", "Commit", "Commit of speedgrid; `+` after it where files had uncommitted changes"),
    Column(
        "code",
        "string",
        "",
        "Code",
        "Fingerprint of the code that its figures depend on; it changes where that code does something else",
        newer=True,
    ),
    Column(
        "recipe",
        "string",
        "",
        "Recipe",
        "Hash of what its environment's file asks for; empty where the job ran in the user's own Python",
        newer=True,
    ),
    Column(
        "made_from",
        "string",
        "",
        "Made from",
        "Records that the job started from, as JSON: for each the hash of its weights, or of the file",
        newer=True,
    ),
    Column("seed", "int64", "", "Seed", "Seed of the study"),
    Column("job", "string", "", "Job", "The job's specification, as JSON"),
    Column("rss_peak", "int64", "B", "Peak RSS", "Most memory that the job's process held", "lower"),
    Column("phases", "list<string>", "", "Phases", "The phases of the job in their order, such as `loading the checkpoint`", newer=True),
    Column("phase_s", "list<double>", "s", "Phase times", "Time of each phase, in the same order", newer=True),
    Column(
        "phase_gpu",
        "list<double>",
        "",
        "GPU busy in phases",
        "Share of each phase in which the GPU ran a kernel of any process, as its driver says twice a second; empty where it was not asked",
        newer=True,
    ),
)

# How large the loaded model is, in measure.parquet and the summary alike.
SIZES = (
    Column("parameters", "int64", "", "Parameters", "Parameters of the loaded model"),
    Column("trainable_parameters", "int64", "", "Trainable parameters", "Parameters that take gradients"),
    Column("model_bytes", "int64", "B", "Model size", "Bytes of the loaded model's parameters and buffers", "lower"),
    Column("checkpoint_bytes", "int64", "B", "Checkpoint", "Bytes of the weight files", "lower"),
)

# How much memory it held.
MEMORY = (
    Column(
        "memory_before",
        "int64",
        "B",
        "Memory before load",
        "Held before the checkpoint was loaded: of the process on a CPU, 0 on a GPU",
    ),
    Column(
        "memory_source",
        "string",
        "",
        "Memory of",
        "Whose memory it is: of PyTorch's `allocator` on a GPU; of the whole `device` on a GPU where the engine has an allocator of its"
        " own; of the `process` and its child processes on a CPU",
    ),
    Column("memory_loaded", "int64", "B", "Memory loaded", "Held after the checkpoint was loaded", "lower"),
    Column(
        "memory_peak",
        "int64",
        "B",
        "Peak memory",
        "Most held during the counted replies; `memory_source` says of what",
        "lower",
    ),
    Column("memory_reserved", "int64", "B", "Reserved memory", "Most reserved on the device by PyTorch's allocator", "lower"),
    Column("memory_load_peak", "int64", "B", "Peak memory of loading", "Most held while the checkpoint was loaded and warmed up", "lower"),
)

# In the summary the peak is of the whole process, since a card must hold all of it.
SUMMARY_MEMORY = tuple(
    replace(column, meaning="Most held while loading, warming up and replying; `memory_source` says of what")
    if column.name == "memory_peak"
    else column
    for column in MEMORY
)

# Whether the technique was active, in both too.
PROOF = (
    Column("engaged", "bool", "", "Engaged", "Whether the technique was active during the counted replies"),
    Column("evidence", "string", "", "Evidence", "What was observed of it, as JSON"),
)

# State of the machine during the counted replies, and their energy. Shares are from 0 to 1; empty where the machine does not show it.
STATE = (
    Column(
        "watched_s",
        "double",
        "s",
        "Watched",
        "Time over which the machine was watched: from before the first counted reply to after the last",
    ),
    Column("watched_samples", "int64", "", "Readings", "Readings of the gauges in that time"),
    Column("watching_cpu_s", "double", "s", "Cost of watching", "CPU time of the thread that read them", "lower"),
    Column("sm_clock_min", "int64", "Hz", "Lowest SM clock", "Lowest of the readings"),
    Column("sm_clock_median", "int64", "Hz", "SM clock", "Median of the readings"),
    Column("sm_clock_max", "int64", "Hz", "Highest SM clock", "Highest of the readings"),
    Column("sm_clock_limit", "int64", "Hz", "SM clock limit", "Highest SM clock of this GPU, as its driver says"),
    Column("memory_clock_min", "int64", "Hz", "Lowest memory clock", "Lowest of the readings"),
    Column("memory_clock_median", "int64", "Hz", "Memory clock", "Median of the readings"),
    Column("memory_clock_max", "int64", "Hz", "Highest memory clock", "Highest of the readings"),
    Column("temperature_first", "int64", "°C", "Temperature at first", "Of the GPU, at the first reading"),
    Column("temperature_last", "int64", "°C", "Temperature at last", "Of the GPU, at the last reading"),
    Column("temperature_max", "int64", "°C", "Highest temperature", "Highest temperature of the GPU"),
    Column("power_mean", "double", "W", "Power", "Mean of the readings of the GPU board's power"),
    Column("power_max", "double", "W", "Highest power", "Highest of the readings"),
    Column("power_limit", "double", "W", "Power limit", "Power limit that the driver enforces"),
    Column(
        "gpu_utilisation",
        "double",
        "",
        "GPU busy",
        "Share of the time in which the GPU ran any kernel, by its driver; mean of the readings",
    ),
    Column("clock_reasons", "string", "", "Clock reasons", "Why the GPU's clock was not higher: share of the readings by reason, as JSON"),
    Column(
        "slowed_s", "double", "s", "Slowed", "Time for which heat or the power supply lowered the clock, as the driver counts it", "lower"
    ),
    Column("power_cap_s", "double", "s", "At the power limit", "Time for which the power limit lowered the clock, as the driver counts it"),
    Column("foreign_gpu_memory", "int64", "B", "Others' GPU memory", "Most GPU memory that other processes held during the replies"),
    Column(
        "idle_gpu_memory",
        "int64",
        "B",
        "GPU memory before",
        "In use on the GPU before the model was loaded, the driver's own part included",
    ),
    Column(
        "idle_gpu_utilisation", "double", "", "GPU busy before", "Share of the time in which the GPU was busy before the model was loaded"
    ),
    Column("cpu_clock_min", "int64", "Hz", "Lowest CPU clock", "Lowest of the readings, which take the job's CPUs in turn"),
    Column("cpu_clock_median", "int64", "Hz", "CPU clock", "Median of the readings"),
    Column("cpu_clock_max", "int64", "Hz", "Highest CPU clock", "Highest of the readings"),
    Column("load_max", "double", "", "Highest load", "Load average of one minute, of the whole machine"),
    Column("cpu_used", "double", "", "CPU used", "Share of the job's CPUs that all processes used"),
    Column("cpu_foreign", "double", "", "CPU used by others", "Share of the job's CPUs that other processes used", "lower"),
    Column("cpu_foreign_max", "double", "", "CPU used by others at most", "The same in the worst stretch of ten seconds", "lower"),
    Column("cpu_foreign_s", "double", "s", "CPU time of others", "CPU time that they used", "lower"),
    Column("cpu_stolen", "double", "", "CPU stolen", "Steal time: share of the CPU time asked for that the hypervisor withheld", "lower"),
    Column("cpu_stolen_s", "double", "s", "CPU time stolen", "CPU time that the hypervisor withheld", "lower"),
    Column(
        "cpu_waited",
        "double",
        "",
        "Waited for a CPU",
        "Share of the time in which the thread of the replies was ready to run and had no CPU",
        "lower",
    ),
    Column(
        "cpu_limited",
        "double",
        "",
        "CPU limit reached",
        "Share of the periods in which the container's CPU limit stopped the process",
        "lower",
    ),
    Column("cpu_heat_events", "int64", "", "CPU slowed by heat", "How often heat slowed one of the job's CPUs", "lower"),
    Column("involuntary_switches", "int64", "", "Involuntary switches", "Involuntary context switches of the process", "lower"),
    Column(
        "memory_stalled",
        "double",
        "",
        "Stalled for memory",
        "Share of the time in which some process of the machine waited for memory",
        "lower",
    ),
    Column(
        "throttled",
        "bool",
        "",
        "Throttled",
        "Whether heat, the power supply or a container's CPU limit slowed the run; empty where the machine does not show it",
    ),
    Column(
        "shared", "bool", "", "Shared", "Whether other processes used the device enough to matter; empty where the machine does not show it"
    ),
    Column("disturbed", "string", "", "Disturbed by", "What throttled it or who shared it, in words"),
    Column("energy", "double", "J", "Energy", "Energy of the GPU board, or of the processor packages, over the time watched", "lower"),
    Column("energy_source", "string", "", "Energy from", "Counter that the energy was read from"),
    Column("energy_valid", "bool", "", "Energy valid", "Whether the energy is that of the replies"),
    Column("energy_reason", "string", "", "Energy reason", "Why it is not, in words"),
    Column("host_energy", "double", "J", "Host energy", "Of the processor packages beside a GPU, over the time watched", "lower"),
    Column("idle_power", "double", "W", "Idle power", "Power of the device before the model was loaded", "lower"),
    Column("idle_power_s", "double", "s", "Idle power over", "Time over which it was watched"),
    Column("idle_power_reason", "string", "", "Idle power reason", "Why there is none, in words"),
    Column("state_unknown", "string", "", "Not shown", "What this machine does not show, with the reasons, as JSON"),
    Column(
        "readings",
        "string",
        "",
        "Readings over time",
        "All readings in their order, as JSON lists of equal length, with `at` in seconds since the first counted reply; a long run is"
        " merged to 240 stretches, each with its lowest clocks, highest temperature, power and load, and every reason for a lower clock",
        newer=True,
    ),
)

REPEATS = Column("repeats", "int64", "", "Repeats", "How often the replies were counted again because the run was disturbed")
# What of the machine's state is in the summary too.
STATE_SHOWN = (
    *("throttled", "shared", "disturbed", "sm_clock_median", "temperature_max", "power_mean", "cpu_foreign", "cpu_stolen", "cpu_limited"),
    *("watched_s", "watching_cpu_s", "energy", "energy_source", "energy_valid", "energy_reason", "idle_power", "idle_power_reason"),
)

# How close a cell comes to what its device allows, and when a technique has paid for its start, in the summary.
CEILINGS = (
    Column("step_bytes", "double", "B", "Bytes a step", "Weights and KV cache that a decoding step needs", "lower"),
    Column("step_flop", "double", "FLOP", "Operations a step", "Operations that a decoding step needs", "lower"),
    Column("prefill_bytes", "double", "B", "Bytes of prefill", "Weights and KV cache that prefill needs", "lower"),
    Column("prefill_flop", "double", "FLOP", "Operations of prefill", "Operations that prefill needs", "lower"),
    Column(
        "mbu",
        "double",
        "",
        "MBU",
        "Decode: share of the measured memory bandwidth, from the bytes needed; above 1 where they fit in the cache",
        "higher",
    ),
    Column("decode_mfu", "double", "", "MFU of decode", "Decode: share of the device's measured rate of matrix products", "higher"),
    Column(
        "decode_bound",
        "string",
        "",
        "Decode is bound by",
        "`memory`, `compute`, `overhead` (more than twice the time that memory or arithmetic takes), `cache` (what is read fits there) or"
        " `beyond` (faster than one reading of the weights a token)",
    ),
    Column("decode_headroom", "double", "×", "Decode headroom", "How many times faster decode could still be on this device", "lower"),
    Column(
        "mfu", "double", "", "MFU", "Prefill: share of the device's measured rate of matrix products, from the operations needed", "higher"
    ),
    Column("prefill_bound", "string", "", "Prefill is bound by", "As `decode_bound`, for prefill"),
    Column("prefill_headroom", "double", "×", "Prefill headroom", "How many times faster prefill could still be on this device", "lower"),
    Column("ceiling_reason", "string", "", "Ceiling reason", "Why a cell with figures has no ceiling, in words"),
)
# What workloads other than `generate` have beside the general figures, in the summary.
WORK = (
    Column(
        "point",
        "int64",
        "",
        "At",
        "Size that the figures are of, where a cell ran at several: the largest that all cells of the group finished",
    ),
    Column(
        "run_flop",
        "double",
        "FLOP",
        "Operations",
        "Operations that a step or pass needs; what a technique recomputes counts once",
        "lower",
    ),
    Column("flop_per_s", "double", "FLOP/s", "Rate", "Operations that are needed, over the time that a step takes at its speed", "higher"),
    Column("run_mfu", "double", "", "MFU of the step", "The same as a share of the device's measured rate of matrix products", "higher"),
    Column(
        "growth", "double", "", "Grows as", "Power of the size that the time grows with, fitted over all sizes that were finished", "lower"
    ),
    Column("growth_low", "double", "", "… lower bound", "Lower end of its 95 % interval", "lower"),
    Column("growth_high", "double", "", "… upper bound", "Upper end of its 95 % interval", "lower"),
    Column(
        "growth_last",
        "double",
        "",
        "Grows at last as",
        "`growth` between the two largest sizes that were finished, where fixed costs weigh least",
        "lower",
    ),
    Column("largest", "int64", "", "Largest that fits", "Largest size that was finished", "higher"),
    Column("grows", "string", "", "What grows", "In `largest`: `batch_size`, `sequence` or `layers`; empty elsewhere"),
    Column("ended_by", "string", "", "Ended by", "In `largest`: `memory`, or `model` where the longest sequence that it takes fitted"),
    Column("loss_first", "double", "nat", "Loss at first", "Of the first counted step; empty where it is not a finite number"),
    Column(
        "loss_last",
        "double",
        "nat",
        "Loss at last",
        "Mean of the last tenth of the counted steps that all techniques of the group did; empty where it is not a finite number",
        "lower",
    ),
    Column(
        "joule_per_item", "double", "J", "Energy per item", "Energy / items of the counted steps or passes, idle power included", "lower"
    ),
)
PAYS = (
    Column(
        "once_s",
        "double",
        "s",
        "Start-up cost",
        "Making the checkpoint, import, load, and what the first replies took beyond the time of warm ones",
        "lower",
    ),
    Column(
        "break_even_replies",
        "int64",
        "",
        "Pays off after",
        "Replies after which the technique has taken no longer than the baseline and stays ahead; 0: at once; empty: never",
        "lower",
    ),
    Column("break_even_replies_low", "int64", "", "… at best", "The same at the fast ends of the intervals; empty: never", "lower"),
    Column("break_even_replies_high", "int64", "", "… at worst", "The same at the slow ends; empty: perhaps never", "lower"),
    Column("break_even_restart_replies", "int64", "", "Pays off after a restart", "The same with the checkpoint made already", "lower"),
)


def _percentile(percent: int, label: str) -> tuple[Column, ...]:
    name = f"latency_p{percent}_s"
    sure = "End of its distribution-free 95 % interval; empty where the replies are too few for one"
    return (
        Column(name, "double", "s", f"p{percent}", f"{label} of the reply time", "lower"),
        Column(f"latency_p{percent}_low_s", "double", "s", "… lower bound", sure, "lower"),
        Column(f"latency_p{percent}_high_s", "double", "s", "… upper bound", sure, "lower"),
    )


PERCENTILES = (*_percentile(50, "Median"), *_percentile(95, "95th percentile"), *_percentile(99, "99th percentile"))

# How sure the figures of a cell are, in the summary.
TRUST = (
    Column("runs", "int64", "", "Runs", "Processes that measured the cell; its figures are those of all of them"),
    Column("run_rates", "list<double>", "", "Speed of each run", "Median rate of each run, in the order of the runs", "higher"),
    Column(
        "run_s",
        "double",
        "s",
        "Time of a run",
        "Time of a process that measured the cell, loading and warm-up included; median over the runs",
        "lower",
    ),
    Column("runs_disturbed", "int64", "", "Disturbed runs", "Runs in which the machine was not quiet; they count less", "lower"),
    Column(
        "disturbed_factor",
        "double",
        "",
        "Slowed at most by",
        "Factor by which disturbance made the speed less than that of a quiet machine, at most, by what was read of the machine: 1 where"
        " runs were quiet; empty where nothing bounds it",
        "lower",
        newer=True,
    ),
    Column("runs_failed", "int64", "", "Runs without figures", "Further runs with another status than the first one", "lower", newer=True),
    Column("run_failure", "string", "", "Why a run has no figures", "Status and reason of the first such run", newer=True),
    Column("autocorrelation", "double", "", "Autocorrelation", "Of the replies' token/s, at lag 1"),
    Column(
        "replies_worth",
        "double",
        "",
        "Effective replies",
        "How many independent replies would give as narrow an interval: the effective sample size",
        "higher",
    ),
    Column("outliers_slow", "int64", "", "Slow outliers", "Replies slower than Tukey's fence; they count in every figure", "lower"),
    Column("outliers_fast", "int64", "", "Fast outliers", "Replies faster than Tukey's fence; they count in every figure", "lower"),
    Column(
        "noise",
        "double",
        "",
        "Noise between runs",
        "Relative standard deviation of the speed between runs of this cell: from its own runs, those of other cells of its kind, and"
        " recorded runs of such cells elsewhere",
        "lower",
    ),
    Column("noise_df", "double", "", "Degrees of freedom of the noise", "Degrees of freedom of `noise`", "higher"),
    Column("noise_runs", "int64", "", "Runs behind the noise", "Runs that `noise` comes from, those recorded elsewhere included", "higher"),
    Column("baseline_drift", "double", "", "Drift", "By what share the baseline got faster from its first run to its last"),
    Column("baseline_drift_low", "double", "", "… lower bound", "Lower end of its 95 % interval"),
    Column("baseline_drift_high", "double", "", "… upper bound", "Upper end of its 95 % interval"),
)

# What a technique costs in quality, in the summary; score.parquet has all of it.
QUALITY = (
    Column("quality_loss", "double", "", "Quality loss", "Share by which bits per byte are more than the baseline's", "lower"),
    Column("quality_loss_low", "double", "", "… lower bound", "Lower end of its 95 % interval"),
    Column("quality_loss_high", "double", "", "… upper bound", "Upper end of its 95 % interval"),
    Column(
        "quality_resolution",
        "double",
        "",
        "Quality resolution",
        "The smallest loss that the most sensitive of bits per byte and the tasks could have shown",
        "lower",
        newer=True,
    ),
    Column("quality_verdict", "string", "", "Quality verdict", "`loss`, `gain` or `no measurable loss`, by bits per byte and every task"),
    Column(
        "worst_loss",
        "double",
        "",
        "Worst loss",
        "The largest loss that held-out text or a task shows: the share by which bits per byte or perplexity are more than the"
        " baseline's, or the share of questions lost; empty where a task shows a loss that is no share",
        "lower",
        newer=True,
    ),
    Column("worst_loss_task", "string", "", "Worst loss in", "Task of `worst_loss`; `held_out` for held-out text", newer=True),
    Column("worst_loss_metric", "string", "", "Worst loss by", "Metric of `worst_loss`, as in score.parquet", newer=True),
    Column("worst_loss_score", "double", "", "Score there", "The technique's own score in that task by that metric", newer=True),
    Column(
        "kl_divergence",
        "double",
        "nat",
        "KL divergence",
        "Mean divergence of the next token from the unmodified model's, over held-out text; 0 is the same model",
        "lower",
    ),
    Column(
        "kl_allowed",
        "double",
        "nat",
        "KL divergence allowed",
        "The most of it that rounding explains: the limit for techniques that keep the model's arithmetic; empty for others",
    ),
    Column("top1_agreement", "double", "", "Top-1 agreement", "Share of positions with the same likeliest next token", "higher"),
    Column("accuracy", "double", "", "Accuracy", "Accuracy of the first multiple-choice task", "higher"),
    Column("accuracy_task", "string", "", "Accuracy in", "The name of that task"),
)

NOTHING_COMPILED = Column(
    "nothing_compiled",
    "bool",
    "",
    "Nothing compiled",
    "Whether the cold start began with empty compile caches; empty in older files, where it may have found what an earlier run left",
    newer=True,
)

FILES = Column(
    "files",
    "string",
    "",
    "Files",
    "Size, time of the last change and hash of each file of the checkpoint, as JSON",
)

DEQUANTIZED = Column(
    "dequantized_from",
    "string",
    "",
    "Dequantized from",
    "Formats of the GGUF file that the unmodified model was dequantized from; empty where it was never quantized",
    newer=True,
)
