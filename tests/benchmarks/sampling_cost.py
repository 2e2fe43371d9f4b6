"""What watching the machine costs the replies, and everything that it reads here.

    python tests/benchmarks/sampling_cost.py [--rounds 8] [--replies 40] [--seconds 12]

Run it with the Python of the environment `transformers`; without PyTorch only the work in Python is timed. Three kinds of reply are timed
with and without the monitor, in turns: work in Python alone, small products that are launched one by one as in a tiny model, and large
products. The cost is given twice: as the ratio at the rate that measuring uses, which noise covers where the cost is small, and from
readings a hundred times as often, for one reading; by the clock, and by CPU time, which neighbours disturb less. The last part starts a
neighbour that uses the device, and shows that it is noticed.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, monitor, sensors  # noqa: E402

OFTEN = monitor.GAUGES_EVERY / 100
NEIGHBOUR = """
import time
end = time.monotonic() + {seconds}
if {on_gpu}:
    import torch
    held = torch.ones(2**28, device="cuda")
while time.monotonic() < end:
    held = held * 1.0 if {on_gpu} else 0
    {on_gpu} and torch.cuda.synchronize()
"""


def main() -> None:
    arguments = parse()
    device = hardware.pick_device({"device": "auto"}, "local", uses_torch=False)
    print(f"{device.name}, Python {sys.version.split()[0]}")
    with monitor.Idle(device) as idle:
        try:
            import torch
        except ModuleNotFoundError:
            torch = None
    print("\nBefore anything ran on the device")
    show(idle.facts)
    replies = kinds_of_reply(torch, device.kind)
    for reply in replies.values():
        reply()
    sources(device)
    for kind, reply in replies.items():
        cost(kind, reply, device, arguments)
    print(f"\nFacts of {arguments.seconds} s of the last kind of reply")
    show(watched(device, idle.facts, replies[kind], arguments.seconds))
    print("\nThe same beside a neighbour")
    code = NEIGHBOUR.format(seconds=arguments.seconds + 30, on_gpu=device.is_gpu)
    # Started by a shell that ends at once, it is none of our processes.
    started = subprocess.run(["sh", "-c", '"$0" -c "$1" >&2 & echo $!', sys.executable, code], stdout=subprocess.PIPE, text=True)
    time.sleep(15 if device.is_gpu else 1)
    show(watched(device, idle.facts, replies[kind], arguments.seconds))
    subprocess.run(["kill", started.stdout.strip()])


def kinds_of_reply(torch, kind: str) -> dict[str, Callable]:
    """Replies of some hundredths of a second each."""

    def in_python() -> None:
        total: dict[int, int] = {}
        for number in range(150_000):
            total[number % 97] = total.get(number % 89, 0) + number

    if torch is None:
        return {"Python": in_python}
    few, many = torch.ones(1, 256, device=kind), torch.eye(256, device=kind)
    size = 8192 if kind == "cuda" else 768
    large = torch.ones(size, size, device=kind, dtype=torch.bfloat16 if kind == "cuda" else torch.float32)
    wait = torch.cuda.synchronize if kind == "cuda" else lambda: None

    def launched() -> None:
        state = few
        for _ in range(4000):
            state = state @ many
        wait()

    def products() -> None:
        for _ in range(30 if kind == "cuda" else 4):
            large @ large
        wait()

    return {"Python": in_python, "small products": launched, "large products": products}


def sources(device: hardware.Device) -> None:
    """Every source by itself: what it says and how long asking takes."""
    host = sensors.Host()
    host.look_around()
    gpu = sensors.NvidiaGpu(device.gpu.uuid) if device.gpu and device.is_gpu else None
    for reader in (host, gpu) if gpu else (host,):
        kinds: dict[str, sensors.Sources] = {"at the edges": reader.edges, "counters": reader.counters, "gauges": reader.gauges}
        if isinstance(reader, sensors.NvidiaGpu):
            kinds |= {"fixed": reader.fixed, "idle": reader.idle}
        for kind, named in kinds.items():
            print(f"\n{type(reader).__name__}, {kind}")
            for name, read in named.items():
                try:
                    value, took = read(), [timed(read) for _ in range(21)]
                except (sensors.Unavailable, OSError) as error:
                    print(f"  {name:18} not available: {error}")
                    continue
                print(f"  {name:18} {statistics.median(took) * 1e6:8.0f} µs (most {max(took) * 1e6:.0f})  {value}")
    took = [timed(host.look_around) for _ in range(5)]
    print(f"\nA look at all {len(host.processes)} processes, twice a run: {statistics.median(took) * 1e3:.1f} ms")
    if gpu:
        energy_steps(gpu)


def energy_steps(gpu: sensors.NvidiaGpu) -> None:
    """How often the energy counter of the GPU moves."""
    changes, last, end = [], None, time.perf_counter() + 3
    while time.perf_counter() < end:
        now = gpu.edges["energy"]()
        if now != last:
            changes.append((time.perf_counter(), now))
            last = now
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(changes[1:])]
    steps = [later[1] - earlier[1] for earlier, later in pairwise(changes[1:])]
    if gaps:
        middle = statistics.median(gaps)
        print(f"The energy counter moves every {middle * 1e3:.1f} ms (most {max(gaps) * 1e3:.1f}), by {statistics.median(steps):.3f} J")
    else:
        print("The energy counter did not move in 3 s")


def cost(kind: str, reply: Callable, device: hardware.Device, arguments: argparse.Namespace) -> None:
    """The time of replies with the monitor over that without, in turns; of the clock, and of the CPU for machines that others use too."""
    rates, rounds = (None, monitor.GAUGES_EVERY, OFTEN), []
    for number in range(arguments.rounds):
        order = rates if number % 2 else rates[::-1]
        rounds.append({every: timed_replies(reply, device, every, arguments.replies) for every in order})
    print(f"\n{kind}, with / without in {arguments.rounds} rounds: median (quartiles)")
    for place, clock in enumerate(("clock", "CPU time")):
        for every in rates[1:]:
            low, middle, high = statistics.quantiles([took[every][place] / took[None][place] for took in rounds], n=4)
            print(f"  {clock:8} read every {every * 1e3:3.0f} ms: {middle:.4f} ({low:.4f}-{high:.4f})")
        # The last rate is the one that reads often.
        once = (middle - 1) * OFTEN * (statistics.median(took[None][place] / took[None][0] for took in rounds))
        print(f"  {clock:8} so one reading costs {once * 1e6:.0f} µs: {once / monitor.GAUGES_EVERY:.3%} of the time between two")


def timed_replies(reply: Callable, device: hardware.Device, every: float | None, count: int) -> tuple[float, float]:
    """Clock and CPU time of some replies, with a monitor that reads `every` so many seconds. Beginning and end of the watch are no part
    of it, nor are they in a measurement."""
    with monitor.Monitor(device, every=every) if every else nullcontext():
        began, used = time.perf_counter(), time.process_time()
        for _ in range(count):
            reply()
        return time.perf_counter() - began, time.process_time() - used


def watched(device: hardware.Device, idle: dict, reply: Callable, seconds: float) -> dict:
    with monitor.Monitor(device, idle) as watch:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            reply()
    return watch.facts()


def timed(work: Callable) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(facts: dict) -> None:
    for name, value in facts.items():
        print(f"  {name:22} {value}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--replies", type=int, default=40, help="replies of a round, for each rate of reading")
    parser.add_argument("--seconds", type=float, default=12)
    return parser.parse_args()


if __name__ == "__main__":
    main()
