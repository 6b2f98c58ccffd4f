"""Which volume the user most likely means, and why a volume cannot be segmented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix_slicer.scene.views import shownVolumes

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


def segmentableVolumes() -> list[vtkMRMLScalarVolumeNode]:
    """The volumes of the scene that can be segmented, the oldest first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if not node.GetHideFromEditors() and whyNotVolume(node) is None]


def obviousVolume() -> vtkMRMLScalarVolumeNode | None:
    """The volume shown in the slice views' background, else the only one, else the newest; None without any."""
    volumes = segmentableVolumes()
    shown = shownVolumes()
    return next((volume for volume in shown if volume in volumes), volumes[-1] if volumes else None)


def whyNotVolume(volume: vtkMRMLScalarVolumeNode) -> str | None:
    """The sentence that says why this volume cannot be segmented and what to do; None when it can."""
    name = volume.GetName()
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("{name} is a label map, not an image. Choose the image that it was made from.").format(name=name)
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        return _("The volume {name} has no voxels. Load it again, or choose another.").format(name=name)
    components = image.GetNumberOfScalarComponents()
    if components != 1 or volume.IsA("vtkMRMLVectorVolumeNode"):
        return _(
            "The volume {name} has {n} values in each voxel. Choose a volume with one value, such as a CT or an MR scan."
        ).format(name=name, n=components)
    return None
