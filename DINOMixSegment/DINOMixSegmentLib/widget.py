"""The module's window. It connects the parts to the parameter node and to the logic's signals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.names import listed
from dinomix_slicer.models.info import Organ
from dinomix_slicer.scene.sequences import framesOf
from dinomix_slicer.timer import timer
from dinomix_slicer.window.appearance import INFO, WARNING
from dinomix_slicer.window.duration import duration
from dinomix_slicer.window.module_window import ModuleWindow

from .batch_panel import BatchPanel
from .channel_rows import ChannelRows
from .choosing import obviousVolume
from .estimate import Estimate
from .further_models import FurtherModels
from .get_models import GetModelsDialog
from .guide_panel import GuidePanel
from .logic import DINOMixSegmentLogic
from .model_page import ModelPage
from .options_panel import OptionsPanel
from .organ_list import OrganList
from .result_panel import ResultPanel, resultFor
from .resume import resumeAfterRestart
from .run_panel import RunPanel
from .setup_notice import SegmentSetupNotice
from .worker_page import WorkerPage

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

    from .batch_items import BatchItem
    from .parameter_node import DINOMixSegmentParameterNode
    from .segment_run import Doubt

ESTIMATE_DELAY = 300  # ms without a change before the worker is asked how long it will take


class DINOMixSegmentWidget(ModuleWindow):
    """The parts do the work; this follows the scene and the logic, and tells the parts to show what is so now."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._estimate: Estimate | None = None
        self._estimated: object = None  # what the estimate is of
        self._outcome = ""  # what became of the last run
        self._began = 0.0

    # -- Life

    def makeParts(self) -> None:
        """Make the logic and the parts of the window."""
        ui, self.logic = self.ui, DINOMixSegmentLogic()
        self.setupNotice = SegmentSetupNotice(ui, self.logic)
        self.channelRows = ChannelRows(ui, self.root)
        self.modelPage = ModelPage(ui, self.logic, self.resourcePath("UI/DINOMixModel.ui"))
        self.furtherModels = FurtherModels(ui, self.logic)
        self.organList = OrganList(ui)
        self.optionsPanel = OptionsPanel(ui)
        self.runPanel = RunPanel(ui)
        self.resultPanel = ResultPanel(ui, self.logic)
        self.batchPanel = BatchPanel(ui, self.logic)
        self.workerPage = WorkerPage(ui, self.logic)
        self.guidePanel = GuidePanel(ui, self.root, self.logic)
        self.getModels: GetModelsDialog | None = None  # made when the user first asks for it

        self._estimateTimer = timer(ESTIMATE_DELAY, self._requestEstimate, isSingleShot=True)
        self._connect()
        for event in ("NodeAddedEvent", "NodeRemovedEvent"):
            self.addObserver(slicer.mrmlScene, getattr(slicer.vtkMRMLScene, event), self._updateLater)

    def cleanup(self) -> None:
        """Let go of everything."""
        super().cleanup()
        self._estimateTimer.stop()
        self.guidePanel.end()
        self.channelRows.letGo()
        self.modelPage.close()
        if self.getModels is not None:
            self.getModels.close()
            self.getModels = None
        self.setupNotice.close()
        self.workerPage.close()
        self.logic.cleanup()

    def enter(self) -> None:
        """The user comes to the module: choose what is obvious, and let the worker start meanwhile."""
        super().enter()
        if problem := resumeAfterRestart(self._parameterNode):
            self.messages.add(problem, WARNING)
        if not self.logic.missingDependencies() and self.logic.workerState != "failed":
            self.logic.refreshModels()

    def exit(self) -> None:
        """The user goes elsewhere: what runs goes on, nothing new is started."""
        super().exit()
        self._estimateTimer.stop()

    def _connect(self) -> None:
        logic = self.logic
        connections = (
            (logic.stateChanged, self.onStateChanged),
            (logic.progress, self.runPanel.showProgress),
            (logic.notice, self.onNotice),
            (logic.finished, self.onFinished),
            (logic.doubted, self.onDoubted),
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
            (self.furtherModels.changed, self.onFurtherModels),
            (self.organList.changed, self.onOrgansChanged),
            (self.resultPanel.failed, self.onFailed),
            (self.workerPage.deviceChosen, self.onDeviceChosen),
            (self.workerPage.changed, self._updateLater),
            (logic.installer.failed, self.onFailed),
            (logic.installer.installed, self.onInstalled),
            (logic.installer.logged, self.workerPage.log),
            (self.setupNotice.wantsFolder, self.workerPage.askForFolder),
            (self.setupNotice.wantsExample, self.onShowMeHow),
            (self.guidePanel.failed, self.onFailed),
        )
        for signal, slot in connections:
            self.hear(signal, slot)
        self.ui.refreshModelsButton.connect("clicked()", logic.refreshModels)
        self.ui.getModelsButton.connect("clicked()", self.onGetModels)
        self.ui.showMeHowButton.connect("clicked()", self.onShowMeHow)

    # -- The scene and the parameter node

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The parameter node is about to be emptied."""
        self.guidePanel.end()
        self.channelRows.letGo()
        super().onSceneStartClose(caller, event)

    def onSceneReplaced(self, caller: Any, event: Any) -> None:
        """The scene was closed, or another was loaded."""
        self._outcome = ""
        super().onSceneReplaced(caller, event)

    # -- Showing what is so now

    def showParts(self, node: DINOMixSegmentParameterNode) -> None:
        """Make every part show what is so now."""
        self._chooseObvious(node)
        # A volume is there before its voxels are, and they can be replaced later.
        self._observe("volume", node.inputVolume, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent)
        self.ui.allFramesCheckBox.visible = node.inputVolume is not None and framesOf(node.inputVolume) is not None
        self.ui.replaceOthersCheckBox.enabled = node.outputSegmentation is not None
        self.modelPage.show(node.modelPath)
        self.channelRows.show(self.logic.channels(node.modelPath), node)
        models = [self.logic.model(path) or {} for path in (node.modelPath, *node.moreModels)]
        self.ui.regionsCheckBox.visible = any(model.get("regions") for model in models)
        self.furtherModels.show(node.modelPath, list(node.moreModels))
        organs = self._organs(node.modelPath, list(node.moreModels))
        self.organList.show(organs, list(node.keep))
        self._showOptions(node, [organ.name for organ in organs])
        self.setupNotice.show(node)
        self.resultPanel.show(resultFor(node.inputVolume, node.outputSegmentation))
        self.batchPanel.show(node)
        self.workerPage.show(node.device)
        self.guidePanel.showState(self.logic.state)
        self._showRun()

    def _showOptions(self, node: DINOMixSegmentParameterNode, organs: list[str]) -> None:
        ofFirst = [each["name"] for each in self.logic.structures(node.modelPath)]
        whyNotMirror = self.logic.whyNotMirror(node.modelPath, node.moreModels)
        self.optionsPanel.show(node, organs, ofFirst, whyNotMirror)

    def _organs(self, model: str, moreModels: list[str]) -> tuple[Organ, ...]:
        structures = self.logic.structures(model, [path for path in moreModels if path != model])
        return tuple(Organ(each["name"], tuple(each["color"])) for each in structures)

    def _chooseObvious(self, node: DINOMixSegmentParameterNode) -> None:
        """The volume that the views show, and the model used last, unless the user has chosen others."""
        if node.inputVolume is None:
            node.inputVolume = obviousVolume()
        if not node.modelPath:
            node.modelPath = self.modelPage.obviousModel()

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
        request = self.logic.requestOf(self._parameterNode)
        volume = request.volume
        time = volume.GetImageData().GetMTime() if volume is not None and volume.GetImageData() is not None else 0
        return (volume.GetID() if volume else "", time, request.model, request.moreModels, request.computing)

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
        """Take another model; what was chosen of organs that it does not find is forgotten."""
        self._takeModels(path, list(self._parameterNode.moreModels))

    def onFurtherModels(self, paths: list[str]) -> None:
        """Take other models beside the chosen one; what was chosen of organs that none of them finds is forgotten."""
        self._takeModels(self._parameterNode.modelPath, paths)

    def _takeModels(self, path: str, moreModels: list[str]) -> None:
        node = self._parameterNode
        known = [organ.name for organ in self._organs(path, moreModels)]
        ofFirst = [organ.name for organ in self._organs(path, [])]
        keep = [name for name in node.keep if name in known]
        self._outcome = ""
        node.modelPath, node.moreModels = path, moreModels
        node.keep = keep if len(keep) < len(known) else []
        node.cleanUpOrgans = [name for name in node.cleanUpOrgans if name in known]
        node.inside = [name for name in node.inside if name in ofFirst]
        self._updateLater()

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
        if state == "running":
            self.messages.clear()  # which were of what ran before
        self.update()

    def onNotice(self, text: str) -> None:
        """The user should know this of the result."""
        self.messages.add(text, WARNING)
        self.workerPage.log(text)

    def onDoubted(self, doubt: Doubt) -> None:
        """The image is plainly none for the model: ask, once the run that waits for the answer is back in the event loop."""
        qt.QTimer.singleShot(0, lambda: self._ask(doubt))

    def _ask(self, doubt: Doubt) -> None:
        question = _("{problem} {remedy}\n\nSegment all the same? The result may mean nothing.")
        text = question.format(problem=doubt.problem, remedy=doubt.remedy)
        if not doubt.isOver:
            doubt.finish(slicer.util.confirmYesNoDisplay(text, windowTitle=_("Another kind of image")))

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
        super().onFailed(problem, remedy)
        self.workerPage.log(f"{problem} {remedy}".strip())

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
        self.batchPanel.showEnd()
        if others := [item.title for item in items if item.isOther]:
            text = _(
                "Not segmented, since they look like no images for this model: {names}. The table says why. One that is meant "
                "all the same can be segmented by itself: Apply asks."
            )
            self.onNotice(text.format(names=listed(others)))
        self._updateLater()

    def onInstalled(self) -> None:
        """Packages were installed: with them another device may compute, in another time."""
        self._estimate = self._estimated = None
        self.logic.takeNewPackages()

    def onWorkerStateChanged(self, state: str) -> None:
        """The worker starts, is ready, computes, or has ended."""
        self.workerPage.log(_("Worker: {state}").format(state=state))
        self._updateLater()
