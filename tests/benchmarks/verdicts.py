"""How often speeds, speed-ups and verdicts are right: on simulated hosts of every noise, and on recorded runs of the same.

    python tests/benchmarks/verdicts.py [RESULTS ...] [--repeats 1200] [--disturbed]

Run it with the Python of the tests. RESULTS are results folders; their cells that ran more than once are judged run against run, beside the
recorded ones of tests/data. The questions: which middle of a run's replies is moved least by stalls; how often 95 % intervals of
speed-ups hold the truth, equals are called different, and differences are decided, and whether the price of an open one is right; what
looking again and again, and looking at many, does to that; what a tenth between two cells of a GPU comes to; and what recorded runs of the
same are called, by one of each and as `runs: auto` goes on.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/data")]

import recorded_replies  # noqa: E402
from interval_coverage import ends, wandering  # noqa: E402
from speedgrid import noise, sharpen, stats  # noqa: E402

HOSTS = (0.005, 0.01, 0.03, 0.08, 0.15, 0.25)
REPLIES = 12
# How much the replies of a run scatter, over what runs are apart, and whether one in twenty stalls.
SCATTERS = {"steady replies": ((0.1,), False), "scattered replies, 5 % stalls": ((0.5, 1.0, 2.0), True)}


# The middle of a run


def quiet(rng: np.random.Generator, n: int) -> np.ndarray:
    return 100 * np.exp(0.05 * wandering(rng, n, 0.4))


def stalls(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """A stall of ten seconds now and then, in replies of 64 tokens."""
    return 64 / (64 / quiet(rng, n) + np.where(rng.random(n) < share, 10, 0))


def stretch(rng: np.random.Generator, n: int) -> np.ndarray:
    """Up to a third of the replies, one after another, are 2 to 10 times as slow."""
    values, begin = quiet(rng, n), rng.integers(n)
    values[begin : begin + rng.integers(1, max(2, n // 3 + 1))] /= rng.uniform(2, 10)
    return values


def two_clocks(rng: np.random.Generator, n: int) -> np.ndarray:
    state = (np.cumsum(rng.random(n) < 0.1) + rng.integers(2)) % 2
    return quiet(rng, n) * np.where(state, 1, 0.85)


def trimmed(share: float) -> Callable[[np.ndarray], float]:
    def middle(values: np.ndarray) -> float:
        outer = int(len(values) * share)
        return float(np.sort(values)[outer : len(values) - outer].mean())

    return middle


def hodges_lehmann(values: np.ndarray) -> float:
    i, j = np.triu_indices(len(values))
    return float(np.median((values[i] + values[j]) / 2))


def shorth(values: np.ndarray) -> float:
    """The mean of the shortest half."""
    ordered, half = np.sort(values), len(values) // 2 + 1
    begin = (ordered[half - 1 :] - ordered[: len(values) - half + 1]).argmin()
    return float(ordered[begin : begin + half].mean())


MIDDLES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "median": np.median,
    "10 % trimmed": trimmed(0.1),
    "25 % trimmed": trimmed(0.25),
    "Hodges-Lehmann": hodges_lehmann,
    "shorth": shorth,
}
SERIES = {
    "quiet": quiet,
    "10 s stalls, 5 %": lambda rng, n: stalls(rng, n, 0.05),
    "10 s stalls, 15 %": lambda rng, n: stalls(rng, n, 0.15),
    "a slow stretch": stretch,
    "two clocks": two_clocks,
}


def middles(repeats: int) -> None:
    print("Root mean square error of a run's middle, %, against that of a long quiet run (two clocks: of its own long run)")
    print(f"{'':20}{'n':>4}" + "".join(f"{name:>16}" for name in MIDDLES))
    for name, draw in SERIES.items():
        for n in (8, 20, 50):
            rng = np.random.default_rng([n, 1])
            drawn = [draw(rng, n) for _ in range(repeats)]
            long = np.concatenate([draw(rng, 1000) for _ in range(20)]) if draw is two_clocks else quiet(rng, 20_000)
            errors = []
            for middle in MIDDLES.values():
                truth = np.median(long) if middle is not np.mean or draw is not two_clocks else long.mean()
                if draw is two_clocks and middle not in (np.mean, hodges_lehmann):
                    truth = middle(long)
                errors.append(np.sqrt(np.mean([(middle(values) / truth - 1) ** 2 for values in drawn])))
            print(f"{name:20}{n:4}" + "".join(f"{100 * error:16.1f}" for error in errors), flush=True)


# Hosts


def replies(rng: np.random.Generator, speed: float, host: float, scatter: float, stalled: bool) -> np.ndarray:
    rates = speed * np.exp(host * rng.normal() + scatter * host * wandering(rng, REPLIES, 0.4))
    if stalled:
        rates = np.where(rng.random(REPLIES) < 0.05, rates / rng.uniform(2, 10, REPLIES), rates)
    return rates


def run(rng: np.random.Generator, speed: float, host: float, scatter: float, stalled: bool) -> stats.Run:
    return stats.run(replies(rng, speed, host, scatter, stalled).tolist())


def typical(rng: np.random.Generator, speed: float, host: float, scatter: float, stalled: bool) -> float:
    """What a run has as its speed, without what its replies say of how sure that is."""
    return float(np.median(replies(rng, speed, host, scatter, stalled)))


def hosts(repeats: int) -> None:
    print(f"\nSpeed-ups over hosts whose runs are {', '.join(f'{100 * host:g}' for host in HOSTS)} % apart, {REPLIES} replies a run; %")
    print(f"{'':32}{'runs':>6}{'ratio':>6}{'hold':>7}{'decided':>9}   decided by host")
    for name, (scatters, stalled) in SCATTERS.items():
        for baselines, techniques in ((2, 1), (4, 1), (3, 3)):
            for ratio in (1.0, 2.0, 5.0):
                rng, found = np.random.default_rng([baselines, techniques, int(ratio)]), []
                for i in range(repeats):
                    host, scatter = HOSTS[i % len(HOSTS)], scatters[i // len(HOSTS) % len(scatters)]
                    sides = [
                        [run(rng, speed, host, scatter, stalled) for _ in range(k)] for speed, k in ((1.0, baselines), (ratio, techniques))
                    ]
                    below, above = noise.speeds([("cpu", runs) for runs in sides])
                    found.append((host, stats.over(above, below)))
                hold = np.mean([low <= ratio <= high for low, high in (ends(one) for _, one in found)])
                decided = [np.mean([stats.verdict(one) in ("faster", "slower") for at, one in found if at == host]) for host in HOSTS]
                by_host = "".join(f"{100 * share:6.0f}" for share in decided)
                print(
                    f"{name:32}{f'{baselines}+{techniques}':>6}{ratio:6g}{100 * hold:7.1f}{100 * np.mean(decided):9.1f}{by_host}",
                    flush=True,
                )


def prices(repeats: int) -> None:
    """Whether an open verdict is decided by as many further runs of both as it is said to take: of runs whose number is fixed, and as
    `runs: auto` sees them at first and then."""
    for name, looks_again in (("runs whose number is fixed", False), ("runs: auto", True)):
        print(f"\nOpen verdicts of {name}, two of the baseline and one of the technique, after the further runs that are said to decide: %")
        _prices(repeats, looks_again)


def _prices(repeats: int, looks_again: bool) -> None:
    rng = np.random.default_rng(11)
    tried: list[tuple[int, list[bool]]] = []
    for i in range(repeats):
        host, ratio = HOSTS[i % len(HOSTS)], float(rng.choice((1.0, 1.03, 1.1, 1.2, 1.4, 2.0)))
        scatters, stalled = list(SCATTERS.values())[i % 2]
        sides = [[run(rng, speed, host, scatters[0], stalled) for _ in range(k)] for speed, k in ((1.0, 2), (ratio, 1))]
        below, above = noise.speeds([("cpu", runs) for runs in sides], confidence=stats.confidence(looks_again))
        needed = stats.further_runs(above, below).runs
        if stats.between(above, below) != "unsure" or needed is None:
            continue
        decided = []
        for more in (needed, 2 * needed):
            further = [
                runs + [run(rng, speed, host, scatters[0], stalled) for _ in range(more)]
                for speed, runs in zip((1.0, ratio), sides, strict=True)
            ]
            below, above = noise.speeds([("cpu", runs) for runs in further], confidence=stats.confidence(looks_again))
            decided.append(stats.between(above, below) != "unsure")
        tried.append((needed, decided))
    for least, most in ((1, 1), (2, 3), (4, 7), (8, 20)):
        of = [decided for needed, decided in tried if least <= needed <= most]
        if of:
            first, twice = 100 * np.mean(of, axis=0)
            print(f"  {least} to {most} runs, {len(of)} pairs: {first:.0f}; after twice as many {twice:.0f}")


def looked_at_again(repeats: int) -> None:
    """The same two cells as `runs: auto` goes on with them: further runs of both, so many at a time, while it is open and its price known.
    Who looks again and again, until something is decided, is wrong more often than who looks once: at the level of intervals that
    it has for that, and as if each look were the only one."""
    print(
        "\nTwo runs of the baseline and one of the technique, and as runs: auto goes on: called faster or slower, same, and intervals that"
    )
    print("hold, by host; %")
    for ratio in (1.0, 1.2, 2.0):
        for name, looks_again in (("as it is", True), ("each look as the only one", False)):
            looks = [
                list(auto(np.random.default_rng([31, int(10 * ratio), i]), ratio, HOSTS[i % len(HOSTS)], looks_again))
                for i in range(repeats)
            ]
            print(f"  {ratio:g}×, {name}; {np.mean([own[-1].runs for own in looks]):.1f} runs of the technique", flush=True)
            for when, at in (("at first", 0), ("in the end", -1)):
                found = [own[at] for own in looks]
                shares = [
                    [100 * np.mean(is_so[of_host :: len(HOSTS)]) for of_host in range(len(HOSTS))]
                    for is_so in (
                        [one.verdict in ("faster", "slower") for one in found],
                        [one.verdict == "same" for one in found],
                        [one.holds for one in found],
                    )
                ]
                print(f"    {when:10}: {'; '.join(map(_by_host, shares))}", flush=True)


class Look(NamedTuple):
    """What is said of a technique against the baseline after so many runs of it, and whether the interval of its speed-up holds."""

    verdict: str
    holds: bool
    runs: int


def auto(rng: np.random.Generator, ratio: float, host: float, looks_again: bool = True) -> Iterator[Look]:
    """Two cells of which the one is so many times as fast, two runs of the baseline and one of the technique at first, at each look that
    `runs: auto` takes at them; with `looks_again` False as if each were the only one."""
    speeds, first = (1.0, ratio), (2, 1)
    sides = [[run(rng, speed, host, 0.1, False) for _ in range(count)] for speed, count in zip(speeds, first, strict=True)]
    while True:
        below, above = noise.speeds([("cpu", own) for own in sides], confidence=stats.confidence(looks_again))
        found = stats.over(above, below)
        low, high = ends(found)
        verdict, needed = stats.verdict(found), stats.further_runs(above, below).runs
        yield Look(verdict, low <= ratio <= high, len(sides[1]))
        # At most so many runs, as sharpen.decide has it.
        had = max(len(own) - count for own, count in zip(sides, first, strict=True))
        more = min(needed or 0, sharpen.AT_A_TIME, sharpen.MOST - 1 - had)
        if verdict != "unsure" or more < 1:
            return
        for speed, own in zip(speeds, sides, strict=True):
            own += [run(rng, speed, host, 0.1, False) for _ in range(more)]


def _by_host(shares: Sequence[np.floating]) -> str:
    return f"{np.mean(shares):5.1f} (" + " ".join(f"{share:.0f}" for share in shares) + ")"


def many_equals(repeats: int) -> None:
    """So many techniques that all are as fast as the baseline: the more there are, the likelier one of them seems not to be."""
    print("\nTechniques as fast as the baseline, a run of each and two of that, and as runs: auto goes on with the fastest and the")
    print("baseline while that is open, by host: any called different, and the fastest faster; %")
    for count in (1, 3, 7, 15):
        looks = [list(equals(np.random.default_rng([37, count, i]), count, HOSTS[i % len(HOSTS)])) for i in range(repeats)]
        for when, at in (("at first", 0), ("in the end", -1)):
            found = np.array([own[at] for own in looks])
            shares = [[100 * found[place :: len(HOSTS), what].mean() for place in range(len(HOSTS))] for what in (0, 1)]
            print(f"  {count:3}, {when:10}: {'; '.join(map(_by_host, shares))}", flush=True)


def equals(rng: np.random.Generator, count: int, host: float) -> Iterator[tuple[bool, bool]]:
    """Of so many techniques that all are as fast as the baseline, at each look: whether any is called different from it, and whether the
    fastest is called faster."""
    cells = [[run(rng, 1.0, host, 0.1, False) for _ in range(2 if at == 0 else 1)] for at in range(1 + count)]
    while True:
        below, *others = noise.speeds([("cpu", own) for own in cells], confidence=stats.confidence(True))
        verdicts = [stats.between(above, below) for above in others]
        highest = max(range(count), key=lambda at: others[at].value)
        yield bool({"faster", "slower"} & set(verdicts)), verdicts[highest] == "faster"
        sides = cells[0], cells[1 + highest]
        room = sharpen.MOST - 1 - max(len(cells[0]) - 2, len(cells[1 + highest]) - 1)
        more = min(stats.further_runs(others[highest], below).runs or 0, sharpen.AT_A_TIME, room)
        if verdicts[highest] != "unsure" or more < 1:
            return
        for own in sides:
            own += [run(rng, 1.0, host, 0.1, False) for _ in range(more)]


def beside_others(repeats: int) -> None:
    """Two cells that ran once, beside others of the study that have shown how far apart runs are there."""
    print("\nTwo equals that ran once, beside others, by host: called different, %")
    for name, counts in {"one that ran 20 times": (20,), "four that ran three times": (3, 3, 3, 3)}.items():
        rng = np.random.default_rng([41, len(counts)])
        said: dict[float, list[str]] = {host: [] for host in HOSTS}
        for i in range(repeats):
            host = HOSTS[i % len(HOSTS)]
            one, other, *_ = noise.speeds([("cpu", [run(rng, 1.0, host, 0.1, False) for _ in range(count)]) for count in (1, 1, *counts)])
            said[host].append(stats.between(one, other))
        shares = [100 * np.mean([one in ("faster", "slower") for one in own]) for own in said.values()]
        print(f"  {name:26}: {_by_host(shares)}", flush=True)


def with_known_noise(repeats: int) -> None:
    """What no interval can better: one that knows how far apart the medians of the runs of a host are."""
    print("\nDecided by an interval that knows the noise, two runs of the baseline and one of the technique; %")
    for name, (scatters, stalled) in SCATTERS.items():
        known = {
            (host, scatter): np.std([np.log(typical(np.random.default_rng([1, i]), 1.0, host, scatter, stalled)) for i in range(3000)])
            for host in HOSTS
            for scatter in scatters
        }
        for ratio in (2.0, 5.0):
            rng, decided = np.random.default_rng([3, int(ratio)]), []
            for i in range(repeats):
                host, scatter = HOSTS[i % len(HOSTS)], scatters[i // len(HOSTS) % len(scatters)]
                *base, technique = (np.log(typical(rng, speed, host, scatter, stalled)) for speed in (1.0, 1.0, ratio))
                decided.append(abs(technique - np.mean(base)) > 1.96 * known[host, scatter] * np.sqrt(1 + 1 / 2))
            print(f"  {name}, {ratio:g}×: {100 * np.mean(decided):.1f}")


QUIET, SLIGHT, LOOP, STARVED, ANY = (0.0, 0.0), (0.05, 0.08), (1 / 3, 1 / 2), (0.7, 0.95), (0.05, 0.95)


def on_busy_machines(repeats: int) -> None:
    """Two cells of a machine of two cores, of whose time others took shares while they ran, which cost each run none to all of what these
    shares bound; equals and what is twice as fast. With the shares known, and as if nobody knew how much was lost."""
    print("\nOthers took shares of two cores: equals called different, 2× decided, 2× called slower; without an allowance for it; %")
    cases = {
        "a baseline that was starved, a quiet technique": ((STARVED, STARVED), QUIET),
        "a quiet baseline, a technique that was starved": ((QUIET, QUIET), STARVED),
        "a baseline that was hardly disturbed, a quiet technique": ((SLIGHT, SLIGHT), QUIET),
        "a quiet baseline, a technique that was hardly disturbed": ((QUIET, QUIET), SLIGHT),
        "both beside the same loop": ((LOOP, LOOP), LOOP),
        "both beside work that comes and goes": ((ANY, ANY), ANY),
        "a baseline with a quiet run and one beside a loop": ((QUIET, LOOP), QUIET),
        "a baseline with a quiet run and one that was starved": ((QUIET, STARVED), QUIET),
        "a baseline with a quiet run, hardly disturbed in the other": ((QUIET, SLIGHT), QUIET),
    }
    for name, (of_baseline, of_technique) in cases.items():
        rng = np.random.default_rng(17)
        said: dict[tuple[float, bool], list[str]] = {(ratio, is_known): [] for ratio in (1.0, 2.0) for is_known in (True, False)}
        together = name == "both beside the same loop"
        for i in range(repeats):
            host, ratio = HOSTS[i % len(HOSTS)], (1.0, 2.0)[i // len(HOSTS) % 2]
            cost, sides = rng.random(), []
            for speed, taken in ((1.0, of_baseline), (ratio, (of_technique,))):
                shares = [rng.uniform(least, most) for least, most in taken]
                bounds = [-2 * np.log1p(-share) for share in shares]
                # What one loop costs is alike for all cells beside it.
                costs = [bound * (np.clip(cost + 0.1 * rng.normal(), 0, 1) if together else rng.random()) for bound in bounds]
                sides.append(
                    [
                        (replies(rng, speed * np.exp(-lost), host, 0.1, False).tolist(), bound)
                        for lost, bound in zip(costs, bounds, strict=True)
                    ]
                )
            for is_known in (True, False):
                # What lost an unknown amount on both sides is held against one another as it is.
                runs = [
                    [replace(stats.run(rates, bound, 2 * np.log(2)), lost=bound if is_known else 0.0) for rates, bound in side]
                    for side in sides
                ]
                below, above = noise.speeds([("cpu", own) for own in runs])
                said[ratio, is_known].append(stats.between(above, below))
        told = []
        for is_known in (True, False):
            alike, twice = ([one in ("faster", "slower") for one in said[ratio, is_known]] for ratio in (1.0, 2.0))
            wrong = [one == "slower" for one in said[2.0, is_known]]
            told.append(" ".join(f"{100 * np.mean(share):5.1f}" for share in (alike, twice, wrong)))
        print(f"  {name:58} {told[0]}  |  {told[1]}", flush=True)


# Noise from one process to the next of cells of a GPU, and how far their replies scatter: what waits for the GPU, and for the processor.
OF_A_GPU = ((0.005, 0.003), (0.01, 0.005), (0.08, 0.05), (0.15, 0.06))


def on_a_shared_gpu(repeats: int) -> None:
    """Two cells of a GPU, disturbed whenever they ran: by neighbours that took nothing to so much of it, which nobody read, or of the
    processor's time by shares that were read."""
    print("\nTwo cells of a GPU that others shared, two runs of the baseline and one of the technique: decided by ratio, %")
    cases = {f"neighbours that slow each run by 1 to {most:g}×": (1.0, most) for most in (1.3, 2.0, 3.0)}
    for name, reach in {**cases, "5 to 30 % of the processor": None}.items():
        told = []
        for ratio in (1.0, 1.5, 2.0, 3.0, 5.0):
            rng, said = np.random.default_rng(23), []
            for i in range(repeats):
                host, scatter = OF_A_GPU[i % len(OF_A_GPU)]
                sides = []
                for speed, count in ((1.0, 2), (ratio, 1)):
                    bounds = [np.inf if reach else -np.log1p(-rng.uniform(0.05, 0.3)) for _ in range(count)]
                    costs = [np.log(rng.uniform(*reach)) if reach else rng.random() * bound for bound in bounds]
                    sides.append(
                        [
                            stats.run(
                                replies(rng, speed * np.exp(-cost), host, scatter / host, False).tolist(), bound, np.inf if reach else 0.0
                            )
                            for cost, bound in zip(costs, bounds, strict=True)
                        ]
                    )
                below, above = noise.speeds([("cuda", own) for own in sides])
                said.append(stats.between(above, below))
            told.append(f"{ratio:g}×: {100 * np.mean([one in ('faster', 'slower') for one in said]):.1f}")
        print(f"  {name:45} {', '.join(told)}", flush=True)


def on_a_gpu(repeats: int) -> None:
    print("\nTwo cells that wait for the GPU, a run of each, runs 0.5 % apart: verdicts, %")
    for ratio in (1.0, 1.02, 1.05, 1.1):
        rng, said = np.random.default_rng(7), []
        for _ in range(repeats):
            one, other = noise.speeds([("cuda", [run(rng, speed, 0.005, 0.6, False)]) for speed in (ratio, 1.0)])
            said.append(stats.verdict(stats.over(one, other)))
        print(f"  {ratio:g}×: " + ", ".join(f"{word} {100 * said.count(word) / repeats:.1f}" for word in dict.fromkeys(said)))


def with_prompts(repeats: int) -> None:
    """Compiled cells of a GPU: steps that it sets the pace of, after a prompt that is read at the speed of the processor."""
    print("\nTwo cells whose GPU sets the pace of the steps, the processor that of the prompt, a run of each: verdicts, %")
    for share, apart in ((0.04, 0.1), (0.04, 0.25), (0.1, 0.1), (0.1, 0.25), (0.3, 0.25)):
        for ratio in (1.0, 1.05, 1.1, 1.2, 1.5):
            rng, said = np.random.default_rng(29), []
            for _ in range(repeats):
                runs = []
                for speed in (ratio, 1.0):
                    steps = (1 - share) / speed * np.exp(0.001 * rng.normal() + 0.001 * rng.normal(size=REPLIES))
                    prompts = share / speed * np.exp(apart * rng.normal() + rng.choice((0.01, 0.2)) * rng.normal(size=REPLIES))
                    rows = [
                        {"new_tokens": 128, "items": None, "batch_size": 1, "ttft_s": first, "reply_s": first + rest}
                        for first, rest in zip(prompts, steps, strict=True)
                    ]
                    runs.append(noise.run({"device": "cuda"}, rows))
                one, other = noise.speeds([("cuda", [run]) for run in runs])
                said.append(stats.between(one, other))
            told = ", ".join(f"{word} {100 * said.count(word) / repeats:.1f}" for word in dict.fromkeys(said))
            print(f"  prompts {100 * share:g} % of the time, {100 * apart:g} % apart, {ratio:g}×: {told}", flush=True)


def by_scatter() -> None:
    print("\nTwo cells of a GPU, a run of each, by how far their replies scatter: what the interval of their ratio reaches to, %")
    for scatter in (0.005, 0.01, 0.014, 0.016, 0.02, 0.03, 0.05, 0.1):
        one = [stats.Run(100.0, 1e-4, 11.0, REPLIES, 50.0, 200.0, scatter)]
        above, below = noise.speeds([("cuda", one), ("cuda", one)])
        print(f"  {100 * scatter:g} %: {100 * (ends(stats.over(above, below))[1] - 1):.1f}")


# Recorded


def of_the_tests() -> Iterator[tuple[str, list[stats.Run]]]:
    """The cells of tests/data that ran more than once: machine and technique, and the runs."""
    for machine in recorded_replies.machines():
        for technique, runs in recorded_replies.runs(machine).items():
            if len(runs) > 1:
                yield f"{recorded_replies.device(machine)} {machine} {technique}", runs


def of_results(folder: Path) -> Iterator[tuple[str, list[stats.Run]]]:
    """The same of a results folder."""
    from noise_prior import cells

    yield from ((f"{device} {name}", [one.whole for one in runs]) for name, device, runs in cells(folder) if len(runs) > 1)


def run_against_run(found: Sequence[tuple[str, list[stats.Run]]]) -> None:
    print("\nRuns of the same, each against each other one, as two cells that ran once: intervals that hold 1, and verdicts")
    total = []
    for name, runs in found:
        device, pairs = name.split()[0], list(combinations(runs, 2))
        speeds = [noise.speeds([(device, [one]), (device, [other])]) for one, other in pairs]
        ratios = [stats.over(above, below) for above, below in speeds]
        held, said = [low <= 1 <= high for low, high in map(ends, ratios)], [stats.verdict(one) for one in ratios]
        total += held
        print(f"  {name:45} {sum(held):3} of {len(held):3}  {', '.join(f'{word} {said.count(word)}' for word in dict.fromkeys(said))}")
    print(f"  {sum(total)} of {len(total)} hold")


def in_rounds(found: Sequence[tuple[str, list[stats.Run]]], repeats: int, most: int = 3) -> None:
    print(f"\nThe same as `runs: auto` takes them, a further run of each while it is open, {most} at most: share of {repeats} drawn orders")
    for name, runs in found:
        if len(runs) < 2 * most:
            continue
        rng, device, said, taken = np.random.default_rng(5), name.split()[0], [], []
        for _ in range(repeats):
            order = [runs[i] for i in rng.permutation(len(runs))]
            for count in range(1, most + 1):
                pair = [(device, order[:count]), (device, order[most : most + count])]
                one, other = noise.speeds(pair, confidence=stats.confidence(True))
                if (verdict := stats.between(one, other)) != "unsure":
                    break
            said.append(verdict)
            taken.append(count)
        shares = ", ".join(f"{word} {said.count(word) / repeats:.1%}" for word in dict.fromkeys(said))
        print(f"  {name:45} {shares}; {np.mean(taken):.2f} runs of each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="*", help="results folders whose runs are judged, too")
    parser.add_argument("--repeats", type=int, default=1200, help="simulated pairs for each figure")
    parser.add_argument("--disturbed", action="store_true", help="those of disturbed runs alone")
    arguments = parser.parse_args()
    if arguments.disturbed:
        on_busy_machines(arguments.repeats)
        on_a_shared_gpu(arguments.repeats)
        return
    middles(arguments.repeats)
    hosts(arguments.repeats)
    prices(arguments.repeats // 4)
    looked_at_again(arguments.repeats)
    many_equals(arguments.repeats)
    beside_others(arguments.repeats)
    with_known_noise(arguments.repeats)
    on_busy_machines(arguments.repeats)
    on_a_shared_gpu(arguments.repeats)
    on_a_gpu(arguments.repeats)
    with_prompts(arguments.repeats)
    by_scatter()
    recorded = [*of_the_tests(), *(cell for folder in arguments.results for cell in of_results(folder))]
    run_against_run(recorded)
    in_rounds(recorded, arguments.repeats)


if __name__ == "__main__":
    main()
