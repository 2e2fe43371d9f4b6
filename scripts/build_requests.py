"""What the tasks of an experiment ask, as lm-eval makes it. Writes results/requests/{experiment}/requests.parquet, one row a request."""

from speedgrid import corpus, stage
from speedgrid.outcomes import Outcome
from speedgrid.progress import say
from speedgrid.quality import tasks
from speedgrid.specification import Requests


def build(job: stage.Job[Requests]) -> str:
    settings = job.specification["evaluate"]
    documents = corpus.all_held_out(settings)
    for spec in settings["tasks"]:
        job.enter(f"building the requests of {spec['task']}")
        try:
            rows = tasks.requests(tasks.load(spec, documents), spec["limit"])
        except Outcome as failure:
            # One task less, and the rest goes on.
            job.rows.append({"task": spec["task"], "status": failure.status, "reason": str(failure)})
            say(f"{job.name}: {spec['task']}: {failure.status}: {failure}")
            continue
        for row in rows:
            job.keep({"task": spec["task"], **row})
    asked = sum(row["status"] == "ok" for row in job.rows)
    count = len(settings["tasks"])
    return f"{asked:,} requests of {count} task{'s' * (count != 1)}"


if __name__ == "__main__":
    stage.run("requests", build)
