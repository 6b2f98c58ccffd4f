"""Many volumes or files, one after the other."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.models.folders import printable
from dinomix_slicer.paths import isThere
from dinomix_slicer.scene.unsure import inWords, unsureOf, unsureSegments
from dinomix_slicer.scene.views import shownVolumes
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Cancelled, Steps, Task
from dinomix_slicer.window.duration import duration

from .batch_items import DONE, FAILED, RUNNING, SKIPPED, WAITING, BatchItem
from .segment_run import OTHER_IMAGE, SegmentRun, removed

if TYPE_CHECKING:
    from pathlib import Path

    from dinomix_slicer.worker.client import WorkerClient

    from .request import SegmentRequest


class Batch(Steps):
    """Segments items one by one; one that fails does not stop the others. The result is the items.

    Its progress counts items that are over, of all.

    Signals, beside those of a task:
        changed(item): state, progress or sentence of a row changed.
    """

    def __init__(self, client: WorkerClient, items: list[BatchItem], request: SegmentRequest) -> None:
        super().__init__(self._stepsOf())
        self.changed = Signal()
        self.items = items
        self._client, self._request = client, request

    def _stepsOf(self) -> Generator[Any, Any, list[BatchItem]]:
        for item in self.items:
            item.progress, item.segmentationId, item.isOther, item.unsure = 0.0, "", False, ()
            self._set(item, WAITING, "")
        try:
            for number, item in enumerate(self.items):
                self.progress.emit(_("Batch"), number, len(self.items), None)
                yield from self._stepsOfItem(item)
        except Cancelled:  # also when it was the closing scene that gave up
            for item in self.items:
                if item.state == RUNNING:
                    self._set(item, SKIPPED, _("Given up while it was running."))
                elif item.state == WAITING:
                    self._set(item, SKIPPED, _("Not started, since the batch was cancelled."))
            raise
        self.progress.emit(_("Batch"), len(self.items), len(self.items), None)
        return self.items

    def _stepsOfItem(self, item: BatchItem) -> Generator[Any, Any, None]:
        if item.out is not None and printable(item.out) != str(item.out):
            # Neither the window nor the libraries that read images can take such a path.
            problem = _("The path {path} has letters that are not valid UTF-8. Rename the file or its folder.")
            self._set(item, FAILED, problem.format(path=printable(item.out.parent / item.title)))
        elif item.out is not None and isThere(item.out):
            self._set(item, SKIPPED, _("{file} is already there; it is kept.").format(file=item.out))
        else:
            self._set(item, RUNNING, "")
            try:
                yield from self._stepsOfSegmenting(item)
            except DinomixError as error:
                item.isOther = error.code == OTHER_IMAGE
                self._set(item, FAILED, str(error))

    def _stepsOfSegmenting(self, item: BatchItem) -> Generator[Any, Any, None]:
        task, notices = self._taskOf(item), []
        task.progress.connect(lambda *progress: self._onProgress(item, *progress))
        task.notice.connect(notices.append)
        result = yield task
        if item.out is not None:
            written = _("Written to {file}.").format(file=item.out)
            item.unsure = unsureOf(result.structures)
        else:
            item.segmentationId = result.GetID()
            item.unsure = unsureSegments(result)
            written = _("In the scene as {name}.").format(name=result.GetName())
            # Of many segmentations only that of the shown volume is visible: those of others lie elsewhere.
            result.GetDisplayNode().SetVisibility(len(self.items) == 1 or item.volume in shownVolumes())
        item.progress = 1.0
        first = [_("Look at {organs}: the model is unsure.").format(organs=inWords(item.unsure))] if item.unsure else []
        self._set(item, DONE, " ".join([*first, written, *dict.fromkeys(notices)]))

    def _taskOf(self, item: BatchItem) -> Task:
        request = self._request
        if item.image is None or item.out is None:
            if None in item.volumes:
                raise DinomixError(*removed(item.title))
            return SegmentRun(self._client, request.forVolumes(item.volumes))
        makeFolder(item.out.parent)
        return self._client.segmentFile(
            str(item.image),
            str(item.out),
            request.model,
            request.computing,
            request.keep,
            [str(path) for path in item.moreImages],
            request.moreModels,
            request.regions,
        )

    def _onProgress(self, item: BatchItem, stage: str, step: int, total: int, eta: float | None) -> None:
        item.progress = step / total if total else 0.0
        left = "" if eta is None else _(" ({duration} left)").format(duration=duration(eta))
        self._set(item, RUNNING, f"{stage}{left}")

    def _set(self, item: BatchItem, state: str, detail: str) -> None:
        item.state, item.detail = state, detail
        self.changed.emit(item)


def makeFolder(folder: Path) -> None:
    """Make the folder for results. Raises DinomixError when that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DinomixError(
            _("The folder {folder} cannot be made ({reason}).").format(folder=folder, reason=error.strerror or error),
            _("Choose another folder for the results."),
        ) from error
