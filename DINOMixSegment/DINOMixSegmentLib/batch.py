"""Many volumes or files, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.scene.views import shownVolumes
from dinomix_slicer.signal import Signal
from dinomix_slicer.window.duration import duration

from .batch_item import DONE, FAILED, RUNNING, SKIPPED, WAITING, BatchItem
from .batch_items import printable
from .file_run import FileRun
from .segment_run import SegmentRun

if TYPE_CHECKING:
    from dinomix_slicer.worker.protocols import Client

    from .request import SegmentRequest


class Batch:
    """Segments items one by one; one that fails does not stop the others.

    Signals:
        changed(item): state, progress or sentence of a row changed.
        progress(stage, step, total, eta): items that are over, of all; eta in seconds from those that were computed.
        notice(text)
        finished(items)
        cancelled()
    """

    def __init__(self, client: Client, items: list[BatchItem], request: SegmentRequest) -> None:
        self.changed, self.progress, self.notice = Signal(), Signal(), Signal()
        self.finished, self.cancelled = Signal(), Signal()
        self.items = items
        self._client = client
        self._request = request
        self._run: SegmentRun | FileRun | None = None
        self._isCancelled = False
        self._notices: list[str] = []

    def start(self) -> None:
        """Begin with the first item, from the event loop."""
        for item in self.items:
            item.state, item.detail, item.progress, item.segmentation = WAITING, "", 0.0, None
            self.changed.emit(item)
        self._announce()
        self._startNextSoon()

    def cancel(self) -> None:
        """Give up the running item and start no other; ``cancelled`` follows when the worker has stopped."""
        self._isCancelled = True
        if self._run is not None:
            self._run.cancel()

    def _startNextSoon(self) -> None:
        # Not at once: a run that fails at its start would nest the calls as deep as the batch is long.
        qt.QTimer.singleShot(0, self._startNext)

    def _startNext(self) -> None:
        if self._isCancelled:
            self._end()
            return
        item = next((item for item in self.items if item.state == WAITING), None)
        if item is None:
            self.finished.emit(self.items)
            return
        if item.out is not None and printable(item.out) != str(item.out):
            # Neither the window nor the libraries that read images can take such a path.
            problem = _("The path {path} has letters that are not valid UTF-8. Rename the file or its folder.")
            self._close(item, FAILED, problem.format(path=printable(item.out.parent / item.title)))
            return
        if item.out is not None and item.out.exists():
            kept = _("{file} is already there; it is kept.").format(file=item.out)
            self._close(item, SKIPPED, kept)
            return
        self._set(item, RUNNING, "")
        self._notices = []
        self._run = self._runOf(item)
        self._run.progress.connect(lambda *progress: self._onProgress(item, *progress))
        self._run.notice.connect(self._notices.append)
        self._run.finished.connect(lambda result: self._onFinished(item, result))
        self._run.failed.connect(lambda problem, remedy: self._close(item, FAILED, f"{problem} {remedy}".strip()))
        self._run.cancelled.connect(lambda: self._onRunCancelled(item))
        self._run.start()

    def _runOf(self, item: BatchItem) -> SegmentRun | FileRun:
        if item.image is not None and item.out is not None:
            return FileRun(self._client, self._request, item.image, item.out)
        return SegmentRun(self._client, self._request.forVolume(item.volume))

    def _onProgress(self, item: BatchItem, stage: str, step: int, total: int, eta: float | None) -> None:
        item.progress = step / total if total else 0.0
        left = "" if eta is None else _(" ({duration} left)").format(duration=duration(eta))
        self._set(item, RUNNING, f"{stage}{left}")

    def _onFinished(self, item: BatchItem, result: Any) -> None:
        item.progress = 1.0
        if item.out is not None:
            written = _("Written to {file}.").format(file=result)
        else:
            item.segmentation = result
            written = _("In the scene as {name}.").format(name=result.GetName())
            # Of many segmentations only that of the shown volume is visible: those of others lie elsewhere.
            result.GetDisplayNode().SetVisibility(len(self.items) == 1 or item.volume in shownVolumes())
        self._close(item, DONE, " ".join([written, *dict.fromkeys(self._notices)]))

    def _onRunCancelled(self, item: BatchItem) -> None:
        self._isCancelled = True  # also when it was the closing scene that gave up
        self._close(item, SKIPPED, _("Given up while it was running."))

    def _close(self, item: BatchItem, state: str, detail: str) -> None:
        """An item is over; go on with the next one."""
        self._run = None
        self._set(item, state, detail)
        self._announce()
        self._startNextSoon()

    def _end(self) -> None:
        for item in self.items:
            if item.state == WAITING:
                self._set(item, SKIPPED, _("Not started, since the batch was cancelled."))
        self.cancelled.emit()

    def _announce(self) -> None:
        over = sum(item.state not in (WAITING, RUNNING) for item in self.items)
        self.progress.emit(_("Batch"), over, len(self.items), None)

    def _set(self, item: BatchItem, state: str, detail: str) -> None:
        item.state, item.detail = state, detail
        self.changed.emit(item)
