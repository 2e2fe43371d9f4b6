"""Watching the machine: what is made of readings, what is read here, and that a busy neighbour is noticed."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from speedgrid import monitor, sensors, state
from speedgrid.hardware import Device, Gpu
from speedgrid.schema import STATE
from speedgrid.sensors import Process, Unavailable

CPU = Device("cpu", "a processor", uses_torch=False)
BUSY = [sys.executable, "-c", "while True: pass"]
POWER_CAP, HARDWARE_SLOWDOWN, SOFTWARE_THERMAL = 0x4, 0x8, 0x20
GIB = 2**30


def counters(at, own=0.0, foreign=0.0, stolen=0.0, cpus=4, **others):
    """Counters of a machine `at` seconds after its start, of which its own and foreign processes used so many CPU seconds."""
    return {"at": at, "cpu": {"all": cpus * at, "used": own + foreign, "stolen": stolen}, "own_cpu": own, **others}


def on_cpu(*told, **others):
    return state.Seen(False, counters=list(told), **others)


def on_gpu(seconds=20.0, reasons=0, power=300.0, joules=None, processes=({}, {}), gauges=40, **others):
    """A run of so many seconds on a GPU, with constant readings."""
    sample = {"sm_clock": 1_980_000_000, "temperature": 61, "power": power, "utilisation": 0.9, "clock_reasons": reasons}
    first = counters(100.0, energy=5000.0, gpu_processes=processes[0], **others.pop("first", {}))
    joules = power * seconds if joules is None else joules
    last = counters(100.0 + seconds, own=seconds, energy=5000.0 + joules, gpu_processes=processes[1], **others.pop("last", {}))
    return state.Seen(True, [{"at": 100 + i, **sample} for i in range(gauges)], [first, last], **others)


# What is made of readings.


def test_every_fact_is_a_declared_column():
    declared = [column.name for column in STATE]
    assert list(state.summarise(on_gpu())) == declared
    assert list(state.summarise(on_cpu(counters(0), counters(1)))) == declared


def test_a_quiet_gpu_is_neither_throttled_nor_shared():
    facts = state.summarise(on_gpu(reasons=POWER_CAP))
    assert (facts["throttled"], facts["shared"], facts["disturbed"]) == (False, False, "")
    assert json.loads(facts["clock_reasons"]) == {"power cap": 1.0}
    assert (facts["energy"], facts["energy_valid"], facts["energy_reason"]) == (6000.0, True, "")
    assert (facts["watched_s"], facts["sm_clock_median"], facts["power_mean"]) == (20.0, 1_980_000_000, 300.0)
    assert not state.is_disturbed(facts)


@pytest.mark.parametrize("bit", state.SLOWDOWNS)
def test_heat_and_power_supply_throttle(bit):
    facts = state.summarise(on_gpu(reasons=bit | POWER_CAP))
    assert facts["throttled"]
    assert f"{state.CLOCK_REASONS[bit]} in 100% of the readings; it was 61 °C hot" in facts["disturbed"]


def test_a_slowdown_between_two_readings_is_seen_in_the_drivers_counters():
    facts = state.summarise(
        on_gpu(first={"lowered": {"power_cap": 1.0, "thermal": 2.0}}, last={"lowered": {"power_cap": 9.0, "thermal": 2.5}})
    )
    assert (facts["slowed_s"], facts["power_cap_s"], facts["throttled"]) == (0.5, 8.0, True)
    assert "heat or power supply for 0.50 s" in facts["disturbed"]


def test_seconds_of_lowered_clock_by_what_the_driver_counts():
    assert state.lowered_s(None, None) == {}
    assert state.lowered_s({"power_cap": 1.0}, {"power_cap": 1.0}) == {"power_cap": 0.0}
    parts = {"thermal": 1.0, "software_thermal": 0.0, "hardware_thermal": 0.0, "power_brake": 0.0}
    assert state.lowered_s(parts, parts | {"software_thermal": 0.25, "power_brake": 0.5}) == {"slowed": 0.75}


def test_reasons_are_shares_of_the_readings_by_name():
    masks = [0, POWER_CAP, POWER_CAP | SOFTWARE_THERMAL, 1 << 40]
    assert state.reason_shares(masks) == {"power cap": 0.5, "software thermal slowdown": 0.25, "bit 0x10000000000": 0.25}
    assert state.reason_shares([0, 0]) == {}


@pytest.mark.parametrize(
    ("processes", "memory", "shared"),
    [
        (({}, {"python3 (7)": 3 * GIB}), 3 * GIB, True),
        (({"Xorg (8)": 40 * 2**20}, {"Xorg (8)": 41 * 2**20}), 41 * 2**20, False),
        (({}, {"python3 (7)": None}), None, True),
        ((None, None), None, None),
    ],
    ids=["another process", "a desktop", "memory not told", "processes not told"],
)
def test_who_else_is_on_the_gpu(processes, memory, shared):
    facts = state.summarise(on_gpu(processes=processes))
    assert (facts["foreign_gpu_memory"], facts["shared"]) == (memory, shared)
    assert facts["energy_valid"] is not bool(shared)
    assert ("python3 (7)" in facts["disturbed"]) is bool(shared)


def test_a_gpu_in_use_before_the_model_was_loaded_is_shared():
    hidden = {"processes": (None, None)}
    assert state.summarise(on_gpu(**hidden, idle={"idle_gpu_memory": 5 * GIB}))["shared"]
    assert state.summarise(on_gpu(**hidden, idle={"idle_gpu_memory": GIB // 2}))["shared"] is None
    assert "30% busy before" in state.summarise(on_gpu(idle={"idle_gpu_utilisation": 0.3}))["disturbed"]


def test_foreign_cpu_time_is_what_processes_used_beyond_ours():
    shares = state.cpu_shares([counters(0), counters(10, own=20, foreign=2), counters(20, own=40, foreign=12, stolen=4)])
    assert shares["cpu_used"] == pytest.approx(52 / 80)
    assert (shares["cpu_foreign"], shares["cpu_foreign_max"], shares["cpu_foreign_s"]) == pytest.approx((12 / 80, 10 / 40, 12))
    assert (shares["cpu_stolen"], shares["cpu_stolen_s"]) == pytest.approx((4 / 56, 4))


def test_ticks_that_fall_to_us_are_never_negative_for_others():
    assert state.cpu_shares([counters(0), counters(1, own=1.01, foreign=-0.02)])["cpu_foreign"] == 0.0


@pytest.mark.parametrize("told", [[counters(5)], [counters(5), counters(5)], [{"at": 0.0}, {"at": 9.0}]], ids=["one", "still", "none"])
def test_cpu_shares_that_cannot_be_known(told):
    assert set(state.cpu_shares(told).values()) == {None}


def test_a_shared_processor_is_flagged_with_the_busiest_process():
    begin = {"processes": {1: Process(0, "init", 5, 3.0, 0.0), 9: Process(1, "ours", 6, 0.0, 0.0)}, "own": {9}}
    end = {
        "processes": {1: Process(0, "init", 5, 3.5, 0.0), 9: Process(1, "ours", 6, 30.0, 0.0), 12: Process(1, "firefox", 7, 8.0, 0.0)},
        "own": {9},
    }
    facts = state.summarise(on_cpu(counters(0) | begin, counters(10, own=30, foreign=8.5) | end))
    assert facts["shared"]
    assert facts["disturbed"] == "other processes used 21% of the CPUs, most of it firefox (12, 8.0 s)"
    # A number that was given to another process since: all of its time is new.
    before = {12: Process(1, "gone", 2, 100.0, 0.0)}
    assert state.busiest(before, end["processes"], {9}) == "firefox (12, 8.0 s)"
    assert state.busiest({}, {9: begin["processes"][9]}, {9}) == ""


def test_a_few_ticks_are_not_a_neighbour():
    facts = state.summarise(on_cpu(counters(0, cpus=1), counters(0.5, own=0.4, foreign=0.05, stolen=0.02, cpus=1)))
    assert facts["cpu_foreign"] >= state.FOREIGN_CPU
    assert facts["cpu_stolen"] >= state.STOLEN_CPU
    assert facts["shared"] is False


def test_on_a_gpu_a_busy_processor_counts_only_where_replies_waited_for_it():
    def run(waited):
        edges = {"first": {"waited": 1.0}, "last": {"waited": 1.0 + waited}}
        seen = on_gpu(**edges)
        seen.counters[-1]["cpu"]["used"] += 40.0
        return state.summarise(seen)

    assert run(waited=0.01)["cpu_foreign"] == pytest.approx(0.5)
    assert run(waited=0.01)["shared"] is False
    assert run(waited=1.0)["shared"]
    assert run(waited=1.0)["energy_valid"], "a busy processor takes nothing from the GPU's energy counter"


def test_a_container_limit_and_heat_throttle_a_processor():
    limited = state.summarise(on_cpu(counters(0, limited=(100, 0), heat=7), counters(10, limited=(200, 30), heat=7)))
    assert (limited["cpu_limited"], limited["throttled"]) == (0.3, True)
    assert "stopped the process in 30% of the periods" in limited["disturbed"]
    hot = state.summarise(on_cpu(counters(0, limited=(0, 0), heat=7), counters(10, limited=(0, 0), heat=9)))
    assert (hot["cpu_limited"], hot["cpu_heat_events"], hot["throttled"]) == (0.0, 2, True)
    assert state.summarise(on_cpu(counters(0, heat=7), counters(10, heat=7)))["throttled"] is False
    assert state.summarise(on_cpu(counters(0), counters(10)))["throttled"] is None, "nothing shows heat: not known"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"seconds": 2.0}, "the replies took 2.0 s; the counter moves every 0.1 s and needs 5 s"),
        ({"joules": 0.0}, "did not move"),
        ({"joules": 12_000.0}, "says 600 W, the mean of 40 readings of power 300 W"),
        ({"fixed": {"mig": True}}, "split (MIG)"),
        ({"processes": ({}, {"python3 (7)": 9 * GIB})}, "others used the device"),
        ({"unknown": {"energy": "the NVIDIA driver says: Not Supported"}}, "Not Supported"),
    ],
)
def test_energy_that_is_not_that_of_the_replies_says_why(run, words):
    facts = state.summarise(on_gpu(**run))
    assert facts["energy_valid"] is False
    assert words in facts["energy_reason"]


def test_few_readings_of_power_do_not_contradict_the_counter():
    assert state.summarise(on_gpu(joules=12_000.0, gauges=5))["energy_valid"]


def test_rapl_wraps():
    # A counter that holds at most 1000 µJ: 900, 100 (wrapped), 300; and one that does not wrap.
    told = [{"a": (900, 1000), "b": (0, 10**9)}, {"a": (100, 1000), "b": (10**6, 10**9)}, {"a": (300, 1000), "b": (2 * 10**6, 10**9)}]
    assert state.rapl_joules(told) == pytest.approx(2.0004)
    assert state.rapl_joules(told[:1]) is None


def test_energy_of_a_processor_is_that_of_its_packages():
    def run(foreign):
        first, last = ({"rapl": {"intel-rapl:0 package-0": (joules * 10**6, 10**12)}} for joules in (10, 610))
        return state.summarise(on_cpu(counters(0, **first), counters(10, own=20, foreign=foreign, **last)))

    quiet = run(foreign=0)
    assert (quiet["energy"], quiet["energy_source"], quiet["energy_valid"]) == (600.0, "RAPL: package-0", True)
    assert run(foreign=10)["energy_valid"] is False


def idle_samples(powers, memory=0, utilisation=0.0):
    return [{"at": i / 10, "power": power, "memory": memory, "utilisation": utilisation} for i, power in enumerate(powers)]


def test_idle_power_is_that_after_what_ran_before_has_faded():
    facts = state.idle_facts(idle_samples([300.0] * 5 + [80.0] * 10), {})
    assert (facts["idle_power"], facts["idle_power_reason"]) == (80.0, "")
    assert facts["idle_power_s"] == pytest.approx(1.4)


def test_idle_power_ends_where_memory_is_taken():
    samples = idle_samples([80.0] * 10) + [sample | {"at": sample["at"] + 1} for sample in idle_samples([120.0] * 30, memory=GIB)]
    assert state.idle_facts(samples, {})["idle_power"] == 80.0


@pytest.mark.parametrize(
    ("samples", "unknown", "words"),
    [
        (idle_samples([300.0] * 15, utilisation=0.9), {}, "busy before the model was loaded"),
        (idle_samples([80.0] * 3), {}, "idle for 0.2 s only"),
        ([], {"power": "Not Supported"}, "Not Supported"),
        ([{"at": 0.0, "memory": 5}, {"at": 2.0, "memory": 5}], {"power": "Not Supported"}, "Not Supported"),
    ],
)
def test_no_idle_power_rather_than_a_wrong_one(samples, unknown, words):
    facts = state.idle_facts(samples, unknown)
    assert facts["idle_power"] is None
    assert words in facts["idle_power_reason"]
    assert facts["idle_gpu_memory"] == (samples[0]["memory"] if samples else None)


def test_idle_power_of_a_processor():
    first = {"at": 1.0, "rapl": {"a": (0, 10**12)}, "cpu": {"all": 0.0, "used": 0.0}}
    last = {"at": 3.0, "rapl": {"a": (30 * 10**6, 10**12)}, "cpu": {"all": 8.0, "used": 0.1}}
    assert state.idle_processor_facts(first, last, {})["idle_power"] == 15.0
    busy = state.idle_processor_facts(first, last | {"cpu": {"all": 8.0, "used": 4.0}}, {})
    assert (busy["idle_power"], busy["idle_power_reason"]) == (None, "the processor was busy before the model was loaded")
    assert state.idle_processor_facts({}, {}, {"rapl": "no counter"})["idle_power_reason"] == "no counter"


@pytest.mark.parametrize(
    ("throttled", "shared", "repeats", "allowed", "again"),
    [
        (True, False, 0, 1, True),
        (False, True, 1, 3, True),
        (True, True, 3, 3, False),
        (True, True, 0, 0, False),
        (None, None, 0, 3, False),
        (False, False, 0, 3, False),
    ],
)
def test_a_disturbed_run_is_repeated_as_often_as_the_study_allows(throttled, shared, repeats, allowed, again):
    assert state.is_repeated({"throttled": throttled, "shared": shared, "disturbed": "others"}, repeats, allowed) is again


def test_no_waiting_takes_away_the_cpu_limit_of_a_container():
    def seen(**others) -> dict:
        return state.summarise(on_cpu(counters(0, limited=(100, 0)), counters(10, limited=(200, 30), **others)))

    assert seen()["throttled"]
    assert not state.is_repeated(seen(), 0, 3), "its replies were counted twice, and were the same"
    assert state.is_repeated(seen(foreign=8.5), 0, 3), "others may go"


def test_threads_that_are_stopped_for_a_moment_now_and_then_are_those_of_a_quiet_machine():
    """As many threads as a limit has CPUs: every run of every cell would be disturbed, and none ever quiet."""
    facts = state.summarise(on_cpu(counters(0, limited=(100, 0)), counters(10, limited=(200, 2))))
    assert (facts["cpu_limited"], facts["disturbed"]) == (0.02, "")
    assert not facts["throttled"]


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    """Where it is remembered that a machine stays busy."""
    monkeypatch.chdir(tmp_path)


class Looks:
    """In the place of a Monitor: what each look at the machine in turn says disturbed it."""

    def __init__(self, *said: str):
        self.said, self.count = list(said), 0

    def __call__(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def facts(self):
        said = self.said[min(self.count, len(self.said) - 1)]
        self.count += 1
        return {"disturbed": said, "throttled": False, "shared": bool(said)}


@pytest.mark.parametrize(
    ("said", "allowed", "counted", "repeated_for", "last"),
    [
        (("",), 1, 1, [], ""),
        (("busy", "", ""), 1, 2, ["busy"], ""),  # the run, a look at a quiet machine, the run again
        (("busy", "busy", "", "busier"), 1, 2, ["busy"], "busier"),  # two looks until it is quiet
        (("busy",), 0, 1, [], "busy"),
    ],
)
def test_a_disturbed_run_is_counted_again_once_the_machine_is_quiet(monkeypatch, said, allowed, counted, repeated_for, last):
    looks, times, entered = Looks(*said), [], []
    monkeypatch.setattr(monitor, "Monitor", looks)
    monkeypatch.setattr(monitor, "QUIET_LOOK", 0.0)
    settings = {"repeat_disturbed": allowed, "quiet_wait_s": 60}
    facts = monitor.watched("cell", CPU, {}, settings, lambda: times.append(looks.count), entered.append)
    assert len(times) == counted
    assert entered == ["waiting for a quiet machine"] * (counted - 1)
    assert (facts["repeats"], facts["repeated_for"], facts["disturbed"]) == (counted - 1, repeated_for, last)
    assert (facts["waited_s"] > 0) is (counted > 1)
    if counted > 1:
        assert said[times[1] - 1] == "", "it was quiet before it was counted again"


def test_waiting_for_a_quiet_machine_ends(monkeypatch):
    monkeypatch.setattr(monitor, "Monitor", Looks("busy"))
    monkeypatch.setattr(monitor, "QUIET_LOOK", 0.005)
    took, is_quiet = monitor.wait_for_quiet(CPU, 0.02)
    assert took >= 0.02
    assert not is_quiet
    took, is_quiet = monitor.wait_for_quiet(CPU, 0)
    assert took < 0.02
    assert not is_quiet


def test_a_machine_that_stays_busy_is_not_counted_on_twice(monkeypatch):
    monkeypatch.setattr(monitor, "Monitor", Looks("busy"))
    monkeypatch.setattr(monitor, "QUIET_LOOK", 0.005)
    times: list[int] = []
    settings = {"repeat_disturbed": 3, "quiet_wait_s": 0.02}
    facts = monitor.watched("cell", CPU, {}, settings, lambda: times.append(1))
    assert len(times) == 1, "a second time would tell no more than the first"
    assert (facts["repeats"], facts["repeated_for"], facts["disturbed"]) == (0, [], "busy")
    assert facts["waited_s"] >= 0.02


def test_where_one_job_waited_in_vain_the_next_looks_once_until_it_is_quiet(monkeypatch, tmp_path):
    """A machine that is busy for hours costs each job a look, where it cost each the whole wait."""
    waits: list[float] = []
    quiet: list[bool] = [False, False, True, True]

    def waited(device, at_most):
        waits.append(at_most)
        return at_most, quiet[len(waits) - 1]

    monkeypatch.setattr(monitor, "Monitor", Looks("busy"))
    monkeypatch.setattr(monitor, "wait_for_quiet", waited)
    settings = {"repeat_disturbed": 1, "quiet_wait_s": 20.0}
    for _ in quiet:
        monitor.watched("cell", CPU, {}, settings, lambda: None)
    assert waits == [20.0, monitor.QUIET_LOOK, monitor.QUIET_LOOK, 20.0]
    other = Device("cuda", "a GPU", Gpu("a GPU", "GPU-1", "0", 0, "9.0"), uses_torch=False)
    quiet += [False, True]
    monitor.watched("cell", CPU, {}, settings, lambda: None)
    monkeypatch.setattr(monitor, "_gpu", lambda device: None)
    monitor.watched("cell", other, {}, settings, lambda: None)
    assert waits[-1] == 20.0, "another device of the machine may be quiet"


def test_without_a_wait_a_disturbed_run_is_counted_again_at_once(monkeypatch):
    monkeypatch.setattr(monitor, "Monitor", Looks("busy", "still busy"))
    times: list[int] = []
    facts = monitor.watched("cell", CPU, {}, {"repeat_disturbed": 1, "quiet_wait_s": 0}, lambda: times.append(1))
    assert (len(times), facts["repeated_for"], facts["disturbed"], facts["waited_s"]) == (2, ["busy"], "still busy", 0)
    assert not monitor._mark(CPU).exists(), "nobody looked whether the machine is quiet"


def test_where_it_cannot_be_remembered_that_a_machine_is_busy_jobs_wait(monkeypatch, tmp_path):
    monkeypatch.setattr(monitor, "Monitor", Looks("busy"))
    (tmp_path / ".speedgrid").write_text("no folder")
    waits: list[float] = []
    monkeypatch.setattr(monitor, "wait_for_quiet", lambda device, at_most: (waits.append(at_most) or at_most, False))
    for _ in range(2):
        monitor.watched("cell", CPU, {}, {"repeat_disturbed": 1, "quiet_wait_s": 20.0}, lambda: None)
    assert waits == [20.0, 20.0]


# What the kernel's files say.


def test_a_process_with_a_strange_name():
    stat = "77 (tmux: (a) b) S 5 77 77 0 -1 4194560 12 9 0 0 250 50 300 100 20 0 1 0 4321 8 1 2"
    ticks = os.sysconf("SC_CLK_TCK")
    assert sensors.parse_process(stat) == Process(5, "tmux: (a) b", 4321, 300 / ticks, 400 / ticks)


def test_cpu_time_is_that_of_the_cpus_that_a_job_may_use():
    ticks = os.sysconf("SC_CLK_TCK")
    stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 20 300 5 1 2 7 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu2 9 9 9 9 9 9 9 9 0 0\nintr 5\n"
    assert sensors.cpu_time(stat, [0, 1]) == pytest.approx({"all": 453 / ticks, "used": 133 / ticks, "stolen": 8 / ticks})
    with pytest.raises(Unavailable, match="does not show every CPU"):
        sensors.cpu_time(stat, [0, 3])
    with pytest.raises(Unavailable, match="counts no CPU time"):
        sensors.cpu_time("cpu0 0 0 0 0 0 0 0 0 0 0\n", [0])


def test_pressure_and_limits():
    assert sensors.stalled("some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=1\n") == 2.5
    assert sensors.periods("usage_usec 5\nnr_periods 40\nnr_throttled 3\nthrottled_usec 9\n") == (40, 3)
    assert sensors.periods("usage_usec 5\nuser_usec 4\n") == (0, 0)


def test_rapl_takes_packages_and_their_memory_and_nothing_twice(tmp_path):
    with pytest.raises(Unavailable, match="no RAPL"):
        sensors.rapl(tmp_path)
    for folder, name in {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "psys"}.items():
        (tmp_path / folder).mkdir()
        for file, text in {"name": name, "energy_uj": "123", "max_energy_range_uj": "1000"}.items():
            (tmp_path / folder / file).write_text(text + "\n")
    assert sensors.rapl(tmp_path) == {"intel-rapl:0 package-0": (123, 1000), "intel-rapl:0:1 dram": (123, 1000)}


def test_a_source_that_fails_is_named_and_not_tried_again():
    calls = []

    def fails():
        calls.append(1)
        raise Unavailable("no such thing")

    unknown = {}
    sources = {"good": lambda: 5, "bad": fails, "file": lambda: Path("/no/such/file").read_text()}
    assert [sensors.take(sources, unknown) for _ in range(2)] == [{"good": 5}] * 2
    assert (len(calls), unknown) == (1, {"bad": "no such thing", "file": "/no/such/file: No such file or directory"})


# This machine.


def cpu_seconds(pid):
    return sensors._process(pid).cpu_s


def spend(pid, seconds):
    """Wait until a process has used so many more CPU seconds, however long that takes on a machine that others use."""
    enough = cpu_seconds(pid) + seconds
    while cpu_seconds(pid) < enough:
        time.sleep(0.05)


WATCH = """
import sys, json
from speedgrid import monitor, hardware
with monitor.Monitor(hardware.Device("cpu", "here", uses_torch=False), every=0.1) as watch:
    print("watching", flush=True)
    sys.stdin.readline()
print(json.dumps(watch.facts()))
"""


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="no Linux")
def test_a_busy_neighbour_is_noticed(root):
    """The neighbour is a process beside the one that watches, so to that one it is foreign."""
    environment = {**os.environ, "PYTHONPATH": str(root / "scripts")}
    watching = subprocess.Popen([sys.executable, "-c", WATCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    neighbour = subprocess.Popen(BUSY)
    try:
        assert watching.stdout.readline() == "watching\n"
        spend(neighbour.pid, 0.2)
        before = cpu_seconds(neighbour.pid)
        spend(neighbour.pid, 1.0)
        used = cpu_seconds(neighbour.pid) - before
        told, _ = watching.communicate("enough\n")
    finally:
        neighbour.kill()
        neighbour.wait()
        watching.kill()
    facts = json.loads(told)
    assert "cpu" not in json.loads(facts["state_unknown"])
    # The kernel charges a CPU's time by the tick to whoever runs at that moment, and a process's exactly.
    assert facts["cpu_foreign_s"] > 0.5 * used
    assert facts["cpu_foreign"] <= facts["cpu_used"] <= 1
    assert facts["watched_samples"] >= 1
    assert facts["load_max"] > 0
    assert facts["cpu_foreign"] < state.FOREIGN_CPU or (facts["shared"] and "of the CPUs, most of it" in facts["disturbed"])
    assert facts["sm_clock_median"] is None
    assert facts["clock_reasons"] is None


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="no Linux")
def test_what_our_own_processes_use_is_ours():
    host = sensors.Host()
    host.look_around()
    before = host.counters["own_cpu"]()
    child = subprocess.Popen(BUSY)
    try:
        spend(child.pid, 0.3)
        host.look_around()
        assert child.pid in host.own
        assert host.counters["own_cpu"]() - before > 0.25
    finally:
        child.kill()
        child.wait()
    host.look_around()
    assert child.pid not in host.own
    assert host.counters["own_cpu"]() - before > 0.25, "an ended process still counts, with its parent"


def test_what_a_machine_does_not_show_is_no_error():
    gpu = Device("cuda", "a GPU", Gpu("a GPU", "GPU-which-is-not-there", "0", 0, "9.0"), uses_torch=False)
    with monitor.Idle(gpu) as idle:
        pass
    with monitor.Monitor(gpu, idle.facts) as watch:
        pass
    facts = watch.facts()
    reason = json.loads(facts["state_unknown"])["gpu"]
    assert reason
    assert facts["energy_reason"] == facts["idle_power_reason"] == reason
    assert [facts[name] for name in ("energy", "idle_power", "sm_clock_median", "foreign_gpu_memory")] == [None] * 4
    assert facts["throttled"] is not False, "unknown, but where this process runs under a limit of CPU time that slows it"
    assert facts["energy_valid"] is False


def test_an_error_of_the_watching_thread_is_not_swallowed(monkeypatch):
    watch = monitor.Monitor(CPU, every=0.01)

    def load():
        if threading.current_thread() is watch._thread:
            raise ZeroDivisionError
        return 0.0

    monkeypatch.setitem(watch._gauges, "load", load)
    with pytest.raises(ZeroDivisionError), watch:
        watch._thread.join(60)


def test_an_error_of_the_replies_ends_the_watch():
    with pytest.raises(KeyError), monitor.Monitor(CPU) as watch:
        raise KeyError("replies")
    assert not watch._thread.is_alive()


@pytest.mark.gpu
def test_a_gpu_shows_its_state():
    pytest.importorskip("pynvml")
    from speedgrid import hardware

    device = hardware.pick_device({"device": "cuda"}, "here", uses_torch=False)
    with monitor.Idle(device) as idle:
        pass
    with monitor.Monitor(device, idle.facts, every=0.1) as watch:
        time.sleep(1)
    facts = watch.facts()
    assert facts["watched_samples"] >= 5
    for name in ("sm_clock", "memory_clock"):
        assert 0 < facts[f"{name}_min"] <= facts[f"{name}_median"] <= facts[f"{name}_max"]
    assert 0 < facts["power_mean"] <= facts["power_max"] < 2 * facts["power_limit"]
    assert 0 < facts["temperature_max"] < 120
    assert 0 <= facts["gpu_utilisation"] <= 1
    assert all(0 < share <= 1 for share in json.loads(facts["clock_reasons"]).values())
    assert facts["throttled"] is not None
    assert facts["idle_gpu_memory"] > 0
