"""The hub that models and data come from: its address, which may hold a password, and whether it may be asked."""

import os
import re


def endpoint() -> str:
    """The hub's address, as it is called."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def shown(text: str) -> str:
    """A text for people, without the user and password that addresses in it hold."""
    return re.sub(r"://[^/\s@]*@", "://", text)


def is_offline() -> bool:
    """Whether only the hub's cache may be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
