"""One image on disk on its way to a segmentation file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal

if TYPE_CHECKING:
    from pathlib import Path

    from dinomix_slicer.worker.protocols import Client, Job

    from .request import SegmentRequest


class FileRun:
    """Lets the worker segment a file. Nothing of it enters the scene.

    Signals; of the last three one is emitted, once, and last:
        progress(stage, step, total, eta)
        notice(text)
        finished(path)
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self, client: Client, request: SegmentRequest, image: Path, out: Path) -> None:
        self.progress, self.notice = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self._client = client
        self._request = request
        self._image, self._out = image, out
        self._job: Job | None = None

    def start(self) -> None:
        """Begin. ``failed`` is emitted before this returns when the folder for the result cannot be made."""
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = _("The folder {folder} cannot be made ({reason}).").format(
                folder=self._out.parent, reason=error.strerror or error
            )
            self.failed.emit(problem, _("Choose another folder for the results."))
            return
        request = self._request
        self._job = self._client.segmentFile(
            str(self._image),
            str(self._out),
            request.model,
            request.computing,
            request.keep,
        )
        self._job.progress.connect(self.progress.emit)
        self._job.notice.connect(self.notice.emit)
        self._job.finished.connect(self._onFinished)
        self._job.failed.connect(self.failed.emit)
        self._job.cancelled.connect(self.cancelled.emit)

    def cancel(self) -> None:
        """Give up; ``cancelled`` follows when the worker has stopped."""
        if self._job is not None:
            self._job.cancel()

    def _onFinished(self, result: Any) -> None:
        self.finished.emit(str(self._out))
