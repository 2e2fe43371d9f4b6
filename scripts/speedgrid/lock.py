"""The commits that branches and tags of a study's models stood for when it was locked, in NAME.lock.json beside the study NAME.yaml.

A branch moves, so that two runs of one study would measure different weights. The lock holds what it was, and belongs to the study: commit
both.
"""

import json
import re
import urllib.error
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from speedgrid import commands, hub
from speedgrid.study import StudyError, repository

COMMIT = re.compile(r"[0-9a-f]{40}\Z")


def file_of(study_file: Path) -> Path:
    """The lock of a study."""
    return study_file.with_suffix(".lock.json")


def moving(study: Mapping) -> dict[str, dict[str, str]]:
    """The models of a validated study whose revision is a branch or tag: `hub` and `revision` of each."""
    named = {name: repository(model) for name, model in study["models"].items()}
    found = {name: {"hub": entry["hub"], "revision": entry["revision"]} for name, entry in named.items() if entry}
    return {name: entry for name, entry in found.items() if not COMMIT.match(entry["revision"])}


def applied(study: Mapping, study_file: Path, where: str) -> dict:
    """The study with the commits of its lock in place of branches and tags. Raises StudyError where the lock does not hold one."""
    models, file = dict(study["models"]), file_of(study_file)
    held = read(file) if moving(study) else {}
    for name, entry in moving(study).items():
        at = f"{where}: models.{name}.revision"
        write = f"write its commit, all 40 digits, or run `{commands.program()} lock {where}`"
        if name not in held:
            raise StudyError(f"{at}: {entry['revision']!r} is a branch or tag, which moves; {write}, which keeps it in {file.name}")
        if {key: held[name][key] for key in entry} != entry:
            was = f"{held[name]['hub']} at {held[name]['revision']}"
            raise StudyError(f"{at}: {file.name} holds the commit of {was}, not of {entry['hub']} at {entry['revision']}; {write} again")
        commit = {"revision": held[name]["commit"]}
        models[name] = {**models[name], **(commit if "hub" in models[name] else {"gguf": {**models[name]["gguf"], **commit}})}
    return {**study, "models": models}


def read(file: Path) -> dict[str, dict[str, str]]:
    """By model `hub`, `revision` and `commit`; empty where there is no lock. Raises StudyError for one that is damaged."""
    try:
        models = json.loads(file.read_text(encoding="utf-8"))["models"]
        for entry in models.values():
            if set(entry) != {"hub", "revision", "commit"} or not COMMIT.match(entry["commit"]):
                raise ValueError
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StudyError(f"{file.name}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StudyError(f"{file.name}: is damaged; delete it and run `{commands.program()} lock` again") from None
    return models


def text_of(models: Mapping[str, Mapping[str, str]]) -> str:
    """A lock as it is written."""
    return json.dumps({"models": models}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def commit_of(repository: str, revision: str) -> str:
    """The commit that a branch or tag of a model of the hub stands for now; where the hub may not be asked (HF_HUB_OFFLINE) or cannot be
    reached, the one of its cache. Raises StudyError where neither knows it."""
    where = hub.shown(hub.endpoint())
    why = "HF_HUB_OFFLINE is set"
    if not hub.is_offline():
        try:
            return _asked(hub.endpoint(), repository, revision)
        except urllib.error.HTTPError as error:
            said = {401: hub.refused(), 403: hub.refused(), 404: "there is no such repository or revision"}
            raise StudyError(f"{repository} at {revision}: {said.get(error.code, f'the hub answers {error.code}')} ({where})") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = hub.shown(f"the hub cannot be reached ({where}: {getattr(error, 'reason', error)})")
    commit = _cached(repository, revision)
    if not commit:
        raise StudyError(f"{repository} at {revision}: {why}, and the cache of the hub does not know it")
    return commit


def _asked(endpoint: str, repository: str, revision: str) -> str:
    address = f"{endpoint}/api/models/{urllib.parse.quote(repository)}/revision/{urllib.parse.quote(revision, safe='')}"
    commit = hub.ask(address)["sha"]
    if not COMMIT.match(commit):
        raise ValueError(f"it answers with {commit!r} in place of a commit")
    return commit


def _cached(repository: str, revision: str) -> str:
    try:
        commit = (hub.cached(repository) / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return commit if COMMIT.match(commit) else ""
