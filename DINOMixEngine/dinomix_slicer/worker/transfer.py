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


def whyNoFolder(reason: str) -> tuple[str, str]:
    """Problem and remedy where that folder cannot be made or filled."""
    problem = _("The worker cannot be started, since nothing can be written to {folder} ({reason}).")
    return problem.format(folder=slicer.app.temporaryPath, reason=reason), _remedyOfFolder()


def _remedyOfFolder() -> str:
    return _("Free some disk space, or set another folder for temporary files in Slicer's settings.")


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
        if job.arrays and self.sharesFiles:
            sources = [self._fileOf(job, f"image{number}") for number in range(len(job.arrays))]
            yield from self._copied(job, sources)
            image, *more = self._images(request, [{"file": str(source)} for source in sources])
            self.ask({**request, "image": image, "more": more, "result": {"file": str(self._fileOf(job, "labels"))}})
        elif job.arrays:
            image, *more = self._images(request, [{"frames": True}] * len(job.arrays))
            self.ask({**request, "image": image, "more": more, "result": {"frames": True}})
            total = sum(array.nbytes for array in job.arrays)
            yield from self._sent(framesOfArrays(job), total, _reporter(job, _("handing over the volume")))
        elif job.out is not None and not self.sharesFiles:
            paths = [Path(image["path"]) for image in (request["image"], *request["more"])]
            frames, total = framesOfPaths(paths, job.name)
            out = {"frames": True, "format": format_of(job.out) or "seg.nrrd"}
            more = [{"frames": True}] * (len(paths) - 1)
            self.ask({**request, "image": {"frames": True}, "more": more, "out": out})
            yield from self._sent(frames, total, _reporter(job, _("sending the image")))
        else:
            self.ask(request)

    def _images(self, request: dict[str, Any], where: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The images of a request, each with where its voxels are found."""
        return [{**image, **there} for image, there in zip((request["image"], *request["more"]), where, strict=True)]

    def forget(self, job: Job) -> None:
        """Remove what a job has left on the disk. Labels stay mapped without a name; Windows keeps theirs with the folder."""
        for path in self.folder.glob(f"{job.name}-*.npy"):
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)

    def _fileOf(self, job: Job, kind: str) -> Path:
        return self.folder / f"{job.name}-{kind}.npy"

    def _copied(self, job: Job, paths: list[Path]) -> Iterator[Any]:
        report, done = _reporter(job, _("handing over the volume")), 0
        arrays, job.arrays = job.arrays, []
        total = sum(array.nbytes for array in arrays)
        try:
            for path in paths:
                array = arrays.pop(0)
                for here, _ignored in write_array(path, array):
                    report(done + here, total)
                    yield
                done += array.nbytes
        except OSError as error:
            raise DinomixError(
                _("The volume cannot be handed to the worker ({reason}).").format(reason=error.strerror or error),
                _remedyOfFolder(),
            ) from error

    def _sent(self, frames: Iterator[bytes], total: int, report: Callable[[int, int], None]) -> Iterator[Any]:
        """Send frames as fast as the other side reads them."""
        for number, frame in enumerate(frames, 1):
            while self.process.bytesToSend() > MOST_UNREAD:
                yield WAIT
            self.process.send(frame)
            report(min(number * FRAME, total), total)
            yield


def framesOfArrays(job: Job) -> Iterator[bytes]:
    """The frames of a job's arrays, one after the other; each array is let go of when its frames are made."""
    while job.arrays:
        yield from frames_of_array(job.arrays.pop(0), job.name, "image")


def framesOfPaths(paths: list[Path], job: str) -> tuple[Iterator[bytes], int]:
    """The frames of a case's images, and how many bytes they hold.

    An image is a file, a header with its voxels beside it, or a folder with a DICOM series.

    Raises:
        DinomixError: there is nothing to send.
    """
    files = [(number, file) for number, path in enumerate(paths) for file in _filesOf(path)]
    names = [f"file:{number}/{file.name}" if len(paths) > 1 else f"file:{file.name}" for number, file in files]
    last = len(files) - 1
    parts = (
        frames_of_file(file, job, name, more=n < last)
        for n, ((_number, file), name) in enumerate(zip(files, names, strict=True))
    )
    return itertools.chain.from_iterable(parts), sum(file.stat().st_size for _number, file in files)


def _filesOf(path: Path) -> list[Path]:
    files = (
        [path, *_voxelsBeside(path)] if path.is_file() else sorted(file for file in path.glob("*") if file.is_file())
    )
    if not files:
        raise DinomixError(
            _("There is no file {path}, or the folder is empty.").format(path=path), _("Choose another image.")
        )
    return files


def _reporter(job: Job, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: job.progress.emit(stage, done, total, None)


def _voxelsBeside(header: Path) -> list[Path]:
    """The files of voxels that programs write beside a ``.mhd`` or ``.nhdr``: they have its name."""
    if header.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    return [file for ending in (".raw", ".zraw", ".raw.gz") if (file := header.with_suffix(ending)).is_file()]
