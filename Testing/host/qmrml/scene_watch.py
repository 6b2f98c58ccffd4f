"""Following the scene: widgets are told when nodes come, go, change, or all change at once."""

import slicer
import vtk


class SceneWatch:
    """Calls ``changed()`` after nodes were added, removed, renamed or the scene was closed or loaded, once per batch."""

    def __init__(self, changed) -> None:
        self._changed = changed
        self._scene = None
        self._sceneTags: list[int] = []
        self._nodeTags: dict[str, tuple] = {}

    def setScene(self, scene) -> None:
        self.stop()
        self._scene = scene
        if scene is None:
            return
        events = slicer.vtkMRMLScene
        for event in (events.NodeAddedEvent, events.NodeRemovedEvent):
            self._sceneTags.append(scene.AddObserver(event, self._onNodes))
        for event in (events.EndBatchProcessEvent, events.EndCloseEvent, events.EndImportEvent):
            self._sceneTags.append(scene.AddObserver(event, self._onNodes))

    def stop(self) -> None:
        """Follow nothing any longer."""
        if self._scene is not None:
            for tag in self._sceneTags:
                self._scene.RemoveObserver(tag)
        self._sceneTags = []
        self.watchNodes([])
        self._scene = None

    def watchNodes(self, nodes: list) -> None:
        """Follow the names and contents of exactly these nodes."""
        wanted = {node.GetID(): node for node in nodes}
        for identifier in [identifier for identifier in self._nodeTags if identifier not in wanted]:
            node, tag = self._nodeTags.pop(identifier)
            node.RemoveObserver(tag)
        for identifier, node in wanted.items():
            if identifier in self._nodeTags and self._nodeTags[identifier][0] is not node:
                old, tag = self._nodeTags.pop(identifier)
                old.RemoveObserver(tag)
            if identifier not in self._nodeTags:
                tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
                self._nodeTags[identifier] = (node, tag)

    def _onNodes(self, caller, event) -> None:
        if not (self._scene.IsBatchProcessing() or self._scene.IsClosing()):
            self._changed()

    def _onNodeModified(self, caller, event) -> None:
        self._changed()
