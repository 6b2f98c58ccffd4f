"""Following nodes: a widget is told when what it shows changes or leaves the scene."""

import slicer
import vtk


class NodeWatch:
    """Calls ``changed()`` when one of the objects changes, or a node leaves its scene."""

    def __init__(self, changed) -> None:
        self._changed = changed
        self._observed: list[tuple] = []

    def setObjects(self, *objects) -> None:
        """Follow exactly these nodes and other VTK objects; None among them is passed over."""
        self.stop()
        followed = [item for item in objects if item is not None]
        for item in followed:
            self._observe(item, vtk.vtkCommand.AnyEvent)
        nodes = [item for item in followed if isinstance(item, slicer.vtkMRMLNode)]
        for scene in {node.GetScene() for node in nodes if node.GetScene() is not None}:
            for event in (slicer.vtkMRMLScene.NodeRemovedEvent, slicer.vtkMRMLScene.EndCloseEvent):
                self._observe(scene, event)

    def stop(self) -> None:
        for subject, tag in self._observed:
            subject.RemoveObserver(tag)
        self._observed.clear()

    def _observe(self, subject, event) -> None:
        self._observed.append((subject, subject.AddObserver(event, lambda caller, event: self._changed())))


def inScene(node):
    """``node`` unless it has left its scene; Slicer's widgets hold nodes weakly."""
    return node if node is not None and node.GetScene() is not None else None
