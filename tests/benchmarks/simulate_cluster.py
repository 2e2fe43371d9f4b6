"""A large study on a cluster, played through without one: how long it takes, how busy the GPUs are, and what Slurm has to bear.

    python tests/benchmarks/simulate_cluster.py --log .snakemake/log/LOG [--kinds 5 --nodes 5 --gpus 4 --models 50 --techniques 20]

The cells, their order, the nodes of their groups and what waits for what are the project's own plan of such a study. How long a job takes
is drawn, by its rule, from the jobs of a real run: LOG is what Snakemake wrote of it (`--stretch 10` makes them ten times as long, as
those of larger models are). Played are Snakemake, which has at most `--jobs` jobs with Slurm, sends at most `--rate` a second and looks
for ended ones every `--poll` seconds; and Slurm, which starts a job on the node of its group as soon as a GPU there is free, first come,
first served. Jobs never fail. What each value of `--jobs` comes to is printed as one line of JSON.
"""

import argparse
import heapq
import json
import random
import re
import statistics
import sys
from collections import defaultdict, deque
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(Path(__file__).parent)]

from planning import study as large_study  # noqa: E402
from speedgrid import planning  # noqa: E402
from speedgrid.planning.order import in_order  # noqa: E402
from speedgrid.study import validate  # noqa: E402

# Jobs that run where Snakemake does and hold no GPU are not played; they are short.
PLAYED = ("prepare_model", "quantize", "reference", "warmup", "measure", "measure_again", "evaluate")


def main() -> None:
    asked = parse()
    lasting = durations(Path(asked.log).read_text(encoding="utf-8"))
    if missing := [rule for rule in PLAYED if rule not in lasting]:
        sys.exit(f"simulate_cluster.py: --log: {asked.log} has no finished job of {', '.join(missing)}")
    jobs = planned(asked)
    draw = random.Random(asked.seed)
    for job in jobs.values():
        job.seconds = asked.stretch * sum(draw.choice(lasting[rule]) for rule in job.rules)
    for limit in asked.jobs:
        print(json.dumps(play(jobs, asked, limit)), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--log", required=True, help="Snakemake's log of a real run")
    shape = {"kinds": 5, "nodes": 5, "gpus": 4, "models": 50, "techniques": 20, "seed": 0}
    for name, value in shape.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, number in {"stretch": 1.0, "rate": 10.0, "poll": 20.0}.items():
        parser.add_argument(f"--{name}", type=float, default=number)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 500, 2000])
    return parser.parse_args()


def durations(log: str) -> dict[str, list[float]]:
    """Seconds of the finished jobs of a run, by rule, from Snakemake's log."""
    began: dict[str, datetime] = {}
    found: dict[str, list[float]] = defaultdict(list)
    now: datetime | None = None
    for line in log.splitlines():
        if stamp := re.fullmatch(r"\[(\w{3} \w{3} +\d+ [\d:]{8} \d{4})\]", line):
            now = datetime.strptime(stamp[1], "%a %b %d %H:%M:%S %Y")
        elif now and (job := re.match(r"Job (\d+): ", line)):
            began[job[1]] = now
        elif now and (done := re.match(r"Finished jobid: (\d+) \(Rule: (\w+)\)", line)) and done[1] in began:
            found[done[2]].append((now - began[done[1]]).total_seconds())
    return found


def planned(asked: argparse.Namespace) -> dict[str, SimpleNamespace]:
    """Every job of the study by what it makes: its rules, the node it must go to (empty: no GPU), what it waits for, its priority."""
    content = large_study(asked.kinds, asked.models, asked.techniques)
    for name, gpu in content["gpus"].items():
        gpu["slurm"]["nodes"] = [f"{name}-{number}" for number in range(asked.nodes)]
    schemas = {name: planning.read_yaml(f"rules/schemas/{name}.schema.yaml") for name in ("study", "techniques")}
    registry = validate(planning.read_yaml("techniques.yaml"), schemas["techniques"], "techniques.yaml")
    plan = planning.Grid(validate(content, schemas["study"], "large.yaml"), registry, "large.yaml", True, SimpleNamespace(local_exec=False))
    jobs: dict[str, SimpleNamespace] = {}

    def job(makes: str, rules: tuple[str, ...], node: str, after: list[str], priority: float) -> None:
        jobs.setdefault(makes, SimpleNamespace(rules=rules, node=node, after=after, priority=priority))

    for one in in_order(plan.cells):
        cell, priority = one.cell, plan.order.priority(one.cell, one.run)
        node = plan.place.node_of(cell)
        asks = SimpleNamespace(**dict(zip(("gpu", "experiment", "model", "technique"), cell.key, strict=True)))
        job(cell.model_record, ("prepare_model",), "", [], plan.stage("prepare_model").priority(SimpleNamespace(model=cell.model)))
        if cell.checkpoint_record != cell.model_record:
            made = SimpleNamespace(model=cell.model, technique=cell.made_by, dtype=cell.options["dtype"])
            job(cell.checkpoint_record, ("quantize",), node, [cell.model_record], plan.stage("quantize").priority(made))
        if one.run > 1:
            job(
                cell.measures[one.run - 1],
                ("measure_again",),
                node,
                [cell.measures[0], *one.beside],
                priority,
            )
            continue
        # Warm-up and measurement of a cell are one job of Slurm.
        job(cell.measures[0], ("warmup", "measure"), node, [cell.checkpoint_record], priority)
        if cell.evaluate:
            waits = [cell.measures[0]]
            if cell.has_reference:
                job(cell.reference_record, ("reference",), node, [cell.model_record], plan.stage("reference").priority(asks))
                waits.append(cell.reference_record)
            job(f"{cell.folder}/evaluate.parquet", ("evaluate",), node, waits, plan.stage("evaluate").priority(asks))
    return jobs


def play(jobs: dict[str, SimpleNamespace], asked: argparse.Namespace, limit: int) -> dict:
    """Run the jobs with at most `limit` of them with Slurm; all times in seconds."""
    waits = {name: len(job.after) for name, job in jobs.items()}
    followers = defaultdict(list)
    for name, job in jobs.items():
        for before in job.after:
            followers[before].append(name)
    ready = [(-job.priority, name) for name, job in jobs.items() if not job.after]
    heapq.heapify(ready)
    free = {job.node: asked.gpus for job in jobs.values()} | {"": asked.models}
    queues: dict[str, deque] = defaultdict(deque)
    running: list[tuple[float, str]] = []
    ended: deque[str] = deque()
    now = next_poll = next_send = 0.0
    in_slurm = longest_queue = polls = 0
    while ready or in_slurm:
        # What has ended frees its GPU at once, and lets others follow when Snakemake next asks.
        while running and running[0][0] <= now:
            end, name = heapq.heappop(running)
            free[jobs[name].node] += 1
            start_next(jobs, queues, free, running, jobs[name].node, end)
            ended.append(name)
        if now >= next_poll:
            polls, next_poll = polls + 1, now + asked.poll
            while ended:
                in_slurm -= 1
                for follower in followers[ended.popleft()]:
                    waits[follower] -= 1
                    if not waits[follower]:
                        heapq.heappush(ready, (-jobs[follower].priority, follower))
        while ready and in_slurm < limit and now >= next_send:
            name = heapq.heappop(ready)[1]
            in_slurm, next_send = in_slurm + 1, now + 1 / asked.rate
            queues[jobs[name].node].append(name)
            start_next(jobs, queues, free, running, jobs[name].node, now)
        longest_queue = max(longest_queue, sum(map(len, queues.values())))
        coming = [running[0][0]] if running else []
        coming += [next_poll] if ended else []
        coming += [next_send] if ready and in_slurm < limit else []
        now = max(now, min(coming)) if coming else now
    on_node: dict[str, float] = defaultdict(float)
    for job in jobs.values():
        if job.node:
            on_node[job.node] += job.seconds
    gpus = len(on_node) * asked.gpus
    return {
        "jobs": limit,
        "gpus": gpus,
        "slurm_jobs": len(jobs),
        "median_job_s": statistics.median(job.seconds for job in jobs.values()),
        "hours": now / 3600,
        # No schedule is faster than its busiest node.
        "hours_at_least": max(on_node.values()) / asked.gpus / 3600,
        "gpus_busy": sum(on_node.values()) / (gpus * now),
        "longest_queue": longest_queue,
        "state_queries": polls,
    }


def start_next(jobs, queues, free, running, node: str, now: float) -> None:
    """Start what waits for a node while it has a free GPU."""
    while queues[node] and free[node]:
        name = queues[node].popleft()
        free[node] -= 1
        heapq.heappush(running, (now + jobs[name].seconds, name))


if __name__ == "__main__":
    main()
