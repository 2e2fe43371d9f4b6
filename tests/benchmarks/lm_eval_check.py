"""Do our requests, answers and scores give what lm-evaluation-harness gives by itself on the same checkpoint? One task of every kind of
request, from a local folder of data in their formats: HellaSwag with and without examples before the question, WikiText, JGLUE's
JCommonsenseQA, and GSM8K, which writes text.

    PYTHON tests/benchmarks/lm_eval_check.py CHECKPOINT

PYTHON has the packages of both envs/transformers.yaml and envs/evaluation.yaml; CHECKPOINT is a folder such as
models/stdlib-llama/checkpoint. Texts and accuracies must be identical, and perplexities within 1e-3; differences are a failure. GSM8K is
left out where the model has no room for it (512 tokens).
"""

import importlib.util
import json
import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from speedgrid import corpus, hardware, specification
from speedgrid.engines.transformers import Engine
from speedgrid.quality import cloze, questions, tasks

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 60
TASKS: tuple[dict[str, Any], ...] = (
    {"task": "hellaswag"},
    {"task": "hellaswag", "fewshot": 2},
    {"task": "wikitext"},
    {"task": "ja_leaderboard_jcommonsenseqa"},
    {"task": "gsm8k", "fewshot": 2, "limit": 8},
)
ROOM_TO_WRITE = 512


def main(checkpoint: Path) -> None:
    stage = _stage()
    with tempfile.TemporaryDirectory() as scratch:
        write_data(Path(scratch))
        engine = Engine(checkpoint, hardware.Device("cpu", "cpu"), {"dtype": "float32", "attention": "sdpa"}, threads=1)
        engine.import_packages()
        engine.open()
        engine.load(engine.language.context())
        for entry in TASKS:
            given = {"limit": ITEMS, **entry, "dataset": {"folder": str(Path(scratch) / entry["task"])}}
            told = cast(specification.Task, given)
            name = " ".join(str(value) for value in entry.values())
            if entry["task"] == "gsm8k" and engine.language.context() < ROOM_TO_WRITE:
                print(f"{name}: left out, the model takes {engine.language.context()} tokens")
                continue
            compare(name, *scored_here(stage, engine, told), *scored_by_lm_eval(checkpoint, told))


def compare(name: str, own: dict, texts: list[str], theirs: dict, their_texts: list[str]) -> None:
    assert own
    assert set(own) == set(theirs), (own, theirs)
    assert texts == their_texts, next((a, b) for a, b in zip(texts, their_texts, strict=True) if a != b)
    for metric, value in own.items():
        print(f"{name}, {metric}: {value:.10g} here, {theirs[metric]:.10g} by lm-eval")
        surprise = metric.endswith("perplexity") or metric == "bits_per_byte"
        assert math.isclose(value, theirs[metric], rel_tol=1e-3) if surprise else value == theirs[metric], metric
    if texts:
        print(f"{name}: {len(texts)} texts written are the same, {sum(map(len, texts)):,} characters")


def write_data(folder: Path) -> None:
    """Data sets in the formats of Rowan/hellaswag, EleutherAI/wikitext_document_level, JCommonsenseQA and openai/gsm8k."""
    documents, draw = corpus.held_out_text(2_000_000), random.Random(3)
    found = cloze.items(documents, ITEMS)
    sums = [(draw.randrange(100), draw.randrange(100)) for _ in range(ITEMS)]
    words = ["Python", "関数", "変数", "クラス", "整数", "文字列", "辞書", "配列"]
    rows = {
        "hellaswag": [
            {
                "activity_label": "Code",
                "ctx_a": item["ctx"][:100],
                "ctx_b": item["ctx"][100:],
                "endings": item["endings"],
                "label": str(item["label"]),
            }
            for item in found
        ],
        "wikitext": [{"page": text[:6000]} for _, text in documents[:6]],
        "ja_leaderboard_jcommonsenseqa": [
            {"q_id": n, "question": f"{n}番目の言葉は何ですか", "label": n % 5}
            | {f"choice{i}": word for i, word in enumerate(draw.sample(words, 5))}
            for n in range(ITEMS)
        ],
        "gsm8k": [{"question": f"What is {a} plus {b}?", "answer": f"{a} plus {b} is {a + b}.\n#### {a + b}"} for a, b in sums],
    }
    for name, own in rows.items():
        (folder / name).mkdir()
        for part in ("train", "validation", "test"):
            lines = [json.dumps(row, ensure_ascii=False) for row in own]
            (folder / name / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def scored_here(stage, engine: Engine, told: specification.Task) -> tuple[dict, list[str]]:
    """Metrics, and the texts that were written, by the code of scripts/evaluate_quality.py and scripts/score.py."""
    task, tokenizer = tasks.load(told, []), questions.Tokenizer.of(engine.language)
    asked, answers, texts = tasks.requests(task, told["limit"]), {}, []
    for row in asked:
        one = stage.question(row, tokenizer)
        if one.generation:
            answer = stage.write(engine, one.generation, seed=0)
            texts.append(answer["answer"])
        else:
            answer = stage.likelihood(one, iter(engine.loglikelihoods(one.parts)))
        answers[(row["item"], row["request"])] = answer
    return {score.metric: score.value for score in tasks.score(task, told["limit"], asked, answers)}, texts


def scored_by_lm_eval(checkpoint: Path, told: specification.Task) -> tuple[dict, list[str]]:
    from lm_eval import simple_evaluate

    given = f"pretrained={checkpoint},dtype=float32"
    options = {"limit": told["limit"], "device": "cpu", "batch_size": 1, "bootstrap_iters": 0, "log_samples": True}
    found = simple_evaluate("hf", model_args=given, tasks=[tasks.load(told, [])], **options)
    ((name, figures),) = found["results"].items()
    kept = {key.partition(",")[::2]: value for key, value in figures.items() if "stderr" not in key and isinstance(value, float)}
    metrics = {metric if of == "none" else f"{metric} ({of})": value for (metric, of), value in kept.items() if of}
    samples = sorted(found["samples"][name], key=lambda sample: (sample["filter"], sample["doc_id"]))
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    answers = [sample["resps"][0][0] for sample in first]
    return metrics, [answer for answer in answers if isinstance(answer, str)]


def _stage():
    """scripts/evaluate_quality.py, which as a module of that name would stand before a package that lm-eval imports."""
    spec = importlib.util.spec_from_file_location("evaluate_stage", ROOT / "scripts/evaluate_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
