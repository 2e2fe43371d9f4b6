"""The hub that models and data come from: its address, which may hold a password, and whether it may be asked."""

import base64
import http.client
import json
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from speedgrid import outcomes, user_cache

SCHEME = re.compile(r"\Ahttps?://")
TIMEOUT_S = 20


def endpoint(environ: Mapping = os.environ) -> str:
    """The hub's address, with the password that it may hold."""
    return (environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def home(environ: Mapping = os.environ) -> Path:
    """The folder of huggingface_hub, the hub's own library."""
    return Path(environ.get("HF_HOME") or user_cache.of_all_programs(environ) / "huggingface").expanduser()


def cache_folder(environ: Mapping = os.environ) -> Path:
    """Where huggingface_hub keeps its downloads."""
    return Path(environ.get("HF_HUB_CACHE") or home(environ) / "hub").expanduser()


def cached(repository: str) -> Path:
    """Where huggingface_hub keeps what it has of a model's repository: `refs` and `snapshots`."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def token(environ: Mapping = os.environ) -> str:
    """The token for private and gated repositories, found as huggingface_hub finds it: HF_TOKEN, or what `hf auth login` saved; empty where
    there is none."""
    told = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not told:
        with suppress(OSError, UnicodeDecodeError):
            told = Path(environ.get("HF_TOKEN_PATH") or home(environ) / "token").expanduser().read_text(encoding="utf-8")
    return told.strip()


def refused(environ: Mapping = os.environ) -> str:
    """What to say of a repository that the hub does not show with the token that there is."""
    if token(environ):
        return (
            "it does not exist, or your token (HF_TOKEN, `hf auth login`) does not open it; if it is gated, accept its licence on the hub"
        )
    return "it does not exist, or is private or gated: set HF_TOKEN, or log in by `hf auth login`"


def shown(text: str) -> str:
    """A text for people, without the user, the password and the query that addresses in it hold (outcomes.shown)."""
    if "@" in endpoint():
        # Whatever it looks like: a mistaken address holds the same password.
        text = text.replace(endpoint(), "".join(SCHEME.findall(endpoint())) + endpoint().rpartition("@")[2])
    return outcomes.shown(text)


def request(address: str, method: str = "GET") -> urllib.request.Request:
    """A request to an address that may hold a user and password, which urllib would take for a part of the host's name and say in its
    errors. Raises ValueError, without them, for what is no address."""
    try:
        parts = urlsplit(address)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        is_address = is_web or parts.scheme == "file"  # a mirror of Python's builds may be in a folder
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError("this is no address: it begins with http:// or https://, and a password in it is percent-encoded") from None
    login, _, host = parts.netloc.rpartition("@")
    made = urllib.request.Request(parts._replace(netloc=host).geturl(), method=method)
    if login:
        # Not for the server that a redirect leads to.
        made.add_unredirected_header("Authorization", "Basic " + base64.b64encode(unquote(login).encode()).decode())
    return made


def is_offline() -> bool:
    """Whether only the hub's cache may be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def ask(address: str):
    """What the hub answers, which is JSON. Raises OSError, HTTPError among them, and ValueError."""
    with opened(address) as answer:
        return json.load(answer)


@contextmanager
def opened(address: str) -> Iterator[http.client.HTTPResponse]:
    """The hub's response to a request with the token; its body is read only as far as the caller reads it. Raises OSError, HTTPError among
    them, and ValueError."""
    asked = request(address)
    # A user and password in the address take precedence, as in huggingface_hub.
    if (secret := token()) and not asked.has_header("Authorization"):
        # Not for the server that a redirect leads to.
        asked.add_unredirected_header("Authorization", f"Bearer {secret}")
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
            yield answer
    except http.client.HTTPException as error:
        raise OSError(f"the hub broke off: {error}") from None
