"""An engine and a transform for the tests of faults: a Markov chain over bytes, in Python alone, so that jobs start at once everywhere.

The tests copy this file into their copy of the project as an engine and as a transform. SPEEDGRID_FAULT, as `STAGE PLACE FAULT`, makes the
job of that stage do there what a machine does to jobs: `measure 3 hang` hangs in the third counted reply.
"""

import ctypes
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from speedgrid.engines import base
from speedgrid.engines.language import Language

USES_TORCH = False
SETTINGS = {"additionalProperties": False}


class OutOfMemoryError(RuntimeError):
    """As PyTorch's of the same name says it."""


class PanicException(BaseException):
    """As libraries written in Rust raise it: no Exception."""


def fault(place: str) -> None:
    """Do what SPEEDGRID_FAULT says, where it names this place of this job."""
    stage, where, kind = os.environ.get("SPEEDGRID_FAULT", "- - -").split()
    if (Path(sys.argv[0]).stem, place) != (stage, where):
        return
    at = Path(os.environ["SPEEDGRID_FAULT_AT"])
    (at / str(os.getpid()) if at.is_dir() else at).write_text(str(os.getpid()))
    if kind == "hang":
        while True:
            time.sleep(0.05)
    elif kind == "stuck":
        # Native code that waits for ever and keeps Python's lock: no signal handler of Python runs again.
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    elif kind == "memory":
        held = []
        while True:
            held.append(bytearray(b"x" * 2**24))
    elif kind == "device":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.00 GiB. Try less.")
    elif kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "bug":
        raise IndexError("index 7 is out of range\nfor a list of 7")
    elif kind == "panic":
        raise PanicException("called `Option::unwrap()` on a `None` value")
    elif kind == "exit":
        sys.exit("a library gave up")
    elif kind == "swap":
        # The weights are replaced by others while the job has them.
        weights = Path(os.environ["SPEEDGRID_FAULT_WEIGHTS"])
        held = weights.read_bytes()
        weights.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    else:
        raise AssertionError(f"no such fault: {kind}")


@dataclass(frozen=True)
class Bytes(Language):
    """A token is a byte of the text."""

    text: str

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids) -> str:
        return bytes(token_ids).decode(errors="replace")

    def read_back(self, token_ids) -> str:
        return self.decode(token_ids)

    def prefix(self) -> int:
        return self.text.encode()[0]

    def context(self) -> int:
        return 4096

    def vocabulary(self) -> int:
        return 256

    def window(self) -> int:
        return self.context()


class Engine(base.Engine):
    uses_torch = False

    def import_packages(self) -> None:
        fault("import")

    def open(self) -> None:
        told = json.loads((self.checkpoint / "config.json").read_text())
        self.text = told.pop("text")
        self.config = SimpleNamespace(to_json_string=lambda use_diff: json.dumps(told))
        self.language = Bytes(self.checkpoint, self.config, SimpleNamespace(all_special_ids=[]), self.text)

    def load(self, room: int, batch_size: int = 1) -> None:
        fault("load")
        self.replies, self.followers = 0, defaultdict(list)
        read = self.text.encode()
        for one, following in zip(read, read[1:] + read[:1], strict=True):
            self.followers[one].append(following)

    def generate(self, prompt, settings, seed: int) -> base.Reply:
        draw, token, token_ids, token_s = random.Random(seed), prompt[-1], [], []
        began = time.perf_counter()
        self.replies += 1
        fault(str(self.replies - settings.get("warmup_replies", 0)))
        for _ in range(settings["max_new_tokens"]):
            token = draw.choice(self.followers.get(token) or [self.language.prefix()])
            token_ids.append(token)
            token_s.append(time.perf_counter() - began)
        return base.Reply([token_ids], token_s, time.perf_counter() - began)

    def _loglikelihoods(self, requests) -> list[base.Likelihood]:
        return [
            base.Likelihood(
                [self._score(one, following) for one, following in zip([context[-1], *continuation], continuation, strict=False)], False
            )
            for context, continuation in requests
        ]

    def _score(self, one: int, following: int) -> float:
        seen = self.followers.get(one, [])
        return math.log((seen.count(following) + 1) / (len(seen) + 256))

    def sizes(self) -> dict:
        return {"parameters": len(self.followers), "trainable_parameters": None, "model_bytes": len(self.text)}

    def prove(self, prompt, settings) -> base.Proof:
        fault("prove")
        return base.Proof(True, evidence={"followers": len(self.followers)})


def make(task) -> dict:
    fault("make")
    for path in task.source.iterdir():
        shutil.copyfile(path, task.target / path.name)
    return {"calibration_tokens": 0}
