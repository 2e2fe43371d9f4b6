"""The contract of an engine: load a checkpoint, generate a reply with the time of every token, score text, say what was seen."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from speedgrid import checkpoints, loading
from speedgrid.engines.language import Language
from speedgrid.hardware import Device
from speedgrid.outcomes import NotFinite, Unsupported

# What stands for the logarithm of a probability of 0, that of a token which the model masks out: no number format has one so small.
IMPOSSIBLE = -1e4
# What to do about numbers that overflow, by the format in which they do.
INSTEAD = {"float16": ", whose range ends at 65,504: use bfloat16 or float32"}


@dataclass(frozen=True)
class Reply:
    """One reply: the tokens of each sequence of the batch, when each step was there for all of them (seconds since the reply's start),
    and the time of the whole."""

    token_ids: list[list[int]]
    token_s: list[float]
    reply_s: float

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.token_s[0]

    @property
    def new_tokens(self) -> int:
        """Tokens of all sequences together."""
        return sum(map(len, self.token_ids))


class Likelihood(NamedTuple):
    """How likely a continuation is: the natural log-probability of each of its tokens, and whether each was the likeliest."""

    logarithms: list[float]
    greedy: bool


class Likeliest(NamedTuple):
    """The likeliest next tokens after each token of a sequence, the likeliest first, with the natural logarithms of their probabilities;
    each is a list of lists, one for each position."""

    tokens: list[list[int]]
    logarithms: list[list[float]]


@dataclass
class Proof:
    """Whether a technique was active, with what was seen of it."""

    engaged: bool
    reason: str = ""
    evidence: dict = field(default_factory=dict)


def attention_problem(options: Mapping) -> str:
    """Why options of attention do not go together; empty where they do."""
    if "sdpa_kernel" in options and options.get("attention", "sdpa") != "sdpa":
        return f"`sdpa_kernel` is one of `attention: sdpa`, and attention is {options['attention']}"
    return ""


class Runtime(ABC):
    """What every engine has: a model on a device. Heavy packages are imported by `import_packages` and after it, never by importing the
    module. `close` is called when a job is done, whatever came of it."""

    # Whether the engine computes with PyTorch in this process. Where not, memory is what the process and its children hold, or what
    # the whole device holds more than before; and PyTorch need not be there, or not in a build for the device.
    uses_torch = True
    # Whether the weights that it loads are safetensors; an engine with a format of its own looks for that itself.
    loads_safetensors = True
    # The format of the checkpoints that it loads; those of a transform are in the one that its module names (`WRITES`).
    LOADS = "safetensors"
    # What a technique may tell the engine (`options`): each option with the values that it takes, all of the schema's where None.
    OPTIONS: ClassVar[Mapping[str, tuple | None]] = {"dtype": None}
    # Whether it has taken what memory was free when it loaded, so that what it holds says nothing of what it needs; known after `load`.
    fills_memory = False
    # Sequences that `load` must make room for when texts are scored: several for an engine that schedules its own batches.
    scored_at_once = 1

    def __init__(self, checkpoint: Path, device: Device, options: Mapping, threads: int, trust_remote_code: bool = False):
        self.checkpoint, self.device, self.options = checkpoint, device, options
        self.threads, self.trust_remote_code = threads, trust_remote_code

    @classmethod
    def problem(cls, options: Mapping, batch_size: int) -> str:
        """Why options that the engine takes do not go together, or not with a batch, whatever the model and device; empty where they do.

        Asked when a study is planned, with the number format of the cell among the options.
        """
        return ""

    @abstractmethod
    def import_packages(self) -> None:
        """Import what the engine needs; apart from `load` because cold start reports it apart."""

    @abstractmethod
    def sizes(self) -> dict[str, int | None]:
        """`parameters`, `trainable_parameters` and `model_bytes` of the loaded model; None for what cannot be known."""

    def multiplies_in(self) -> str:
        """The number format in which the loaded model's linear layers multiply, where neither its dtype nor its configuration tells."""
        return ""

    def close(self) -> None:  # noqa: B027 - most engines have nothing to do
        """Let go of processes that the engine has started."""


class TorchRuntime(Runtime):
    """A module of PyTorch that is trained or run forward. `model` is the module, `forward` the call that a technique may have compiled,
    `of_images` whether it takes images and not tokens; they are there once it is loaded."""

    model: Any
    forward: Any
    of_images: bool

    @property
    @abstractmethod
    def precision(self) -> str:
        """What it computes in: a key of workload.WEIGHTS_IN."""

    @abstractmethod
    def load(self, training: bool, deterministic: bool) -> None:
        """Load the checkpoint, for training or for passes. Raises Unsupported where model, device and options do not go together."""

    @abstractmethod
    def take_layers(self, layers: int) -> None:
        """Put a model of the same shape with as many layers, its weights random, in the place of the loaded one. Raises Unsupported where
        the shape has no number of layers, or weights are asked for that only a checkpoint has."""

    @abstractmethod
    def autocast(self) -> AbstractContextManager:
        """The context in which the forward pass runs."""

    @abstractmethod
    def place(self, images: Any) -> Any:
        """Images in the format and layout that the model takes."""

    @abstractmethod
    def uncompiled(self) -> AbstractContextManager:
        """The context in which `forward` is the model itself, whatever is compiled."""

    @abstractmethod
    def plain(self) -> AbstractContextManager:
        """The context in which the model runs as it is: not compiled, and with all activations kept for the backward pass."""

    @abstractmethod
    def prove(self, run: Callable[[], object]) -> Proof:
        """See in one `run` whether the technique was active."""


class Engine(Runtime):
    """A language model that generates and scores text.

    A job calls `import_packages`, `open`, then `load`, and `close` when it is done, whatever came of it. After `open`, `config` is the
    model's configuration, as transformers has it, and `language` its tokenizer and the lengths that it takes.
    """

    config: Any
    language: Language

    def open(self) -> None:
        """Read the tokenizer and the configuration, which lie in the format of transformers beside every engine's weights.

        One tokenizer for all engines makes prompts and scored text the same tokens in each. Raises outcomes.Unsupported for a
        checkpoint that lacks them or is of a kind that transformers does not know.
        """
        if self.loads_safetensors:
            checkpoints.require_safetensors(self.checkpoint, "this engine")
        self.config = loading.read_config(self.checkpoint, self.trust_remote_code)
        loading.refuse_encoder(self.config)
        tokenizer = loading.read_tokenizer(self.checkpoint, self.trust_remote_code)
        self.language = Language(self.checkpoint, self.config, tokenizer)

    @abstractmethod
    def load(self, room: int, batch_size: int = 1) -> None:
        """Load the checkpoint onto the device, and apply the technique as its maintainers mean it.

        `room`: tokens of the longest sequence that will be asked for, prompt and reply together; `batch_size`: sequences at once.
        Raises outcomes.Unsupported where the model, device and options do not go together.
        """

    @abstractmethod
    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> Reply:
        """One reply to `prompt` under the settings of the experiment (max_new_tokens, ignore_eos, batch_size, sampling).

        A batch is `batch_size` sequences that all begin with `prompt`.
        """

    def loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
        """For each (context, continuation), how likely each token of the continuation is. Both have at least one token.

        Raises outcomes.Unsupported where the engine cannot say, and outcomes.NotFinite where what it says is no number.
        """
        found = self._loglikelihoods(requests)
        if not all(math.isfinite(logarithm) for one in found for logarithm in one.logarithms):
            raise self.not_finite()
        return found

    def next_tokens(self, sequences: Sequence[Sequence[int]], count: int) -> list[Likeliest]:
        """For each sequence, the `count` likeliest next tokens after each of its tokens; all where the vocabulary has no more.

        Raises outcomes.Unsupported where the engine cannot say, and outcomes.NotFinite where what it says is no number.
        """
        return self._numbers(self._next_tokens(sequences, count))

    def next_tokens_alone(self, sequences: Sequence[Sequence[int]], count: int) -> list[Likeliest]:
        """What `next_tokens` gives of each sequence by itself, computed by the model as it is, whatever is compiled."""
        return self._numbers(self._next_tokens_alone(sequences, count))

    def _numbers(self, found: list[Likeliest]) -> list[Likeliest]:
        if not all(logarithm < math.inf for one in found for row in one.logarithms for logarithm in row):
            raise self.not_finite()
        return [Likeliest(one.tokens, [[max(value, IMPOSSIBLE) for value in row] for row in one.logarithms]) for one in found]

    def attends_both_ways(self, tokens: Sequence[int]) -> bool:
        """Whether an attention of the loaded model that runs in a pass over `tokens` says of itself that it is not causal; False where none
        says anything."""
        return False

    def rounded_once_more(self, seed: int) -> AbstractContextManager:
        """The context in which the output of each layer is rounded once more, at random by as much as its number format rounds.

        Raises outcomes.Unsupported where the engine cannot do that.
        """
        raise Unsupported("this engine does not let its layers be rounded once more")

    def check_numbers(self, tokens: Sequence[int]) -> None:
        """Raise outcomes.NotFinite where what the model makes of a sequence is no number; called after the counted replies, since a model
        that computes none replies as fast as any."""
        self.loglikelihoods([(tokens[:-1], tokens[-1:])])

    def not_finite(self) -> NotFinite:
        """That what the loaded model computes is no number, in words."""
        dtype = self.options["dtype"]
        advice = INSTEAD.get(dtype, "; where float32 has the same, its weights are damaged")
        return NotFinite(f"the model's outputs are not finite numbers in {dtype}{advice}")

    @abstractmethod
    def _loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
        """What `loglikelihoods` gives, as the engine computes it."""

    def _next_tokens(self, sequences: Sequence[Sequence[int]], count: int) -> list[Likeliest]:
        """What `next_tokens` gives, as the engine computes it."""
        raise Unsupported("this engine does not give the probabilities of next tokens")

    def _next_tokens_alone(self, sequences: Sequence[Sequence[int]], count: int) -> list[Likeliest]:
        """The same of each sequence by itself."""
        return [self._next_tokens([sequence], count)[0] for sequence in sequences]

    @abstractmethod
    def prove(self, prompt: Sequence[int], settings: Mapping) -> Proof:
        """See whether the technique was active; called after the counted replies, it may run further ones."""
