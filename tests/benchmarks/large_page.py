"""What the page of a large study costs: CPU seconds and memory of `aggregate` and `render_report`, bytes of the page, and seconds until a
browser without network has it ready to be used.

    .venv-test/bin/python tests/benchmarks/large_page.py --gpus 1 --models 10 --techniques 20            # 200 cells
    .venv-test/bin/python tests/benchmarks/large_page.py --gpus 5 --models 20 --techniques 20 --profile  # 2,000 cells

Results are made up and written as the jobs write them; `--folder` keeps them for the next time. Ready is when the page has loaded and two
frames later answers to an event: its first screen is laid out and its script has run.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "unit")]

import numpy as np  # noqa: E402
import records_factory as made  # noqa: E402

FAMILIES = ("attention", "compile", "precision", "quantization", "kv-cache")
READY = """
const done = arguments[0];
const ready = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
document.readyState === 'complete' ? ready() : addEventListener('load', ready);
"""


def main() -> None:
    arguments = _parse()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="large_page."))
    plan = folder / "plan.json"
    if not plan.exists():
        write(folder, arguments)
    cells = len(json.loads(plan.read_text(encoding="utf-8"))["cells"])
    tables = [f"--{name}={folder / name}.parquet" for name in ("summary", "points", "runs")]
    out = folder / "report.html"
    print(f"{cells} cells x {arguments.replies} replies")
    for script, options in (("aggregate", tables), ("render_report", [*tables, f"--out={out}"])):
        cpu, peak = run(folder, script, [f"--plan={plan}", *options], arguments.profile)
        print(f"{script}: {cpu:.1f} s of processor time, {peak / 2**30:.2f} GiB")
    print(f"page: {out.stat().st_size / 2**20:.1f} MiB")
    if not arguments.no_browser:
        times, height, wide = opened(out, arguments.opens)
        print(f"ready in Chromium: {statistics.median(times):.2f} s (median of {len(times)}), {height:,} px high, {wide:,} elements")
    if arguments.folder is None:
        shutil.rmtree(folder)


def write(folder: Path, arguments: argparse.Namespace) -> None:
    """The records of a grid: techniques from half to nearly four times as fast as the baseline, one in ten of which could not run."""
    rng = np.random.default_rng(arguments.seed)
    techniques = [made.Made("baseline", "Baseline (eager attention)", replies=arguments.replies)]
    for number in range(1, arguments.techniques):
        name, family = f"technique_{number:02}", FAMILIES[number % len(FAMILIES)]
        one = made.Made(name, f"Technique {number} ({family})", family, transform=family == "quantization", replies=arguments.replies)
        techniques.append(one)
    grid, models = [], [f"model-{number:02}" for number in range(1, arguments.models + 1)]
    for gpu in range(1, arguments.gpus + 1):
        machine = made.GPU_MACHINE | {"host": f"host-{gpu}", "device_name": f"Made-up GPU {gpu}"}
        for at, model in enumerate(models):
            speeds = 48 * np.exp(rng.uniform(np.log(0.5), np.log(3.8), len(techniques)))
            told = [
                replace(one, speed=float(speed), peak=float(rng.uniform(500, 4000)), bits_per_byte=float(rng.uniform(1.89, 2.2)))
                for one, speed in zip(techniques, speeds, strict=True)
            ]
            told = [replace(told[0], speed=48.0, bits_per_byte=1.9, again=(48.4, 47.7)), *told[1:]]
            for number in range(10, len(told), 10):
                told[number] = replace(told[number], status="oom", reason="asked for 3.2 GiB, 1.1 GiB were free", replies=20)
            grid += made.write_group(folder, told, gpu=f"gpu-{gpu}", model=model, machine=machine, parameters=10**9 * (at + 1), seed=at)
    study = made.study(models=models, cells=techniques)
    made.write_plan(folder, grid, study | {"gpus": {f"gpu-{number}": {} for number in range(1, arguments.gpus + 1)}})


def run(folder: Path, script: str, options: list[str], profile: bool) -> tuple[float, int]:
    """Processor seconds (user and system) of a script in a process of its own, and the most bytes that were resident in it."""
    profiled = ["-m", "cProfile", "-o", str(folder / f"{script}.prof")] if profile else []
    command = [sys.executable, *profiled, str(ROOT / "scripts" / f"{script}.py"), *options]
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"{script} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def opened(page: Path, times: int) -> tuple[list[float], int, int]:
    """Seconds until the page is ready, of `times` fresh loads; its height in pixels and its count of elements."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1440,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(300)
    driver.set_page_load_timeout(300)
    try:
        seconds = []
        for _ in range(times):
            driver.get("about:blank")
            time.sleep(1)
            driver.get(page.as_uri())
            seconds.append(driver.execute_async_script(READY) / 1000)
        size = "return [document.documentElement.scrollHeight, document.getElementsByTagName('*').length]"
        return seconds, *driver.execute_script(size)
    finally:
        driver.quit()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, number in (("gpus", 1), ("models", 10), ("techniques", 20), ("replies", 100), ("opens", 3), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--folder", type=Path, help="where the results lie, or are to be written and kept")
    parser.add_argument("--profile", action="store_true", help="write FOLDER/SCRIPT.prof for pstats; the seconds then hold cProfile's own")
    parser.add_argument("--no-browser", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
