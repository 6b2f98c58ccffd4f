"""Volumes of the scene on their way to segmentations: one, or all frames of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.scene.segmentations import LabelMap, addSegmentation, outlineRegions, writeIntoSegmentation
from dinomix_slicer.scene.sequences import Frames, SegmentationSequence, imagesOfFrame
from dinomix_slicer.scene.undo import saveState, undo
from dinomix_slicer.scene.volumes import NodeImage, imagesOfCase
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps, Task

if TYPE_CHECKING:
    from slicer import vtkMRMLNode, vtkMRMLSegmentationNode

    from dinomix_slicer.worker.client import WorkerClient
    from dinomix_slicer.worker.job import Job, Result

    from .request import SegmentRequest


OTHER_IMAGE = "other-image"
"""The code of the error of an image that is plainly none for the model; see docs/python_api.md."""


class Doubt(Task):
    """A question to the user: whether an image is segmented although it is plainly none for the model.

    Who hears of it finishes it with the answer, once the run that has announced it waits for that.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__()
        self.problem, self.remedy = problem, remedy


def removed(name: str) -> tuple[str, str]:
    """Problem and remedy where a node of this name has left the scene."""
    problem = _("{name} was removed from the scene, so segmenting was given up.")
    return problem.format(name=name), _("Choose the volume and the output again, then click Apply.")


class SceneRun(Steps):
    """Work on nodes of the scene, which is given up when one of them or the whole scene goes. Each notice comes once.

    Signals, beside those of a task:
        doubted(doubt): a ``Doubt`` to answer. Where nobody hears it, the image is refused.
    """

    def __init__(self, client: WorkerClient, request: SegmentRequest, nodes: list[vtkMRMLNode]) -> None:
        super().__init__(self._stepsOf())
        self.doubted = Signal()
        self._client, self._request, self._computing = client, request, request.computing
        self._said: set[str] = set()
        self._nodes = {node.GetID(): node.GetName() for node in nodes}
        events = slicer.vtkMRMLScene
        self._tags = [
            slicer.mrmlScene.AddObserver(events.NodeRemovedEvent, self._onNodeRemoved),
            slicer.mrmlScene.AddObserver(events.StartCloseEvent, self._onSceneStartClose),
        ]

    def _stepsOf(self) -> Generator[Any, Any, vtkMRMLSegmentationNode]:
        """The work, whose result is the segmentation node."""
        raise NotImplementedError

    def _resultOf(self, images: list[NodeImage], report: Callable[..., None]) -> Generator[Any, Any, Result]:
        """Let the worker segment the images of a case; those that are none for the model after the user has agreed.

        What was agreed to holds for further images too.
        """
        job = self._ask(images, report)
        try:
            return (yield job)
        except DinomixError as error:
            if error.code != OTHER_IMAGE or not self.doubted.isHeard:
                raise
            problem, remedy = error.problem, error.remedy
        doubt = Doubt(problem, remedy)
        self.doubted.emit(doubt)
        if not (yield doubt):
            raise DinomixError(problem, remedy, OTHER_IMAGE)
        self._computing = replace(self._computing, anyImage=True)
        return (yield self._ask(images, report))

    def _ask(self, images: list[NodeImage], report: Callable[..., None]) -> Job:
        """Let the worker segment the images of a case; its notices are passed on."""
        first, *more = images
        self._say(first.notices)
        request = self._request
        job = self._client.segment(first, request.model, self._computing, request.keep, more, request.moreModels)
        job.notice.connect(lambda text: self._say([text]))
        job.progress.connect(report)
        return job

    def _say(self, texts: tuple[str, ...] | list[str]) -> None:
        for text in texts:
            if text not in self._said:
                self._said.add(text)
                self.notice.emit(text)

    def _onNodeRemoved(self, caller: object, event: object) -> None:
        for nodeId, name in self._nodes.items():
            if slicer.mrmlScene.GetNodeByID(nodeId) is None:
                self.fail(*removed(name))

    def _onSceneStartClose(self, caller: object, event: object) -> None:
        self._say([_("The scene was closed, so segmenting was given up.")])
        self.confirmCancel()

    def _letGo(self) -> None:
        for tag in self._tags:
            slicer.mrmlScene.RemoveObserver(tag)
        self.doubted.clear()
        super()._letGo()


class SegmentRun(SceneRun):
    """Sends a volume to the worker and writes what comes back into the scene."""

    def __init__(self, client: WorkerClient, request: SegmentRequest) -> None:
        super().__init__(client, request, [node for node in (*request.volumes, request.output) if node is not None])

    def _stepsOf(self) -> Generator[Any, Any, vtkMRMLSegmentationNode]:
        volume = self._request.volume
        result = yield from self._resultOf(imagesOfCase(list(self._request.volumes)), self.progress.emit)
        structures = self._request.segmentsOf(result)
        labelMap = LabelMap(volume, result.labels, structures)
        yield from labelMap.steps()
        segmentation = self._write(structures, labelMap)
        self._say(result.notices)
        return segmentation

    def _write(self, structures: list[dict[str, Any]], labelMap: LabelMap) -> vtkMRMLSegmentationNode:
        request = self._request
        if request.output is None:
            return addSegmentation(request.volume, labelMap, structures)
        saveState(request.output)
        try:
            writeIntoSegmentation(request.output, request.volume, labelMap, structures, request.replaceOthers)
        except DinomixError:
            undo(request.output)
            raise
        return request.output


class SequenceRun(SceneRun):
    """Sends frame after frame to the worker; the segmentations enter the scene together, when all are done."""

    def __init__(self, client: WorkerClient, request: SegmentRequest, frames: Frames) -> None:
        self._frames = frames
        super().__init__(client, request, [frames.volumeNode, frames.browser, frames.sequence, *request.more])

    def _stepsOf(self) -> Generator[Any, Any, vtkMRMLSegmentationNode]:
        results, structures = SegmentationSequence(self._frames), []
        try:
            for number in range(len(self._frames)):
                images = imagesOfFrame(self._frames, list(self._request.more), number)
                result = yield from self._resultOf(images, self._reporter(number))
                structures = self._request.segmentsOf(result)
                results.add(number, result.labels, structures)
                self._say(result.notices)
            segmentation = results.finish()
            outlineRegions(segmentation, structures)
            return segmentation
        except BaseException:
            results.discard()
            raise

    def _reporter(self, number: int) -> Callable[..., None]:
        def report(stage: str, *progress: Any) -> None:
            named = _("frame {number} of {count}: {stage}")
            count = len(self._frames)
            self.progress.emit(named.format(number=number + 1, count=count, stage=stage), *progress)

        return report
