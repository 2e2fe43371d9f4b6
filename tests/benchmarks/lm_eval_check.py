"""Do our requests, answers and scores give what lm-evaluation-harness gives by itself on the same checkpoint? HellaSwag and WikiText, from
a local folder of data in their formats that is made of held-out text.

    PYTHON tests/benchmarks/lm_eval_check.py CHECKPOINT

PYTHON has the packages of both envs/transformers.yaml and envs/evaluation.yaml; CHECKPOINT is a folder such as
models/stdlib-llama/checkpoint. Accuracies must be identical, and perplexities within 1e-3; differences are a failure.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from speedgrid import corpus, hardware
from speedgrid.engines.transformers import Engine
from speedgrid.quality import cloze, questions, tasks

ITEMS = 60


def main(checkpoint: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        told = [{"task": name, "limit": ITEMS, "dataset": {"folder": str(Path(scratch) / name)}} for name in ("hellaswag", "wikitext")]
        write_data(Path(scratch))
        own, theirs = scored_here(checkpoint, told), scored_by_lm_eval(checkpoint, told)
    assert own
    assert set(own) == set(theirs), (own, theirs)
    for key, value in own.items():
        print(f"{key[0]} {key[1]}: {value:.10g} here, {theirs[key]:.10g} by lm-eval")
        assert value == theirs[key] if key[1].startswith("acc") else math.isclose(value, theirs[key], rel_tol=1e-3), key


def write_data(folder: Path) -> None:
    """Data sets in the formats of Rowan/hellaswag and EleutherAI/wikitext_document_level."""
    documents = corpus.held_out_text(2_000_000)
    items = [
        {
            "activity_label": "Code",
            "ctx_a": item["ctx"][:100],
            "ctx_b": item["ctx"][100:],
            "endings": item["endings"],
            "label": str(item["label"]),
        }
        for item in cloze.items(documents, ITEMS)
    ]
    pages = [{"page": text[:6000]} for _, text in documents[:6]]
    for name, rows in (("hellaswag", items), ("wikitext", pages)):
        (folder / name).mkdir()
        for part in ("train", "validation", "test"):
            (folder / name / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def scored_here(checkpoint: Path, told: list[dict]) -> dict:
    engine = Engine(checkpoint, hardware.Device("cpu", "cpu"), {"dtype": "float32", "attention": "sdpa"}, threads=1)
    engine.import_packages()
    engine.open()
    engine.load(engine.context())
    tokenizer, found = questions.Tokenizer.of(engine), {}
    for one in told:
        task = tasks.load(one, [])
        asked, answers = tasks.requests(task, one["limit"]), {}
        for row in asked:
            rolling = row["kind"] == "loglikelihood_rolling"
            parts = (
                questions.rolling(row["continuation"], tokenizer)
                if rolling
                else [questions.pair(row["context"], row["continuation"], tokenizer)]
            )
            scores = engine.loglikelihoods(parts)
            nats = -sum(sum(score.logarithms) for score in scores)
            answers[(row["item"], row["request"])] = {"nats": nats, "greedy": all(score.greedy for score in scores)}
        found |= {(one["task"], score.metric): score.value for score in tasks.score(task, one["limit"], asked, answers)}
    return found


def scored_by_lm_eval(checkpoint: Path, told: list[dict]) -> dict:
    from lm_eval import simple_evaluate

    built = [tasks.load(one, []) for one in told]
    given = f"pretrained={checkpoint},dtype=float32"
    results = simple_evaluate("hf", model_args=given, tasks=built, limit=ITEMS, device="cpu", batch_size=8, bootstrap_iters=0)["results"]
    return {
        (name, key.partition(",")[0]): value
        for name, figures in results.items()
        for key, value in figures.items()
        if key.endswith(",none") and "stderr" not in key and isinstance(value, float)
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
