"""The mistakes that people make most, as they stand in a file, and the words that help: what, where, and what to write."""

import pytest
from speedgrid import planning
from speedgrid.study import StudyError

STUDY = """\
study: mine
gpus:
  here:
    device: auto
models:
  tiny:
    train: {steps: 5}
experiments:
  generate:
    models: [tiny]
    techniques: [baseline, sdpa]
    dtype: float32
    prompt: "def f(x):"
    replies: 20
    sampling:
      temperature: 0.8
    evaluate: false
"""
HUB = "hub: some/model"
COMMIT = "1234567890" * 4
# What is written in place of what, and the words.
MISTAKES = [
    ("replies: 20", "replys: 20", "experiments.generate: unknown key replys; did you mean replies?"),
    (
        "replies: 20",
        "replies: 1e3",
        "experiments.generate.replies: '1e3' is not allowed; allowed is a whole number or auto or keys and values; write 1000",
    ),
    ("replies: 20", "replies: 20.5", "experiments.generate.replies: 20.5 is not allowed; allowed is a whole number or auto"),
    ("replies: 20", "replies: 0", "experiments.generate.replies: 0 is too small; the least is 1"),
    ("replies: 20", "replies:", "experiments.generate.replies: nothing is not allowed; allowed is a whole number or auto"),
    ("replies: 20", "replies: 20\n    replies: 30", "line 15: the key 'replies' is there twice"),
    ("    replies: 20", "   replies: 20", "line 14, column 4: this line does not go on with what stands above it"),
    ("    replies: 20", "\treplies: 20", "line 14, column 1: a tab, where YAML takes spaces alone"),
    ("replies: 20", "replies 20", "a key without `: ` after it"),
    (
        'prompt: "def f(x):"',
        "prompt: Translate: hello",
        "line 13, column 22: a second `: ` in one value, or a key that is indented otherwise",
    ),
    ('prompt: "def f(x):"', 'prompt: "def f(x):', "not closed"),
    ('prompt: "def f(x):"', "prompt: 12", "experiments.generate.prompt: expected text, found a number (12); put it in quotes"),
    ('    prompt: "def f(x):"\n', "", "experiments.generate: needs exactly one of prompt, prompt_tokens; it has none"),
    (
        "      temperature: 0.8",
        "    temperature: 0.8",
        "experiments.generate: unknown key temperature; it is a key of experiments.NAME.sampling",
    ),
    (
        "temperature: 0.8",
        'temperature: "0.8"',
        "experiments.generate.sampling.temperature: expected a number, found text ('0.8'); write 0.8",
    ),
    ("temperature: 0.8", "temperature: 0,8", "experiments.generate.sampling.temperature: expected a number, found text ('0,8')"),
    ("temperature: 0.8", "temperature: 0", "experiments.generate.sampling.temperature: 0 is too small; it must be more than 0"),
    ("temperature: 0.8", "temperature: .nan", "line 16: '.nan' is no finite number"),
    ("[baseline, sdpa]", "[baseline, spda]", "experiments.generate.techniques: 'spda' is unknown; did you mean sdpa?"),
    ("[baseline, sdpa]", "[baseline, torch-compile]", "'torch-compile' is unknown; did you mean torch_compile?"),
    (
        "[baseline, sdpa]",
        "baseline, sdpa",
        "experiments.generate.techniques: expected a list, found text ('baseline, sdpa'); write [baseline, sdpa]",
    ),
    ("[baseline, sdpa]", "[sdpa]", "experiments.generate.baseline: 'baseline' is not one of the experiment's techniques: sdpa"),
    ("[baseline, sdpa]", "[baseline, sdpa, sdpa]", "experiments.generate.techniques: 'sdpa' is there twice"),
    ("models: [tiny]", "models: [tinny]", "experiments.generate.models: 'tinny' is unknown; did you mean tiny?"),
    ("dtype: float32", "dtype: fp32", "experiments.generate.dtype: 'fp32' is not allowed; allowed are float32, float16, bfloat16"),
    ("device: auto", "device: gpu", "gpus.here.device: 'gpu' is not allowed; allowed are auto, cuda, cpu"),
    ("  here:", "  my gpu:", "gpus: 'my gpu' is not allowed; a name has letters, digits, dots, dashes and underscores"),
    ("train: {steps: 5}", HUB, "models.tiny: needs the key revision beside hub: commit of the hub repository, all 40 digits"),
    ("train: {steps: 5}", f"{HUB}\n    revision: main", "models.tiny.revision: 'main' is a branch or tag, which moves; write its commit"),
    ("train: {steps: 5}", f"{HUB}\n    revision: {COMMIT}", f"line 8: '{COMMIT}' is too large a number"),
    (
        "train: {steps: 5}",
        "hub: https://huggingface.co/a/b\n    revision: main",
        "it is a repository of the hub, such as meta-llama/Llama-3.2-3B",
    ),
    ("train: {steps: 5}", "local: ~/no/where", "models.tiny.local: ~/no/where is not a folder with a checkpoint (no config.json)"),
    (
        "train: {steps: 5}",
        "train: {steps: 5}\n    local: x",
        "models.tiny: needs exactly one of train, architecture, attention, local, gguf, hub; it has",
    ),
    ("evaluate: false", "evaluate: true", "experiments.generate.evaluate: true is not allowed; allowed is false or keys and values"),
    ("evaluate: false", "evaluate: {text: my.txt}", "experiments.generate.evaluate.text: no such file: my.txt"),
    ("study: mine", "studdy: mine", "unknown key studdy; did you mean study?"),
]


def test_the_study_without_a_mistake_plans(tmp_path):
    (tmp_path / "mine.yaml").write_text(STUDY)
    assert len(planning.read_grid(tmp_path / "mine.yaml").cells) == 2


@pytest.mark.parametrize(("right", "wrong", "words"), MISTAKES, ids=[f"{number}: {case[1][:30]!r}" for number, case in enumerate(MISTAKES)])
def test_a_common_mistake_is_told_with_what_helps(tmp_path, right, wrong, words):
    assert STUDY.count(right) == 1
    (tmp_path / "mine.yaml").write_text(STUDY.replace(right, wrong))
    with pytest.raises(StudyError) as caught:
        planning.read_grid(tmp_path / "mine.yaml")
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'mine.yaml'}: ")
    assert line.isprintable()
    assert words in line
