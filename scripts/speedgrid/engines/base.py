"""The contract of an engine: load a checkpoint, generate a reply with the time of every token, score text, say what was seen."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speedgrid.hardware import Device


@dataclass(frozen=True)
class Reply:
    """One reply: the tokens produced, when each was there (seconds since the reply's start), and the time of the whole."""

    token_ids: list[int]
    token_s: list[float]
    reply_s: float

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.token_s[0]


@dataclass
class Proof:
    """Whether a technique was active, with what was seen of it."""

    engaged: bool
    reason: str = ""
    evidence: dict = field(default_factory=dict)


class Engine(ABC):
    """A model on a device. Heavy packages are imported by `import_packages` and after it, never by importing the module."""

    def __init__(self, checkpoint: Path, device: Device, options: Mapping, threads: int, trust_remote_code: bool = False):
        self.checkpoint, self.device, self.options = checkpoint, device, options
        self.threads, self.trust_remote_code = threads, trust_remote_code

    @abstractmethod
    def import_packages(self) -> None:
        """Import what the engine needs; apart from `load` because cold start reports it apart."""

    @abstractmethod
    def load(self) -> None:
        """Load the checkpoint onto the device, and apply the technique as its maintainers mean it.

        Raises outcomes.Unsupported where the model, device and options do not go together.
        """

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Tokens of `text`, without special tokens."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, special tokens left in."""

    @abstractmethod
    def vocabulary(self) -> int:
        """Number of tokens that a synthetic prompt may draw from."""

    @abstractmethod
    def prefix(self) -> int:
        """The token that begins a text: the tokenizer's beginning-of-text token, else its end-of-text token."""

    @abstractmethod
    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> Reply:
        """One reply to `prompt` under the settings of the experiment (max_new_tokens, ignore_eos, sampling)."""

    @abstractmethod
    def loglikelihoods(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """For each (context, continuation), the natural log-probability of every token of the continuation."""

    @abstractmethod
    def context(self) -> int:
        """Longest sequence that the model takes, in tokens."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """`parameters`, `trainable_parameters` and `model_bytes` of the loaded model."""

    @abstractmethod
    def prove(self, prompt: Sequence[int], settings: Mapping) -> Proof:
        """See whether the technique was active; called after the counted replies, it may run further ones."""
