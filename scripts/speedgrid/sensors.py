"""What can be read of a machine while a model runs: of the GPU through the NVIDIA driver (NVML), of the processor from /proc and /sys.

*Gauges* (a clock, a temperature) hold for a moment; *counters* (energy, CPU time) grow, and what counts is how much between two readings.
Those of `edges` are wanted exactly where a run begins and ends. A source that this machine does not have raises Unavailable, with the
reason in words.
"""

import os
import resource
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from speedgrid import containers

# Fields of nvmlDeviceGetFieldValues that count the nanoseconds for which the clock was lowered; older drivers have the first two only.
LOWERED = {"power_cap": 74, "thermal": 75, "software_thermal": 269, "hardware_thermal": 270, "power_brake": 271}

Sources = Mapping[str, Callable[[], object]]


class Unavailable(Exception):
    """A quantity that this machine does not show; the message says why."""


def take(sources: Sources, unknown: dict[str, str]) -> dict:
    """Read every source. The reason of one that cannot be read goes into `unknown`, and from then on it is not tried again."""
    taken = {}
    for name, read in sources.items():
        if name in unknown:
            continue
        try:
            taken[name] = read()
        except Unavailable as error:
            unknown[name] = str(error)
        except OSError as error:
            unknown[name] = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return taken


class NvidiaGpu:
    """What NVML says of one GPU. Hz, W, J, °C, bytes, seconds, and shares from 0 to 1."""

    def __init__(self, uuid: str):
        try:
            import pynvml
        except ModuleNotFoundError:
            raise Unavailable("the package nvidia-ml-py is not installed in this environment") from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise Unavailable(f"the NVIDIA driver cannot be asked: {error}") from None
        self.gauges = {
            "sm_clock": lambda: self._ask("ClockInfo", pynvml.NVML_CLOCK_SM) * 1_000_000,
            "memory_clock": lambda: self._ask("ClockInfo", pynvml.NVML_CLOCK_MEM) * 1_000_000,
            "temperature": lambda: self._ask("Temperature", pynvml.NVML_TEMPERATURE_GPU),
            "power": lambda: self._ask("PowerUsage") / 1000,
            "utilisation": lambda: self._ask("UtilizationRates").gpu / 100,
            "clock_reasons": self._clock_reasons,
        }
        self.idle = {name: self.gauges[name] for name in ("power", "utilisation")} | {"memory": lambda: self._ask("MemoryInfo").used}
        self.edges = {"energy": lambda: self._ask("TotalEnergyConsumption") / 1000}
        self.counters = {"lowered": self._lowered, "gpu_processes": self._processes}
        # What does not change during a run.
        self.fixed = {
            "sm_clock_limit": lambda: self._ask("MaxClockInfo", pynvml.NVML_CLOCK_SM) * 1_000_000,
            "power_limit": lambda: self._ask("EnforcedPowerLimit") / 1000,
            "mig": self._is_split,
        }

    def _is_split(self) -> bool:
        try:
            return bool(self._ask("MigMode")[0])
        except Unavailable:
            return False  # most GPUs cannot be split, and say so with this error

    def _clock_reasons(self) -> int:
        try:
            return self._ask("CurrentClocksEventReasons")
        except Unavailable:
            # The same bits under the name that drivers before 535 have for them.
            return self._ask("CurrentClocksThrottleReasons")

    def _lowered(self) -> dict[str, float]:
        """Seconds, since the driver started, for which each of LOWERED held; without those that the driver does not count."""
        told = zip(LOWERED, self._ask("FieldValues", list(LOWERED.values())), strict=True)
        return {name: value.value.ullVal / 1e9 for name, value in told if value.nvmlReturn == self._nvml.NVML_SUCCESS}

    def _processes(self) -> dict[int, int | None]:
        """Bytes that each process holds on the GPU, by its number; None where the driver does not say how many."""
        found = [*self._ask("ComputeRunningProcesses"), *self._ask("GraphicsRunningProcesses")]
        return {process.pid: process.usedGpuMemory for process in found}

    def _ask(self, what: str, *arguments):
        try:
            return getattr(self._nvml, f"nvmlDeviceGet{what}")(self._handle, *arguments)
        except AttributeError:
            raise Unavailable(f"this version of nvidia-ml-py has no nvmlDeviceGet{what}") from None
        except self._nvml.NVMLError as error:
            raise Unavailable(f"the NVIDIA driver says: {error}") from None


@dataclass(frozen=True)
class Process:
    """A process: its parent, name, start, CPU seconds, and those of its children that have ended."""

    parent: int
    name: str
    started: int
    cpu_s: float
    children_s: float


class Host:
    """What the Linux kernel says of the machine, and of this process with all that it started.

    `cpus` are those that the job may use. What a thread waits for a CPU is that of the thread which makes the Host.
    """

    def __init__(self):
        try:
            self.cpus = sorted(os.sched_getaffinity(0))
        except AttributeError:
            self.cpus = list(range(os.cpu_count() or 1))
        self.processes: dict[int, Process] = {}
        self.own: set[int] = {os.getpid()}
        self._thread = threading.get_native_id()
        self._clocks: list[int] | None = None
        self._turn = 0
        # Of this process's control group and of those around it.
        self._limits = [path for group in containers.around("cpu") if (path := group / "cpu.stat").is_file()]
        self.gauges = {"cpu_clock": self._cpu_clock, "load": lambda: os.getloadavg()[0]}
        self.edges: dict[str, Callable[[], object]] = {"waited": self._waited, "rapl": rapl}
        self.counters: dict[str, Callable[[], object]] = {
            "cpu": lambda: cpu_time(Path("/proc/stat").read_text(), self.cpus),
            "own_cpu": self._own_cpu,
            "switches": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
            "memory_stalled": lambda: stalled(Path("/proc/pressure/memory").read_text()),
            "limited": self._limited,
            "heat": self._heat,
        }

    def look_around(self) -> None:
        """See which processes there are, and which of them are ours."""
        self.processes = _processes()
        self.own = family(os.getpid(), self.processes)

    def close(self) -> None:
        for opened in self._clocks or ():
            os.close(opened)
        self._clocks = None

    def _own_cpu(self) -> float:
        """CPU seconds of this process and those that it started, the ended ones included."""
        there = [_process(pid) for pid in self.own]
        return sum(process.cpu_s + process.children_s for process in there if process)

    def _cpu_clock(self) -> int:
        """Clock of one CPU in Hz, of the next one at every call. Its file stays open, so that a reading is one call of the system."""
        if self._clocks is None:
            paths = [f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in self.cpus]
            self._clocks = [os.open(path, os.O_RDONLY) for path in paths if os.path.exists(path)]
        if not self._clocks:
            # /proc/cpuinfo then holds the nominal clock, as in most virtual machines: no measurement.
            raise Unavailable("this machine does not show the clock of its processor")
        self._turn = (self._turn + 1) % len(self._clocks)
        told = os.pread(self._clocks[self._turn], 32, 0).strip()
        if not told.isdigit():
            raise Unavailable("the kernel does not know the clock of the processor")
        return int(told) * 1000

    def _waited(self) -> float:
        """Seconds for which the thread was ready to run and had no CPU."""
        ran, waited, _ = Path(f"/proc/self/task/{self._thread}/schedstat").read_text().split()
        if ran == "0":
            raise Unavailable("the kernel does not count how long a thread waits for a CPU")
        return int(waited) / 1e9

    def _limited(self) -> tuple[int, int]:
        """Periods of the CPU limit of the container, and those in which it was reached, of the level where it was reached most often."""
        if not self._limits:
            raise Unavailable("the CPU limit of the container cannot be read")
        return max((periods(path.read_text()) for path in self._limits), key=lambda told: told[1])

    def _heat(self) -> int:
        """How often heat has slowed one of the CPUs since the machine started."""
        paths = [Path(f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count") for cpu in self.cpus]
        counts = [int(path.read_text()) for path in paths if path.exists()]
        if not counts:
            raise Unavailable("this machine does not show whether heat slows its processor")
        return sum(counts)


def family(pid: int, there: Mapping[int, Process]) -> set[int]:
    """A process and all that it started, by number."""
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, process in there.items() if process.parent in new} - found
    return found


def parse_process(stat: str) -> Process:
    """A process from its /proc/PID/stat; a name may hold blanks and brackets."""
    head, _, rest = stat.rpartition(")")
    fields = rest.split()
    user, system, ended_user, ended_system = (int(ticks) / _ticks() for ticks in fields[11:15])
    return Process(int(fields[1]), head.partition("(")[2], int(fields[19]), user + system, ended_user + ended_system)


def process_name(pid: int) -> str:
    """Name and number of a process."""
    process = _process(pid)
    return f"{process.name} ({pid})" if process else str(pid)


def cpu_time(stat: str, cpus: Collection[int]) -> dict[str, float]:
    """Seconds of the CPUs `cpus` from /proc/stat: all there were, those that processes used, and those that the host stole.

    Raises Unavailable where the kernel does not count them, as in some sandboxes.
    """
    lines = (line.split() for line in stat.splitlines() if line.startswith("cpu"))
    rows = [[int(ticks) for ticks in line[1:9]] for line in lines if line[0][3:].isdigit() and int(line[0][3:]) in cpus]
    if len(rows) < len(cpus):
        raise Unavailable("/proc/stat does not show every CPU that the job may use")
    if not any(map(any, rows)):
        raise Unavailable("the kernel counts no CPU time")
    user, nice, system, idle, waiting, irq, soft_irq, stolen = (sum(column) / _ticks() for column in zip(*rows, strict=True))
    return {"all": user + nice + system + idle + waiting + irq + soft_irq + stolen, "used": user + nice + system, "stolen": stolen}


def stalled(pressure: str) -> float:
    """Seconds, since the machine started, in which some process waited for memory, from /proc/pressure/memory."""
    some = next(line for line in pressure.splitlines() if line.startswith("some"))
    return int(some.rpartition("total=")[2]) / 1e6


def periods(stat: str) -> tuple[int, int]:
    """Periods of a CPU limit and those in which it was reached, from a cpu.stat; zeros where there is no limit."""
    told = dict(line.split(None, 1) for line in stat.splitlines() if " " in line)
    return int(told.get("nr_periods", 0)), int(told.get("nr_throttled", 0))


def rapl(root: Path = Path("/sys/class/powercap")) -> dict[str, tuple[int, int]]:
    """RAPL: microjoules counted by each processor package and its memory, and the most that the counter can hold.

    The cores are a part of their package, and the whole platform (psys) holds the packages: neither is counted twice.
    """
    domains = sorted(root.glob("intel-rapl:*"))
    if not domains:
        raise Unavailable("this machine has no RAPL energy counter")
    read = {}
    for domain in domains:
        name = (domain / "name").read_text().strip()
        if name.startswith(("package", "dram")):
            try:
                read[f"{domain.name} {name}"] = (int((domain / "energy_uj").read_text()), int((domain / "max_energy_range_uj").read_text()))
            except PermissionError:
                raise Unavailable(f"only root may read the RAPL energy counter ({domain / 'energy_uj'})") from None
    if not read:
        raise Unavailable("RAPL shows no processor package")
    return read


def _processes() -> dict[int, Process]:
    found = {int(name): _process(int(name)) for name in os.listdir("/proc") if name.isdigit()} if os.path.isdir("/proc") else {}
    return {pid: process for pid, process in found.items() if process}


def _process(pid: int) -> Process | None:
    try:
        return parse_process(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return None


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")
