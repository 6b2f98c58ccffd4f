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


def imageOfNode(volumeNode: Any) -> NodeImage:
    """The image of a scalar volume node.

    With a linear parent transform, the affine leads to world coordinates, so that the network sees the patient's true axes and
    sizes. With a non-linear one it leads to the node's own coordinates: the voxels are a regular grid only there.

    Raises:
        DinomixError: the node is no image with one number per voxel, has no voxels, or its axes span no volume.
    """
    if volumeNode is None or not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise DinomixError(_("This is not a volume."), _("Choose a CT or MR volume."))
    name = volumeNode.GetName()
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise DinomixError(
            _("{name} is a label map, not an image.").format(name=name), _("Choose the image that it belongs to.")
        )
    imageData = volumeNode.GetImageData()
    if imageData is None or imageData.GetNumberOfPoints() == 0:
        raise DinomixError(_("{name} has no voxels.").format(name=name), _("Load the volume again, or choose another."))
    components = imageData.GetNumberOfScalarComponents()
    if components != 1:
        raise DinomixError(
            _("{name} has {count} numbers per voxel, as colors or vectors have.").format(name=name, count=components),
            _("Choose a volume with one, or make one with the module Vector to Scalar Volume."),
        )
    array = slicer.util.arrayFromVolume(volumeNode)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    affine = matrixAsArray(matrix)
    _requireAxes(affine, name)
    transform = volumeNode.GetParentTransformNode()
    if transform is None:
        return NodeImage(array, affine)
    if not transform.IsTransformToWorldLinear():
        notice = _(
            "{name} is under a non-linear transform; it is segmented as it was scanned, and the segmentation gets the same "
            "transform."
        ).format(name=name)
        return NodeImage(array, affine, (notice,))
    transform.GetMatrixTransformToWorld(matrix)
    placed = matrixAsArray(matrix) @ affine
    _requireAxes(placed, name)
    return NodeImage(array, placed)


def matrixBetween(node: Any, other: Any) -> Any:
    """4x4, from a node's own coordinates to those of another, through the parent transforms of both, RAS mm.

    None where a non-linear transform lies between them.
    """
    here, there = node.GetParentTransformNode(), other.GetParentTransformNode()
    if here == there:
        return np.eye(4)
    if any(transform is not None and not transform.IsTransformToWorldLinear() for transform in (here, there)):
        return None
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(here, there, matrix)
    return matrixAsArray(matrix)


def matrixAsArray(matrix: Any) -> Any:
    """A vtkMatrix4x4 as an array, 4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _requireAxes(affine: Any, name: str) -> None:
    """Refuse a volume whose axes span no space: a spacing of 0, a transform that flattens it, or numbers that are none."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise DinomixError(
            _("The axes of {name} span no volume, since a spacing is 0 or a transform flattens it.").format(name=name),
            _("Correct its spacing and directions in the module Volumes, or its transform."),
        )
