"""A first study of training steps, `speedgrid new --workload train`: ways to fine-tune a language model, or number formats and compilation
of a classifier of images, whose passes are measured too. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from speedgrid import draft_text, drafts, estimates, families, known, validation, workload
from speedgrid.drafts import Draft, Source, Wish
from speedgrid.engines import engine_class
from speedgrid.estimates import Machine, Model, Work

TRAIN, PASSES = "train", "forward"
# Ways to fine-tune a language model, what needs most memory first. The baseline is the first one that fits.
FINETUNE = (
    *("finetune_full", "finetune_full_fused", "finetune_full_checkpointing", "finetune_full_8bit", "finetune_full_paged"),
    *("finetune_lora", "finetune_lora_checkpointing", "finetune_qlora", "finetune_qlora_checkpointing", "finetune_qlora_paged"),
)
# Number formats, layouts and compilation of training on images, and of passes; float32 is the baseline.
ON_IMAGES = (
    *("torch_fp32", "torch_tf32", "torch_fp16_scaler", "torch_bf16_autocast", "torch_bf16_pure"),
    *("torch_bf16_autocast_channels_last", "torch_bf16_autocast_compile"),
)
PASSES_ON_IMAGES = ("torch_fp32", "torch_tf32", "torch_bf16_pure", "torch_fp32_compile", "torch_bf16_pure_compile")
# Tokens of an example and pixels of a side, where the model's configuration does not say less or otherwise; and images of a batch.
SEQUENCE, PIXELS, IMAGES = 1024, 224, 32
# Counted steps, the most first.
STEPS = (20, 10, 5)
WARMUPS = 3
# The compute capability from which tensor cores take bfloat16.
BFLOAT16_FROM = 8.0


def is_meant(asked: str | None, source: Source) -> bool:
    """Whether a study of training is meant: as asked, and without a word for a model that writes no replies. Raises ValueError where it
    must be and another one is asked for."""
    trains = workload.WORKLOADS[asked].trains if asked else source.of_images
    if source.of_images and not trains:
        raise ValueError(f"{source.name} is {families.KINDS[source.kind]} and writes no replies; leave --workload out for its training")
    return trains


@dataclass
class StepDraft(Draft):
    """A draft with the keys of its experiments that all of its cells share."""

    keys: dict[str, object] = field(default_factory=dict)


def draft(source: Source, registry: Mapping, machine: Machine, wish: Wish, lacks: Callable[[str], str]) -> StepDraft:
    """Choose techniques of training for a model on a machine; `lacks(name)` says what the machine lacks for a technique.

    Raises ValueError where none of them runs here and fits."""
    found = StepDraft([], batch=wish.batch or (IMAGES if source.of_images else 1), replies=STEPS[0], keys=_keys(source, machine))
    wanted = _order(source, registry, wish)
    why = {name: _hindrance(found, source, registry, name, machine, wish, lacks) for name in wanted}
    for name in wish.techniques:
        if name not in registry:
            raise ValueError(f"--techniques {name}: {validation.unknown(name, registry)}")
        if why[name]:
            raise ValueError(f"--techniques {name}: {why[name]}")
    able = [name for name in wanted if not why[name]]
    if not able:
        needs = {name: _needs(found, source, registry, name, machine) for name in wanted if why[name].startswith(drafts.NEEDS)}
        nearest = min(needs, key=lambda name: needs[name]) if needs else wanted[0]
        raise ValueError(f"no way to train {source.name} runs here and fits; the nearest to it is {nearest}, which {why[nearest]}")
    # The baseline is the first of all that can be measured.
    found.techniques = [name for name in able if name == able[0] or not wish.techniques or name in wish.techniques]
    if not wish.techniques:
        found.left_out = {name: reason for name, reason in why.items() if reason}
        found.passes = [name for name in PASSES_ON_IMAGES if source.of_images and name in registry and not lacks(name)]
    if able[0] != wanted[0]:
        found.instead = f"{wanted[0]} {why[wanted[0]]}"
    return _shortened(found, source, registry, machine, wish)


def _order(source: Source, registry: Mapping, wish: Wish) -> list[str]:
    """The techniques that are asked for, or may be: the baseline's candidates first."""
    first = [name for name in (ON_IMAGES if source.of_images else FINETUNE) if name in registry]
    if wish.all:
        return list(dict.fromkeys([*first, *(name for name, entry in registry.items() if _is_for(source, entry))]))
    return list(dict.fromkeys([*first, *(name for name in wish.techniques if name in registry)]))


def _is_for(source: Source, entry: Mapping) -> bool:
    """Whether a technique is one of training such a model: adapters are of language models, the layout of channels is one of images."""
    options = entry["options"]
    if not workload.takes(TRAIN, entry["engine"]):
        return False
    of_text = {"adapter", "attention"} & set(options) or "8bit" in str(options.get("optimizer", ""))
    return not of_text if source.of_images else not options.get("channels_last")


def _keys(source: Source, machine: Machine) -> dict[str, object]:
    if source.of_images:
        size = source.config.get("image_size")
        return {"image_size": size if type(size) is int and size > 0 else PIXELS}
    capability = known.of_name(machine.name).capability if machine.is_gpu else ""
    # Weights and states in bfloat16 take half the memory, where the device computes in it.
    precision = ("bf16_pure" if float(capability) >= BFLOAT16_FROM else "fp16_scaler") if machine.is_gpu else "bf16_autocast"
    return {"precision": precision, "data": "text", "sequence": min(SEQUENCE, families.positions(source.config) or SEQUENCE)}


def _hindrance(
    found: StepDraft, source: Source, registry: Mapping, name: str, machine: Machine, wish: Wish, lacks: Callable[[str], str]
) -> str:
    """Why a technique is not in a draft; empty where it is."""
    entry, experiment = registry[name], _experiment(found, TRAIN)
    if not workload.takes(TRAIN, entry["engine"]):
        return "is not one of training"
    options = workload.options(experiment, TRAIN, entry["options"])
    engine = engine_class(entry["engine"])
    if problem := workload.technique_problem(experiment, TRAIN, options) or engine.problem(options, found.batch):
        return problem
    if why := lacks(name):
        return why
    return drafts.too_large(_needs(found, source, registry, name, machine), wish.vram or machine.room)


def _needs(found: StepDraft, source: Source, registry: Mapping, name: str, machine: Machine) -> float:
    """Bytes that a technique needs, by estimate; 0 where nothing is known of the model."""
    if source.model is None:
        return 0.0
    return estimates.needed(source.model, work(found, registry, name, TRAIN), replace(machine, memory=float("inf")))


def _experiment(found: StepDraft, kind: str) -> dict:
    """The experiment as planning has it."""
    counting = {"replies": found.replies, "warmup_replies": WARMUPS, "repeat_disturbed": 0, "quiet_wait_s": 0, "batch_size": found.batch}
    return counting | {key: value for key, value in found.keys.items() if workload.WORKLOADS[kind].trains or key != "data"}


def work(found: StepDraft, registry: Mapping, name: str, kind: str) -> Work:
    """What a technique of a draft does, in training steps or passes."""
    entry, experiment = registry[name], _experiment(found, kind)
    options = workload.options(experiment, kind, entry["options"])
    names = found.techniques if workload.WORKLOADS[kind].trains else found.passes
    return Work(
        technique=name,
        engine=entry["engine"],
        env=str(entry["env"]),
        dtype=options["dtype"],
        transform=None,
        options=options,
        prompt=1,
        new_tokens=1,
        batch=found.batch,
        replies=found.replies,
        warmup_replies=WARMUPS,
        runs=2 if names[:1] == [name] else 1,
        workload=kind,
        settings=workload.settings(experiment, kind),
    )


def _shortened(found: StepDraft, source: Source, registry: Mapping, machine: Machine, wish: Wish) -> StepDraft:
    """The draft with what fits into the minutes wished for: fewer steps first, then no passes, then fewer techniques, the last first."""
    for found.replies in STEPS:
        found.seconds = _takes_s(found, source.model, registry, machine)
        if found.seconds <= wish.most_s:
            return found
    while found.seconds > wish.most_s and (found.passes or len(found.techniques) > 2):
        found.leave_out_last(found.passes or found.techniques, wish)
        found.seconds = _takes_s(found, source.model, registry, machine)
    return found


def _takes_s(found: StepDraft, model: Model | None, registry: Mapping, machine: Machine) -> float:
    if model is None:
        return 0.0
    cells = [(model, work(found, registry, name, TRAIN)) for name in found.techniques]
    cells += [(model, work(found, registry, name, PASSES)) for name in found.passes]
    used = drafts.environments((work.technique for _, work in cells), registry, machine) | {"report"}
    return estimates.study(cells, [model], used, machine).seconds


def text(source: Source, found: StepDraft, registry: Mapping, wish: Wish, schema: str) -> str:
    """The study as YAML, with comments; `schema` is the path of its schema for editors."""
    lines = draft_text.head(source, wish, schema, f"Training of {source.name.removesuffix('-training')}")
    lines += ["experiments:", *_lines(TRAIN, source, found, found.techniques, registry)]
    if found.passes:
        lines += ["  # The same without gradients.", *_lines(PASSES, source, found, found.passes, registry)]
    return "\n".join(lines) + "\n"


def _lines(kind: str, source: Source, found: StepDraft, techniques: Sequence[str], registry: Mapping) -> list[str]:
    lines = [f"  {kind}:", f"    workload: {kind}", f"    models: [{draft_text.plain(source.name)}]", "    techniques:"]
    lines += draft_text.listed(techniques, registry)
    lines += draft_text.left_out(found) if workload.WORKLOADS[kind].trains else []
    lines += [f"    baseline: {techniques[0]}"]
    lines += [f"    {key}: {value}" for key, value in _experiment(found, kind).items() if key in found.keys]
    one = workload.WORKLOADS[kind].noun
    lines += [f"    # Examples in a {one}.", f"    batch_size: {found.batch}"]
    counted = workload.PLURALS[one]
    return [*lines, f"    # Counted {counted}.", f"    replies: {found.replies}", f"    warmup_replies: {WARMUPS}"]
