"""Downloading a file: with progress, resumed where it broke off, written aside, and renamed only when it is whole."""

import errno
import json
import os
import shutil
import ssl
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from dinomix import __version__
from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import read_json, replace

TIMEOUT = 30.0
ATTEMPTS = 4
"""In a row without a single new byte."""
PAUSE = 1.0
"""Seconds before the second attempt; each further pause is twice as long."""
_CHUNK = 2**18
_MEGABYTE = 2**20


def download(url: str, target: Path, *, emit: Emit = silent) -> None:
    """Fetch ``url`` to ``target``; what an earlier, interrupted call left beside it is gone on with.

    Goes on only if the server says that the file is still the same (ETag or Last-Modified); else it begins anew. Proxies
    are those of the system and of the usual environment variables (https_proxy, no_proxy). Whatever ``emit`` raises
    cancels the download and keeps what was fetched.

    Args:
        emit: gets ``progress`` in megabytes.

    Raises:
        DinomixError: the address is not http or https, the server refuses, or the connection breaks again and again.
        OSError: the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DinomixError(f"{url} is not an address that can be fetched.", "Give one that begins with https://.")
    part = _Part(url, target)
    opener, failures = _opener(), 0
    while True:
        before = part.size
        try:
            _go_on(opener, part, emit)
            break
        except HTTPError as error:
            if error.code < 500:
                raise DinomixError(
                    f"{url} cannot be fetched: the server answers {error.code} {error.reason}.",
                    "Check the address or the mirror, or fetch the file by other means and install it with --from FILE.",
                    code="download",
                ) from error
            reason = f"{error.code} {error.reason}"
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            reason = _reason(error)
        failures = 0 if part.size > before else failures + 1
        if failures >= ATTEMPTS:
            raise DinomixError(
                f"{url} broke off after {part.size / 1e6:.1f} MB ({reason}).",
                "Run the same command again: what was fetched is kept. Without a network, install with --from FILE.",
                code="download",
            )
        time.sleep(PAUSE * 2**failures / 2)
    part.finish()


class _Part:
    """What is there of a file, and how the server told it from others."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.path = target.with_name(target.name + ".part")
        self.facts = target.with_name(target.name + ".part.json")
        self.total: int | None = None
        self.same_file = ""
        """ETag or Last-Modified."""
        try:
            known = read_json(self.facts)
            if known["url"] == url:
                self.same_file, self.total = str(known["same_file"]), known["total"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if not self.same_file:
            self.begin_anew()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin_anew(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)
        self.same_file, self.total = "", None

    def remember(self, response: HTTPResponse, total: int | None) -> None:
        etag = response.headers.get("ETag", "")
        # A weak ETag does not promise equal bytes.
        self.same_file = "" if etag.startswith("W/") else etag
        self.same_file = self.same_file or response.headers.get("Last-Modified", "")
        self.total = total
        facts = {"url": self.url, "same_file": self.same_file, "total": total}
        self.facts.write_text(json.dumps(facts), encoding="utf-8")

    def finish(self) -> None:
        replace(self.path, self.target)
        self.facts.unlink(missing_ok=True)


def _go_on(opener: OpenerDirector, part: _Part, emit: Emit) -> None:
    """One request. Raises what urllib raises, and ConnectionError where fewer bytes came than were announced."""
    request = Request(part.url, headers={"User-Agent": f"dinomix/{__version__}", "Accept-Encoding": "identity"})
    start = part.size
    if start and part.total == start:
        return
    if start and part.same_file:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", part.same_file)
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and start:
            part.begin_anew()
            raise ConnectionError("the file on the server is another one now") from error
        raise
    with response:
        if response.status != 206 or _first_byte(response) != start:
            part.begin_anew()
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdigit() else None
        part.remember(response, total)
        _check_space(part, start, total)
        _receive(response, part, start, total, emit)


def _receive(response: HTTPResponse, part: _Part, start: int, total: int | None, emit: Emit) -> None:
    megabytes = -(-total // _MEGABYTE) if total else 0
    progress = Progress(emit, "download, MB", megabytes, start // _MEGABYTE)
    done = start
    with open(part.path, "ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK):
            _write(file, chunk, part)
            done += len(chunk)
            progress(min(done // _MEGABYTE, megabytes) if megabytes else done // _MEGABYTE)
    if total is not None and done != total:
        raise ConnectionError(f"{done} of {total} bytes came")
    progress(megabytes or done // _MEGABYTE)


def _write(file: Any, chunk: bytes, part: _Part) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        # The system's error names no file where a write fails.
        raise OSError(error.errno, error.strerror, str(part.path)) from error


def _check_space(part: _Part, start: int, total: int | None) -> None:
    if total is not None and total - start > shutil.disk_usage(part.path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.path))


def _first_byte(response: HTTPResponse) -> int:
    """Where the bytes of a 206 answer begin: "bytes 100-199/200" -> 100."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    return int(first) if first.isdigit() else -1


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirections, but never from https to anything else."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise HTTPError(req.full_url, 403, f"redirected to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not os.environ.get("SSL_CERT_FILE"):
        # Some builds of Python find no certificates of the system; pip's own set is then the best there is.
        try:
            import certifi

            context.load_verify_locations(certifi.where())
        except ImportError:
            pass
    return build_opener(_SafeRedirects, HTTPSHandler(context=context))


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return "the server's certificate is not trusted; set SSL_CERT_FILE to the certificates of your network"
    return " ".join(str(inner).split()) or type(inner).__name__
