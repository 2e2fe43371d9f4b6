"""How often the 95 % intervals of the mean of one run hold the truth: on simulated and on replayed replies. (Those of speed-ups, and
verdicts: verdicts.py.)

    python tests/benchmarks/interval_coverage.py [RESULTS ...] [--repeats 1000] [--replay-only]

Run it with the Python of the tests. RESULTS are results folders; the replies of their measure.parquet files are replayed: series of
several lengths are drawn from each cell's rates in circular blocks, long enough to keep what neighbours have in common, and the truth is
the mean of all.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import stats as st  # noqa: E402
from speedgrid.stats import samples  # noqa: E402

LENGTHS = (10, 20, 50, 100, 300)


# Simulated series: mean 100, standard deviation 5


def wandering(rng: np.random.Generator, n: int, phi: float) -> np.ndarray:
    """A first-order autoregression with correlation phi and standard deviation 1, from its stationary start."""
    shocks = rng.normal(size=n) * np.sqrt(1 - phi**2)
    values = np.empty(n)
    values[0] = rng.normal()
    for i in range(1, n):
        values[i] = phi * values[i - 1] + shocks[i]
    return values


def switching(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two states of the machine, each lasting ten replies on average, and noise."""
    state = (np.cumsum(rng.random(n) < 0.1) + rng.integers(2)) % 2
    return (2 * state - 1 + rng.normal(size=n)) / np.sqrt(2)


def with_outliers(rng: np.random.Generator, n: int) -> np.ndarray:
    """Three replies in a hundred are much slower."""
    slow = np.where(rng.random(n) < 0.03, 8 + 4 * rng.random(n), 0)
    return (rng.normal(size=n) - slow + 0.3) / 2


SERIES: dict[str, Callable] = {
    **{f"AR(1), rho {phi}": lambda rng, n, phi=phi: wandering(rng, n, phi) for phi in (0.0, 0.2, 0.4, 0.6, 0.8)},
    "AR(1) 0.9 + noise, lag-1 0.4": lambda rng, n: np.sqrt(0.45) * wandering(rng, n, 0.9) + np.sqrt(0.55) * rng.normal(size=n),
    "two states, lag-1 0.4": switching,
    "independent, 3 % outliers": with_outliers,
}


def simulate(name: str, rng: np.random.Generator, n: int) -> np.ndarray:
    return 100 + 5 * SERIES[name](rng, n)


# Other intervals, to compare with


def independent(values: np.ndarray) -> st.Estimate:
    return st.mean_interval(values.tolist())


def block_bootstrap(values: np.ndarray, rng: np.random.Generator) -> st.Estimate:
    """Circular block bootstrap, percentile interval, with the block length of Politis and White (2004, corrected by Patton et al. 2009)."""
    n, length = len(values), block_length(values)
    starts = rng.integers(n, size=(999, -(-n // length)))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(999, -1)[:, :n] % n
    means = values[drawn].mean(axis=1)
    return st.Estimate(values.mean(), *np.quantile(means, [0.025, 0.975]))


def block_length(values: np.ndarray) -> int:
    n = len(values)
    away = values - values.mean()
    most = int(np.ceil(np.sqrt(n))) + max(5, int(np.log10(n)))
    covariance = np.array([(away[lag:] * away[: n - lag]).sum() / n for lag in range(min(most + 1, n))])
    if covariance[0] == 0:
        return 1
    small = np.abs(covariance / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    run = max(5, int(np.sqrt(np.log10(n))))
    last = next((lag for lag in range(len(small) - run) if small[lag + 1 : lag + 1 + run].all()), len(small) - 1)
    bandwidth = min(2 * max(last, 1), len(covariance) - 1)
    lags = np.arange(-bandwidth, bandwidth + 1)
    weight = np.clip(2 * (1 - np.abs(lags) / bandwidth), 0, 1)
    r = covariance[np.abs(lags)]
    g, d = (weight * np.abs(lags) * r).sum(), 4 / 3 * (weight * r).sum() ** 2
    length = (2 * g**2 / d) ** (1 / 3) * n ** (1 / 3) if d > 0 else 1
    return int(np.clip(np.ceil(length), 1, np.ceil(min(3 * np.sqrt(n), n / 3))))


def circular_blocks(values: np.ndarray, n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    starts = rng.integers(len(values), size=-(-n // length))
    return values[(starts[:, None] + np.arange(length)).ravel()[:n] % len(values)]


# The tables


def coverage_of_means(repeats: int) -> None:
    print("Mean of one series: intervals that hold the truth, % (median width, over that of n independent replies)")
    print(f"{'':30}{'n':>5}{'level':>16}{'block bootstrap':>18}{'as independent':>18}")
    for name in SERIES:
        for n in LENGTHS:
            rng = np.random.default_rng([n, 1])
            drawn = [simulate(name, rng, n) for _ in range(repeats)]
            some = drawn[: max(100, repeats // 5)]
            ideal = 2 * 1.96 * 5 / np.sqrt(n)
            found = [
                held([st.level(x).interval() for x in drawn], 100, ideal),
                held([block_bootstrap(x, rng) for x in some], 100, ideal),
                held([independent(x) for x in some[:100]], 100, ideal),
            ]
            print(f"{name:30}{n:5}{found[0]:>16}{found[1]:>18}{found[2]:>18}", flush=True)


def ends(one: st.Estimate) -> tuple[float, float]:
    """The ends of an interval, which samples of this length have."""
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


def held(intervals: list[st.Estimate], truth: float, ideal: float) -> str:
    inside = np.mean([low <= truth <= high for low, high in map(ends, intervals)])
    return f"{100 * inside:.1f} ({np.median([high - low for low, high in map(ends, intervals)]) / ideal:.2f})"


def coverage_under_stopping(repeats: int) -> None:
    print("\nStopping at ±1 % (at least 20, at most 1000 replies): coverage, %; replies used (quartiles); stopped at the maximum, %")
    for name in SERIES:
        rng = np.random.default_rng(3)
        inside, used = [], []
        reasons: Counter[str] = Counter()
        for _ in range(repeats):
            values, precision = simulate(name, rng, 1000), st.Precision()
            n, why = next((n, why) for n in precision.looks if (why := st.stop(values[:n].tolist(), precision)))
            low, high = ends(st.level(values[:n]).interval())
            inside.append(low <= 100 <= high)
            used.append(n)
            reasons[why] += 1
        low, middle, high = np.quantile(used, [0.25, 0.5, 0.75])
        print(f"{name:30}{100 * np.mean(inside):6.1f}  {middle:4.0f} ({low:.0f}-{high:.0f})  {100 * reasons['maximum'] / repeats:.0f}")


# Replayed


def series_of(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Every cell with at least 20 finished replies: its name, when it started, and its rates in their order."""
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("**/measure*.parquet")):
        file = pq.ParquetFile(path)
        facts = json.loads(file.schema_arrow.metadata[b"speedgrid"])["facts"]
        rows = file.read(["reply", "new_tokens", "reply_s"]).to_pylist()
        rates = np.array([row["new_tokens"] / row["reply_s"] for row in rows if row["reply"] is not None])
        if len(rates) >= 20:
            yield str(path.parent.relative_to(folder)), facts["started_at"], rates


def replay(cells: list[tuple[str, str, np.ndarray]], repeats: int) -> None:
    """`blocks`: series of n drawn in circular blocks, which cuts what lasts longer than a block. `windows`: n replies as they came,
    against the mean of all, which also asks that the machine's speed did not change in the meantime."""
    print("\nReplayed: intervals that hold the mean of the cell, %")
    print(f"{'':44}{'replies':>8}{'CV':>7}{'lag-1':>7}{'n':>5}{'block':>6}{'blocks':>8}{'as independent':>16}{'windows':>9}")
    shares: dict[int, list] = {}
    for name, _, rates in cells:
        for n in [n for n in LENGTHS if 20 <= n <= len(rates)]:
            rng = np.random.default_rng([n, 5])
            length = max(1, min(3 * block_length(rates), n // 4))
            drawn = [circular_blocks(rates, n, length, rng) for _ in range(repeats)]
            windows = [rates[i : i + n] for i in range(0, len(rates) - n + 1, max(1, n // 4))] if n <= len(rates) // 2 else []
            mean, levels = rates.mean(), [[st.level(x).interval() for x in some] for some in (drawn, windows)]
            found = [levels[0], [independent(x) for x in drawn[:100]], levels[1]]
            inside = [100 * np.mean([low <= mean <= high for low, high in map(ends, some)]) if some else np.nan for some in found]
            shares.setdefault(n, []).append(inside)
            likeness = st.autocorrelation(rates.tolist()) or 0
            print(
                f"{name[-43:]:44}{len(rates):8}{100 * rates.std() / rates.mean():6.1f}%{likeness:7.2f}{n:5}{length:6}"
                f"{inside[0]:8.1f}{inside[1]:16.1f}{inside[2]:9.1f}",
                flush=True,
            )
    for n, inside in shares.items():
        print(f"{f'mean of {len(inside)} cells':71}{n:5}{'':6}" + "{:8.1f}{:16.1f}{:9.1f}".format(*np.mean(inside, axis=0)))


def main() -> None:
    arguments = parse()
    samples.RESAMPLES = 999  # enough for coverage
    started = time.perf_counter()
    if not arguments.replay_only:
        coverage_of_means(arguments.repeats)
        coverage_under_stopping(max(100, arguments.repeats // 2))
    cells = [cell for folder in arguments.results for cell in series_of(folder)]
    if cells:
        replay(cells, arguments.repeats // 2)
    print(f"\n{time.perf_counter() - started:.0f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="*", help="results folders to replay")
    parser.add_argument("--repeats", type=int, default=1000, help="intervals for each figure")
    parser.add_argument("--replay-only", action="store_true", help="leave the simulations out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
