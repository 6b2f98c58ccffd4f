"""A chart in a panel: a plot view of Slicer's over nodes that nobody else sees, changes or saves."""

from __future__ import annotations

from typing import Any

import qt
import slicer


class PrivatePlot:
    """
    Attributes:
        view: the ``qMRMLPlotView``. It has no plugin for ``.ui`` files, so it is made here and fills a plain widget.
    """

    def __init__(self, placeholder: Any) -> None:
        self.view = slicer.qMRMLPlotView()
        layout = qt.QVBoxLayout(placeholder)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.view.setMRMLScene(slicer.mrmlScene)
        self._nodes: list[Any] = []
        self._viewNode: Any = None  # the view does not keep it

    def addNode(self, className: str, name: str) -> Any:
        """Add a node to the scene that is in no list, not saved, and removed by ``clear``; returns it."""
        node = slicer.mrmlScene.CreateNodeByClass(className)
        node.UnRegister(None)
        node.SetName(name)
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        slicer.mrmlScene.AddNode(node)
        self._nodes.append(node)
        return node

    @property
    def isWhole(self) -> bool:
        """Whether something is shown, and all its nodes are in the scene."""
        return bool(self._nodes) and all(map(isInScene, self._nodes))

    def show(self, chart: Any) -> None:
        """Show a chart made of nodes of ``addNode``."""
        # It stays out of the scene: Slicer's main window makes a view of its own for each view node that is there, one with a
        # parent layout too once a scene was imported or closed, and what is selected elsewhere is shown in all of them.
        self._viewNode = slicer.vtkMRMLPlotViewNode()
        self._viewNode.SetPlotChartNodeID(chart.GetID())
        self.view.setMRMLPlotViewNode(self._viewNode)

    def clear(self) -> None:
        """Show nothing, and remove the nodes."""
        if self._viewNode is not None:
            self._viewNode.SetPlotChartNodeID(None)  # a view whose node is taken away keeps what it has drawn
        self.view.setMRMLPlotViewNode(None)
        self._viewNode = None
        for node in filter(isInScene, reversed(self._nodes)):
            slicer.mrmlScene.RemoveNode(node)
        self._nodes = []


def isInScene(node: Any) -> bool:
    """Whether a node is in Slicer's scene."""
    return slicer.mrmlScene.GetNodeByID(node.GetID() or "") is node
