"""Cases of the open scene: volumes paired with their segmentations, and both as arrays that need no scene any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.segments import Segment
from dinomix.names import file_name

from .representations import LABEL_MAP
from .volumes import affineOf, imageOfNode, imagesOfScene, matrixBetween

BLOCK_VOXELS = 2**21
"""Voxels that are copied in one step, a few milliseconds of work."""


@dataclass(frozen=True)
class Proposal:
    """A segmentation that may be a volume's; ``reason`` is "reference" (the volume is its reference image), "dicom" (a DICOM
    segmentation object refers to the volume) or "place" (both are alone in a folder or study of the subject hierarchy)."""

    segmentation: Any
    reason: str


@dataclass(frozen=True)
class SceneCase:
    """A case of the scene: its name, also that of its files; its volume node; its segmentation node, None without a label;
    the volume nodes of its further images."""

    name: str
    volume: Any
    segmentation: Any = None
    more: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Layer:
    """A label map on a grid of its own.

    Attributes:
        array: (k, j, i), whole numbers.
        fromVolume: 4x4, voxel index of the volume (i, j, k, 1) -> voxel index of ``array``.
        ids: value in ``array`` -> id of the segment.
    """

    array: Any
    fromVolume: Any
    ids: dict[int, int]


@dataclass(frozen=True)
class CaseArrays:
    """A case as arrays of its own.

    Attributes:
        image: (k, j, i).
        affineRas: 4x4, index (i, j, k, 1) -> RAS mm in the volume's own coordinates, without its parent transform.
        segments, layers: of the label; empty without one.
        more: array and affine of each further image, in the coordinates of the first.
    """

    name: str
    image: Any
    affineRas: Any
    segments: tuple[Segment, ...] = ()
    layers: tuple[Layer, ...] = ()
    more: tuple[tuple[Any, Any], ...] = ()


# -- Which belong together


def segmentationsOfScene() -> list[Any]:
    """The segmentations that are shown in Slicer's lists."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if not node.GetHideFromEditors()]


def proposedSegmentations() -> dict[str, list[Proposal]]:
    """Volume node's ID -> the segmentations that may be its own, the likeliest first."""
    volumes, segmentations = imagesOfScene(), segmentationsOfScene()
    found: dict[str, list[Proposal]] = {volume.GetID(): [] for volume in volumes}
    unclaimed = []
    for segmentation in segmentations:
        reference = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
        volume, reason = (reference, "reference") if reference in volumes else (_dicomReference(segmentation), "dicom")
        if volume is not None and volume.GetID() in found:
            found[volume.GetID()].append(Proposal(segmentation, reason))
        else:
            unclaimed.append(segmentation)
    for segmentation in unclaimed:
        beside = [volume for volume in volumes if _place(volume) == _place(segmentation) != _scenePlace()]
        if len(beside) == 1 and not found[beside[0].GetID()]:
            found[beside[0].GetID()].append(Proposal(segmentation, "place"))
    return found


def sceneCases(pairs: Collection[tuple[Any, ...]], reserved: Collection[str] = ()) -> list[SceneCase]:
    """Name cases (volume node, segmentation node or None, nodes of further images) by their volumes, as files can be called.

    Args:
        reserved: names that other cases have.
    """
    taken = Counter(name.casefold() for name in reserved)
    cases = []
    for volume, segmentation, *more in pairs:
        name = file_name(volume.GetName() or "", "volume")
        taken[name.casefold()] += 1
        number = taken[name.casefold()]
        while number > 1 and f"{name}_{number}".casefold() in taken:
            number += 1
        unique = name if number == 1 else f"{name}_{number}"
        taken[unique.casefold()] += unique != name
        cases.append(SceneCase(unique, volume, segmentation, tuple(more)))
    return cases


def _dicomReference(segmentation: Any) -> Any:
    """The volume that a segmentation loaded from DICOM names, if it is in the scene."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(segmentation)
    items = hierarchy.GetItemsReferencedFromItemByDICOM(item) if item else ()
    nodes = [hierarchy.GetItemDataNode(item) for item in items]
    return next((node for node in nodes if node is not None and node.IsA("vtkMRMLScalarVolumeNode")), None)


def _place(node: Any) -> int:
    """The item of the subject hierarchy that a node lies under: a folder, study or patient, or the whole scene."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    return int(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)))


def _scenePlace() -> int:
    return int(slicer.mrmlScene.GetSubjectHierarchyNode().GetSceneItemID())


# -- A case as arrays


def stateOf(case: SceneCase, leftOut: Collection[str] = ()) -> object:
    """Something that is equal as long as what ``stepsOfCase`` gives is."""
    volume = case.volume
    image = (case.name, *(_stateOfVolume(each, volume) for each in (volume, *case.more)))
    if case.segmentation is None:
        return image
    segmentation = case.segmentation.GetSegmentation()
    place = _stateOfPlace(volume, case.segmentation)
    source = segmentation.GetSourceRepresentationName()
    segments = tuple(
        (segment.GetName(), segment.GetColor(), segment.GetLabelValue(), terminologyOf(segment), _time(segment, source))
        for segment in segmentsOf(case.segmentation)
    )
    return (image, case.segmentation.GetID(), place, segments, tuple(sorted(leftOut)))


def _stateOfVolume(volume: Any, first: Any) -> object:
    voxels = volume.GetImageData()
    time = voxels.GetMTime() if voxels is not None else 0
    return (volume.GetID(), time, affineOf(volume).tobytes(), _stateOfPlace(volume, first))


def _stateOfPlace(node: Any, other: Any) -> bytes | None:
    try:
        return bytes(matrixBetween(node, other).tobytes())
    except DinomixError:
        return None


def stepsOfCase(case: SceneCase, leftOut: Collection[str] = ()) -> Generator[None, None, CaseArrays]:
    """Copy a case out of the scene, a few milliseconds a step; the generator returns the ``CaseArrays``.

    The volume stays in its own coordinates. A segmentation, or a further image, under another transform than the volume is
    brought to them through world coordinates.

    Args:
        leftOut: names of segments that are not wanted.

    Raises:
        DinomixError: the volume cannot be used; the segmentation has no segment, lies under a non-linear transform of its own,
            or cannot be made into label maps.
    """
    source = imageOfNode(case.volume).array
    affine = affineOf(case.volume)
    segments: list[Segment] = []
    layers: list[Layer] = []
    if case.segmentation is not None:
        toSegmentation = matrixBetween(case.volume, case.segmentation)
        yield from _stepsOfLayers(case, toSegmentation @ affine, set(leftOut), segments, layers)
    image = yield from _copied(source)
    more = []
    for volume in case.more:
        place = matrixBetween(volume, case.volume) @ affineOf(volume)
        copy = yield from _copied(imageOfNode(volume).array)
        more.append((copy, place))
    return CaseArrays(case.name, image, affine, tuple(segments), tuple(layers), tuple(more))


def segmentsOf(segmentationNode: Any) -> list[Any]:
    """The segments (vtkSegment) of a segmentation node, in its order."""
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetSegment(each) for each in segmentation.GetSegmentIDs()]


def terminologyOf(segment: Any) -> str:
    """A segment's terminology entry; empty without one."""
    value = vtk.mutable("")
    found = segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), value)
    return str(value) if found else ""


def _time(segment: Any, representation: str) -> int:
    """When a representation of a segment was changed last."""
    drawn = segment.GetRepresentation(representation)
    return int(drawn.GetMTime()) if drawn is not None else 0


def _stepsOfLayers(
    case: SceneCase, indexToSegmentation: Any, leftOut: set[str], segments: list[Segment], layers: list[Layer]
) -> Iterator[None]:
    """Fill ``segments`` and ``layers``; ``indexToSegmentation`` leads from the volume's indices to the segmentation's RAS mm."""
    wanted = [segment for segment in segmentsOf(case.segmentation) if segment.GetName() not in leftOut]
    if not wanted:
        raise DinomixError(
            _("The segmentation {name} has no segment to learn from.").format(name=case.segmentation.GetName()),
            _(
                "Segment something in it, or choose no segmentation for {volume}: it is then an unlabeled case. Of a healthy "
                "patient, add the segments and leave them empty."
            ).format(volume=case.volume.GetName()),
        )
    drawn = wanted
    if any(segment.GetRepresentation(LABEL_MAP) is None for segment in wanted):
        yield
        drawn = _converted(case, wanted)
    byImage: dict[Any, dict[int, int]] = {}
    for id, (segment, copy) in enumerate(zip(wanted, drawn, strict=True), 1):
        segments.append(Segment(segment.GetName(), id, color=segment.GetColor(), terminology=terminologyOf(segment)))
        byImage.setdefault(copy.GetRepresentation(LABEL_MAP), {})[int(copy.GetLabelValue())] = id
    for image, ids in byImage.items():
        scalars = image.GetPointData().GetScalars()
        if scalars is None or scalars.GetNumberOfTuples() == 0:
            continue  # nothing is drawn yet
        voxels = vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(tuple(reversed(image.GetDimensions())))
        array = yield from _copied(voxels)
        layers.append(Layer(array, _indexOf(image) @ indexToSegmentation, ids))


def _converted(case: SceneCase, segments: list[Any]) -> list[Any]:
    """Copies of segments that are surfaces or fractional, with label maps; the scene's own node stays as it is."""
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(case.segmentation.GetSegmentation())
    geometry = slicer.vtkOrientedImageData()
    geometry.SetExtent(case.volume.GetImageData().GetExtent())
    geometry.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(affineOf(case.volume)))
    text = slicer.vtkSegmentationConverter.SerializeImageGeometry(geometry)
    copy.SetConversionParameter("Reference image geometry", text)
    original = case.segmentation.GetSegmentation()
    ids = [original.GetSegmentIdBySegment(segment) for segment in segments]
    if not copy.CreateRepresentation(LABEL_MAP, True):
        raise DinomixError(
            _("{name} holds surfaces that cannot be made into label maps.").format(name=case.segmentation.GetName()),
            _("Make a binary label map of it in the module Segmentations, or choose another segmentation."),
        )
    return [copy.GetSegment(id) for id in ids]


def _indexOf(image: Any) -> Any:
    """4x4, from RAS mm to the index (i, j, k, 1) in the array of a vtkOrientedImageData, which starts at its extent."""
    matrix = vtk.vtkMatrix4x4()
    image.GetWorldToImageMatrix(matrix)
    start = np.eye(4)
    start[:3, 3] = [-first for first in image.GetExtent()[::2]]
    return start @ slicer.util.arrayFromVTKMatrix(matrix)


def _copied(array: Any) -> Generator[None, None, Any]:
    """Copy an array (k, j, i) a few slices a step; the generator returns the copy."""
    copy = np.empty(array.shape, array.dtype)
    slices = max(1, BLOCK_VOXELS // max(1, array[0].size if len(array) else 1))
    for start in range(0, len(array), slices):
        copy[start : start + slices] = array[start : start + slices]
        yield
    return copy
