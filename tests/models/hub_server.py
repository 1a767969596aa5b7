"""A small Hub on 127.0.0.1: what `huggingface_hub` asks to fetch one file, and ways for that to go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


@dataclass
class FakeHub:
    """What the server has and how it behaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    """`owner/name/path in the repository` to content."""
    branches: tuple[str, ...] = ("main", COMMIT)
    gated: set[str] = field(default_factory=set)
    status: int | None = None
    """Answer every request with this."""
    hold: threading.Event | None = None
    """Send half of a file, then wait for this before the rest."""
    drops: int = 0
    """How many downloads break in the middle."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range header) of every request."""
    half_sent: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def downloads(self) -> list[str | None]:
        """The Range headers of all downloads."""
        return [span for method, path, span in self.requests if method == "GET" and "/resolve/" in path]


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Run the server; `hub.url` is its address inside the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            if hub.status is not None:
                return self.fail(hub.status, "")
            tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path)
            if tree is not None:
                return self.tree(tree[1])
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if match is None or not any(name.startswith(f"{match[1]}/") for name in hub.files):
                return self.fail(404, "RepoNotFound")
            if match[1] in hub.gated:
                return self.fail(403, "GatedRepo")
            if match[2] not in hub.branches:
                return self.fail(404, "RevisionNotFound")
            content = hub.files.get(f"{match[1]}/{match[3]}")
            if content is None:
                return self.fail(404, "EntryNotFound")
            return self.send(content, body=body)

        def fail(self, status: int, code: str) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def tree(self, repo: str) -> None:
            entries = [
                {"type": "file", "path": name.removeprefix(f"{repo}/"), "size": len(content), "oid": "0" * 40}
                for name, content in hub.files.items()
                if name.startswith(f"{repo}/")
            ]
            text = json.dumps(entries).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def send(self, content: bytes, *, body: bool) -> None:
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(span[1]) if span else 0
            self.send_response(206 if span else 200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if span:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not body:
                return
            rest = content[start:]
            half = len(rest) // 2
            self.wfile.write(rest[:half])
            self.wfile.flush()
            hub.half_sent.set()
            if hub.drops > 0:
                hub.drops -= 1
                self.close_connection = True
                return
            if hub.hold is not None:
                hub.hold.wait(30)
            try:
                self.wfile.write(rest[half:])
            except OSError:  # the client went away
                self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield hub
        finally:
            if hub.hold is not None:
                hub.hold.set()
            server.shutdown()
            thread.join()
