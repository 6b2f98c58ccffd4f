"""Puts data nodes into the subject hierarchy, which in Slicer is done by a Qt class of the application."""

import slicer
import vtk

# Slicer asks its plugins whether they can show a node; these are the classes that the plugins of its own modules take.
OWNED_CLASSES = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLTransformNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLFolderDisplayNode",
)


class SubjectHierarchyKeeper:
    """Watches a scene: an added node gets an item, a removed one loses it, an imported or closed scene is completed."""

    def __init__(self, scene: "slicer.vtkMRMLScene") -> None:
        self.scene = scene
        observe = scene.AddObserver
        self._tags = [
            observe(slicer.vtkMRMLScene.NodeAddedEvent, self._onNodeAdded),
            observe(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved),
            observe(slicer.vtkMRMLScene.NodeRemovedEvent, self._onNodeRemoved),
            observe(slicer.vtkMRMLScene.EndImportEvent, self._onSceneCompleted, 10.0),
            observe(slicer.vtkMRMLScene.EndBatchProcessEvent, self._onBatchEnded, 10.0),
            observe(slicer.vtkMRMLScene.EndCloseEvent, self._onSceneCompleted),
        ]

    def stop(self) -> None:
        """Watch the scene no longer."""
        for tag in self._tags:
            self.scene.RemoveObserver(tag)
        self._tags = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, caller, event, node) -> None:
        if node.IsA("vtkMRMLSubjectHierarchyNode"):
            slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(self.scene)
        elif not self.scene.IsImporting() and isOwned(node):
            self._add(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, caller, event, node) -> None:
        if self.scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = self.scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller, event, node) -> None:
        if node.IsA("vtkMRMLSubjectHierarchyNode") and not self.scene.IsClosing():
            self._onSceneCompleted(caller, event)

    def _onBatchEnded(self, caller, event) -> None:
        hierarchy = self.scene.GetSubjectHierarchyNode()
        items = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        virtual = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyVirtualBranchAttributeName()
        for item in [items.GetId(index) for index in range(items.GetNumberOfIds())]:
            isFolder = bool(hierarchy.GetItemLevel(item)) or hierarchy.HasItemAttribute(item, virtual)
            if not isFolder and hierarchy.GetItemDataNode(item) is None:
                hierarchy.RemoveItem(item, False, False)
        self._onSceneCompleted(caller, event)

    def _onSceneCompleted(self, caller, event) -> None:
        slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(self.scene)
        hierarchy = self.scene.GetSubjectHierarchyNode()
        for index in range(self.scene.GetNumberOfNodes()):
            node = self.scene.GetNthNode(index)
            if isOwned(node) and not hierarchy.GetItemByDataNode(node):
                self._add(node)

    def _add(self, node: "slicer.vtkMRMLNode") -> None:
        hierarchy = self.scene.GetSubjectHierarchyNode()
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def isOwned(node: "slicer.vtkMRMLNode") -> bool:
    """True if Slicer would show ``node`` in its data tree."""
    return not node.GetHideFromEditors() and any(node.IsA(name) for name in OWNED_CLASSES)
