"""Noticing that nodes go, or the scene, while something works on them."""

from __future__ import annotations

import slicer
from slicer.util import VTKObservationMixin

from dinomix_slicer.signal import Signal


class NodeWatch(VTKObservationMixin):
    """Watches nodes of the scene until ``stop``.

    Signals:
        removed(name): one of the nodes was removed from the scene.
        sceneClosed(): the scene is being closed; ``removed`` does not follow.
    """

    def __init__(self, nodes: list[slicer.vtkMRMLNode]) -> None:
        VTKObservationMixin.__init__(self)
        self.removed, self.sceneClosed = Signal(), Signal()
        self._nodes = {node.GetID(): node.GetName() for node in nodes}
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeRemovedEvent, self._onNodeRemoved)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self._onSceneStartClose)

    def stop(self) -> None:
        self.removeObservers()

    def _onNodeRemoved(self, caller, event) -> None:
        for nodeId, name in list(self._nodes.items()):
            if slicer.mrmlScene.GetNodeByID(nodeId) is None:
                del self._nodes[nodeId]
                self.removed.emit(name)

    def _onSceneStartClose(self, caller, event) -> None:
        self.stop()
        self.sceneClosed.emit()
