"""What libraries compile while a cell runs: kept in a folder of that cell, which its cold start finds empty and its later processes find
filled.

In the caches that these libraries share between programs, a cold start would take what an earlier run or another cell had left there: on
two cores `torch.compile` had its first reply after 36 s where they were empty, and after 15 s where they were not. What a library builds
once for a machine, such as GPT-QModel its kernels, stays where it is.
"""

import hashlib
import os
import shutil
from pathlib import Path

from speedgrid import job_shell

# Where each library puts what it compiles for a model: PyTorch's compiler, Triton, and vLLM, which keeps there what it knows of models.
CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "VLLM_CACHE_ROOT": "vllm"}
FOLDER = "compiled"


def folder() -> Path:
    """Where the folders of all cells of this user are, on this machine's own disk: on a cluster a cell's jobs run on one machine."""
    return job_shell.cache_of_this_user() / FOLDER


def keep_apart(cell: Path) -> Path:
    """Have this process and those that it starts keep what they compile in the folder of a cell, which is returned; `cell` is the folder
    of its results."""
    own = folder() / hashlib.sha256(os.fsencode(cell.absolute())).hexdigest()[:32]
    os.environ.update({name: str(own / part) for name, part in CACHES.items()})
    return own


def begin_with_none(cell: Path) -> None:
    """The same, and nothing is compiled yet."""
    shutil.rmtree(keep_apart(cell), ignore_errors=True)
