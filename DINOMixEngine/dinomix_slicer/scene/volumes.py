"""Volume nodes as the engine takes them: voxels, and where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from dinomix.errors import DinomixError


@dataclass(frozen=True)
class NodeImage:
    """A volume node's voxels, and what the engine needs to know of their place.

    Attributes:
        array: (k, j, i), a view of the node's own voxels; not to be written to.
        affineRas: 4x4, index (i, j, k, 1) -> RAS mm.
        notices: full sentences that the user should see.
    """

    array: Any
    affineRas: Any
    notices: tuple[str, ...] = ()


def imagesOfScene() -> list[Any]:
    """The volumes that are images, see ``requireImage``, and shown in Slicer's lists; the oldest first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if not node.GetHideFromEditors() and whyNoImage(node) is None]


def whyNoImage(volumeNode: Any) -> str | None:
    """The sentences that say why a node is no image and what to do; None when it is one."""
    try:
        requireImage(volumeNode)
    except DinomixError as error:
        return str(error)
    return None


def requireImage(volumeNode: Any) -> None:
    """Raise DinomixError where a node is no volume with one number per voxel, or has no voxels. Reads no voxel."""
    if volumeNode is None or not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise DinomixError(_("This is not a volume."), _("Choose a CT or MR volume."))
    name = volumeNode.GetName()
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise DinomixError(
            _("The volume {name} is a label map, not an image.").format(name=name),
            _("Choose the image that it was made from."),
        )
    imageData = volumeNode.GetImageData()
    if imageData is None or imageData.GetNumberOfPoints() == 0 or imageData.GetPointData().GetScalars() is None:
        raise DinomixError(
            _("The volume {name} has no voxels.").format(name=name), _("Load it again, or choose another.")
        )
    components = imageData.GetNumberOfScalarComponents()
    if components != 1 or volumeNode.IsA("vtkMRMLVectorVolumeNode"):
        raise DinomixError(
            _("The volume {name} has {count} numbers per voxel, as colors or vectors have.").format(
                name=name, count=components
            ),
            _("Choose a volume with one, or make one with the module Vector to Scalar Volume."),
        )


def imageOfNode(volumeNode: Any) -> NodeImage:
    """The image of a scalar volume node, as ``imageUnder`` its parent transform. Raises DinomixError as that does."""
    return imageUnder(volumeNode, volumeNode.GetParentTransformNode() if volumeNode is not None else None)


def imagesOfCase(volumeNodes: list[Any]) -> list[NodeImage]:
    """The images of one case, each on its own grid, in the space of the first one's.

    Raises:
        DinomixError: as ``imageUnder``; or a non-linear transform lies between the first and another.
    """
    first, *others = volumeNodes
    images = [imageOfNode(first)]
    for other in others:
        image = imageOfNode(other)
        matrixBetween(other, first)  # refuses what lies in no space that both share
        images.append(
            NodeImage(image.array, image.affineRas)
        )  # what there is to say of the transform is said of the first
    return images


def imageUnder(volumeNode: Any, transform: Any) -> NodeImage:
    """The image of a scalar volume node as it lies under a transform node, or None.

    With a linear transform, the affine leads to world coordinates, so that the network sees the patient's true axes and
    sizes. With a non-linear one it leads to the node's own coordinates: the voxels are a regular grid only there.

    Raises:
        DinomixError: the node is no image, see ``requireImage``, or its axes span no volume.
    """
    requireImage(volumeNode)
    name = volumeNode.GetName()
    array, affine = slicer.util.arrayFromVolume(volumeNode), affineOf(volumeNode)
    _requireAxes(affine, name)
    if transform is None:
        return NodeImage(array, affine)
    if not transform.IsTransformToWorldLinear():
        notice = _(
            "{name} is under a non-linear transform; it is segmented as it was scanned, and the segmentation gets the same "
            "transform."
        ).format(name=name)
        return NodeImage(array, affine, (notice,))
    placed = slicer.util.arrayFromTransformMatrix(transform, toWorld=True) @ affine
    _requireAxes(placed, name)
    return NodeImage(array, placed)


def affineOf(volumeNode: Any) -> Any:
    """4x4, index (i, j, k, 1) of a volume node -> RAS mm in its own coordinates, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def matrixBetween(node: Any, other: Any) -> Any:
    """4x4, from a node's own coordinates to those of another, through the parent transforms of both, RAS mm.

    Raises:
        DinomixError: a non-linear transform lies between them.
    """
    here, there = node.GetParentTransformNode(), other.GetParentTransformNode()
    if here == there:
        return np.eye(4)
    if any(transform is not None and not transform.IsTransformToWorldLinear() for transform in (here, there)):
        raise DinomixError(
            _("A non-linear transform lies between {one} and {other}.").format(
                one=node.GetName(), other=other.GetName()
            ),
            _("Put both under the same transform, or harden it."),
        )
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(here, there, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _requireAxes(affine: Any, name: str) -> None:
    """Refuse a volume whose axes span no space: a spacing of 0, a transform that flattens it, or numbers that are none."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise DinomixError(
            _("The axes of {name} span no volume, since a spacing is 0 or a transform flattens it.").format(name=name),
            _("Correct its spacing and directions in the module Volumes, or its transform."),
        )
