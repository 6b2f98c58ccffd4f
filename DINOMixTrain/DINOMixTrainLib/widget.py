"""The module's window: a tab for each page. It connects the pages to the parameter node and to one another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from dinomix_slicer.setup.notice import SetupNotice
from dinomix_slicer.signal import weakly
from dinomix_slicer.window.appearance import INFO
from dinomix_slicer.window.message_bar import MessageBar

from .cohort_page import CohortPage
from .logic import DINOMixTrainLogic
from .page import Page
from .result_page import ResultPage
from .run_page import RunPage
from .training_page import TrainingPage

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode


class DINOMixTrainWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The pages do the work; this follows the scene, and tells the pages to show what is so now."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._parameterNode: DINOMixTrainParameterNode | None = None
        self._guiTags: list[int] = []
        self._nodeTag = 0
        self._isEntered = False

    # -- Life

    def setup(self) -> None:
        """Make the window. Nothing is started or imported before the user comes to the module."""
        ScriptedLoadableModuleWidget.setup(self)
        root = slicer.util.loadUI(self.resourcePath("UI/DINOMixTrain.ui"))
        self.layout.addWidget(root)
        self.ui = slicer.util.childWidgetVariables(root)
        root.setMRMLScene(slicer.mrmlScene)
        self.logic = DINOMixTrainLogic()

        self.messages = MessageBar(self.ui)
        self.setupNotice = SetupNotice(self.ui, self.logic)
        self.pages: dict[str, Page] = {}
        self._addPage("cases", _("1. Cases"), CohortPage)
        self._addPage("training", _("2. Training"), TrainingPage)
        self._addPage("run", _("3. Run"), RunPage)
        self._addPage("result", _("4. Result"), ResultPage)

        self._updateTimer = qt.QTimer()
        self._updateTimer.setSingleShot(True)
        self._updateTimer.setInterval(0)
        self._updateTimer.connect("timeout()", weakly(self.update))
        self._connect()
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self.onSceneStartClose)
        for event in ("EndCloseEvent", "EndImportEvent"):
            self.addObserver(slicer.mrmlScene, getattr(slicer.vtkMRMLScene, event), self.onSceneReplaced)
        self._useParameterNode()

    def cleanup(self) -> None:
        """Let go of everything; also called before the module is reloaded. Runs go on."""
        self._updateTimer.stop()
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self._setParameterNode(None)
        self.removeObservers()
        for page in self.pages.values():
            page.close()
        self.setupNotice.close()
        self.logic.close()

    def enter(self) -> None:
        """The user comes to the module."""
        self._isEntered = True
        self._useParameterNode()
        self.logic.installer.recheck()
        if not self.logic.missingDependencies():
            self.logic.offers.refresh()
        for page in self.pages.values():
            page.isEntered = True
            page.enter()

    def exit(self) -> None:
        """The user goes elsewhere: what runs goes on, nothing new is started."""
        self._isEntered = False
        for page in self.pages.values():
            page.isEntered = False
        self._disconnectGui()

    def onReload(self) -> None:
        """Reload the files of the module's library as well, not only the module's own."""
        for name in [name for name in sys.modules if name.split(".")[0] == "DINOMixTrainLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _addPage(self, name: str, title: str, make: Callable[[Any, DINOMixTrainLogic], Page]) -> None:
        root = slicer.util.loadUI(self.resourcePath(f"UI/DINOMixTrain{name.capitalize()}.ui"))
        root.setMRMLScene(slicer.mrmlScene)
        self.ui.pagesTabWidget.addTab(root, title)
        self.pages[name] = make(slicer.util.childWidgetVariables(root), self.logic)

    def _connect(self) -> None:
        logic = self.logic
        self._connections = [
            (logic.offers.changed, self._updateLater),
            (logic.installer.failed, self.onFailed),
            (logic.installer.installed, logic.offers.refresh),
        ]
        for page in self.pages.values():
            self._connections += [
                (page.failed, self.onFailed),
                (page.notice, self.onNotice),
                (page.changed, self._updateLater),
                (page.wantsPage, self.goTo),
            ]
        for signal, slot in self._connections:
            signal.connect(slot)

    # -- The scene and the parameter node

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes are about to go, the parameter node's content too."""
        self._setParameterNode(None)
        for page in self.pages.values():
            page.node = None
            page.release()

    def onSceneReplaced(self, caller: Any, event: Any) -> None:
        """The scene was closed, or another was loaded."""
        self._useParameterNode()

    def _useParameterNode(self) -> None:
        self._setParameterNode(self.logic.getParameterNode())
        self.update()

    def _setParameterNode(self, node: DINOMixTrainParameterNode | None) -> None:
        self._disconnectGui()
        if self._parameterNode is not None:
            # By its tag: VTKObservationMixin would keep every node that it has ever observed.
            self._parameterNode.parameterNode.RemoveObserver(self._nodeTag)
        self._parameterNode = node
        if node is not None:
            if self._isEntered:
                self._guiTags = [node.connectGui(page.ui) for page in self.pages.values() if hasParameters(page.ui)]
            self._nodeTag = node.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self._updateLater)

    def _disconnectGui(self) -> None:
        if self._parameterNode is not None:
            for tag in self._guiTags:
                self._parameterNode.disconnectGui(tag)
        self._guiTags = []

    # -- Showing what is so now

    def _updateLater(self, *ignored: Any) -> None:
        """Once the events are over, not at each of the many that one change makes."""
        self._updateTimer.start()

    def update(self) -> None:
        """Make every page show what is so now."""
        if self._parameterNode is None:
            return
        self.setupNotice.show(self._parameterNode)
        for page in self.pages.values():
            page.node = self._parameterNode
            page.show()

    # -- What the pages announce

    def goTo(self, name: str) -> None:
        """Show a page by its name."""
        self.ui.pagesTabWidget.currentIndex = list(self.pages).index(name)

    def onFailed(self, problem: str, remedy: str) -> None:
        """Something could not be done."""
        self.messages.addFailure(problem, remedy)
        self._updateLater()

    def onNotice(self, text: str) -> None:
        """The user should know this."""
        self.messages.add(text, INFO)


def hasParameters(ui: Any) -> bool:
    """Whether a page has widgets that show a parameter by themselves; connecting one without is an error in Slicer."""
    return any(widget.property("SlicerParameterName") for widget in vars(ui).values())
