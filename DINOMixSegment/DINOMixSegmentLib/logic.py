"""The module's logic: what the window and scripts can do. It opens no dialog and announces everything by signals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from dinomix.errors import DinomixError
from dinomix_slicer.scene.channels import channelsOf
from dinomix_slicer.scene.sequences import framesOf
from dinomix_slicer.scene.surfaces import areSurfacesShown, surfaceSteps
from dinomix_slicer.scene.undo import undo
from dinomix_slicer.scene.views import centerOnFirst, showVolume
from dinomix_slicer.scene.volumes import imageOfNode
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import WAIT, Steps, Task, waitFor
from dinomix_slicer.worker.computing import Computing
from dinomix_slicer.worker.owner import WorkerOwner

from . import checks, choosing
from .batch import Batch
from .estimate import Estimate
from .parameter_node import DINOMixSegmentParameterNode
from .request import SegmentRequest
from .segment_run import SegmentRun, SequenceRun

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

    from dinomix.images.channel_files import Channel
    from dinomix_slicer.setup.dependencies import DependencyInstaller
    from dinomix_slicer.worker.client import WorkerClient
    from dinomix_slicer.worker.job import Job

    from .batch_items import BatchItem

IDLE, RUNNING, CANCELLING = "idle", "running", "cancelling"
START_SECONDS = 120.0  # importing torch from a cold network drive takes a minute


class DINOMixSegmentLogic(WorkerOwner, ScriptedLoadableModuleLogic):
    """Segments volumes with the worker process. One thing runs at a time: a volume, a sequence, or a batch.

    Attributes:
        state: "idle", "running" or "cancelling".
        batchItems: the items of the batch that runs, or of the last one.

    Signals, each with ``connect(function)``, ``disconnect(function)``:
        stateChanged(state)
        progress(stage, step, total, eta): eta in seconds, or None while unknown.
        notice(text): a sentence that the user should see, such as that memory forced a smaller setting.
        finished(segmentationNode): a volume or a sequence is done (the node of the frame shown); not for a batch.
        doubted(doubt): the image is plainly none for the model, and whoever hears it finishes the ``Doubt`` with whether it is
            segmented all the same. Where nobody hears it, and for batches and scripts, the image is refused.
        failed(problem, remedy): one message to show; nothing runs any more. Also when the idle worker died.
        cancelled(): what ran was given up; the scene is as before.
        surfacesChanged(done, total): surfaces are made; done == total at the end.
        modelsChanged(models): the worker has listed its models; see ``models``.
        workerStateChanged(state): "stopped", "starting", "ready", "busy" or "failed".
        estimated(estimate): answer to ``requestEstimate``; see ``estimate.Estimate``.
        undoChanged(possible): whether ``undo`` has something to undo.
        batchChanged(item): a row of the batch has changed; see ``batch_items.BatchItem``.
        batchFinished(items): all rows are done, failed, skipped, or given up.
    """

    def __init__(self, client: WorkerClient | None = None, installer: DependencyInstaller | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        WorkerOwner.__init__(self, client, installer)
        self.stateChanged, self.progress, self.notice = Signal(), Signal(), Signal()
        self.finished, self.failed, self.cancelled, self.doubted = Signal(), Signal(), Signal(), Signal()
        self.estimated, self.undoChanged, self.surfacesChanged = Signal(), Signal(), Signal()
        self.batchChanged, self.batchFinished = Signal(), Signal()
        self.state = IDLE
        self.batchItems: list[BatchItem] = []
        self._run: Task | None = None
        self._estimateJob: Job | None = None
        self._surfaces: Steps | None = None
        self._results: list[str] = []  # IDs of the nodes that were written, the last one last
        self._lastFailure = ""
        self._hasNewPackages = False  # of which the worker does not know
        scene = slicer.mrmlScene
        self._sceneTag = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, self._onSceneStartClose)

    def cleanup(self) -> None:
        """End everything: what runs, the worker, all observations. Called when the window goes or is reloaded."""
        slicer.mrmlScene.RemoveObserver(self._sceneTag)
        self._hasNewPackages = False
        self.cancel()
        self.stopWorker()

    # -- What is chosen

    def getParameterNode(self) -> DINOMixSegmentParameterNode:
        """The wrapped parameter node of the scene; made when it is not there."""
        return DINOMixSegmentParameterNode(super().getParameterNode())

    def checkCanApply(self, parameterNode: DINOMixSegmentParameterNode) -> str | None:
        """The sentence that says why Apply cannot work now and what to do; None when it can. Takes under 1 ms."""
        return self._whyNot(self.requestOf(parameterNode))

    def checkCanStartBatch(self, items: list[BatchItem], parameterNode: DINOMixSegmentParameterNode) -> str | None:
        """The same for a batch."""
        if not items:
            return _("There is nothing to segment. Load volumes, or choose a folder with images.")
        return self._whyNotAnything(self.requestOf(parameterNode))

    def requestOf(self, parameterNode: DINOMixSegmentParameterNode) -> SegmentRequest:
        """What is chosen, as far as the models that are chosen can do it."""
        canMirror = self.whyNotMirror(parameterNode.modelPath, parameterNode.moreModels) is None
        return SegmentRequest.fromParameterNode(parameterNode, self.channels(parameterNode.modelPath), canMirror)

    def whyNotMirror(self, model: str, moreModels: Sequence[str] = ()) -> str | None:
        """The sentence that says why mirror images cannot be computed with these models; None when they can."""
        return checks.whyNotMirror([self.model(path) for path in (model, *moreModels)])

    def channels(self, model: str) -> tuple[Channel, ...]:
        """The images that the model in this folder sees of a case, in its order; one without a name for most models."""
        return channelsOf(self.model(model))

    def structures(self, model: str, moreModels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What the model finds, and what further ones add to it: of a structure that two know, the earlier one's."""
        listed = [self.model(path) for path in (model, *moreModels)]
        return choosing.joinedStructures([each["structures"] for each in listed if each is not None])

    # -- Segmenting

    def startSegmentation(self, parameterNode: DINOMixSegmentParameterNode) -> Task | None:
        """Start to segment what is chosen; ``failed`` when ``checkCanApply`` has a sentence. Returns at once, as ``start``."""
        return self.start(self.requestOf(parameterNode))

    def start(self, request: SegmentRequest) -> Task | None:
        """Start to segment; returns what runs at once, or None after ``failed`` when it cannot be done."""
        problem = self._whyNot(request)
        if problem:
            self.failed.emit(problem, "")
            return None
        run = self._runOf(request)
        if self.doubted.isHeard:
            run.doubted.connect(self.doubted.emit)
        self._begin(run)
        return run

    def segment(
        self,
        volume: vtkMRMLScalarVolumeNode | Mapping[str, vtkMRMLScalarVolumeNode],
        model: str | Sequence[str] | None = None,
        output: vtkMRMLSegmentationNode | None = None,
        keep: tuple[str, ...] = (),
        device: str = "auto",
        maxMemory: int | None = None,
        replaceOthers: bool = False,
        show3D: bool = False,
        allFrames: bool = False,
        precision: str = "auto",
        allPieces: bool = False,
        runtime: str = "auto",
        regions: bool = False,
        anyImage: bool = False,
        inside: Sequence[str] = (),
        mirror: bool = False,
        cleanUp: Mapping[str, str] | None = None,
    ) -> vtkMRMLSegmentationNode:
        """Segment a volume and return the segmentation; the event loop runs meanwhile.

        Args:
            volume: for a model that sees several images of a case, the volume of each channel by its name.
            model: a model's folder or title; None for the only one installed. Of several, what an earlier one knows or has found
                is its own.
            keep: names of the organs to keep; empty for all.
            maxMemory: bytes of main memory that the worker may take.
            precision: "auto", "float32", "bfloat16" or "int8".
            allPieces: whether pieces that lie apart from the largest one of an organ are kept.
            runtime: "auto", "pytorch", "openvino" or "openvino-gpu".
            regions: whether the model's regions, such as a whole tumor, are added as segments that overlap their parts.
            anyImage: whether an image is segmented that is plainly none for the model, such as a CT that is not in HU.
            inside: organs in the box around which alone is computed, as the first of several models has found it, or a quick pass
                of the only one.
            mirror: whether mirror images are computed too and averaged, along axes for which the model was trained with such.
            cleanUp: organ -> "largest" or a size such as "0.5ml", which its pieces must have to be kept; an empty name for all.

        Raises:
            DinomixError: it cannot be done, failed, or was cancelled; with the code "other-image" for such an image.
        """
        problem = self.whyNotDependencies()
        if problem:
            raise DinomixError(problem)
        isByName = isinstance(volume, Mapping)
        named = [model] if model is None or isinstance(model, str) else list(model)
        if not named:
            raise DinomixError(_("No model was given."), _("Give a model's folder or title."))
        folder, *moreModels = (self._folderOf(each, isByName or len(named) > 1) for each in named)
        first, *more = choosing.inOrder(volume, self.channels(folder)) if isByName else [volume]
        computing = Computing(
            device, maxMemory, precision, allPieces, runtime, anyImage, mirror, dict(cleanUp or {}), tuple(inside)
        )
        request = SegmentRequest(
            first, folder, output, tuple(keep), computing, replaceOthers, show3D, allFrames, regions, tuple(more),
            tuple(moreModels),
        )  # fmt: skip
        problem = self._whyNot(request)
        if problem:
            raise DinomixError(problem)
        run = self._runOf(request)
        segmentation = waitFor(run, start=lambda: self._begin(run))
        if self._surfaces is not None:
            with contextlib.suppress(DinomixError):  # who stops them wants the segmentation alone
                waitFor(self._surfaces)
        return segmentation

    def startBatch(self, items: list[BatchItem], parameterNode: DINOMixSegmentParameterNode) -> None:
        """Segment all items with the chosen model, organs and device; one that fails does not stop the others."""
        problem = self.checkCanStartBatch(items, parameterNode)
        if problem:
            self.failed.emit(problem, "")
            return
        batch = Batch(self.client, items, self.requestOf(parameterNode))
        batch.changed.connect(self.batchChanged.emit)
        batch.finished.connect(self._onBatchFinished)
        self.batchItems = items
        self._begin(batch)

    def cancel(self) -> None:
        """Give up what runs, the batch and the surfaces included; ``cancelled`` follows within a second."""
        self.stopSurfaces()
        self._dropEstimate()
        if self._run is not None:
            self._setState(CANCELLING)
            self._run.cancel()

    def requestEstimate(self, parameterNode: DINOMixSegmentParameterNode) -> None:
        """Ask how long it will take and on which device; answered by ``estimated``. An earlier question is dropped.

        Nothing is answered while Apply cannot work or something runs.
        """
        self._dropEstimate()
        request = self.requestOf(parameterNode)
        if self._whyNot(request):
            return
        try:
            image = imageOfNode(request.volume)
        except DinomixError:
            return  # Apply says why
        job = self._estimateJob = self.client.estimate(image, request.model, request.computing, request.moreModels)
        job.finished.connect(lambda result: self._onEstimate(job, request.computing, result))

    def takeNewPackages(self) -> None:
        """Packages were installed: start the worker anew, once nothing runs. It knows only those that it has begun with."""
        self._hasNewPackages = True
        self._renewWhenIdle()

    # -- Afterwards

    def makeSurfaces(self, segmentation: vtkMRMLSegmentationNode) -> None:
        """Show a segmentation in 3D as soon as its surfaces are made; those of an earlier one are given up."""
        self.stopSurfaces()
        total = segmentation.GetSegmentation().GetNumberOfSegments()
        surfaces = self._surfaces = Steps(self._counted(surfaceSteps(segmentation), total))

        def end(*ignored: object) -> None:
            self._surfaces = None
            self.surfacesChanged.emit(total, total)

        for signal in (surfaces.finished, surfaces.failed, surfaces.cancelled):
            signal.connect(end)
        self.surfacesChanged.emit(0, total)

    def stopSurfaces(self) -> None:
        """Make no more surfaces, and show none that are not made yet."""
        if self._surfaces is not None:
            self._surfaces.cancel()

    def makesSurfaces(self) -> bool:
        """Whether surfaces are still being made."""
        return self._surfaces is not None

    def canUndo(self) -> bool:
        """Whether there is a result to undo."""
        return any(slicer.mrmlScene.GetNodeByID(nodeId) for nodeId in self._results)

    def undo(self) -> None:
        """Take back the last result: a new segmentation is removed, an existing one is as it was before."""
        self.stopSurfaces()
        while self._results:
            node = slicer.mrmlScene.GetNodeByID(self._results.pop())
            if node is not None and undo(node):
                break
        self.undoChanged.emit(self.canUndo())

    # -- Inside

    def _folderOf(self, model: str | None, mustBeListed: bool) -> str:
        """The folder of a model that a script names; the worker is asked for its models where that is needed."""
        folder = choosing.modelFolder(model)
        if folder is None or (mustBeListed and self.model(folder) is None):
            self._onModels(waitFor(self.client.listModels(folder or ""), START_SECONDS))
            folder = folder or choosing.namedModel(model, self.models())
        return folder

    def _whyNot(self, request: SegmentRequest) -> str | None:
        return (
            checks.whyNotChosenVolume(request.volume)
            or checks.whyNotMoreVolumes(request.volumes, self.channels(request.model))
            or checks.whyNotOutput(request.output, request.allFrames and framesOf(request.volume) is not None)
            or self._whyNotAnything(request)
        )

    def _whyNotAnything(self, request: SegmentRequest) -> str | None:
        if self.state != IDLE:
            return _("DINOMix is segmenting. Wait until it is done, or cancel it.")
        return (
            self.whyNotWorker()
            or self.whyNotDependencies()
            or checks.whyNotYet(request.model, self.models(), self.workerState)
            or checks.whyNotModel(request.model, self.models(), self.readsOurFiles())
            or checks.whyNotMoreModels(request.model, request.moreModels, self.models())
            or self._whyNotOrgans(request)
        )

    def _whyNotOrgans(self, request: SegmentRequest) -> str | None:
        model, computing = self.model(request.model), request.computing
        structures = self.structures(request.model, request.moreModels)
        cleaned = tuple(name for name in computing.cleanUp if name)
        return (
            checks.whyNotOrgans(request.keep, model, structures, _("Choose the organs to keep again."))
            or checks.whyNotOrgans(cleaned, model, structures, _("Choose the organs to clean up again."))
            or checks.whyNotOrgans(
                computing.inside,
                model,
                self.structures(request.model),
                _("Choose again the organs around which to compute."),
            )
        )

    def _runOf(self, request: SegmentRequest) -> SegmentRun | SequenceRun:
        frames = framesOf(request.volume) if request.allFrames else None
        run = SequenceRun(self.client, request, frames) if frames else SegmentRun(self.client, request)
        wasIn3D = request.output is not None and areSurfacesShown(request.output)
        run.finished.connect(lambda segmentation: self._onFinished(request, segmentation, wasIn3D))
        return run

    def _begin(self, run: Steps) -> None:
        self._dropEstimate()
        self.stopSurfaces()
        self._lastFailure = ""
        self._run = run
        run.progress.connect(self.progress.emit)
        run.notice.connect(self.notice.emit)
        run.failed.connect(self._onFailed)
        run.cancelled.connect(self._onCancelled)
        self._setState(RUNNING)
        run.begin()

    def _counted(self, steps: Iterator[Any], total: int) -> Iterator[Any]:
        """Steps of making surfaces, which are announced as they are made; the last one at the end of all."""
        made = 0
        for step in steps:
            if step is not WAIT and made + 1 < total:
                made += 1
                self.surfacesChanged.emit(made, total)
            yield step

    def _onFinished(self, request: SegmentRequest, segmentation: vtkMRMLSegmentationNode, wasIn3D: bool) -> None:
        self._end()
        self._remember(segmentation)
        showVolume(request.volume)
        self.finished.emit(segmentation)
        if request.show3D:
            centerOnFirst(segmentation)
        if request.show3D or wasIn3D:
            self.makeSurfaces(segmentation)

    def _onFailed(self, problem: str, remedy: str) -> None:
        self._end()
        self._lastFailure = problem
        self.failed.emit(problem, remedy)

    def _onCancelled(self) -> None:
        wasBatch = isinstance(self._run, Batch)
        self._end()
        self.cancelled.emit()
        if wasBatch:
            self._onBatchFinished(self.batchItems)

    def _onBatchFinished(self, items: list[BatchItem]) -> None:
        self._end()
        for item in items:
            if item.segmentation is not None:
                self._remember(item.segmentation)
        self.batchFinished.emit(items)

    def _onWorkerFailed(self, problem: str, remedy: str) -> None:
        # What ran has told it already; a run that is on tells it itself.
        if self.state == IDLE and problem != self._lastFailure:
            self._lastFailure = problem
            self.failed.emit(problem, remedy)

    def _onEstimate(self, job: Job, computing: Computing, result: Any) -> None:
        if job is self._estimateJob:
            self._estimateJob = None
            answer, isMost = result.fields, bool(computing.inside)
            self.estimated.emit(
                Estimate(answer["seconds"], answer["memory"], answer["device"], answer["reason"], isMost)
            )

    def _dropEstimate(self) -> None:
        """Do not wait for the answer any more.

        What the worker is already computing is left to end: it loads the model, which is needed anyway, and a worker
        that does not hear of a cancel in time is started anew.
        """
        job, self._estimateJob = self._estimateJob, None
        if job is not None and job.state == "waiting":
            job.cancel()

    def _renewWhenIdle(self) -> None:
        if not self._hasNewPackages or self.state != IDLE:
            return
        self._hasNewPackages = False
        self._dropEstimate()
        if self.workerCommandText():
            self.refreshModels()  # it computes in another environment
        else:
            self.restartWorker()

    def _remember(self, segmentation: vtkMRMLSegmentationNode) -> None:
        self._results.append(segmentation.GetID())
        self.undoChanged.emit(True)

    def _onSceneStartClose(self, caller: object, event: object) -> None:
        self._results.clear()  # the next scene's nodes get the same IDs
        self.stopSurfaces()
        self.undoChanged.emit(False)

    def _end(self) -> None:
        self._run = None
        self._setState(IDLE)

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.stateChanged.emit(state)
            if self._hasNewPackages:
                # Later, once the end of what ran has been told.
                qt.QTimer.singleShot(0, self._renewWhenIdle)
