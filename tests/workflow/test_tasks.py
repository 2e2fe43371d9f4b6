"""Tasks of lm-evaluation-harness, in the environment that has it."""

import json
import os
import subprocess

import pytest
import working_copy

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

# What the task made of held-out text says to a model that always takes the first choice, and to one that takes any.
ALWAYS = """
import json, random
from speedgrid import corpus
from speedgrid.quality import tasks
told = {"task": "cloze", "limit": 12}
task, draw = tasks.load(told, corpus.all_held_out({"text": "stdlib"})), random.Random(1)
asked = [{**row, "task": "cloze"} for row in tasks.requests(task, 12)]
for name, nats in {"first": lambda: 1.0, "any": draw.random}.items():
    answers = {(row["item"], row["request"]): {"nats": 9 * nats(), "greedy": False} for row in asked}
    scores = tasks.score(task, 12, asked, answers)
    print(json.dumps({"name": name, "metrics": [one.metric for one in scores], "same": [one.same for one in scores]}))
"""


def test_a_task_that_is_always_answered_the_same_says_so(tmp_path):
    """By lm-eval itself, which takes the first of equal choices."""
    folder = working_copy.copy_to(tmp_path)
    made = working_copy.launcher(folder, "run", "--study", "tests/studies/tiny.yaml", "results/requests/generate/requests.parquet")
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-4000:]
    variables = {**os.environ, "PYTHONPATH": str(folder / "scripts")}
    done = subprocess.run([working_copy.python_of("evaluation"), "-c", ALWAYS], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {row["name"]: row for row in map(json.loads, filter(lambda line: line[:1] == "{", done.stdout.splitlines()))}
    assert found["first"]["metrics"] == ["acc", "acc_norm"]
    assert all("each of the 12 items is the same (choice 1)" in same for same in found["first"]["same"])
    assert found["any"]["same"] == ["", ""]
