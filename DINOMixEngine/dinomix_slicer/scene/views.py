"""What the slice views show, and showing something in them and in 3D."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode


def shownVolumes() -> list[vtkMRMLScalarVolumeNode]:
    """The background volumes of the slice views, that of the red view first."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    views.sort(key=lambda view: view.GetLayoutName() != "Red")
    nodes = [slicer.mrmlScene.GetNodeByID(view.GetBackgroundVolumeID() or "") for view in views]
    return [node for node in nodes if node is not None]


def showVolume(volume: vtkMRMLScalarVolumeNode) -> None:
    """Put the volume into the slice views' background, unless one of them shows it already."""
    if volume not in shownVolumes():
        # Without a main window there is no layout to fit the views in.
        slicer.util.setSliceViewerLayers(background=volume, fit=slicer.app.layoutManager() is not None)


def centerOnFirst(segmentation: vtkMRMLSegmentationNode) -> None:
    """Center the 3D view on the scene's only segmentation; with others there, the user's view is left as it is."""
    layout = slicer.app.layoutManager()
    isOnly = len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
    if layout is None or not isOnly or slicer.mrmlScene.GetNodeByID(segmentation.GetID()) is None:
        return
    widget = layout.threeDWidget(0)
    if widget is not None:
        widget.threeDView().resetFocalPoint()
