"""A hub of model files on this machine, speaking what its client needs of the Hugging Face hub's protocol."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories as ``{id: {path: bytes}}``; which are gated; what was asked for."""

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    break_after: int | None = None
    """Cut the first large file off after so many bytes, once."""
    resets: bool = False
    """Reset the connection where a file is cut off, where it is closed else."""
    heals: bool = True
    """False cuts every file off again, however often it is asked for."""
    sent: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, range) of every request for a file's content."""
    url: str = ""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(self.path.split("?")[0])
            if path.startswith("/api/models/"):
                self._describe(path.removeprefix("/api/models/"))
            else:
                repository, _, rest = path.lstrip("/").partition("/resolve/")
                self._send_file(repository, rest.partition("/")[2], with_body=with_body)

        def _describe(self, path: str) -> None:
            repository = "/".join(path.split("/")[:2])
            if repository not in hub.repositories:
                return self._refuse(404, "RepoNotFound")
            files = hub.repositories[repository]
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
                return self._send_json(entries)
            siblings = [
                {
                    "rfilename": name,
                    "size": len(data),
                    "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1},
                }
                for name, data in files.items()
            ]
            described = {"id": repository, "sha": COMMIT, "siblings": siblings, "tags": ["license:mit"]}
            return self._send_json(described)

        def _send_file(self, repository: str, name: str, *, with_body: bool) -> None:
            if repository not in hub.repositories:
                return self._refuse(404, "RepoNotFound")
            if repository in hub.gated:
                return self._refuse(403, "GatedRepo")
            if name not in hub.repositories[repository]:
                return self._refuse(404, "EntryNotFound")
            data = hub.repositories[repository][name]
            start = 0
            asked = self.headers.get("Range", "")
            if asked.startswith("bytes="):
                start = int(asked.removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if with_body:
                hub.sent.append(("GET", f"{repository}/{name}", asked))
                body = data[start:]
                if hub.break_after is not None and len(body) > hub.break_after:
                    body = body[: hub.break_after]
                    self.close_connection = True
                    if hub.heals:
                        hub.break_after = None
                self.wfile.write(body)
                if self.close_connection and hub.resets:
                    self.wfile.flush()
                    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()

        def _send_json(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
