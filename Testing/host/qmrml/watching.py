"""Following the scene and its nodes: a widget is told when what it shows changes."""

import weakref
from collections.abc import Callable

import slicer
import vtk

SCENE = slicer.vtkMRMLScene
HIERARCHY = slicer.vtkMRMLSubjectHierarchyNode


class Watch:
    """Calls the widget's method ``changed``; keeps neither the widget alive nor, once stopped, any node."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = weakref.WeakMethod(changed)
        self._observed: list[tuple] = []

    def stop(self) -> None:
        """Follow nothing any longer."""
        for subject, tag in self._observed:
            subject.RemoveObserver(tag)
        self._observed.clear()

    def _observe(self, subject, event: int, callback: Callable | None = None) -> None:
        self._observed.append((subject, subject.AddObserver(event, callback or self._tell)))

    def _tell(self, caller=None, event: str = "") -> None:
        changed = self._changed()
        if changed is not None:
            changed()


class NodeWatch(Watch):
    """Tells when one of some objects changes, or a node among them leaves its scene."""

    def setObjects(self, *objects) -> None:
        """Follow exactly these nodes and other VTK objects; None among them is passed over."""
        self.stop()
        followed = [item for item in objects if item is not None]
        for item in followed:
            self._observe(item, vtk.vtkCommand.AnyEvent)
        nodes = [item for item in followed if isinstance(item, slicer.vtkMRMLNode)]
        for scene in {node.GetScene() for node in nodes if node.GetScene() is not None}:
            self._observe(scene, SCENE.NodeRemovedEvent)
            self._observe(scene, SCENE.EndCloseEvent)


class SceneWatch(Watch):
    """Tells when nodes came, went or changed, or the scene was closed or loaded: of many changes at once, after them all."""

    def setScene(self, scene, nodes: list) -> None:
        """Follow the scene, and the names and contents of these nodes."""
        self.stop()
        if scene is None:
            return
        self._observe(scene, SCENE.NodeAddedEvent, self._onNodes)
        self._observe(scene, SCENE.NodeRemovedEvent, self._onNodes)
        for event in (SCENE.EndBatchProcessEvent, SCENE.EndCloseEvent, SCENE.EndImportEvent):
            self._observe(scene, event, self._onNodes)
        for node in nodes:
            self._observe(node, vtk.vtkCommand.ModifiedEvent)

    def _onNodes(self, scene, event: str) -> None:
        if not (scene.IsBatchProcessing() or scene.IsClosing()):
            self._tell()


class HierarchyWatch(Watch):
    """Tells when items of the scene's subject hierarchy come, go, move or are renamed."""

    def setScene(self, scene) -> None:
        self.stop()
        if scene is None:
            return
        for event in (SCENE.EndCloseEvent, SCENE.EndImportEvent, SCENE.EndBatchProcessEvent):
            self._observe(scene, event, self._onSceneChanged)
        for event in (
            HIERARCHY.SubjectHierarchyItemAddedEvent,
            HIERARCHY.SubjectHierarchyItemRemovedEvent,
            HIERARCHY.SubjectHierarchyItemModifiedEvent,
            HIERARCHY.SubjectHierarchyItemReparentedEvent,
        ):
            self._observe(scene.GetSubjectHierarchyNode(), event)

    def _onSceneChanged(self, scene, event: str) -> None:
        """The scene may have a new subject hierarchy node now."""
        self.setScene(scene)
        self._tell()


def inScene(node):
    """``node`` unless it has left its scene; Slicer's widgets hold nodes weakly."""
    return node if node is not None and node.GetScene() is not None else None
