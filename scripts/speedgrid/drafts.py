"""A first study of a model: which techniques to measure on a machine. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from speedgrid import amounts, estimates, families, validation, workload
from speedgrid.engines import engine_class
from speedgrid.estimates import Machine, Model, Work

# What a study can be for, each with what it then measures.
GOALS = {
    "speed": "one technique of each family, the fastest ones",
    "memory": "also every quantization that fits",
    "quality": "nothing that changes the weights; every number format and attention",
}
# What is measured first, of each family the first that runs here and fits; for a goal other families come before. A technique that is not
# named here is taken only by `--all`: those that need another baseline, or stand for what not to do.
FIRST = (
    *("sdpa", "torch_compile_loop", "torch_compile", "bf16", "fp16", "vllm", "gguf_original", "gguf_q4_k_m", "bnb_int8"),
    *(
        "torchao_int8_compile",
        "vllm_fp8",
        "vllm_awq_int4",
        "gptq_int4",
        "awq_int4",
        "bnb_nf4",
        "prompt_lookup",
        "static_cache",
        "onnx_fp32",
    ),
)
# On a processor llama.cpp is what answers first, and vLLM is built for few.
FIRST_ON_CPU = (
    *("gguf_original", "gguf_q4_k_m", "torch_compile", "sdpa", "bf16", "bnb_int8", "gguf_q8_0", "onnx_int8", "onnx_fp32"),
    *("prompt_lookup", "static_cache", "bnb_nf4"),
)
# A GGUF file as it is.
AS_IT_IS = "gguf_original"
# Of a GGUF file the question is which form of it to take: all that make it smaller.
OF_A_GGUF = (AS_IT_IS, "gguf_q8_0", "gguf_q4_k_m", "gguf_q3_k_m")
# How much of the file such a form may be.
SMALLER = 0.97
# All of these families are measured where the goal is asked for, and not one of each.
OF_GOAL = {"speed": (), "memory": ("quantization",), "quality": ("precision", "attention")}
# The baseline where the model does not fit as it is: the first of these that does, the nearest to it first.
INSTEAD = ("gguf_original", "gguf_q8_0", "bnb_int8", "gguf_q4_k_m", "bnb_nf4", "gguf_q3_k_m")
# What must keep the model as it is, where quality is the goal.
LOSSY = ("quantization", "compression")
# Stacks of the past have baselines of their own.
HISTORICAL = "transformers_legacy"
# How the reason begins that is about memory.
NEEDS = "needs about"
PROMPT, NEW_TOKENS, REPLIES, WARMUPS = 32, 64, 20, 2
# With few minutes: fewer and shorter replies, the longest first.
SHORTER = ((20, 64), (12, 48), (10, 32), (10, 16))
TEXT_BYTES, POSITIONS, ITEMS = 16384, 1024, 50


@dataclass(frozen=True)
class Wish:
    """What somebody asks a study for. `vram` bytes that a technique may take, 0 where it is what the device has for one; `minutes` 0
    for no limit; `batch` replies at a time; `gpu` the name of another machine's GPU, empty where this machine is meant; `techniques`
    those to measure beside the baseline, empty where they are to be chosen."""

    goal: str = "speed"
    vram: float = 0
    minutes: float = 0
    all: bool = False
    batch: int = 1
    gpu: str = ""
    techniques: tuple[str, ...] = ()

    @property
    def further_minutes(self) -> float:
        """Of the minutes those for further runs of what is open."""
        return round(self.minutes / 8, 1)

    @property
    def most_s(self) -> float:
        """The seconds that all else may take; infinite where there is no limit."""
        return 60 * (self.minutes - self.further_minutes) if self.minutes else math.inf


@dataclass(frozen=True)
class Source:
    """The model of a draft: the lines of its entry in the study, what is known of it, and its languages by code.

    `is_random`: its weights are random, so that nothing is asked of it; `kind` is one of families.KINDS, and `config`
    the configuration of transformers, where it is known. `files` are the GGUF files of a folder, by whose name the source is called;
    `forms` are techniques by name, each a further GGUF file of the model, and `form` what the model's own file is called among them."""

    name: str
    entry: Mapping
    model: Model | None
    dtype: str
    languages: tuple[str, ...] = ("en",)
    is_random: bool = False
    is_gguf: bool = False
    told: str = ""
    kind: str = families.TEXT
    config: Mapping = field(default_factory=dict)
    files: tuple["Source", ...] = ()
    form: str = ""
    forms: Mapping[str, Mapping] = field(default_factory=dict)

    @property
    def models(self) -> tuple["Source", ...]:
        """What is measured side by side: the files of a folder, or the model itself."""
        return self.files or (self,)

    @property
    def of_images(self) -> bool:
        return self.kind == families.IMAGES


@dataclass
class Draft:
    """The techniques of a study, the baseline first, with why others were left out, and how long it runs. `instead` says why the baseline
    is not the one that was meant; mostly empty. `is_near` says whether the distance to the unmodified model is told, for which that has to
    fit. `passes` are techniques whose passes are measured beside training steps."""

    techniques: list[str]
    batch: int = 1
    instead: str = ""
    replies: int = REPLIES
    new_tokens: int = NEW_TOKENS
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    passes: list[str] = field(default_factory=list)
    is_near: bool = True

    def told_left_out(self) -> list[str]:
        """A line for each reason, with the techniques that were left out for it."""
        reasons = dict.fromkeys(self.left_out.values())
        return [f"{', '.join(name for name, why in self.left_out.items() if why == reason)}: {reason}" for reason in reasons]

    def leave_out_last(self, techniques: list[str], wish: Wish) -> None:
        """Leave out the last of some techniques of the draft, as it takes longer than was wished for."""
        self.left_out[techniques.pop()] = f"does not fit into {amounts.minutes(wish.minutes)}"


def draft(source: Source, registry: Mapping, machine: Machine, wish: Wish, lacks: Callable[[str], str]) -> Draft:
    """Choose techniques for a model on a machine; `lacks(name)` says what the machine lacks for one, empty where it is ready.

    Raises ValueError where not even the baseline runs here or fits.
    """
    if source.files or source.forms:
        return as_they_are(source, registry, machine, wish, lacks)
    if problem := lacks("baseline"):
        raise ValueError(f"the baseline cannot run here: it {problem}")
    found = Draft(["baseline"], batch=wish.batch, new_tokens=min(NEW_TOKENS, most_tokens(source)))
    if too_much := misfit(source, registry, "baseline", machine, wish):
        fits = (name for name in INSTEAD if name in registry and not hindrance(source, registry, name, machine, wish, lacks))
        if (instead := next(fits, None)) is None:
            raise ValueError(f"{source.name} unquantized {too_much}; {too_large_anyhow(source, registry, machine, wish, lacks)}")
        found.techniques, found.instead, found.is_near = [instead], f"unquantized it {too_much}", False
    if wish.techniques:
        return named(found, source, registry, machine, wish, lacks)
    taken: set[str] = set()
    order = tuple(dict.fromkeys((*(OF_A_GGUF if source.is_gguf else ()), *(FIRST if machine.is_gpu else FIRST_ON_CPU))))
    known = [name for name in order if name in registry]
    known += [name for name in registry if name not in known] if wish.all else []
    known = [name for name in known if source.is_gguf or not is_of_a_gguf(registry[name])]
    # Of what fits where the model does not, all are worth knowing: which of them to take is the question.
    wanted = (*OF_GOAL[wish.goal], *(("quantization",) if found.instead else ()))
    known.sort(key=lambda name: registry[name]["family"] not in wanted)  # few minutes leave the last out
    for name in known:
        entry = registry[name]
        if name == found.techniques[0]:
            continue
        if why := hindrance(source, registry, name, machine, wish, lacks):
            if name in order:
                found.left_out[name] = why
        elif source.is_gguf and name in OF_A_GGUF and not wish.all:
            if makes_smaller(source, registry, name):
                taken.add(entry["family"])
                found.techniques.append(name)
            else:
                found.left_out[name] = "is no smaller than the file"
        elif wish.all or entry["family"] not in taken or entry["family"] in wanted:
            taken.add(entry["family"])
            found.techniques.append(name)
    return shortened(found, source, registry, machine, wish)


def too_large_anyhow(source: Source, registry: Mapping, machine: Machine, wish: Wish, lacks: Callable[[str], str]) -> str:
    """Why no quantization is a baseline in the place of a model that does not fit, and what to do."""
    if wish.goal == "quality":
        return "quantizations change the weights, and quality is the goal: take a smaller one, or leave --goal quality out"
    able = [name for name in INSTEAD if name in registry and not unsuitable(source, registry[name], name, wish) and not lacks(name)]
    if source.model is None or not able:
        return "no quantization of it can run here: take a smaller one"
    needs = {name: memory(source, registry, name, machine, wish) for name in able}
    least = min(able, key=lambda name: needs[name])
    return f"the least that a quantization of it needs is about {amounts.size(needs[least])} ({least}): take a smaller one"


def one_of(files: Sequence[Source], registry: Mapping, machine: Machine, wish: Wish) -> Source:
    """GGUF files of one model, the largest first, as that model: the first one that fits, in the forms that the others are."""
    own = next((one for one in files if not misfit(one, registry, AS_IT_IS, machine, wish)), files[-1])
    return replace(own, form=own.name, forms={one.name: form(one, registry, one is own) for one in files})


def form(one: Source, registry: Mapping, is_own: bool) -> dict:
    """The technique that takes a GGUF file as it is: as `gguf_original` does, but for another file than the model's own."""
    path = str(one.entry["gguf"])
    entry = {**registry[AS_IT_IS], "label": path.rpartition("/")[2], "summary": "llama.cpp with this GGUF file as it is."}
    size = one.model.gguf_bytes if one.model else 0
    return entry if is_own else {**entry, "transform": {**entry["transform"], "file": path, "files": {path: (size, "")}}}


def as_they_are(source: Source, registry: Mapping, machine: Machine, wish: Wish, lacks: Callable[[str], str]) -> Draft:
    """The draft of several GGUF files, each measured by llama.cpp as it is: the forms of one model beside each other, or several models."""
    if wish.techniques or wish.all:
        raise ValueError("several files are measured as they are; for other techniques name one of them")
    if why := lacks(AS_IT_IS):
        raise ValueError(f"llama.cpp measures GGUF files, and here it {why}")
    if not source.forms:
        for one in source.files:
            if too_much := misfit(one, registry, AS_IT_IS, machine, wish):
                raise ValueError(f"{one.name} {too_much}; take it out of the folder")
        found = Draft([AS_IT_IS], batch=wish.batch, instead="each file is of another model, and is measured as it is", is_near=False)
        return shortened(found, source, registry, machine, wish)
    known = {**registry, **source.forms}
    misfits = {name: misfit(source, known, name, machine, wish) for name in source.forms}
    if misfits[source.form]:
        raise ValueError(f"{source.form} {misfits[source.form]}, and it is the smallest of these files")
    others = [name for name in source.forms if name != source.form and not misfits[name]]
    largest = "the largest file" if source.form == next(iter(source.forms)) else "the largest file that fits"
    found = Draft([source.form, *others], batch=wish.batch, instead=f"{largest}, against which the others are held")
    found.left_out = {name: reason for name, reason in misfits.items() if reason}
    found.is_near = not misfit(source, registry, "baseline", machine, wish)
    return shortened(found, source, known, machine, wish)


def named(found: Draft, source: Source, registry: Mapping, machine: Machine, wish: Wish, lacks: Callable[[str], str]) -> Draft:
    """The draft with the techniques that were asked for. Raises ValueError for one that there is not, or that cannot be measured."""
    for name in wish.techniques:
        if name not in registry:
            raise ValueError(f"--techniques {name}: {validation.unknown(name, registry)}")
        if name == found.techniques[0]:
            continue
        if why := hindrance(source, registry, name, machine, wish, lacks):
            raise ValueError(f"--techniques {name}: {why}")
        found.techniques.append(name)
    found.seconds = takes_s(found, source, registry, machine)
    return found


def hindrance(source: Source, registry: Mapping, name: str, machine: Machine, wish: Wish, lacks: Callable[[str], str]) -> str:
    """Why a technique is not in a draft: it is none for the model or the wish, cannot run here, or does not fit; empty where it is."""
    return unsuitable(source, registry[name], name, wish) or lacks(name) or misfit(source, registry, name, machine, wish)


def unsuitable(source: Source, entry: Mapping, name: str, wish: Wish) -> str:
    """Why a technique is none for a model or a wish, whatever the machine; empty where it is one."""
    if name == "baseline" or not workload.takes(workload.DEFAULT, entry["engine"]) or entry["engine"] == HISTORICAL:
        return "is not for replies of today's software"
    if is_of_a_gguf(entry) and not source.is_gguf:
        return "is for models that come as a GGUF file"
    transform = entry.get("transform", {})
    if source.model and transform.get("method") == "gguf" and not estimates.packs(source.model, transform["type"]):
        return f"packs {estimates.PACKED_ROW} weights of a row together, which rows of {source.model.width} do not allow"
    # An engine that can run nowhere has no class.
    if not entry.get("unavailable") and (problem := engine_class(entry["engine"]).problem(entry["options"], wish.batch)):
        return problem
    if entry["family"] == "precision" and entry["options"].get("dtype") == source.dtype:
        return f"the baseline already uses {source.dtype}"
    if wish.goal == "quality" and entry["family"] in LOSSY and not wish.all:
        return "changes the weights, and quality is the goal"
    return ""


def makes_smaller(source: Source, registry: Mapping, name: str) -> bool:
    """Whether a form of llama.cpp is smaller than the GGUF file that a model came as; the file itself counts as one."""
    if source.model is None or not source.model.gguf_bytes or is_of_a_gguf(registry[name]):
        return True
    return estimates.weight_bytes(source.model, work(source, registry, name, Draft([name]))) < SMALLER * source.model.gguf_bytes


def is_of_a_gguf(entry: Mapping) -> bool:
    """Whether a technique takes the file that a model came as."""
    return entry.get("transform", {}).get("type") == "original"


def misfit(source: Source, registry: Mapping, name: str, machine: Machine, wish: Wish) -> str:
    """Why a technique does not fit into the memory, by estimate; empty where it does, or where nothing is known of the model."""
    return too_large(memory(source, registry, name, machine, wish), wish.vram or machine.room)


def memory(source: Source, registry: Mapping, name: str, machine: Machine, wish: Wish) -> float:
    """Bytes that a technique needs, by estimate; 0 where nothing is known of the model."""
    if source.model is None:
        return 0.0
    return estimates.memory(source.model, work(source, registry, name, Draft([name], batch=wish.batch)), machine.is_gpu)


def too_large(needs: float, room: float) -> str:
    """That something needs more bytes than there are; empty where it does not."""
    return f"{NEEDS} {amounts.size(needs)}, and there are {amounts.size(room)} for it" if needs > room else ""


def work(source: Source, registry: Mapping, name: str, draft: Draft) -> Work:
    """What a technique of a draft does."""
    entry = registry[name]
    maker = registry[entry.get("checkpoint", name)]
    scores = not source.is_random
    return Work(
        technique=name,
        engine=entry["engine"],
        env=str(entry["env"]),
        dtype=entry["options"].get("dtype", source.dtype),
        transform=maker.get("transform"),
        options=entry["options"],
        prompt=PROMPT,
        new_tokens=draft.new_tokens,
        batch=draft.batch,
        replies=draft.replies,
        warmup_replies=WARMUPS,
        runs=2 if name == draft.techniques[0] else 1,
        scored_tokens=(TEXT_BYTES // 4 + POSITIONS) * scores,
        requests=estimates.REQUESTS * ITEMS * scores,
        is_lossless=entry["lossless"],
        is_baseline=name == draft.techniques[0],
    )


def most_tokens(source: Source) -> int:
    """New tokens for which a model has room: half of its positions, the prompt has the others; NEW_TOKENS where they are not known."""
    return max(1, (families.positions(source.config) or 2 * NEW_TOKENS) // 2)


def shortened(draft: Draft, source: Source, registry: Mapping, machine: Machine, wish: Wish) -> Draft:
    """The draft with what fits into the minutes wished for: shorter replies first, then fewer techniques, the last first."""
    for draft.replies, new_tokens in SHORTER:
        draft.new_tokens = min(new_tokens, most_tokens(source))
        draft.seconds = takes_s(draft, source, registry, machine)
        if draft.seconds <= wish.most_s:
            return draft
    while len(draft.techniques) > 2 and draft.seconds > wish.most_s:
        draft.leave_out_last(draft.techniques, wish)
        draft.seconds = takes_s(draft, source, registry, machine)
    return draft


def takes_s(draft: Draft, source: Source, registry: Mapping, machine: Machine) -> float:
    """Seconds that a draft takes; 0 where nothing is known of the model."""
    known = [(one, one.model) for one in source.models if one.model]
    cells = [(model, work(one, registry, name, draft)) for one, model in known for name in draft.techniques]
    used = environments(draft.techniques, registry, machine) | {"transformers", "report", "evaluation"}
    return estimates.study(cells, [model for _, model in known], used, machine).seconds if known else 0.0


def environments(techniques: Iterable[str], registry: Mapping, machine: Machine) -> set[str]:
    """The environments of techniques on a machine's device."""
    named = [registry[name]["env"] for name in techniques]
    return {env if isinstance(env, str) else env["cuda" if machine.is_gpu else "cpu"] for env in named}


def name_of(told: str) -> str:
    """A name for a study and its model: of the last part of a path or repository, what names may have."""
    last = told.replace("\\", "/").rstrip("/").rpartition("/")[2]
    last = last.removesuffix(".gguf")
    kept = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "-" for sign in last).strip("-._")[:60].lower()
    return kept or "mine"
