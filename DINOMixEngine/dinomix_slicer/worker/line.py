"""How volumes and files reach a worker: through a folder that both see, or through its pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from . import transfer
from .job import Job
from .process import WorkerProcess

Sending = tuple[Iterator[Any], dict[str, Any] | None]
"""Steps to take, and the request that follows them; None where it went ahead of them."""


@dataclass(frozen=True)
class WorkerLine:
    """
    Attributes:
        folder: a folder that only this user can read.
        sharesFiles: whether the worker finds there what is written there.
        ask: sends a request.
    """

    process: WorkerProcess
    folder: Path
    sharesFiles: bool
    ask: Callable[[dict[str, Any]], None]

    def sendImage(self, job: Job, array: Any) -> Sending:
        """Copy the voxels (k, j, i) where the worker finds them, then ask; or ask, and send the voxels behind."""
        request, report = job.request, _reporter(job, _("handing over the volume"))
        if self.sharesFiles:
            source, result = self._fileOf(job, "image"), self._fileOf(job, "labels")
            asked = {**request, "image": {**request["image"], "file": str(source)}, "result": {"file": str(result)}}
            return transfer.stepsToFile(array, source, report), asked
        self.ask({**request, "image": {**request["image"], "frames": True}, "result": {"frames": True}})
        return self._throughPipe(transfer.framesOfImage(array, job.name), array.nbytes, report), None

    def sendFiles(self, job: Job, out: Path) -> Sending:
        """Send the files of an image that the worker cannot read; ask before. Where it can, only ask."""
        if self.sharesFiles:
            return iter(()), job.request
        format = next((f for f in ("seg.nrrd", "nii.gz", "nrrd") if out.name.lower().endswith("." + f)), "seg.nrrd")
        frames, total = transfer.framesOfPath(Path(job.request["image"]["path"]), job.name)
        self.ask({**job.request, "image": {"frames": True}, "out": {"frames": True, "format": format}})
        return self._throughPipe(frames, total, _reporter(job, _("sending the image"))), None

    def forget(self, job: Job) -> None:
        """Remove what a job has left on the disk. Labels stay mapped without a name; Windows keeps theirs with the folder."""
        for kind in ("image", "labels"):
            with contextlib.suppress(PermissionError):
                self._fileOf(job, kind).unlink(missing_ok=True)

    def _fileOf(self, job: Job, kind: str) -> Path:
        return self.folder / f"{job.name}-{kind}.npy"

    def _throughPipe(self, frames: Iterator[bytes], total: int, report: Callable[[int, int], None]) -> Iterator[Any]:
        return transfer.stepsToPipe(frames, total, self.process.send, self.process.bytesToSend, report)


def _reporter(job: Job, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: job.progress.emit(stage, done, total, None)
