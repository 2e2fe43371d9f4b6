"""The model that `speedgrid new` is asked for: a folder, a GGUF file, a shape or a repository of the hub, and what is known of it."""

import argparse
import json
import re
import shlex
import urllib.error
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speedgrid import (
    checkpoints,
    drafts,
    estimates,
    families,
    foreseen,
    gguf_origin,
    hub,
    inputs,
    loading,
    lock,
    planning,
    strict_yaml,
    training_drafts,
    validation,
)
from speedgrid.checkpoints import ADAPTER
from speedgrid.drafts import Source
from speedgrid.outcomes import Unsupported
from speedgrid.study import StudyError

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")
# The address of a repository's page on the hub.
ADDRESS = re.compile(r"https?://[^/]+/([\w.-]+/[\w.-]+)")
FORMATS = ("float32", "float16", "bfloat16")
# A GGUF file with more weights is written out in bfloat16, so that they take half the memory.
LARGE = 1_000_000_000
# Formats that models are published in, and that transformers writes out whole when it loads them.
AS_PUBLISHED = ("mxfp4",)
# Characters of a README.md that are searched for its head, in YAML.
CARD = 20_000


def find(arguments: argparse.Namespace) -> Source:
    """The model that the caller names, with the name of its study. Raises StudyError."""
    source = named(arguments)
    if arguments.name:
        return replace(source, name=drafts.name_of(arguments.name))
    # Beside a study of the replies of the same model.
    return (
        replace(source, name=f"{source.name}-training")
        if arguments.workload and training_drafts.is_meant(arguments.workload, source)
        else source
    )


def named(arguments: argparse.Namespace) -> Source:
    """The model that the caller names. Raises StudyError."""
    if arguments.model and arguments.shape:
        raise StudyError("new takes a model or --shape NAME, and here are both")
    if not arguments.model and not arguments.shape:
        raise StudyError("new needs a model: a repository of the hub, a folder, a GGUF file, or --shape NAME")
    if arguments.shape:
        return of_shape(arguments.shape)
    path = inputs.place(arguments.model, [Path()], "model")
    if path.is_dir():
        return of_folder(path)
    if path.is_file() or arguments.model.endswith(".gguf"):
        return of_file(path)
    if arguments.model in estimates.shapes():
        raise StudyError(
            f"{arguments.model} is neither a file nor a folder here; for the shape of that name write --shape {arguments.model}"
        )
    if address := ADDRESS.match(arguments.model):
        raise StudyError(f"{arguments.model} is an address; name the repository: {address[1]}")
    if not REPOSITORY.match(arguments.model) or arguments.model.startswith((".", "/", "~")):
        raise StudyError(f"{arguments.model}: there is no such file or folder, and it is no name of a repository of the hub")
    try:
        return of_hub(arguments.model, arguments.revision, arguments.file)
    except StudyError as error:
        found = "" if "/" in arguments.model else f"{arguments.model} is no file or folder here, and as a repository of the hub: "
        shape = drafts.name_of(arguments.model)
        instead = f"; --shape {shape} measures random weights in its shape, without the hub" if shape in estimates.shapes() else ""
        raise StudyError(f"{found}{error}{instead}") from None


def of_shape(name: str) -> Source:
    shape = estimates.shapes().get(name)
    if shape is None:
        raise StudyError(f"--shape {name}: {validation.unknown(name, estimates.shapes())}")
    entry = {"architecture": shape["architecture"], "dtype": shape["dtype"]}
    model = foreseen.of_entry("", entry)
    # Those of the source have the norms, which are not counted from a configuration.
    model = model and replace(model, parameters=shape["parameters"], written=shape["parameters"] * model.item)
    said = f"random weights in the shape of {name} ({shape['source']})"
    kind = families.kind_of(shape["architecture"])
    return Source(f"{name}-shape", entry, model, shape["dtype"], is_random=True, told=said, kind=kind, config=shape["architecture"])


def of_folder(folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        # Projectors of images lie beside the language model that they are for.
        files = [path for path in sorted(folder.glob("*.gguf")) if not path.name.startswith("mmproj")]
        if files:
            return of_file(files[0]) if len(files) == 1 else of_files(folder, files)
        raise StudyError(f"{folder} is not a folder with a checkpoint (no config.json){inputs.instead(folder)}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        checkpoints.check(folder)
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder}/config.json cannot be read: {error}") from None
    except Unsupported as error:
        raise StudyError(str(error)) from None
    refuse_kind(str(folder), config, [path.name for path in folder.iterdir()], base_of(folder))
    model = foreseen.of_entry("", {"local": str(folder)})
    name = drafts.name_of(str(folder.resolve()))
    told = f"the checkpoint in {here(folder)}"
    entry, spoken = {"local": here(folder)}, languages(name, ())
    return Source(name, entry, model, format_of(config), spoken, told=told, kind=families.kind_of(config), config=config)


def refuse_kind(what: str, config: Mapping, names: Sequence[str], base: str) -> None:
    """Raise StudyError for a checkpoint that `new` writes no study of: a model of another kind, or weights that are quantized already;
    `names` are its files, and `base` is the model that it was made from, where that is known."""
    kind = "encoder" if "modules.json" in names else families.kind_of(config)
    if kind not in (families.TEXT, families.IMAGES):
        called = ", ".join(map(str, config.get("architectures") or [config.get("model_type")]))
        raise StudyError(
            f"{what} is {families.KINDS[kind]} ({called}); new writes studies of language models that write with a decoder alone, and"
            " of classifiers of images"
        )
    told = config.get("quantization_config")
    try:
        loading.refuse_nameless(told)
    except Unsupported as error:
        raise StudyError(f"{what}: {error}") from None
    if told and told.get("quant_method") not in AS_PUBLISHED:
        quantized = loading.quantization(told)
        whole = f"name the model that it was made from, {base}" if base else "name the model that it was made from"
        raise StudyError(
            f"{what} is quantized already ({quantized}), and techniques start from whole weights: {whole}; gptq_int4, awq_int4, bnb_nf4 and"
            " others quantize that"
        )


def base_of(folder: Path) -> str:
    """The model that a folder says it was made from, by the head of its README.md; empty where it says nothing."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:CARD]
    except OSError:
        return ""
    if not text.startswith("---"):
        return ""
    try:
        return base_in({"cardData": strict_yaml.parse(text[3:].split("\n---", 1)[0])})
    except strict_yaml.Refused:
        return ""


def of_file(path: Path) -> Source:
    if not path.is_file():
        raise StudyError(f"{path}: there is no such file")
    if path.suffix != ".gguf" and (path.parent / "config.json").is_file():
        raise StudyError(f"{path} is one file of a checkpoint; name its folder: {shlex.quote(here(path.parent))}")
    refuse_part(path.name)
    name = drafts.name_of(path.name)
    found = of_gguf(name, here(path), languages(name, ()), f"the GGUF file {here(path)}")
    if found.model is None:
        raise StudyError(f"{path} is no GGUF file, or damaged")
    return found


def of_files(folder: Path, files: Sequence[Path]) -> Source:
    """The GGUF files of a folder, to be measured side by side."""
    taken, found = set(planning.read_registry()), list[Source]()
    for path in sorted(files, key=lambda path: -path.stat().st_size):
        one = of_file(path)
        name = one.name if one.name not in taken else f"{one.name}-{len(found) + 1}"
        taken.add(name)
        found.append(replace(one, name=name))
    name = drafts.name_of(str(folder.resolve()))
    told = f"the {len(found)} GGUF files in {here(folder)}, side by side"
    return Source(name, {}, None, found[0].dtype, languages(name, ()), is_gguf=True, told=told, files=tuple(found))


def is_one_model(files: Sequence[Source]) -> bool:
    """Whether GGUF files hold the same model, whatever the bits of each."""
    shapes = {(one.model.layers, one.model.width, one.model.inner, one.model.heads, one.model.vocabulary) for one in files if one.model}
    return len(shapes) == 1 and all(one.model for one in files)


def refuse_part(name: str) -> None:
    """Raise StudyError for a file that holds a part of a model."""
    if (part := gguf_origin.PART.search(name)) and int(part[1]) > 1:
        raise StudyError(f"{name} is one of {int(part[1])} files of one model; put them together (llama-gguf-split --merge) and name that")


def of_gguf(name: str, file: str | Mapping, spoken: tuple[str, ...], told: str) -> Source:
    """A model that comes as a GGUF file, written out in the format that its size asks for."""
    model = foreseen.of_entry("", {"gguf": file, "dtype": "bfloat16"})
    dtype = "float32" if model and model.parameters <= LARGE else "bfloat16"
    if model:
        model = replace(model, item=estimates.ITEMS[dtype], written=model.parameters * estimates.ITEMS[dtype])
    return Source(name, {"gguf": file, "dtype": dtype}, model, dtype, spoken, is_gguf=True, told=told)


def of_hub(repository: str, revision: str, file: str | None) -> Source:
    """A repository of the hub, at the commit that its branch or tag stands for now. Raises StudyError."""
    commit = revision if lock.COMMIT.match(revision) else lock.commit_of(repository, revision)
    card = about(repository, commit)
    names = [entry.get("rfilename", "") for entry in card.get("siblings", ())]
    name = drafts.name_of(repository)
    spoken = languages(name, (card.get("cardData") or {}).get("language") or ())
    ggufs = [entry for entry in names if entry.endswith(".gguf")]
    if file or (ggufs and not any(entry.endswith(".safetensors") for entry in names)):
        if not file and len(ggufs) != 1:
            raise StudyError(f"{repository} has {len(ggufs)} GGUF files; name one with --file, such as --file {ggufs[0]}")
        refuse_part(file or ggufs[0])
        told = f"{file or ggufs[0]} of {repository} at {revision}"
        return of_gguf(name, {"hub": repository, "revision": commit, "file": file or ggufs[0]}, spoken, told)
    if ADAPTER in names and "config.json" not in names:
        base = str(asked(f"{hub.endpoint()}/{urllib.parse.quote(repository)}/resolve/{commit}/{ADAPTER}").get(inputs.BASE) or "")
        raise StudyError(f"{repository} {inputs.adapter_alone(base)}")
    config = configuration(repository, commit)
    refuse_kind(repository, config, names, base_in(card))
    model = foreseen.of_entry("", {"hub": repository, "revision": commit})
    if model is None and config:
        try:
            parameters = int(card.get("safetensors", {}).get("total") or 0)
            model = estimates.of_config(config, "", 0 if config.get("quantization_config") else parameters)
            model = replace(model, download=model.parameters * model.item)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            model = None
    entry = {"hub": repository, "revision": commit}
    told = f"{repository} of the hub at {revision}, which is {commit[:12]}"
    return Source(name, entry, model, format_of(config), spoken, told=told, kind=families.kind_of(config), config=config)


def base_in(card: Mapping) -> str:
    """The model that a repository says it was made from; empty where it says nothing."""
    head = card.get("cardData")
    told = head.get("base_model") if isinstance(head, Mapping) else None
    found = told[0] if isinstance(told, list) and told else told
    return found if isinstance(found, str) else ""


def about(repository: str, commit: str) -> dict:
    """What the hub says of a repository; empty where it may not be asked or cannot be reached."""
    return asked(f"{hub.endpoint()}/api/models/{urllib.parse.quote(repository)}/revision/{commit}")


def configuration(repository: str, commit: str) -> dict:
    """The config.json of a repository, of the hub's cache or of the hub; empty where there is none."""
    cached = hub.cached(repository) / "snapshots" / commit / "config.json"
    try:
        found = json.loads(cached.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return asked(f"{hub.endpoint()}/{urllib.parse.quote(repository)}/resolve/{commit}/config.json")
    return found if isinstance(found, dict) else {}


def asked(address: str) -> dict:
    if hub.is_offline():
        return {}
    try:
        found = hub.ask(address)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise StudyError(f"{hub.shown(address)}: {hub.refused()}") from None
        return {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def here(path: Path) -> str:
    """A path as the study has it: relative where it is in the working folder."""
    real, inside = path.absolute(), Path.cwd()
    if ".." in real.parts:  # which may be that of a folder behind a link
        real = real.parent.resolve() / real.name if real.name != ".." else real.resolve()
    return str(real.relative_to(inside) if real.is_relative_to(inside) else real)


def format_of(config: Mapping) -> str:
    """A model's own number format; bfloat16 where it names none that a study takes."""
    told = config.get("text_config") or config
    found = told.get("dtype") or told.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    return found if found in FORMATS else "bfloat16"


def languages(name: str, told: object) -> tuple[str, ...]:
    """The languages of a model by code, as its card says them, or by its name."""
    found = [told] if isinstance(told, str) else [one for one in told if isinstance(one, str)] if isinstance(told, list | tuple) else []
    is_japanese = re.search(r"(^|[-_.])(ja|jp|japanese|llm-jp|rinna|swallow|elyza|calm)([-_.\d]|$)", name)
    return tuple(found) or (("ja",) if is_japanese else ("en",))
