"""What the windows of both modules do: follow the scene and the parameter node, and show what is so now."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from ..signal import Listener
from ..timer import timer
from .message_bar import MessageBar


class ModuleWindow(ScriptedLoadableModuleWidget, VTKObservationMixin, Listener):
    """A module's window, whose ``.ui`` file has the module's name; its files are in a package of that name with ``Lib``.

    A window of its own makes ``logic`` and its parts in ``makeParts`` and shows them in ``showParts``.

    Attributes:
        root, ui: the window, and its widgets by their names.
        messages: what went wrong, or what the user should know.
        logic: the module's logic.
    """

    logic: Any

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)  # it calls that of Listener
        self._parameterNode: Any = None  # None while the scene is emptied
        self._isEntered = False
        self._guiTags: list[int] = []
        self._observed: dict[str, tuple[Any, int]] = {}

    def makeParts(self) -> None:
        """Make the logic and the parts of the window. Nothing is started or imported before the user comes to the module."""
        raise NotImplementedError

    def showParts(self, node: Any) -> None:
        """Show what a parameter node holds."""
        raise NotImplementedError

    def uisOfParameters(self) -> Iterable[Any]:
        """The widgets that show a parameter by themselves, as ``ui``."""
        return [self.ui]

    # -- Life

    def setup(self) -> None:
        """Make the window."""
        ScriptedLoadableModuleWidget.setup(self)
        self.root = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(self.root)
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self.messages = MessageBar(self.ui)
        self._updateTimer = timer(0, self.update, isSingleShot=True)
        self.makeParts()
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self.onSceneStartClose)
        for event in ("EndCloseEvent", "EndImportEvent"):
            self.addObserver(slicer.mrmlScene, getattr(slicer.vtkMRMLScene, event), self.onSceneReplaced)
        self._useParameterNode()

    def cleanup(self) -> None:
        """Let go of everything; also called before the module is reloaded, perhaps while something runs."""
        self._updateTimer.stop()
        self.stopHearing()
        self._setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """The user comes to the module."""
        self._isEntered = True
        self._useParameterNode()
        self.logic.installer.recheck()

    def exit(self) -> None:
        """The user goes elsewhere: what runs goes on, nothing new is started."""
        self._isEntered = False
        self._disconnectGui()

    def onReload(self) -> None:
        """Reload the files of the module's library as well, not only the module's own."""
        for name in [name for name in sys.modules if name.split(".")[0] == f"{self.moduleName}Lib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        panel = slicer.util.getModule(self.moduleName).widgetRepresentation()
        if panel.isEntered:  # Slicer enters the panel once, not each window that is made in it
            panel.self().enter()

    # -- The scene and the parameter node

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes are about to go, the parameter node's content too."""
        self._setParameterNode(None)

    def onSceneReplaced(self, caller: Any, event: Any) -> None:
        """The scene was closed, or another was loaded."""
        self._useParameterNode()

    def _useParameterNode(self) -> None:
        self._setParameterNode(self.logic.getParameterNode())
        self.update()

    def _setParameterNode(self, node: Any) -> None:
        self._disconnectGui()
        for what in [*self._observed]:
            self._observe(what, None)
        self._parameterNode = node
        if node is not None:
            self._observe("choices", node.parameterNode)
            if self._isEntered:
                self._guiTags = [node.connectGui(ui) for ui in self.uisOfParameters()]

    def _disconnectGui(self) -> None:
        for tag in self._guiTags:
            self._parameterNode.disconnectGui(tag)
        self._guiTags = []

    def _observe(self, what: str, node: Any, event: int = vtk.vtkCommand.ModifiedEvent) -> None:
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
        if self._parameterNode is not None:
            self.showParts(self._parameterNode)

    def onFailed(self, problem: str, remedy: str) -> None:
        """Something could not be done."""
        self.messages.addFailure(problem, remedy)
        self._updateLater()
