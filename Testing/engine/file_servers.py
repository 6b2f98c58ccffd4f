"""Real HTTP servers on this computer that behave as servers and networks do: well, and otherwise."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ETAG = '"one"'


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by name and remembers what was asked.

    Attributes:
        ranges: whether parts of a file are given.
        break_after: bytes of an answer after which the connection is cut; None for never.
        breaks: how often it still is.
        etag: what tells this version of the files from others; empty for none.
        fail: status codes that the next requests get.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[dict[str, str]] = []
        self.ranges = True
        self.break_after: int | None = None
        self.breaks = 0
        self.etag = ETAG
        self.fail: list[int] = []
        self.announce = True
        self.redirects: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def serving() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
        if server.fail:
            self.send_error(server.fail.pop(0))
            return
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
            return
        content = server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_response(404)
            if self.path.startswith("/api/models/"):
                self.send_header("X-Error-Code", "RepoNotFound")  # as the Hugging Face Hub has it
            self.end_headers()
            return
        start, status = self._start(len(content)), 200
        if start < 0:
            self.send_error(416)
            return
        if start:
            status = 206
        body = content[start:]
        self.send_response(status)
        if server.announce:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if server.break_after is not None and server.breaks > 0:
            server.breaks -= 1
            body = body[: server.break_after]
        self.wfile.write(body)
        self.close_connection = True

    def _start(self, size: int) -> int:
        wanted = self.headers.get("Range", "")
        if not wanted or not self.server.ranges or self.headers.get("If-Range") != self.server.etag:
            return 0
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        return start if start < size else -1

    def log_message(self, format: str, *args: object) -> None:
        """Not in the output of the tests."""
