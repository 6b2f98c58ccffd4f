"""One volume on its way to a segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.scene.segmentations import LabelMap, addSegmentation, writeIntoSegmentation
from dinomix_slicer.scene.undo import saveState, undo
from dinomix_slicer.scene.volumes import imageOfNode
from dinomix_slicer.signal import Signal
from dinomix_slicer.worker.transfer import Steps

from .node_watch import NodeWatch

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

    from dinomix_slicer.worker.protocols import Client, Job

    from .request import SegmentRequest


class SegmentRun:
    """Sends a volume to the worker and writes what comes back into the scene.

    Signals; of the last three one is emitted, once, and last:
        progress(stage, step, total, eta)
        notice(text)
        finished(segmentationNode)
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self, client: Client, request: SegmentRequest) -> None:
        self.progress, self.notice = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self._client = client
        self._request = request
        self._job: Job | None = None
        self._placing: Steps | None = None
        self._isOver = False
        self._nodes = [node for node in (request.volume, request.output) if node is not None]
        self._watch = NodeWatch(self._nodes)
        self._watch.removed.connect(self._onNodeRemoved)
        self._watch.sceneClosed.connect(self._onSceneClosed)

    def start(self) -> None:
        """Begin. ``failed`` is emitted before this returns when the volume is gone or cannot be read."""
        request = self._request
        gone = next((node for node in self._nodes if node.GetScene() is None), None)
        if gone is not None:
            self._onNodeRemoved(gone.GetName())
            return
        try:
            image = imageOfNode(request.volume)
        except DinomixError as error:
            self._end(self.failed, error.problem, error.remedy)
            return
        for text in image.notices:
            self.notice.emit(text)
        self._job = self._client.segment(image, request.model, request.computing, request.keep)
        self._job.progress.connect(self.progress.emit)
        self._job.notice.connect(self.notice.emit)
        self._job.finished.connect(self._onFinished)
        self._job.failed.connect(lambda problem, remedy: self._end(self.failed, problem, remedy))
        self._job.cancelled.connect(lambda: self._end(self.cancelled))

    def cancel(self) -> None:
        """Give up; ``cancelled`` follows when the worker has stopped."""
        if self._placing is not None:
            self._placing.stop()
            self._end(self.cancelled)
        elif self._job is not None:
            self._job.cancel()

    def _onFinished(self, result: Any) -> None:
        """Copy the labels a piece at a time, since the window waits meanwhile."""
        if self._isOver:
            return
        try:
            labelMap = LabelMap(self._request.volume, result.labels)
        except DinomixError as error:
            self._end(self.failed, error.problem, error.remedy)
            return

        def onFailed(problem: str, remedy: str) -> None:
            self._end(self.failed, problem, remedy)

        self._placing = Steps(labelMap.steps(), lambda: self._onCopied(result, labelMap), onFailed)
        self._placing.begin()

    def _onCopied(self, result: Any, labelMap: LabelMap) -> None:
        try:
            segmentation = self._write(result, labelMap)
        except DinomixError as error:
            self._end(self.failed, error.problem, error.remedy)
            return
        for text in result.notices:
            self.notice.emit(text)
        self._end(self.finished, segmentation)

    def _write(self, result: Any, labelMap: LabelMap) -> vtkMRMLSegmentationNode:
        request = self._request
        if request.output is None:
            return addSegmentation(request.volume, labelMap, result.structures)
        saveState(request.output)
        try:
            writeIntoSegmentation(
                request.output, request.volume, labelMap, result.structures, replaceOthers=request.replaceOthers
            )
        except DinomixError:
            undo(request.output)
            raise
        return request.output

    def _onNodeRemoved(self, name: str) -> None:
        problem = _("{name} was removed from the scene, so segmenting was given up.").format(name=name)
        self._giveUp(self.failed, problem, _("Choose the volume and the output again, then click Apply."))

    def _onSceneClosed(self) -> None:
        self.notice.emit(_("The scene was closed, so segmenting was given up."))
        self._giveUp(self.cancelled)

    def _giveUp(self, signal: Signal, *arguments: object) -> None:
        # First, since a job that still waits announces at once that it is cancelled.
        self._end(signal, *arguments)
        if self._placing is not None:
            self._placing.stop()
        elif self._job is not None:
            self._job.cancel()

    def _end(self, signal: Signal, *arguments: object) -> None:
        if self._isOver:
            return
        self._isOver = True
        self._watch.stop()
        signal.emit(*arguments)
