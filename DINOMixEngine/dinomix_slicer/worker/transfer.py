"""Volumes and files to the worker, a small step at a time: through a folder that both see, or through its pipe."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.formats import format_of
from dinomix.worker.arrays import FRAME, frames_of_array, frames_of_file, write_array
from dinomix.worker.scratch import remove_old
from dinomix.worker.stream import encode

from ..process import Process
from ..processes import isThere
from ..task import WAIT
from .job import Job

MOST_UNREAD = 2**22
"""Bytes that wait to be read by the worker, so that no more than a few frames stand in memory."""


def privateFolder() -> tempfile.TemporaryDirectory[str]:
    """A folder for this user alone, where Slicer's settings put temporary files; removed at the latest when Slicer ends.

    What an earlier Slicer could not remove goes first: scans must not stay on a disk.
    """
    place = Path(slicer.app.temporaryPath)
    numbers = {folder: folder.name.split("-")[1] for folder in place.glob("dinomix-*-*")}
    remove_old(folder for folder, number in numbers.items() if number.isdigit() and not isThere(int(number)))
    return tempfile.TemporaryDirectory(prefix=f"dinomix-{os.getpid()}-", dir=place, ignore_cleanup_errors=True)


@dataclass(frozen=True)
class WorkerLine:
    """The way to a worker that has said hello.

    Attributes:
        folder: a folder that only this user can read.
        sharesFiles: whether the worker finds there what is written there.
    """

    process: Process
    folder: Path
    sharesFiles: bool

    def ask(self, request: dict[str, Any]) -> None:
        """Send a request."""
        self.process.send(encode(request))

    def stepsOfAsking(self, job: Job) -> Iterator[Any]:
        """Hand over what the job is about, and ask for it.

        Raises:
            DinomixError: there is nothing to send, or no space for it.
        """
        request = job.request
        if job.array is not None and self.sharesFiles:
            source, result = self._fileOf(job, "image"), self._fileOf(job, "labels")
            yield from self._copied(job, source)
            request = {**request, "image": {**request["image"], "file": str(source)}, "result": {"file": str(result)}}
            self.ask(request)
        elif job.array is not None:
            self.ask({**request, "image": {**request["image"], "frames": True}, "result": {"frames": True}})
            frames, total = frames_of_array(job.array, job.name, "image"), job.array.nbytes
            job.array = None  # the frames hold it as long as they need it
            yield from self._sent(frames, total, _reporter(job, _("handing over the volume")))
        elif job.out is not None and not self.sharesFiles:
            frames, total = framesOfPath(Path(request["image"]["path"]), job.name)
            out = {"frames": True, "format": format_of(job.out) or "seg.nrrd"}
            self.ask({**request, "image": {"frames": True}, "out": out})
            yield from self._sent(frames, total, _reporter(job, _("sending the image")))
        else:
            self.ask(request)

    def forget(self, job: Job) -> None:
        """Remove what a job has left on the disk. Labels stay mapped without a name; Windows keeps theirs with the folder."""
        for kind in ("image", "labels"):
            with contextlib.suppress(PermissionError):
                self._fileOf(job, kind).unlink(missing_ok=True)

    def _fileOf(self, job: Job, kind: str) -> Path:
        return self.folder / f"{job.name}-{kind}.npy"

    def _copied(self, job: Job, path: Path) -> Iterator[Any]:
        report, array = _reporter(job, _("handing over the volume")), job.array
        job.array = None
        try:
            for done, total in write_array(path, array):
                report(done, total)
                yield
        except OSError as error:
            raise DinomixError(
                _("The volume cannot be handed to the worker ({reason}).").format(reason=error.strerror or error),
                _("Free some disk space, or set another folder for temporary files in Slicer's settings."),
            ) from error

    def _sent(self, frames: Iterator[bytes], total: int, report: Callable[[int, int], None]) -> Iterator[Any]:
        """Send frames as fast as the other side reads them."""
        for number, frame in enumerate(frames, 1):
            while self.process.bytesToSend() > MOST_UNREAD:
                yield WAIT
            self.process.send(frame)
            report(min(number * FRAME, total), total)
            yield


def framesOfPath(path: Path, job: str) -> tuple[Iterator[bytes], int]:
    """The frames of a file, of a header and its voxels beside it, or of all files of a folder (a DICOM series); and how many
    bytes they hold.

    Raises:
        DinomixError: there is nothing to send.
    """
    files = (
        [path, *_voxelsBeside(path)] if path.is_file() else sorted(file for file in path.glob("*") if file.is_file())
    )
    if not files:
        raise DinomixError(
            _("There is no file {path}, or the folder is empty.").format(path=path), _("Choose another image.")
        )
    last = len(files) - 1
    parts = (frames_of_file(file, job, f"file:{file.name}", more=n < last) for n, file in enumerate(files))
    return itertools.chain.from_iterable(parts), sum(file.stat().st_size for file in files)


def _reporter(job: Job, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: job.progress.emit(stage, done, total, None)


def _voxelsBeside(header: Path) -> list[Path]:
    """The files of voxels that programs write beside a ``.mhd`` or ``.nhdr``: they have its name."""
    if header.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    return [file for ending in (".raw", ".zraw", ".raw.gz") if (file := header.with_suffix(ending)).is_file()]
