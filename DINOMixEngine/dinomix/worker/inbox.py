"""What the client sends, taken in by a thread of its own while the main thread computes."""

import os
import shutil
import threading
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.worker import scratch
from dinomix.worker.arrays import ArrayFromFrames, frame_bytes
from dinomix.worker.pipe import Output, end_everything
from dinomix.worker.stream import Decoder, Message, short

BLOCK = 2**18
LONGEST_NAME = 255
"""Bytes of a file's name, which is what file systems take; characters of a job's."""
MOST_IMAGES = 16
"""Of one case: as many as a plan has channels at most."""
AGAIN = "Send the request again; if that does not help, update dinomix on both sides."


@dataclass
class Request:
    """One request, with what its frames have brought."""

    fields: dict[str, Any]
    arrays: "ReceivedArrays | None" = None
    files: "ReceivedFiles | None" = None

    @property
    def job(self) -> str | None:
        """The name that the client gave it; None for what is not a job."""
        return self.fields.get("job")

    def discard(self) -> None:
        """Remove what was received."""
        self.arrays = None
        if self.files is not None:
            self.files.remove()


class ReceivedArrays:
    """The images of a case that come as frames, one after the other."""

    def __init__(self, images: list[Any]) -> None:
        """Raises DinomixError unless each of ``images`` says its shape and type, and the memory suffices for all."""
        if len(images) > MOST_IMAGES:
            raise DinomixError(f"A case of {len(images)} images cannot be segmented.", f"Send up to {MOST_IMAGES}.")
        if not all(isinstance(image, dict) and isinstance(image.get("shape"), list) for image in images):
            raise DinomixError("The request does not say the shape of each volume that is sent.", AGAIN)
        self._receivers = [ArrayFromFrames(tuple(image["shape"]), image.get("dtype")) for image in images]
        self._current = 0

    def add(self, message: Message) -> None:
        """Take one frame. Raises DinomixError as ``ArrayFromFrames.add``."""
        receiver = self._receivers[self._current]
        receiver.add(message)
        self._current += receiver.is_complete

    @property
    def is_complete(self) -> bool:
        return self._current == len(self._receivers)

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """(k, j, i) each, in the order in which they came."""
        return [receiver.array for receiver in self._receivers]


@dataclass
class ReceivedFiles:
    """Files that came as frames, one after the other, in a private folder."""

    folder: Path = field(default_factory=scratch.new_folder)
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
            raise DinomixError(f"The file {short(expected)} did not arrive whole.", AGAIN)
        path, block = self.folder / checked_name(name), frame_bytes(message, number)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab" if number else "xb") as file:
                file.write(block)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise DinomixError(f"Two files named {short(name)} were sent.", AGAIN) from error
        self._expected = None if last else (name, number + 1)
        self.is_complete = last and not message.fields.get("more")

    def remove(self) -> None:
        """Delete what has arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)


def checked_name(name: str) -> PurePosixPath:
    """A name as a relative path that stays inside its folder. Raises DinomixError on any other."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or not all(map(_can_be_used, path.parts)):
        raise DinomixError(
            f'The file name "{short(name)}" cannot be used.', "Rename the file to plain letters and digits."
        )
    return path


def _can_be_used(part: str) -> bool:
    try:
        length = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return part not in ("..", ".") and length <= LONGEST_NAME and not set(part) & set('\\:*?"<>|\0')


def _is_name(job: Any) -> bool:
    return isinstance(job, str) and len(job) <= LONGEST_NAME


class Inbox:
    """Requests in order of arrival, and which of them the client has given up. The end of the input ends the process."""

    def __init__(self, source: int, output: Output) -> None:
        self._source, self._output = source, output
        self._receiving: dict[str | None, Request] = {}
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._current_is_cancelled = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> Request:
        """The next request, as soon as there is one; the one before is then done."""
        with self._changed:
            self._current = None
            while not self._waiting:
                self._changed.wait()
            self._current, self._current_is_cancelled = self._waiting.popleft(), False
            return self._current

    @property
    def is_cancelled(self) -> bool:
        """Whether the client has given up the request that ``next`` returned last."""
        return self._current_is_cancelled

    def _read(self) -> None:
        code = 2
        try:
            decoder = Decoder()
            while data := os.read(self._source, BLOCK):
                for message in decoder.feed(data):
                    self._take(message)
            code = 0
        except DinomixError as error:
            self._output.send("error", job=None, **error.fields)
        except OSError:
            code = 0  # how Windows says that the other end is closed
        finally:
            # Whatever happened: without this thread nobody would notice the end of the input.
            end_everything(code)

    def _take(self, message: Message) -> None:
        """Sort one message; a mistake of the client's is answered and does no harm to the worker."""
        job = message.fields.get("job")
        try:
            if not (_is_name(job) or (job is None and message.type in ("hello", "models", "shutdown"))):
                raise DinomixError(f'The request "{short(message.type)}" does not name its job.', AGAIN)
            if message.type == "frame":
                self._take_frame(str(job), message)
            elif message.type == "cancel":
                self._cancel(str(job))
            elif message.type == "shutdown":
                end_everything(0)
            else:
                self._take_request(job, message)
        except DinomixError as error:
            self._refuse(job, error)
        except OSError as error:
            problem = f"What was sent cannot be kept: {error.strerror or 'the disk does not answer'}."
            remedy = "Free some disk space on the worker's computer, then send it again."
            self._refuse(job, DinomixError(problem, remedy))
        except Exception:
            traceback.print_exc()  # to stderr, which the client keeps as the log
            self._refuse(job, DinomixError("The worker cannot take this request.", AGAIN))

    def _refuse(self, job: Any, error: DinomixError) -> None:
        job = job if _is_name(job) else None  # numbers such as NaN cannot be sent back
        lost = self._receiving.pop(job, None)
        if lost is not None:
            lost.discard()
        self._output.send("error", job=job, **error.fields)

    def _take_request(self, job: str | None, message: Message) -> None:
        if job is not None and job in self._receiving:
            raise DinomixError(f"The job {short(job)} was not sent whole before another of its name began.", AGAIN)
        request, image = Request(message.fields), message.fields.get("image")
        if job is None or not isinstance(image, dict) or not image.get("frames"):
            self._add(request)
            return
        if message.type == "segment":
            more = message.fields.get("more") or []
            request.arrays = ReceivedArrays([image, *(more if isinstance(more, list) else [more])])
        else:
            request.files = ReceivedFiles()
        self._receiving[job] = request

    def _take_frame(self, job: str, message: Message) -> None:
        request = self._receiving.get(job)
        if request is None:
            return  # of a job that was cancelled or refused while its frames were on their way
        receiver = request.arrays or request.files
        assert receiver is not None
        receiver.add(message)
        if receiver.is_complete:
            self._add(self._receiving.pop(job))

    def _add(self, request: Request) -> None:
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()

    def _cancel(self, job: str) -> None:
        """Give up a job wherever it is; one that is over already needs no answer, since it has one."""
        with self._changed:
            if self._current is not None and self._current.job == job:
                self._current_is_cancelled = True  # its answer comes from the main thread
                return
            waiting = next((request for request in self._waiting if request.job == job), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        request = waiting or self._receiving.pop(job, None)
        if request is not None:
            request.discard()
            self._output.send("cancelled", job=job)
