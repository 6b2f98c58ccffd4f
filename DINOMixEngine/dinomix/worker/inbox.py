"""What the client sends, taken in by a thread of its own while the main thread computes."""

import os
import queue
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dinomix.errors import DinomixError
from dinomix.worker.arrays import ArrayFromFrames, frame_bytes
from dinomix.worker.pipe import Output, end_everything
from dinomix.worker.stream import Decoder, Message

BLOCK = 2**18
AGAIN = "Send the request again; if that does not help, update dinomix on both sides."


@dataclass
class Request:
    """One request, with what its frames have brought."""

    fields: dict[str, Any]
    array: ArrayFromFrames | None = None
    files: "ReceivedFiles | None" = None

    @property
    def job(self) -> str | None:
        return self.fields.get("job")

    def discard(self) -> None:
        """Remove what was received."""
        if self.files is not None:
            self.files.remove()


@dataclass
class ReceivedFiles:
    """Files that came as frames, one after the other, in a private folder."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="dinomix-worker-")))
    is_complete: bool = False
    _expected: tuple[str, int] | None = None

    def add(self, message: Message) -> None:
        """Take one frame; ``more`` in a file's last frame says that another file follows.

        Raises:
            DinomixError: the name leads out of the folder, or frames are missing.
        """
        name, last = str(message.fields.get("name", "")).removeprefix("file:"), bool(message.fields.get("last"))
        expected, number = self._expected or (name, 0)
        if name != expected:
            raise DinomixError(f"The file {expected} did not arrive whole.", AGAIN)
        path = self.folder / checked_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab" if number else "xb") as file:
            file.write(frame_bytes(message, number))
        self._expected = None if last else (name, number + 1)
        self.is_complete = last and not message.fields.get("more")

    def remove(self) -> None:
        """Delete what has arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)


def checked_name(name: str) -> PurePosixPath:
    """A name as a relative path that stays inside its folder. Raises DinomixError on any other."""
    path = PurePosixPath(name)
    parts = path.parts
    if not parts or path.is_absolute() or any(part in ("..", ".") or set(part) & set('\\:*?"<>|\0') for part in parts):
        raise DinomixError(f"The file name {name!r} cannot be used.", "Rename the file to plain letters and digits.")
    return path


class Inbox:
    """Requests in order of arrival. ``cancelled`` holds the jobs to give up; the end of the input ends the process."""

    def __init__(self, source: int, output: Output) -> None:
        self.requests: queue.Queue[Request] = queue.Queue()
        self.cancelled: set[str] = set()
        self._source, self._output = source, output
        self._receiving: dict[str, Request] = {}
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := os.read(self._source, BLOCK):
                for message in decoder.feed(data):
                    self._take(message)
        except DinomixError as error:
            self._output.send("error", job=None, message=error.problem, remedy=error.remedy)
            self._end(2)
        except OSError:
            pass
        self._end(0)

    def _end(self, code: int) -> None:
        for request in self._receiving.values():
            request.discard()
        end_everything(code)

    def _take(self, message: Message) -> None:
        """Sort one message; a mistake of the client's is answered and does no harm to the worker."""
        job = message.fields.get("job")
        try:
            if message.type == "frame":
                self._take_frame(message)
            elif message.type == "cancel":
                self._cancel(str(job))
            elif message.type == "shutdown":
                self._end(0)
            else:
                self._take_request(message)
        except (DinomixError, OSError, KeyError, TypeError, ValueError) as error:
            if job is not None and (lost := self._receiving.pop(str(job), None)):
                lost.discard()
            problem = getattr(
                error, "problem", f"The worker cannot take this request ({type(error).__name__}: {error})."
            )
            self._output.send("error", job=job, message=problem, remedy=getattr(error, "remedy", AGAIN))

    def _take_request(self, message: Message) -> None:
        request = Request(message.fields)
        image = message.fields.get("image") or {}
        if not image.get("frames"):
            self.requests.put(request)
            return
        if message.type == "segment":
            request.array = ArrayFromFrames(tuple(image["shape"]), image["dtype"])
        else:
            request.files = ReceivedFiles()
        self._receiving[str(message.fields["job"])] = request

    def _take_frame(self, message: Message) -> None:
        job = str(message.fields.get("job"))
        request = self._receiving.get(job)
        if request is None:
            return  # of a job that was cancelled or refused while its frames were on their way
        receiver = request.array or request.files
        assert receiver is not None
        receiver.add(message)
        if receiver.is_complete:
            self.requests.put(self._receiving.pop(job))

    def _cancel(self, job: str) -> None:
        request = self._receiving.pop(job, None)
        if request is None:
            self.cancelled.add(job)
            return
        request.discard()
        self._output.send("cancelled", job=job)
