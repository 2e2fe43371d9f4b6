"""A hub on loopback that serves folders as repositories of models or data, in the few calls that a download makes."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
# What the hub calls that commit besides.
NAMES = ("main", "release/v1")


@contextmanager
def serving(repositories: Mapping[str, Path], breaks: bool = False) -> Iterator[str]:
    """Serve each folder under its repository name, at REVISION alone; gives the address for HF_ENDPOINT.

    A name that begins with `datasets/` is one of a data set. Where it `breaks`, every connection ends in the middle of a file of weights.
    """

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def log_message(self, *arguments) -> None:
            """Keep the tests' output clean."""

        def _answer(self, with_content: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            for name, folder in repositories.items():
                api = f"/api/{name}" if name.startswith("datasets/") else f"/api/models/{name}"
                if path in [f"{api}/revision/{name}" for name in (REVISION, *NAMES)]:
                    files = [{"rfilename": str(file.relative_to(folder))} for file in sorted(folder.rglob("*")) if file.is_file()]
                    return self._send_json({"id": name, "sha": REVISION, "private": False, "siblings": files}, with_content)
                if path.startswith(f"{api}/tree/{REVISION}"):
                    inside = folder / path.removeprefix(f"{api}/tree/{REVISION}").strip("/")
                    return self._send_json([entry(file, folder) for file in sorted(inside.iterdir())], with_content)
                prefix = f"/{name}/resolve/{REVISION}/"
                if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                    content = (folder / path.removeprefix(prefix)).read_bytes()
                    return self._send(200, content, with_content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": REVISION})
            known = path == "/" or any(f"/{name}/" in path for name in repositories)
            error = {} if path == "/" else {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}
            return self._send(200 if path == "/" else 404, b"", with_content, error)

        def _send_json(self, answer: object, with_content: bool) -> None:
            self._send(200, json.dumps(answer).encode(), with_content, {"Content-Type": "application/json"})

        def _send(self, status: int, content: bytes, with_content: bool, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for header, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(header, value)
            self.end_headers()
            if with_content and breaks and len(content) > 20_000:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif with_content:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def entry(file: Path, folder: Path) -> dict:
    """A file or folder of a repository as the hub lists it."""
    path = str(file.relative_to(folder))
    if file.is_dir():
        return {"type": "directory", "path": path, "oid": etag(path.encode())}
    return {"type": "file", "path": path, "size": file.stat().st_size, "oid": etag(file.read_bytes())}


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
