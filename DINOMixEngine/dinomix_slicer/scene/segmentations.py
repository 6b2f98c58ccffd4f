"""Labels as segmentation nodes: on the volume's own voxels, with names, colors and terminology, beside what was there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from dinomix.errors import DinomixError

from . import undo
from .representations import LABEL_MAP, SURFACE, removeSegments
from .unsure import markUnsure
from .volumes import affineOf, matrixBetween

COPY_BYTES = 2**22
FILL_OPACITY = 0.5
"""Of segments in slice views, so that the image stays visible below them."""
REGION_OPACITY = 0.3
"""Of the surfaces of regions, so that the structures inside stay visible."""


def addSegmentation(volumeNode: Any, labels: Any, structures: list[dict[str, Any]]) -> Any:
    """A new segmentation node on a volume's voxels; ``undo.undo`` removes it.

    Args:
        labels: structure ids, (k, j, i) of the volume's shape, uint8 or uint16; or a ``LabelMap`` of them.
        structures: STRUCTURE and REGION dicts (docs/worker.md), each a segment; those whose ``voxels`` is 0 are left out.

    Raises:
        DinomixError: the labels do not fit the volume.
    """
    labelMap, regions = _imagesOf(volumeNode, labels, np.eye(4), structures)
    name = _("{volume} segmentation").format(volume=volumeNode.GetName())
    node = newSegmentation(name, volumeNode, labelMap, structures, regions)
    outlineRegions(node, structures)
    undo.rememberNew(node)
    return node


def newSegmentation(
    name: str,
    volumeNode: Any,
    labelMap: Any,
    structures: list[dict[str, Any]],
    regions: Mapping[str, Any] | None = None,
) -> Any:
    """A new segmentation node of one vtkOrientedImageData; ``volumeNode`` may be None where there is no volume.

    Args:
        regions: name of a region among the structures -> its own image, of ones.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    with slicer.util.NodeModify(node):
        attach(node, volumeNode)
        node.GetSegmentation().SetSourceRepresentationName(LABEL_MAP)
        _addSegments(node.GetSegmentation(), labelMap, structures, regions or {})
    return node


def outlineRegions(segmentationNode: Any, structures: list[dict[str, Any]]) -> None:
    """Show the regions among the structures as outlines and see-through surfaces: their parts lie in them."""
    display, segmentation = segmentationNode.GetDisplayNode(), segmentationNode.GetSegmentation()
    for name in (structure["name"] for structure in structures if isRegion(structure)):
        segment = segmentation.GetSegmentIdBySegmentName(name)
        if segment:
            display.SetSegmentVisibility2DFill(segment, False)
            display.SetSegmentOpacity3D(segment, REGION_OPACITY)


def isRegion(structure: dict[str, Any]) -> bool:
    """Whether a dict of the worker is a REGION, which lies over the structures that it is made of."""
    return "structures" in structure


def attach(segmentationNode: Any, volumeNode: Any) -> None:
    """Show a segmentation over a volume, on the volume's grid, under its transform and beside it in the subject hierarchy."""
    segmentationNode.CreateDefaultDisplayNodes()
    segmentationNode.GetDisplayNode().SetOpacity2DFill(FILL_OPACITY)
    if volumeNode is not None:
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        placeBeside(segmentationNode, volumeNode)


def writeIntoSegmentation(
    segmentationNode: Any,
    volumeNode: Any,
    labels: Any,
    structures: list[dict[str, Any]],
    replaceOthers: bool = False,
) -> None:
    """Put labels into a segmentation that is there. Segments of the same names are replaced, with their colors kept.

    The new segments lie in a layer of their own, so that no voxel of another segment is touched. Surfaces are dropped, to be
    made by ``surfaces.surfaceSteps``: Slicer would make each new segment's as it comes, of the whole label map.

    Args:
        labels, structures: as for ``addSegmentation``.
        replaceOthers: erase other segments where the new ones are.

    Raises:
        DinomixError: the labels do not fit the volume, or a non-linear transform lies between volume and segmentation.
    """
    labelMap, regions = _imagesOf(volumeNode, labels, matrixBetween(volumeNode, segmentationNode), structures)
    segmentation = segmentationNode.GetSegmentation()
    with slicer.util.NodeModify(segmentationNode):
        _useLabelMaps(segmentationNode)
        segmentation.RemoveRepresentation(SURFACE)
        kept = _removeNamed(segmentation, {structure["name"] for structure in structures})
        if replaceOthers:
            _eraseUnder(segmentation, labelMap)
        if not segmentation.GetConversionParameter("Reference image geometry"):
            segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        colored = [{**s, "color": kept.get(s["name"], s["color"])} for s in structures]
        _addSegments(segmentation, labelMap, colored, regions)
    segmentationNode.CreateDefaultDisplayNodes()
    outlineRegions(segmentationNode, structures)


class LabelMap:
    """Labels of a volume on their way into one vtkOrientedImageData, which all structures share, and one for each region.

    They are copied once, so that a memory-mapped file may go away afterwards; ``steps`` does it a piece at a time.
    """

    def __init__(self, volumeNode: Any, labels: Any, structures: list[dict[str, Any]]) -> None:
        """
        Args:
            labels: structure ids, (k, j, i) of the volume's shape, uint8 or uint16.
            structures: STRUCTURE and REGION dicts; of the latter, those with voxels get an image.

        Raises:
            DinomixError: the shapes differ.
        """
        self._volumeNode, self._labels = volumeNode, labels
        self._requireSameShape()
        self._image = _emptyImage(labels)
        regions = [each for each in structures if isRegion(each) and each.get("voxels", 1)]
        self._regions = {region["name"]: (region, _emptyImage(labels, vtk.VTK_UNSIGNED_CHAR)) for region in regions}
        self._steps = self._copy()

    def steps(self) -> Iterator[int]:
        """Copy about 4 MiB a step, as far as that is not done yet."""
        return self._steps

    def images(self, volumeToNode: Any) -> tuple[Any, dict[str, Any]]:
        """The whole image, and that of ones of each region by its name.

        Args:
            volumeToNode: 4x4, from the volume's own coordinates to those of the segmentation, RAS mm.

        Raises:
            DinomixError: the volume has another shape by now.
        """
        for _step in self._steps:
            pass
        self._requireSameShape()
        placed = slicer.util.vtkMatrixFromArray(volumeToNode @ affineOf(self._volumeNode))
        regions = {name: image for name, (_region, image) in self._regions.items()}
        for image in (self._image, *regions.values()):
            image.SetImageToWorldMatrix(placed)
        return self._image, regions

    def _copy(self) -> Iterator[int]:
        labels = self._labels
        voxels = _voxelsOf(self._image, labels.shape)
        regions = [
            (_voxelsOf(image, labels.shape), _insideOf(region, labels)) for region, image in self._regions.values()
        ]
        slabs = max(COPY_BYTES // max(labels[0].nbytes, 1), 1)
        for start in range(0, len(labels), slabs):
            here = slice(start, start + slabs)
            voxels[here] = labels[here]
            yield start
            for ones, inside in regions:
                ones[here] = inside[voxels[here]]
                yield start

    def _requireSameShape(self) -> None:
        imageData = self._volumeNode.GetImageData()
        if imageData is None or tuple(self._labels.shape) != tuple(reversed(imageData.GetDimensions())):
            name = self._volumeNode.GetName()
            raise DinomixError(
                _("{name} has changed since it was segmented.").format(name=name), _("Segment it again.")
            )


def _imagesOf(
    volumeNode: Any, labels: Any, volumeToNode: Any, structures: list[dict[str, Any]]
) -> tuple[Any, dict[str, Any]]:
    labelMap = labels if isinstance(labels, LabelMap) else LabelMap(volumeNode, labels, structures)
    return labelMap.images(volumeToNode)


def labelMapFrom(labels: Any, affineRas: Any) -> Any:
    """Labels, (k, j, i), as one vtkOrientedImageData; ``affineRas`` leads from index (i, j, k, 1) to RAS mm."""
    labelMap = _emptyImage(labels)
    _voxelsOf(labelMap, labels.shape)[:] = labels
    labelMap.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(affineRas))
    return labelMap


def _emptyImage(labels: Any, kind: int | None = None) -> Any:
    """A vtkOrientedImageData with room for these labels, (k, j, i), or for numbers of another kind."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*reversed(labels.shape))
    ofLabels = vtk.VTK_UNSIGNED_CHAR if labels.dtype.itemsize == 1 else vtk.VTK_UNSIGNED_SHORT
    image.AllocateScalars(kind or ofLabels, 1)
    return image


def _voxelsOf(image: Any, shape: tuple[int, ...]) -> Any:
    """The voxels of an image as an array (k, j, i), which may be written to."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


def _insideOf(region: dict[str, Any], labels: Any) -> Any:
    """For each number that the labels' kind can hold, 1 for the structures of a region."""
    inside = np.zeros(2 ** (8 * labels.dtype.itemsize), np.uint8)
    inside[region["structures"]] = 1
    return inside


def placeBeside(node: Any, volumeNode: Any) -> None:
    """Put a node into the subject hierarchy beside a volume: in the same study or folder."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    volumeItem, item = hierarchy.GetItemByDataNode(volumeNode), hierarchy.GetItemByDataNode(node)
    if volumeItem and item:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(volumeItem))


def _addSegments(
    segmentation: Any, labelMap: Any, structures: list[dict[str, Any]], regions: Mapping[str, Any]
) -> None:
    """Add a segment for each structure, all in one label map but for regions; those whose ``voxels`` is 0 are left out."""
    for structure in structures:
        if not structure.get("voxels", 1):
            continue
        segment = slicer.vtkSegment()
        segment.SetName(structure["name"])
        segment.SetColor(*(value / 255 for value in structure["color"]))
        if structure.get("terminology_entry"):
            segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), structure["terminology_entry"])
        markUnsure(segment, structure)
        segment.SetLabelValue(1 if isRegion(structure) else structure["id"])
        segment.AddRepresentation(LABEL_MAP, regions[structure["name"]] if isRegion(structure) else labelMap)
        segmentation.AddSegment(segment, segmentation.GenerateUniqueSegmentID(structure["name"].replace(" ", "_")))


def _removeNamed(segmentation: Any, names: set[str]) -> dict[str, list[float]]:
    """Remove the segments of these names; returns their colors, 0..255."""
    doomed = [each for each in segmentation.GetSegmentIDs() if segmentation.GetSegment(each).GetName() in names]
    segments = [segmentation.GetSegment(each) for each in doomed]
    colors = {segment.GetName(): [value * 255 for value in segment.GetColor()] for segment in segments}
    removeSegments(segmentation, doomed)
    return colors


def _useLabelMaps(segmentationNode: Any) -> None:
    """Make label maps the source representation, as they are of all that this module writes."""
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetSourceRepresentationName() == LABEL_MAP:
        return
    if segmentation.GetNumberOfSegments() and not segmentation.CreateRepresentation(LABEL_MAP):
        raise DinomixError(
            _("{name} holds surfaces that cannot be made into label maps.").format(name=segmentationNode.GetName()),
            _("Choose a new segmentation as the output."),
        )
    segmentation.SetSourceRepresentationName(LABEL_MAP)


def _eraseUnder(segmentation: Any, labelMap: Any) -> None:
    """Set all layers to 0 where ``labelMap`` is not, each on its own grid."""
    resample = slicer.vtkOrientedImageDataResample
    for number in range(segmentation.GetNumberOfLayers()):
        layer = segmentation.GetLayerDataObject(number)
        if layer is None or layer.GetNumberOfPoints() == 0:
            continue
        here = slicer.vtkOrientedImageData()
        resample.ResampleOrientedImageToReferenceOrientedImage(labelMap, layer, here, False)
        covered = vtk_to_numpy(here.GetPointData().GetScalars()) != 0
        voxels = vtk_to_numpy(layer.GetPointData().GetScalars())
        voxels[covered] = 0
        layer.GetPointData().GetScalars().Modified()
        layer.Modified()
    segmentation.InvalidateNonSourceRepresentations()
