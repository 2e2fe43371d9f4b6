"""How the loop of our own picks tokens: by the rules of transformers, asked of its own processors, in the environment of both."""

import os
import subprocess

import pytest
import working_copy

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

# The tokens that may follow and their probabilities must be those of transformers; the loop's draws must have these frequencies.
COMPARED = """
import torch
from speedgrid.engines.transformers_loop import pick
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

torch.manual_seed(3)
for settings in (dict(temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.3), dict(temperature=1.5), dict(top_p=0.4), dict(top_k=3)):
    logits, prompt = torch.randn(1, 40) * 3, torch.tensor([[1, 2, 3, 3]])
    theirs = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(settings.get("repetition_penalty", 1.0))])
    theirs.append(TemperatureLogitsWarper(settings.get("temperature", 1.0)))
    if "top_k" in settings:
        theirs.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        theirs.append(TopPLogitsWarper(settings["top_p"]))
    wanted = theirs(prompt, logits.clone()).softmax(-1)[0]
    rows = 20000
    seen = torch.zeros((rows, 40), dtype=torch.bool).scatter_(1, prompt.expand(rows, -1), True)
    drawn = pick(logits.expand(rows, -1), seen, {"do_sample": True, **settings})[:, 0]
    assert bool(seen.gather(1, drawn[:, None]).all()), "what was picked counts as seen"
    found = torch.bincount(drawn, minlength=40) / rows
    assert set(drawn.tolist()) <= set(wanted.nonzero()[:, 0].tolist()), settings
    # Five standard errors of a frequency of one half.
    assert (found - wanted).abs().max() < 5 * (0.25 / rows) ** 0.5, settings
greedy = pick(logits, torch.zeros((1, 40), dtype=torch.bool), {"do_sample": False, "repetition_penalty": 1.0})
assert greedy.item() == logits.argmax().item()
print("as transformers")
"""


def test_the_loop_picks_tokens_by_the_rules_of_transformers(tmp_path):
    folder = working_copy.copy_to(tmp_path)
    assert working_copy.launcher(folder, "run", "--study", "tests/studies/techniques.yaml", "models/tiny/prepared.parquet").returncode == 0
    environ = {**os.environ, "PYTHONPATH": str(folder / "scripts")}
    done = subprocess.run([working_copy.python_of("transformers"), "-c", COMPARED], env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "as transformers", done.stderr
