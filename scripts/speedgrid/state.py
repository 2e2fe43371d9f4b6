"""What the readings of a machine say of a run: its state in figures, whether it was disturbed, and its energy. Pure.

Nothing is guessed: what was not read is None, and `state_unknown` says why.
"""

import functools
import json
import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from speedgrid.sensors import Process

# From here on a run counts as disturbed. Shares: of the CPUs that the job may use; of the CPU time that was asked for; of the time of the
# replies (waited, slowed); of the periods in which the kernel enforces a container's CPU limit. A process whose threads are as many as its
# limit has CPUs is stopped at the end of a period now and then, for a small part of it: one that was stopped in 4.3 % of the periods was so
# for 0.2 % of the time.
FOREIGN_CPU = 0.05
STOLEN_CPU = 0.01
WAITED = 0.01
SLOWED = 0.001
LIMITED = 0.05
# CPU time is counted in ticks of 10 ms: less than this is noise, whatever its share of a short run.
LEAST_CPU_S = 0.1
# What others may hold on a GPU, as an idle desktop does; where the driver shows no processes, what may be in use before the model is there,
# the driver's own part included; and how busy the GPU may be then.
FOREIGN_MEMORY = 256 * 2**20
MEMORY_BEFORE = 2**30
BUSY_BEFORE = 0.05

# Seconds for which idle power is watched at least.
IDLE_WINDOW = 1.0
# NVML's energy counter moves every 20 to 100 ms: from ENERGY_WINDOW seconds on, what it lags at the ends is at most 2 %.
COUNTER_STEP = 0.1
ENERGY_WINDOW = 5.0
# Energy and the mean of this many or more readings of power come from one sensor: they must agree within this share.
POWER_READINGS = 20
POWER_AGREES = 0.25

# The bits of nvmlDeviceGetCurrentClocksEventReasons, and those that mean heat or the power supply. At the power cap a GPU is at the normal
# working point of heavy load, so that is shown and is no disturbance.
CLOCK_REASONS = {
    0x001: "idle",
    0x002: "applications clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}
SLOWDOWNS = (0x008, 0x020, 0x040, 0x080)
# What is kept of a long run's readings, so that it can be drawn: of each stretch what may have slowed a reply down.
KEPT_READINGS = 240
WORST = {"sm_clock": min, "memory_clock": min, "temperature": max, "power": max, "clock_reasons": None, "cpu_clock": min, "load": max}
GAUGES = ("sm_clock", "memory_clock", "temperature", "power", "utilisation", "clock_reasons", "cpu_clock", "load")


@dataclass
class Seen:
    """What was read during one run.

    `gauges` and `counters` are in order of time, each with `at`, seconds of one clock; what could not be read is None or left out, and
    `unknown` holds the reason. `counters` are at least those of begin and end, and these two hold `processes` and `own`. `idle` is what
    idle_facts found, `fixed` the limits of the GPU, `cost_s` the CPU time of the reading.
    """

    is_gpu: bool
    gauges: list[dict] = field(default_factory=list)
    counters: list[dict] = field(default_factory=list)
    idle: Mapping = field(default_factory=dict)
    fixed: Mapping = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    cost_s: float = 0.0


def summarise(seen: Seen) -> dict:
    """Columns of schema.STATE."""
    first, last = seen.counters[0], seen.counters[-1]
    seconds = last["at"] - first["at"]
    read = {name: [sample[name] for sample in seen.gauges if sample.get(name) is not None] for name in GAUGES}
    lowered = lowered_s(first.get("lowered"), last.get("lowered"))
    facts = {
        "watched_s": seconds,
        "watched_samples": len(seen.gauges),
        "watching_cpu_s": seen.cost_s,
        **_spread("sm_clock", read["sm_clock"]),
        "sm_clock_limit": seen.fixed.get("sm_clock_limit"),
        **_spread("memory_clock", read["memory_clock"]),
        "temperature_first": next(iter(read["temperature"]), None),
        "temperature_last": next(reversed(read["temperature"]), None),
        "temperature_max": max(read["temperature"], default=None),
        "power_mean": _mean(read["power"]),
        "power_max": max(read["power"], default=None),
        "power_limit": seen.fixed.get("power_limit"),
        "gpu_utilisation": _mean(read["utilisation"]),
        "clock_reasons": json.dumps(reason_shares(read["clock_reasons"])) if read["clock_reasons"] else None,
        "slowed_s": lowered.get("slowed"),
        "power_cap_s": lowered.get("power_cap"),
        "foreign_gpu_memory": _foreign_memory(seen.counters),
        "idle_gpu_memory": seen.idle.get("idle_gpu_memory"),
        "idle_gpu_utilisation": seen.idle.get("idle_gpu_utilisation"),
        **_spread("cpu_clock", read["cpu_clock"]),
        "load_max": max(read["load"], default=None),
        **cpu_shares(seen.counters),
        "cpu_waited": _share(_grown(first, last, "waited"), seconds),
        "cpu_limited": _limited(first.get("limited"), last.get("limited")),
        "cpu_heat_events": _grown(first, last, "heat"),
        "involuntary_switches": _grown(first, last, "switches"),
        "memory_stalled": _share(_grown(first, last, "memory_stalled"), seconds),
    }
    slow, on_gpu, on_cpu = slowdowns(facts, seen.is_gpu), others_on_gpu(facts, seen.counters), others_on_cpu(facts, seen)
    energy = energy_facts(seen, facts, bool(on_gpu if seen.is_gpu else on_cpu))
    return {
        **facts,
        "throttled": _verdict(slow, facts["clock_reasons" if seen.is_gpu else "cpu_heat_events"] is not None),
        "shared": _verdict([*on_gpu, *on_cpu], facts["foreign_gpu_memory" if seen.is_gpu else "cpu_foreign"] is not None),
        "disturbed": "; ".join([*slow, *on_gpu, *on_cpu]),
        **energy,
        "state_unknown": json.dumps(dict(sorted(seen.unknown.items())), ensure_ascii=False),
        "readings": json.dumps(over_time(seen.gauges, first["at"]), separators=(",", ":")),
    }


def over_time(gauges: Sequence[Mapping], began: float) -> dict[str, list]:
    """The readings as lists of one length: `at`, seconds since `began`, and each gauge that was read, None where it was not. Of more than
    KEPT_READINGS, as many stretches, each with its worst."""
    stretch = -(-len(gauges) // KEPT_READINGS) or 1
    parts = [gauges[start : start + stretch] for start in range(0, len(gauges), stretch)]
    found: dict[str, list] = {"at": [round(part[0]["at"] - began, 3) for part in parts]}
    for name in WORST:
        read = [[sample[name] for sample in part if sample.get(name) is not None] for part in parts]
        if any(read):
            found[name] = [_worst(name, values) if values else None for values in read]
    return found


def _worst(name: str, values: Sequence) -> float:
    """Of a gauge in one stretch; of the reasons for a lower clock every one."""
    choose = WORST[name]
    return functools.reduce(operator.or_, values) if choose is None else choose(values)


def is_disturbed(facts: Mapping) -> bool:
    """Whether it is certain that a run was throttled, or shared the device."""
    return bool(facts["throttled"] or facts["shared"])


def is_repeated(facts: Mapping, repeats: int, allowed: int) -> bool:
    """Whether the replies are counted once more: they were disturbed by what may pass, as the CPU limit of a container does not, and of the
    `allowed` repeats only `repeats` are used up."""
    return is_disturbed(facts) and facts["disturbed"] != limited(facts) and repeats < allowed


def slowdowns(facts: Mapping, is_gpu: bool) -> list[str]:
    """What slowed the device or the process down, in words."""
    said = []
    if is_gpu:
        shares = json.loads(facts["clock_reasons"] or "{}")
        seen = [
            f"{CLOCK_REASONS[bit]} in {shares[CLOCK_REASONS[bit]]:.0%} of the readings" for bit in SLOWDOWNS if CLOCK_REASONS[bit] in shares
        ]
        if not seen and (facts["slowed_s"] or 0) > SLOWED * facts["watched_s"]:
            seen = [f"heat or power supply for {facts['slowed_s']:.2f} s, as the driver counts"]
        if seen:
            heat = f"; it was {facts['temperature_max']} °C hot at most" if facts["temperature_max"] is not None else ""
            said.append(f"the GPU lowered its clock: {', '.join(seen)}{heat}")
    elif facts["cpu_heat_events"]:
        said.append(f"heat slowed the processor {facts['cpu_heat_events']} times")
    return [*said, *filter(None, [limited(facts)])]


def limited(facts: Mapping) -> str:
    """What the CPU limit of a container did to the process, in words; empty where it hardly did anything."""
    share = facts.get("cpu_limited") or 0
    return f"the CPU limit of the container stopped the process in {share:.0%} of the periods" if share > LIMITED else ""


def others_on_gpu(facts: Mapping, counters: Sequence[Mapping]) -> list[str]:
    """Who else used the GPU, in words. A process whose memory is not known counts, since it may hold any."""
    told = [process for state in counters for process in (state.get("gpu_processes") or {}).items()]
    large = [name for name, held in told if held is None or held > FOREIGN_MEMORY]
    said = [f"other processes held memory of the GPU: {', '.join(dict.fromkeys(large))}"] if large else []
    if facts["foreign_gpu_memory"] is None and (facts["idle_gpu_memory"] or 0) > MEMORY_BEFORE:
        said.append(f"{facts['idle_gpu_memory'] / 2**30:.1f} GiB of the GPU were in use before the model was loaded")
    if (facts["idle_gpu_utilisation"] or 0) >= BUSY_BEFORE:
        said.append(f"the GPU was {facts['idle_gpu_utilisation']:.0%} busy before the model was loaded")
    return said


def others_on_cpu(facts: Mapping, seen: Seen) -> list[str]:
    """Who else used the CPUs, in words. On a GPU that counts only if the thread that feeds it had to wait for a CPU."""
    said = []
    took = (facts["cpu_foreign"] or 0) >= FOREIGN_CPU and facts["cpu_foreign_s"] >= LEAST_CPU_S
    if took and (not seen.is_gpu or (facts["cpu_waited"] or 0) >= WAITED):
        most = busiest(seen.counters[0].get("processes", {}), seen.counters[-1].get("processes", {}), seen.counters[-1].get("own", ()))
        said.append(f"other processes used {facts['cpu_foreign']:.0%} of the CPUs" + (f", most of it {most}" if most else ""))
    if (facts["cpu_stolen"] or 0) >= STOLEN_CPU and facts["cpu_stolen_s"] >= LEAST_CPU_S:
        said.append(f"the host of this virtual machine withheld {facts['cpu_stolen']:.1%} of the CPU time that was asked for")
    return said


def busiest(before: Mapping[int, Process], after: Mapping[int, Process], own: Sequence[int]) -> str:
    """The process, outside `own`, that used most CPU time between two looks at all processes; empty where none did."""
    used = {
        pid: process.cpu_s - (before[pid].cpu_s if pid in before and before[pid].started == process.started else 0.0)
        for pid, process in after.items()
        if pid not in own
    }
    most = max(used, key=lambda pid: used[pid], default=None)
    return f"{after[most].name} ({most}, {used[most]:.1f} s)" if most is not None and used[most] > 0 else ""


def reason_shares(masks: Sequence[int]) -> dict[str, float]:
    """The share of the readings in which each reason held, by name; a bit without a name is called by its number."""
    bits = sorted({1 << place for mask in masks for place in range(mask.bit_length()) if mask >> place & 1})
    return {CLOCK_REASONS.get(bit, f"bit {bit:#x}"): sum(bool(mask & bit) for mask in masks) / len(masks) for bit in bits}


def lowered_s(first: Mapping | None, last: Mapping | None) -> dict[str, float]:
    """Seconds of the run for which heat or the power supply lowered the GPU's clock (`slowed`), and for which its power cap did."""
    grown = {name: last[name] - first[name] for name in first if name in last} if first and last else {}
    parts = [grown[name] for name in ("software_thermal", "hardware_thermal", "power_brake") if name in grown]
    slowed = {"slowed": max(sum(parts, 0.0), grown.get("thermal", 0.0))} if parts or "thermal" in grown else {}
    return slowed | ({"power_cap": grown["power_cap"]} if "power_cap" in grown else {})


def cpu_shares(counters: Sequence[Mapping]) -> dict:
    """What all and what others used of the job's CPUs, the latter also at most between two readings; and what the host withheld."""
    names = ("cpu_used", "cpu_foreign", "cpu_foreign_max", "cpu_foreign_s", "cpu_stolen", "cpu_stolen_s")
    told = [state for state in counters if state.get("cpu") and state.get("own_cpu") is not None]
    if len(told) < 2 or told[-1]["cpu"]["all"] <= told[0]["cpu"]["all"]:
        return dict.fromkeys(names)

    def foreign(earlier: Mapping, later: Mapping) -> float:
        return max(0.0, later["cpu"]["used"] - earlier["cpu"]["used"] - (later["own_cpu"] - earlier["own_cpu"]))

    everything, used, stolen = (told[-1]["cpu"][name] - told[0]["cpu"][name] for name in ("all", "used", "stolen"))
    others = foreign(told[0], told[-1])
    parts = [
        foreign(*pair) / (pair[1]["cpu"]["all"] - pair[0]["cpu"]["all"])
        for pair in pairwise(told)
        if pair[1]["cpu"]["all"] > pair[0]["cpu"]["all"]
    ]
    # The kernel counts in ticks, whose sums are not exact.
    of_all = [min(1.0, part) for part in (used / everything, others / everything, max(parts))]
    shares = (*of_all, others, _share(stolen, used + stolen), stolen)
    return dict(zip(names, shares, strict=True))


def energy_facts(seen: Seen, facts: Mapping, shared: bool) -> dict:
    """Energy of the device over the run, as its counter says; whether it is that of the replies, and if not, why."""
    host = rapl_joules([state["rapl"] for state in seen.counters if state.get("rapl")]) if "rapl" not in seen.unknown else None
    told = [state["energy"] for state in seen.counters if state.get("energy") is not None and "energy" not in seen.unknown]
    used = (told[-1] - told[0] if len(told) > 1 else None) if seen.is_gpu else host
    mean_power = used / facts["watched_s"] if used is not None else None
    powers = sum(sample.get("power") is not None for sample in seen.gauges)
    if used is None:
        unknown = [seen.unknown[name] for name in (("gpu", "energy") if seen.is_gpu else ("rapl",)) if name in seen.unknown]
        why = unknown[0] if unknown else "the energy counter was read less than twice"
    elif used <= 0:
        why = "the energy counter did not move"
    elif facts["watched_s"] < ENERGY_WINDOW:
        why = (
            f"the replies took {facts['watched_s']:.1f} s; the counter moves every {COUNTER_STEP:.1f} s"
            f" and needs {ENERGY_WINDOW:.0f} s to be right within {COUNTER_STEP / ENERGY_WINDOW:.0%}"
        )
    elif seen.is_gpu and seen.fixed.get("mig"):
        why = "the GPU is split (MIG), and the energy counter is that of the whole"
    elif shared:
        why = "others used the device, and the energy counter holds their share too"
    elif seen.is_gpu and powers >= POWER_READINGS and abs(mean_power - facts["power_mean"]) > POWER_AGREES * facts["power_mean"]:
        why = f"the energy counter says {mean_power:.0f} W, the mean of {powers} readings of power {facts['power_mean']:.0f} W"
    else:
        why = ""
    packages = sorted({name.partition(" ")[2] for state in seen.counters for name in state.get("rapl") or ()})
    return {
        "energy": used,
        "energy_source": None if used is None else "NVML: the whole board" if seen.is_gpu else f"RAPL: {', '.join(packages)}",
        "energy_valid": not why,
        "energy_reason": why,
        "host_energy": host if seen.is_gpu else None,
        **{name: seen.idle.get(name) for name in ("idle_power", "idle_power_s", "idle_power_reason")},
    }


def rapl_joules(readings: Sequence[Mapping[str, tuple[int, int]]]) -> float | None:
    """Joules of all RAPL domains over readings (counter, most that it holds; both µJ) close enough for at most one wrap between two."""
    if len(readings) < 2:
        return None
    grown = [(later[domain][0] - earlier[domain][0], later[domain][1]) for earlier, later in pairwise(readings) for domain in earlier]
    return sum(more if more >= 0 else more + most for more, most in grown) / 1e6


def idle_facts(samples: Sequence[Mapping], unknown: Mapping[str, str]) -> dict:
    """What a GPU was like before the model was loaded.

    The power is the median of the later half of the samples, since what ran before takes a second to leave the driver's mean. Once more
    memory is in use the GPU is no longer idle.
    """
    first = samples[0] if samples else {}
    before = [sample for sample in samples if (sample.get("memory") or 0) <= (first.get("memory") or 0) + 2**20]
    busy = [sample["utilisation"] for sample in before if sample.get("utilisation") is not None]
    powers = [sample["power"] for sample in before if sample.get("power") is not None]
    seconds = before[-1]["at"] - first["at"] if before else 0.0
    utilisation = statistics.median(busy) if busy else None
    facts = {"idle_gpu_memory": first.get("memory"), "idle_gpu_utilisation": utilisation}
    if not powers:
        return facts | _idle_power(None, None, unknown.get("power", "no power was read"))
    if utilisation is not None and utilisation >= BUSY_BEFORE:
        return facts | _idle_power(None, seconds, "the GPU was busy before the model was loaded")
    if seconds < IDLE_WINDOW / 2:
        return facts | _idle_power(None, seconds, f"the GPU was idle for {seconds:.1f} s only")
    return facts | _idle_power(statistics.median(powers[len(powers) // 2 :]), seconds, "")


def idle_processor_facts(first: Mapping, last: Mapping, unknown: Mapping[str, str]) -> dict:
    """Power of a processor before the model was loaded, from two readings of RAPL and /proc/stat."""
    if unknown:
        return _idle_power(None, None, next(iter(unknown.values())))
    busy = _share(last["cpu"]["used"] - first["cpu"]["used"], last["cpu"]["all"] - first["cpu"]["all"])
    seconds = last["at"] - first["at"]
    if busy is None or busy >= FOREIGN_CPU:
        return _idle_power(None, seconds, "the processor was busy before the model was loaded")
    return _idle_power(rapl_joules([first["rapl"], last["rapl"]]) / seconds, seconds, "")


def _idle_power(watts: float | None, seconds: float | None, why: str) -> dict:
    return {"idle_power": watts, "idle_power_s": seconds, "idle_power_reason": why}


def _foreign_memory(counters: Sequence[Mapping]) -> int | None:
    """Most bytes that others held on the GPU; None where one of the readings does not tell."""
    told = [state["gpu_processes"] for state in counters if state.get("gpu_processes") is not None]
    if len(told) < len(counters) or any(held is None for processes in told for held in processes.values()):
        return None
    return max(sum(processes.values()) for processes in told)


def _limited(first: tuple[int, int] | None, last: tuple[int, int] | None) -> float | None:
    """The share of the periods in which a CPU limit was reached; 0 where no period was enforced, since there is no limit then."""
    return None if first is None or last is None else _share(last[1] - first[1], last[0] - first[0]) or 0.0


def _verdict(said: Sequence[str], is_known: bool) -> bool | None:
    return True if said else False if is_known else None


def _spread(name: str, values: Sequence[int]) -> dict:
    if not values:
        return {f"{name}_{which}": None for which in ("min", "median", "max")}
    return {f"{name}_min": min(values), f"{name}_median": round(statistics.median(values)), f"{name}_max": max(values)}


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _grown(first: Mapping, last: Mapping, name: str):
    return None if first.get(name) is None or last.get(name) is None else last[name] - first[name]


def _share(part: float | None, whole: float) -> float | None:
    return None if part is None or whole <= 0 else part / whole
