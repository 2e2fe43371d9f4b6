"""Studies that nobody would write, made from a number: the same number gives the same study.

Each is the bytes of a file: a shipped study with some of its values taken out, put twice, renamed, retyped or replaced by parts of others;
a study made from the schemas, with odd values here and there; or a shipped study whose text was damaged.
"""

import copy
import random
from collections.abc import Callable, Iterator
from functools import cache

import yaml
from speedgrid import workload

import studies

SHIPPED = sorted([studies.ROOT / "config.yaml", *studies.ROOT.glob("studies/*.yaml"), *studies.ROOT.glob("tests/studies/*.yaml")])
NAMES = [
    "",
    "a",
    "A",
    "plan.json",
    "requests",
    "summary.parquet",
    "../up",
    "a/b",
    "-rf",
    "a b",
    "é",
    "a\n",
    "$(x)",
    "{x}",
    "x" * 70,
    "null",
    "1",
]
TEXTS = [
    *(
        "",
        " ",
        "~",
        "~nosuchuser/x",
        "/",
        ".",
        "..",
        "/dev/null",
        "/etc/shadow",
        "/proc/self/mem",
        "x" * 300,
        "nosuch",
        "config.yaml",
        "studies",
    ),
    *(
        "auto",
        "stdlib",
        "1e3",
        "30%",
        "on",
        "\u202e",
        "\x00",
        "\x1b[2J",
        "a\nb",
        "it's",
        '"',
        "{0}",
        "${HOME}",
        "%s",
        "é" * 50,
        "\ud800",
        "main",
    ),
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    0.0,
    -0.0,
    0.5,
    1.0,
    1e3,
    1e-300,
    1e308,
    2**31,
    2**53,
    2**53 + 1,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    -float("inf"),
]
OTHERS = [None, True, False, [], {}, [[]], {"a": {}}, ["a", "a"], [None], {"": 1}, {1: 2}, {None: None}, {True: False}]
OF_WORKLOADS = [key for key in workload.OWNED if key != "prompt_tokens"]
GENERATING = sorted(name for name, entry in studies.registry().items() if workload.takes("generate", entry["engine"]))
# What may come into a text at any place.
TOKENS = [
    *(
        "\t",
        "\n",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: *a",
        "!!set ",
        "!!binary ",
        "!x ",
        "? ",
        "| ",
        "> ",
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        "#",
        "---\n",
    ),
    *(
        "...\n",
        "%YAML 1.1\n",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
        "2024-01-01",
        "0777",
        "1:30",
        ".nan",
        "1e3",
        "=",
        "~",
        "yes",
        "@",
        "`",
        "\r",
    ),
]


def make(seed: int) -> bytes:
    """The study of a number."""
    draw = random.Random(seed)
    return draw.choice([mutated, mutated, from_schema, damaged, aliased])(draw)


@cache
def shipped() -> list[dict]:
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in SHIPPED]


@cache
def schemas() -> dict[str, dict]:
    return {name: studies.schema(name) for name in ("study", "techniques")}


@cache
def parts() -> list[object]:
    """Every value of every shipped study, and of some techniques."""
    registry = studies.registry()
    return [value for document in [*shipped(), registry] for _, value in places(document)]


def places(value: object, at: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """The path and value of everything in a study."""
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def odd(draw: random.Random) -> object:
    """A value, most likely of a wrong kind."""
    kind = draw.choice([TEXTS, NUMBERS, OTHERS, NAMES, None])
    return copy.deepcopy(draw.choice(kind) if kind else draw.choice(parts()))


def as_bytes(draw: random.Random, study: object) -> bytes:
    text = yaml.dump(
        study, Dumper=Plain, sort_keys=False, allow_unicode=True, default_flow_style=draw.choice([False, False, None]), width=200
    )
    return text.encode("utf-8", "surrogatepass")


class Plain(yaml.SafeDumper):
    """Without aliases: what is there twice is written twice."""

    def ignore_aliases(self, data):
        return True


def mutated(draw: random.Random) -> bytes:
    study = copy.deepcopy(draw.choice(shipped()))
    if draw.random() < 0.3:
        study["techniques"] = {"own": draw.choice(list(studies.registry().values()))}
        draw.choice(list(study["experiments"].values()))["techniques"].append("own")
    for _ in range(draw.choice([1, 1, 1, 2, 3, 5])):
        found = [(at, value) for at, value in places(study) if at]
        if not found:
            break
        at, value = draw.choice(found)
        parent = study
        for key in at[:-1]:
            parent = parent[key]
        draw.choice([removed, repeated, renamed, retyped, replaced, replaced, joined])(draw, parent, at[-1], value)
    return as_bytes(draw, study)


def removed(draw, parent, key, value):
    del parent[key]


def repeated(draw, parent, key, value):
    if isinstance(parent, list):
        parent.insert(draw.randrange(len(parent) + 1), copy.deepcopy(value))
    else:
        parent[f"{key}{draw.choice(['', '2', '_'])}".swapcase() if draw.random() < 0.5 else draw.choice(NAMES)] = copy.deepcopy(value)


def renamed(draw, parent, key, value):
    del parent[key]
    if isinstance(parent, dict):
        mistyped = list(str(key))
        draw.shuffle(mistyped)
        parent[draw.choice([str(key)[:-1], str(key) + "s", str(key).upper(), "".join(mistyped), draw.choice(NAMES)])] = value


def retyped(draw, parent, key, value):
    forms: list[Callable] = [
        str,
        lambda v: [v],
        lambda v: {"value": v},
        lambda v: None,
        lambda v: True,
        lambda v: f"{v}\n",
        lambda v: f"{v} ",
    ]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**300:
        forms += [float, lambda v: -v, lambda v: v * 10**9, lambda v: v + 0.5, lambda v: 0]
    parent[key] = draw.choice(forms)(value)


def replaced(draw, parent, key, value):
    parent[key] = odd(draw)


def joined(draw, parent, key, value):
    if isinstance(value, dict):
        value[draw.choice([*NAMES, "name", "revision", "share", "bits"])] = odd(draw)
    elif isinstance(value, list):
        value.append(odd(draw))
    else:
        parent[key] = odd(draw)


def from_schema(draw: random.Random) -> bytes:
    """A study grown from its schema; its names fit together, so that many a value is looked at by more than the schema."""
    root = schemas()["study"]
    study = grown(draw, root, root, 0.005)
    if not isinstance(study, dict):
        return as_bytes(draw, study)
    models = {name: grown(draw, root["$defs"]["model"], root, 0.01) for name in draw.sample(["m", "n", "o"], draw.randint(1, 3))}
    for model in models.values():
        if isinstance(model, dict):
            origin = draw.choice(["train", "architecture", "attention", "train"])
            model.pop("calibration", None)
            for other in {"train", "architecture", "attention", "local", "gguf", "hub", "revision"} - {origin}:
                model.pop(other, None)
            model.setdefault(origin, {"model_type": "llama"} if origin == "architecture" else {})
    gpus = {name: grown(draw, root["$defs"]["gpu"], root, 0.01) for name in draw.sample(["g", "h"], draw.randint(1, 2))}
    techniques = draw.sample(GENERATING, draw.randint(1, 4)) if draw.random() < 0.8 else draw.sample(list(studies.registry()), 2)
    own = {}
    if draw.random() < 0.5:
        own = {"mine": grown(draw, schemas()["techniques"]["additionalProperties"], schemas()["techniques"], 0.05)}
        if isinstance(own["mine"], dict) and "transform" in own["mine"]:
            own["mine"]["transform"] = draw.choice([entry["transform"] for entry in studies.registry().values() if "transform" in entry])
            own["mine"]["transform"] = {**own["mine"]["transform"], draw.choice(["bits", "share", "type", "train", "x"]): odd(draw)}
        techniques.append("mine")
        own = own if draw.random() < 0.7 else {"mine": next(iter(studies.registry().values()))}
    experiments = {}
    for name in draw.sample(["e", "f"], draw.randint(1, 2)):
        experiment = grown(draw, root["$defs"]["experiment"], root, 0.01)
        if isinstance(experiment, dict):
            experiment |= {"models": list(models), "techniques": techniques, "baseline": techniques[0]}
            if draw.random() < 0.9:
                for key in ("prompt", "exclude", "gpus", "workload", "published", *OF_WORKLOADS):
                    experiment.pop(key, None)
                experiment["prompt_tokens"] = 8
        experiments[name] = experiment
    for experiment in experiments.values():
        if isinstance(experiment, dict) and isinstance(experiment.get("evaluate"), dict) and draw.random() < 0.9:
            experiment["evaluate"] |= {"text": "stdlib", "tasks": [{"task": "cloze"}], "max_bytes": 4096}
    if draw.random() < 0.6:
        # What depends on other keys as most people write it, so that the rest is looked at by all of planning.
        for model in filter(lambda model: isinstance(model, dict), models.values()):
            model.pop("attention", None)
            model |= {} if "architecture" in model else {"train": {"steps": draw.randint(1, 9)}}
        for gpu in filter(lambda gpu: isinstance(gpu, dict), gpus.values()):
            gpu.pop("slurm", None)
        if isinstance(own.get("mine"), dict):
            own["mine"] = {**own["mine"], "env": "transformers", "engine": "transformers", "options": {}}
            for key in ("reference", "transform", "from", "checkpoint"):
                own["mine"].pop(key, None)
    study |= {"models": models, "gpus": gpus, "experiments": experiments, "techniques": own}
    study.pop("compare_with", None)
    return as_bytes(draw, study)


def grown(draw: random.Random, schema: dict, root: dict, oddness: float) -> object:
    """A value that fits a schema, each part of it odd with a small probability."""
    if draw.random() < oddness:
        return odd(draw)
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if "oneOf" in schema and "properties" not in schema:
        return grown(draw, draw.choice(schema["oneOf"]), root, oddness)
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        share = draw.random()
        chosen = [key for key in properties if key in schema.get("required", ()) or draw.random() < share]
        return {key: grown(draw, properties[key], root, oddness) for key in chosen}
    if kind == "array":
        return [grown(draw, schema["items"], root, oddness) for _ in range(draw.randint(0, 3))]
    if kind == "integer":
        least = schema.get("minimum", 0)
        return min(draw.choice([least, least + 1, least + 7, 256]), schema.get("maximum", 256))
    if kind == "number":
        return draw.choice([0.1, 0.5, 1, 1.0])
    if kind == "boolean":
        return draw.random() < 0.5
    if "[0-9a-f]{40}" in schema.get("pattern", ""):
        return "0123456789" * 4
    return draw.choice(["x", "a", "stdlib", "m", "config.yaml", *(TEXTS if draw.random() < 0.05 else [])])


def damaged(draw: random.Random) -> bytes:
    """A shipped study whose bytes were changed."""
    content = bytearray(draw.choice(SHIPPED).read_bytes())
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        at = draw.randrange(len(content) + 1)
        kind = draw.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            content[at:at] = draw.choice(TOKENS).encode()
        elif kind == 2:
            del content[at : at + draw.choice([1, 2, 10, 200])]
        elif kind == 3:
            content[at:at] = bytes(draw.randrange(256) for _ in range(3))
        else:
            lines = content.split(b"\n")
            one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
            if kind == 4:
                lines.insert(other, lines[one])
            else:
                lines[one], lines[other] = lines[other], lines[one]
            content = bytearray(b"\n".join(lines))
    return bytes(content)


def aliased(draw: random.Random) -> bytes:
    """A shipped study that is written with anchors and aliases, some in the wrong place, some many times over."""
    lines = draw.choice(SHIPPED).read_text(encoding="utf-8").split("\n")
    spots = [number for number, line in enumerate(lines) if line.rstrip().endswith(":") and not line.lstrip().startswith("#")]
    for name in "ab"[: draw.randint(1, 2)]:
        spot = draw.choice(spots)
        lines[spot] = f"{lines[spot].rstrip()} &{name}"
    for _ in range(draw.randint(1, 3)):
        spot = draw.randrange(len(lines))
        indent = " " * (len(lines[spot]) - len(lines[spot].lstrip()))
        lines.insert(spot, indent + draw.choice(["x: *a", "<<: *a", "- *a", "<<: [*a, *b]", "*a: 1", "x: [*a, *a, *b]"]))
    if draw.random() < 0.3:
        width, depth = draw.choice([(9, 12), (2, 60), (1, 200)])
        lines += ["l0: &l0 [x]", *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, depth))]
    return "\n".join(lines).encode()
