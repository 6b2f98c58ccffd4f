"""The stream that a worker and its client speak over a pipe: lines of JSON, and frames of bytes behind some of them.

A message is one line, a JSON object with a ``type``. A message of type ``frame`` says in ``bytes`` how many raw bytes follow its
line. Both directions are alike; docs/worker.md lists the messages. Only the standard library is imported here, so that a client
needs nothing installed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError, printable

PROTOCOL = 1
LONGEST_LINE = 2**26
"""Bytes; a list of models with their pictures stays far below."""
LARGEST_FRAME = 2**21
"""Bytes; twice the 1 MiB that a frame holds before it is compressed, since compressing can add a little."""
NOT_A_WORKER = (
    "Check that the command starts `dinomix worker` of the same version, and that nothing else prints to its output."
)


@dataclass(frozen=True)
class Message:
    """One message: the fields of its line, and for a ``frame`` the bytes that followed it."""

    fields: dict[str, Any]
    payload: bytes = b""

    @property
    def type(self) -> str:
        return str(self.fields["type"])


def short(value: object) -> str:
    """What the other side has sent, for a sentence about it: on one line, and never long."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text[:81])
    return text if len(text) <= 80 else text[:79] + "…"


def short_path(path: Path) -> str:
    """A path for a sentence; of a long one its end, which names the file."""
    text = printable(str(path))
    return text if len(text) <= 200 else "…" + text[-199:]


def encode(fields: dict[str, Any], payload: bytes = b"") -> bytes:
    """The bytes of a message; a payload is for ``frame`` messages, whose ``bytes`` is set here."""
    if fields["type"] == "frame":
        fields = {**fields, "bytes": len(payload)}
    return json.dumps(fields, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n" + payload


class Decoder:
    """Turns the bytes of a stream, in pieces of any size, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._frame: dict[str, Any] | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that ``data`` completes; to be exhausted before the next call.

        Raises:
            DinomixError: the bytes are not such a stream (no JSON, a line or frame too long, no type).
        """
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if self._frame is None:
            fields = self._line()
            if fields is None or fields["type"] != "frame":
                return None if fields is None else Message(fields)
            self._frame = fields
        size = self._frame["bytes"]
        if len(self._buffer) < size:
            return None
        payload, fields = bytes(self._buffer[:size]), self._frame
        del self._buffer[:size]
        self._frame = None
        return Message(fields, payload)

    def _line(self) -> dict[str, Any] | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > LONGEST_LINE:
                raise DinomixError("The other side of the pipe sent a line without an end.", NOT_A_WORKER)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return _fields_of(line)


def _fields_of(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        shown = short(line[:320].decode("utf-8", "replace").strip())
        raise DinomixError(
            f'The other side of the pipe does not speak the worker\'s protocol; it sent "{shown}".', NOT_A_WORKER
        )
    if fields["type"] == "frame":
        size = fields.get("bytes")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_FRAME:
            raise DinomixError(f"The other side of the pipe sent a frame of {short(size)} bytes.", NOT_A_WORKER)
    return fields
