"""All frames of a sequence on their way to a sequence of segmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.scene.sequences import Frames, SegmentationSequence, imageOfFrame
from dinomix_slicer.signal import Signal

from .node_watch import NodeWatch

if TYPE_CHECKING:
    from dinomix_slicer.worker.protocols import Client, Job

    from .request import SegmentRequest


class SequenceRun:
    """Sends frame after frame to the worker; the segmentations enter the scene together, when all are done.

    Signals; of the last three one is emitted, once, and last:
        progress(stage, step, total, eta): of the frame that is computed.
        notice(text): each text once, though every frame may say it.
        finished(segmentationNode): the node that shows the segmentation of the browser's frame.
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self, client: Client, request: SegmentRequest, frames: Frames) -> None:
        self.progress, self.notice = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self._client = client
        self._request = request
        self._frames = frames
        self._job: Job | None = None
        self._isOver = False
        self._said: set[str] = set()
        self._results = SegmentationSequence(frames)
        self._watch = NodeWatch([frames.volumeNode, frames.browser, frames.sequence])
        self._watch.removed.connect(self._onNodeRemoved)
        self._watch.sceneClosed.connect(self._onSceneClosed)

    def start(self) -> None:
        """Begin with the first frame."""
        self._startFrame(0)

    def cancel(self) -> None:
        """Give up all frames; ``cancelled`` follows when the worker has stopped."""
        if self._job is not None:
            self._job.cancel()

    def _startFrame(self, number: int) -> None:
        request = self._request
        try:
            image = imageOfFrame(self._frames, number)
        except DinomixError as error:
            self._end(self.failed, error.problem, error.remedy)
            return
        for text in image.notices:
            self._say(text)
        self._job = self._client.segment(image, request.model, request.computing, request.keep)
        self._job.progress.connect(lambda *progress: self._onProgress(number, *progress))
        self._job.notice.connect(self._say)
        self._job.finished.connect(lambda result: self._onFrame(number, result))
        self._job.failed.connect(lambda problem, remedy: self._end(self.failed, problem, remedy))
        self._job.cancelled.connect(lambda: self._end(self.cancelled))

    def _onFrame(self, number: int, result: Any) -> None:
        if self._isOver:
            return
        try:
            self._results.add(number, result.labels, result.structures)
        except DinomixError as error:
            self._end(self.failed, error.problem, error.remedy)
            return
        for text in result.notices:
            self._say(text)
        if number + 1 < len(self._frames):
            self._startFrame(number + 1)
        else:
            self._end(self.finished, self._results.finish())

    def _onProgress(self, number: int, stage: str, step: int, total: int, eta: float | None) -> None:
        named = _("frame {number} of {count}: {stage}").format(number=number + 1, count=len(self._frames), stage=stage)
        self.progress.emit(named, step, total, eta)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.notice.emit(text)

    def _onNodeRemoved(self, name: str) -> None:
        self.cancel()
        problem = _("{name} was removed from the scene, so segmenting was given up.").format(name=name)
        self._end(self.failed, problem, _("Choose the volume again, then click Apply."))

    def _onSceneClosed(self) -> None:
        self.cancel()
        self.notice.emit(_("The scene was closed, so segmenting was given up."))
        self._end(self.cancelled)

    def _end(self, signal: Signal, *arguments: object) -> None:
        if self._isOver:
            return
        self._isOver = True
        self._watch.stop()
        if signal is not self.finished:
            self._results.discard()
        signal.emit(*arguments)
