"""The module's window. It connects the parts to the parameter node and to the logic's signals."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from dinomix_slicer.scene.sequences import framesOf
from dinomix_slicer.signal import weakly
from dinomix_slicer.window.appearance import INFO, WARNING
from dinomix_slicer.window.duration import duration
from dinomix_slicer.window.message_bar import MessageBar

from .batch_panel import BatchPanel
from .choosing import obviousVolume
from .estimate import Estimate
from .get_models import GetModelsDialog
from .guide_panel import GuidePanel
from .logic import DINOMixSegmentLogic
from .model_page import ModelPage
from .organ_list import OrganList
from .result_panel import ResultPanel, resultFor
from .resume import resumeAfterRestart
from .run_panel import RunPanel
from .setup_notice import SegmentSetupNotice
from .worker_page import WorkerPage

if TYPE_CHECKING:
    from slicer import vtkMRMLNode, vtkMRMLSegmentationNode

    from .batch_items import BatchItem
    from .parameter_node import DINOMixSegmentParameterNode

ESTIMATE_DELAY = 300  # ms without a change before the worker is asked how long it will take


class DINOMixSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The parts do the work; this follows the scene and the logic, and tells the parts to show what is so now."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._parameterNode: DINOMixSegmentParameterNode | None = None
        self._guiTag: int | None = None
        self._isEntered = False
        self._observed: dict[str, tuple[vtkMRMLNode, int]] = {}
        self._estimate: Estimate | None = None
        self._estimated: object = None  # what the estimate is of
        self._outcome = ""  # what became of the last run
        self._began = 0.0

    # -- Life

    def setup(self) -> None:
        """Make the window. Nothing is started or imported before the user comes to the module."""
        ScriptedLoadableModuleWidget.setup(self)
        root = slicer.util.loadUI(self.resourcePath("UI/DINOMixSegment.ui"))
        self.layout.addWidget(root)
        self.ui = ui = slicer.util.childWidgetVariables(root)
        root.setMRMLScene(slicer.mrmlScene)
        self.logic = DINOMixSegmentLogic()

        self.messages = MessageBar(ui)
        self.setupNotice = SegmentSetupNotice(ui, self.logic)
        self.modelPage = ModelPage(ui, self.logic, self.resourcePath("UI/DINOMixModel.ui"))
        self.organList = OrganList(ui)
        self.runPanel = RunPanel(ui)
        self.resultPanel = ResultPanel(ui, self.logic)
        self.batchPanel = BatchPanel(ui, self.logic)
        self.workerPage = WorkerPage(ui, self.logic)
        self.guidePanel = GuidePanel(ui, root, self.logic)
        self.getModels: GetModelsDialog | None = None  # made when the user first asks for it

        self._updateTimer = self._makeTimer(0, self.update)
        self._estimateTimer = self._makeTimer(ESTIMATE_DELAY, self._requestEstimate)
        self._connect()
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self.onSceneStartClose)
        for event in ("EndCloseEvent", "EndImportEvent"):
            self.addObserver(slicer.mrmlScene, getattr(slicer.vtkMRMLScene, event), self.onSceneReplaced)
        for event in ("NodeAddedEvent", "NodeRemovedEvent"):
            self.addObserver(slicer.mrmlScene, getattr(slicer.vtkMRMLScene, event), self._updateLater)
        self._useParameterNode()

    def cleanup(self) -> None:
        """Let go of everything; also called before the module is reloaded, perhaps while something runs."""
        self._updateTimer.stop()
        self._estimateTimer.stop()
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self._setParameterNode(None)
        self.removeObservers()
        self.guidePanel.end()
        self.modelPage.close()
        if self.getModels is not None:
            self.getModels.close()
            self.getModels = None
        self.setupNotice.close()
        self.workerPage.close()
        self.logic.cleanup()

    def enter(self) -> None:
        """The user comes to the module: choose what is obvious, and let the worker start meanwhile."""
        self._isEntered = True
        self._useParameterNode()
        if problem := resumeAfterRestart(self._parameterNode):
            self.messages.add(problem, WARNING)
        self.logic.installer.recheck()
        if not self.logic.missingDependencies() and self.logic.workerState != "failed":
            self.logic.refreshModels()

    def exit(self) -> None:
        """The user goes elsewhere: what runs goes on, nothing new is started."""
        self._isEntered = False
        self._estimateTimer.stop()
        self._disconnectGui()

    def onReload(self) -> None:
        """Reload the files of the module's library as well, not only the module's own."""
        for name in [name for name in sys.modules if name.split(".")[0] == "DINOMixSegmentLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _makeTimer(self, milliseconds: int, slot: Any) -> Any:
        timer = qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.connect("timeout()", weakly(slot))
        return timer

    def _connect(self) -> None:
        logic = self.logic
        self._connections = (
            (logic.stateChanged, self.onStateChanged),
            (logic.progress, self.runPanel.showProgress),
            (logic.notice, self.onNotice),
            (logic.finished, self.onFinished),
            (logic.failed, self.onFailed),
            (logic.cancelled, self.onCancelled),
            (logic.surfacesChanged, self.resultPanel.showSurfaces),
            (logic.modelsChanged, self._updateLater),
            (logic.workerStateChanged, self.onWorkerStateChanged),
            (logic.estimated, self.onEstimated),
            (logic.undoChanged, self._updateLater),
            (logic.batchChanged, self.batchPanel.showItem),
            (logic.batchFinished, self.onBatchFinished),
            (self.runPanel.applied, self.onApply),
            (self.runPanel.cancelled, logic.cancel),
            (self.modelPage.chosen, self.onModelChosen),
            (self.organList.changed, self.onOrgansChanged),
            (self.resultPanel.failed, self.onFailed),
            (self.workerPage.deviceChosen, self.onDeviceChosen),
            (self.workerPage.changed, self._updateLater),
            (logic.installer.failed, self.onFailed),
            (logic.installer.installed, logic.refreshModels),
            (logic.installer.logged, self.workerPage.log),
            (self.setupNotice.wantsFolder, self.workerPage.askForFolder),
            (self.setupNotice.wantsExample, self.onShowMeHow),
            (self.guidePanel.failed, self.onFailed),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.ui.refreshModelsButton.connect("clicked()", logic.refreshModels)
        self.ui.getModelsButton.connect("clicked()", self.onGetModels)
        self.ui.showMeHowButton.connect("clicked()", self.onShowMeHow)

    # -- The scene and the parameter node

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The parameter node is about to be emptied."""
        self.guidePanel.end()
        self._setParameterNode(None)

    def onSceneReplaced(self, caller: Any, event: Any) -> None:
        """The scene was closed, or another was loaded."""
        self._outcome = ""
        self._useParameterNode()

    def _useParameterNode(self) -> None:
        self._setParameterNode(self.logic.getParameterNode())
        self._chooseObvious()
        self.update()

    def _setParameterNode(self, node: DINOMixSegmentParameterNode | None) -> None:
        self._disconnectGui()
        self._parameterNode = node
        self._observe("volume", None, 0)
        self._observe("choices", node.parameterNode if node is not None else None, vtk.vtkCommand.ModifiedEvent)
        if node is not None and self._isEntered:
            self._guiTag = node.connectGui(self.ui)

    def _disconnectGui(self) -> None:
        if self._parameterNode is not None and self._guiTag is not None:
            self._parameterNode.disconnectGui(self._guiTag)
        self._guiTag = None

    def _chooseObvious(self) -> None:
        """The volume that the views show, and the model used last, unless the user has chosen others."""
        node = self._parameterNode
        if node.inputVolume is None:
            node.inputVolume = obviousVolume()
        if not node.modelPath:
            node.modelPath = self.modelPage.obviousModel()

    def _observe(self, what: str, node: vtkMRMLNode | None, event: int) -> None:
        """Follow a node in place of the one before; by tags, since VTKObservationMixin would keep every node for ever."""
        before, tag = self._observed.pop(what, (None, 0))
        if before is not None:
            before.RemoveObserver(tag)
        if node is not None:
            self._observed[what] = (node, node.AddObserver(event, self._updateLater))

    # -- Showing what is so now

    def _updateLater(self, *ignored: Any) -> None:
        """Once the events are over, not at each of the many that one change makes."""
        self._updateTimer.start()

    def update(self) -> None:
        """Make every part show what is so now."""
        node = self._parameterNode
        if node is None:
            return
        self._chooseObvious()
        # A volume is there before its voxels are, and they can be replaced later.
        self._observe("volume", node.inputVolume, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent)
        self.ui.allFramesCheckBox.visible = node.inputVolume is not None and framesOf(node.inputVolume) is not None
        self.ui.replaceOthersCheckBox.enabled = node.outputSegmentation is not None
        self.modelPage.show(node.modelPath)
        info = self.modelPage.info
        self.organList.show(info.organs if info else (), list(node.keep))
        self.setupNotice.show(node)
        self.resultPanel.show(resultFor(node.inputVolume, node.outputSegmentation))
        self.batchPanel.show(node)
        self.workerPage.show(node.device)
        self.guidePanel.showState(self.logic.state)
        self._showRun()

    def _showRun(self) -> None:
        state = self.logic.state
        whyNot = self._whyNot()
        self.runPanel.showState(state, whyNot)
        if state == "cancelling":
            self.runPanel.showStatus(_("What runs is being ended."))
        elif state == "idle":
            self._showIdleStatus(whyNot)

    def _showIdleStatus(self, whyNot: str | None) -> None:
        if whyNot is None:
            self._estimateLater()
        if whyNot == self.setupNotice.text:
            self.runPanel.showStatus(self._outcome)  # said above, with a button
        elif whyNot is not None:
            self.runPanel.showStatus(whyNot, INFO)
        elif self._outcome:
            self.runPanel.showStatus(self._outcome)
        elif self._estimate is not None and self._estimated == self._question():
            self.runPanel.showStatus(self._estimate.text, WARNING if self._estimate.isWarning else None)
        elif self.logic.workerState == "starting":
            self.runPanel.showStatus(_("The worker is starting."))
        else:
            self.runPanel.showStatus("")

    def _whyNot(self) -> str | None:
        return self.logic.checkCanApply(self._parameterNode) or self.organList.whyNot()

    # -- How long it will take

    def _question(self) -> tuple:
        """What an estimate depends on."""
        node = self._parameterNode
        volume = node.inputVolume
        time = volume.GetImageData().GetMTime() if volume is not None and volume.GetImageData() is not None else 0
        return (
            volume.GetID() if volume else "",
            time,
            node.modelPath,
            node.device,
            node.maxMemoryGb,
            node.fullPrecision,
        )

    def _estimateLater(self) -> None:
        # The worker is started for a user who is here, not by a scene that is loaded elsewhere.
        if self._isEntered and self.logic.workerState == "ready" and self._estimated != self._question():
            self._estimateTimer.start()

    def _requestEstimate(self) -> None:
        if self._parameterNode is not None and self.logic.state == "idle" and self._whyNot() is None:
            self._estimate, self._estimated = None, self._question()
            self.logic.requestEstimate(self._parameterNode)

    def onEstimated(self, estimate: Estimate) -> None:
        """The worker has said how long it will take."""
        self._estimate = estimate
        self._updateLater()

    # -- What the user does

    def onApply(self) -> None:
        """Segment."""
        self.messages.clear()
        self._outcome, self._began = "", time.monotonic()
        self.logic.startSegmentation(self._parameterNode)

    def onGetModels(self) -> None:
        """Open the window in which models are installed, imported and removed."""
        if self.getModels is None:
            self.getModels = GetModelsDialog(self.resourcePath("UI/DINOMixGetModels.ui"))
            self.getModels.changed.connect(self.logic.refreshModels)
        self.getModels.show()

    def onShowMeHow(self) -> None:
        """Lead through an example."""
        if self._parameterNode is not None:
            self.messages.clear()
            self.guidePanel.begin(self._parameterNode)

    def onModelChosen(self, path: str) -> None:
        """Take another model; organs that it does not find are not kept any more."""
        model = self.logic.model(path)
        known = [structure["name"] for structure in model["structures"]] if model else []
        keep = [name for name in self._parameterNode.keep if name in known]
        self._outcome = ""
        self._parameterNode.modelPath = path
        self._parameterNode.keep = keep if len(keep) < len(known) else []

    def onOrgansChanged(self, names: list[str]) -> None:
        """Keep these organs."""
        self._parameterNode.keep = names
        self._updateLater()

    def onDeviceChosen(self, device: str) -> None:
        """Compute on this device."""
        self._outcome = ""
        self._parameterNode.device = device

    # -- What the logic announces

    def onStateChanged(self, state: str) -> None:
        """Something begins, is being cancelled, or is over."""
        if self._parameterNode is not None:
            self.update()

    def onNotice(self, text: str) -> None:
        """The user should know this of the result."""
        self.messages.add(text, WARNING)
        self.workerPage.log(text)

    def onFinished(self, segmentation: vtkMRMLSegmentationNode) -> None:
        """A volume is segmented."""
        count = segmentation.GetSegmentation().GetNumberOfSegments()
        seconds = time.monotonic() - self._began
        if count == 1:
            text = _("Done in {duration}: {name} has one segment.")
        else:
            text = _("Done in {duration}: {name} has {n} segments.")
        self._outcome = text.format(duration=duration(seconds), name=segmentation.GetName(), n=count)
        self.workerPage.log(self._outcome)
        self._updateLater()

    def onFailed(self, problem: str, remedy: str) -> None:
        """Something could not be done."""
        self.messages.addFailure(problem, remedy)
        self.workerPage.log(f"{problem} {remedy}".strip())
        self._updateLater()

    def onCancelled(self) -> None:
        """What ran was given up."""
        self._outcome = _("Cancelled. The scene is as it was before.")
        self.workerPage.log(self._outcome)
        self._updateLater()

    def onBatchFinished(self, items: list[BatchItem]) -> None:
        """The batch is over; its table says what became of each."""
        done = sum(item.state == "done" for item in items)
        self._outcome = _("The batch is over: {done} of {all} done.").format(done=done, all=len(items))
        self.workerPage.log(self._outcome)
        self._updateLater()

    def onWorkerStateChanged(self, state: str) -> None:
        """The worker starts, is ready, computes, or has ended."""
        self.workerPage.log(_("Worker: {state}").format(state=state))
        self._updateLater()
