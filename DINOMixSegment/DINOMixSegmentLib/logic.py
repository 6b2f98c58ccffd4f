"""The module's logic: what the window and scripts can do. It opens no dialog and announces everything by signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .parameter_node import DINOMixSegmentParameterNode

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode

    from .batch_item import BatchItem
    from .protocols import Client, Installer


class DINOMixSegmentLogic(ScriptedLoadableModuleLogic):
    """Segments volumes with the worker process. One thing runs at a time: a volume, a sequence, or a batch.

    Signals, each with ``connect(function)``, ``disconnect(function)``:
        stateChanged(state): "idle", "running" or "cancelling".
        progress(stage, step, total, eta): eta in seconds, or None while unknown.
        notice(text): a sentence that the user should see, such as that memory forced a smaller setting.
        finished(segmentationNode): a volume or a sequence is done (the node of the frame shown); not for a batch.
        failed(problem, remedy): one message to show; nothing runs any more.
        cancelled(): what ran was given up; the scene is as before.
        surfacesChanged(done, total): surfaces are made one by one after ``finished``; done == total at the end.
        modelsChanged(models): the worker has listed its models; see ``models``.
        workerStateChanged(state): "stopped", "starting", "ready", "busy" or "failed".
        estimated(estimate): answer to ``requestEstimate``; see ``estimate.Estimate``.
        undoChanged(possible): whether ``undo`` has something to undo.
        batchChanged(item): a row of the batch has changed; see ``batch_item.BatchItem``.
        batchFinished(items): all rows are done, failed, skipped, or given up.
    """

    # -- What is chosen

    def getParameterNode(self) -> DINOMixSegmentParameterNode:
        """The wrapped parameter node of the scene; made when it is not there."""

    def obviousVolume(self) -> vtkMRMLScalarVolumeNode | None:
        """The volume shown in the slice views' background, else the only one, else the newest."""

    def checkCanApply(self, parameterNode: DINOMixSegmentParameterNode) -> str | None:
        """The sentence that says why Apply cannot work now and what to do; None when it can. Takes under 1 ms."""

    def checkCanStartBatch(self, items: list[BatchItem], parameterNode: DINOMixSegmentParameterNode) -> str | None:
        """The same for a batch."""

    def isFrameOfSequence(self, volume: vtkMRMLScalarVolumeNode | None) -> bool:
        """Whether ``volume`` shows one frame of a sequence, so that ``allFrames`` has a meaning."""

    # -- Models

    def models(self) -> list[dict[str, Any]]:
        """The models that the worker has listed last: MODEL dicts; see ``model_info`` for what to show of them."""

    def model(self, path: str) -> dict[str, Any] | None:
        """The listed model in that folder."""

    def refreshModels(self) -> None:
        """Ask the worker for its models (it is started if need be); answered by ``modelsChanged`` or ``failed``."""

    def modelFolders(self) -> list[str]:
        """Folders that hold model folders, from the setting DINOMix/ModelFolders."""

    def setModelFolders(self, folders: list[str]) -> None:
        """Write that setting; the worker is started anew with it, and the models are listed again."""

    # -- The worker

    @property
    def workerState(self) -> str:
        """ "stopped", "starting", "ready", "busy" or "failed"."""

    @property
    def workerHello(self) -> dict[str, Any] | None:
        """What the worker said of itself: versions, host, devices, memory; None while it is not running."""

    def devices(self) -> list[tuple[str, str]]:
        """(name, title) of what can compute, "auto" first, whose title gives the reason of the choice."""

    def workerCommandText(self) -> str:
        """The setting DINOMix/WorkerCommand; empty for Slicer's own Python."""

    def setWorkerCommandText(self, text: str) -> None:
        """Write that setting; the worker is started anew with it."""

    def testConnection(self, text: str, onDone: Callable[[dict], None], onFailed: Callable[[str, str], None]) -> None:
        """Start a worker with that command, ask what is there, and end it. ``onDone(report)``."""

    def restartWorker(self) -> None:
        """Start the worker anew, after it died or hangs."""

    def missingDependencies(self) -> list[str]:
        """Packages to install before Slicer's own Python can compute; empty when the worker is another command."""

    # -- One volume

    @property
    def state(self) -> str:
        """ "idle", "running" or "cancelling"."""

    def startSegmentation(self, parameterNode: DINOMixSegmentParameterNode) -> None:
        """Start to segment what is chosen; returns at once. ``failed`` when ``checkCanApply`` has a sentence."""

    def segment(
        self,
        volume: vtkMRMLScalarVolumeNode,
        model: str | None = None,
        output: vtkMRMLSegmentationNode | None = None,
        keep: tuple[str, ...] = (),
        device: str = "auto",
        maxMemory: int | None = None,
        replaceOthers: bool = False,
        show3D: bool = False,
        allFrames: bool = False,
    ) -> vtkMRMLSegmentationNode:
        """Segment a volume and return the segmentation; the event loop runs meanwhile.

        Args:
            model: a model's folder or title; None for the only one installed.
            keep: names of the organs to keep; empty for all.
            maxMemory: bytes of main memory that the worker may take.

        Raises:
            DinomixError: it cannot be done, failed, or was cancelled.
        """

    def cancel(self) -> None:
        """Give up what runs, the batch and the surfaces included; ``cancelled`` follows within a second."""

    def canUndo(self) -> bool:
        """Whether there is a result to undo."""

    def undo(self) -> None:
        """Take back the last result: a new segmentation is removed, an existing one is as it was before."""

    def requestEstimate(self, parameterNode: DINOMixSegmentParameterNode) -> None:
        """Ask how long it will take and on which device; answered by ``estimated``. An earlier question is dropped."""

    # -- Many volumes

    def itemsOfScene(self) -> list[BatchItem]:
        """Every volume of the scene that can be segmented."""

    def itemsOfHierarchyFolder(self, itemId: int) -> list[BatchItem]:
        """Every such volume under an item of the subject hierarchy."""

    def itemsOfDisk(self, folder: str, outputFolder: str = "") -> list[BatchItem]:
        """Every image file and DICOM folder in a folder; results beside them, or in ``outputFolder``, as .seg.nrrd.

        Raises:
            DinomixError: the folder is not there or holds no image.
        """

    def startBatch(self, items: list[BatchItem], parameterNode: DINOMixSegmentParameterNode) -> None:
        """Segment all items with the chosen model, organs and device; one that fails does not stop the others."""

    def batch(self) -> list[BatchItem]:
        """The items of the batch that runs, or of the last one."""

    # -- Afterwards

    def hasStatistics(self) -> bool:
        """Whether Slicer's Segment Statistics module is there."""

    def makeVolumeTable(self, segmentation: vtkMRMLSegmentationNode) -> vtkMRMLTableNode:
        """A table node with each segment's volume in ml, made by Slicer's Segment Statistics module.

        Raises:
            DinomixError: the module is not there.
        """

    def cleanup(self) -> None:
        """End everything: what runs, the worker, all observations. Called when the window goes or is reloaded."""

    def __init__(self, client: Client | None = None, installer: Installer | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
