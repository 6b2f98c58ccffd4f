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

    def addNode(self, className: str, name: str) -> Any:
        """Add a node to the scene that is in no list, not saved, and removed by ``clear``; returns it."""
        return self._add(self._newNode(className, name))

    @property
    def isWhole(self) -> bool:
        """Whether something is shown, and all its nodes are in the scene."""
        return bool(self._nodes) and all(map(isInScene, self._nodes))

    def show(self, chart: Any) -> None:
        """Show a chart made of nodes of ``addNode``."""
        viewNode = self._newNode("vtkMRMLPlotViewNode", chart.GetName())
        # Without a parent layout, it would get a view of its own in Slicer's main window once it is in the scene; and one
        # that follows the selection shows whatever chart is selected elsewhere.
        viewNode.SetAndObserveParentLayoutNodeID(chart.GetID())
        viewNode.SetDoPropagatePlotChartSelection(False)
        viewNode.SetPlotChartNodeID(chart.GetID())
        self.view.setMRMLPlotViewNode(self._add(viewNode))

    def clear(self) -> None:
        """Show nothing, and remove the nodes."""
        for node in self._nodes:
            if node.IsA("vtkMRMLPlotViewNode"):
                node.SetPlotChartNodeID(None)  # a view whose node is taken away keeps what it has drawn
        self.view.setMRMLPlotViewNode(None)
        for node in filter(isInScene, reversed(self._nodes)):
            slicer.mrmlScene.RemoveNode(node)
        self._nodes = []

    def _newNode(self, className: str, name: str) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass(className)
        node.UnRegister(None)
        node.SetName(name)
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        return node

    def _add(self, node: Any) -> Any:
        slicer.mrmlScene.AddNode(node)
        self._nodes.append(node)
        return node


def isInScene(node: Any) -> bool:
    """Whether a node is in Slicer's scene."""
    return slicer.mrmlScene.GetNodeByID(node.GetID() or "") is node
