"""A model hub on loopback that serves folders as repositories, in the few calls that a download makes."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(repositories: Mapping[str, Path], breaks: bool = False) -> Iterator[str]:
    """Serve each folder under its repository name, at REVISION alone; gives the address for HF_ENDPOINT.

    Where it `breaks`, every connection ends in the middle of a file of weights.
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
                if path == f"/api/models/{name}/tree/{REVISION}":
                    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
                    listing = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": etag(f.read_bytes())} for f in files]
                    return self._send(200, json.dumps(listing).encode(), with_content, {"Content-Type": "application/json"})
                prefix = f"/{name}/resolve/{REVISION}/"
                if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                    content = (folder / path.removeprefix(prefix)).read_bytes()
                    return self._send(200, content, with_content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": REVISION})
            known = path == "/" or any(f"/{name}/" in path for name in repositories)
            error = {} if path == "/" else {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}
            return self._send(200 if path == "/" else 404, b"", with_content, error)

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


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
