"""Downloads from the hub, with one line for a person where one fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speedgrid import hub
from speedgrid.outcomes import NO_ROOM, ModelError


def hub_file(repository: str, revision: str, file: str) -> Path:
    """One file of a repository of the hub at one commit, in the hub's own cache. Raises ModelError where it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with from_the_hub(repository, revision):
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            raise ModelError(f"hub: {repository} at {revision[:12]} has no file {file}") from None


@contextmanager
def from_the_hub(repository: str, revision: str) -> Iterator[None]:
    """Say in one line why something cannot be had from the hub, as ModelError."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except ModelError:
        raise
    except GatedRepoError:
        how = "accept its licence on the hub, and set HF_TOKEN or log in by `hf auth login`"
        raise ModelError(f"hub: {repository} is gated: {how}") from None
    except RepositoryNotFoundError:
        raise ModelError(f"hub: {repository}: {hub.refused()}") from None
    except Exception as error:
        is_the_hubs = isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled | HfHubHTTPError | OSError)
        if getattr(error, "errno", None) in NO_ROOM or not (is_the_hubs or _is_of_the_network(error)):
            raise
        said = hub.shown(f"cannot be had from {hub.endpoint()}: {str(error).partition(chr(10))[0]}")
        raise ModelError(f"hub: {repository} at {revision[:12]} {said}") from None


def _is_of_the_network(error: Exception) -> bool:
    """Whether a connection broke, in the words of the client that the hub's library uses (httpx, whose errors are no OSError)."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
