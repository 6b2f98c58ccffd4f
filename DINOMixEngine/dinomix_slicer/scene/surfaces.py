"""Surfaces for the 3D view, made in a thread beside the window, in short steps of the main thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinomix.images.segments import boxes_of

from ..task import InBackground
from .representations import LABEL_MAP, SURFACE

MARGIN = 1
"""Voxels around a segment, so that its surface is closed there."""
Extent = tuple[int, int, int, int, int, int]


def surfaceSteps(segmentationNode: Any) -> Iterator[Any]:
    """Make the closed surface of each segment that has none, and show the segmentation in 3D.

    Yields a segment's name when its surface is made, and ``WAIT`` before; only the box around a segment is worked on. All
    surfaces are put into the segmentation at the end: with the first one, Slicer's 3D views would make all others themselves,
    of the whole label map and in one step. What is edited meanwhile is left to them; none are made of a node that was removed.
    """
    segmentation = segmentationNode.GetSegmentation()
    layers = [segmentation.GetLayerDataObject(number, LABEL_MAP) for number in range(segmentation.GetNumberOfLayers())]
    filled = [layer for layer in layers if layer is not None and layer.GetNumberOfPoints() > 0]
    times = {_identity(layer): layer.GetMTime() for layer in filled}
    boxes = yield from InBackground(_boxFinder(filled)).steps()
    made: dict[str, Any] = {}
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        if segment is None:
            continue  # removed between two steps
        labelMap = segment.GetRepresentation(LABEL_MAP)
        if labelMap is not None and segment.GetRepresentation(SURFACE) is None:
            value = segment.GetLabelValue()
            box = boxes.get((_identity(labelMap), value))
            # An empty one where there is no voxel, as Slicer makes it; else it would search the whole label map.
            made[identifier] = (yield from _surfaceOf(segmentation, labelMap, value, box)) if box else vtk.vtkPolyData()
        yield segment.GetName()
        if segmentationNode.GetScene() is None:
            return
    with slicer.util.NodeModify(segmentationNode):
        for identifier, surface in made.items():
            segment = segmentation.GetSegment(identifier)
            labelMap = segment.GetRepresentation(LABEL_MAP) if segment is not None else None
            if labelMap is not None and times.get(_identity(labelMap)) == labelMap.GetMTime():
                segment.AddRepresentation(SURFACE, surface)
    display = segmentationNode.GetDisplayNode()
    if display is not None:
        display.SetVisibility3D(True)
        display.SetPreferredDisplayRepresentationName3D(SURFACE)
    segmentation.InvokeEvent(slicer.vtkSegmentation.ContainedRepresentationNamesModified)


def areSurfacesShown(segmentationNode: Any) -> bool:
    """Whether a segmentation has surfaces, and they are shown in 3D."""
    display = segmentationNode.GetDisplayNode()
    isThere = segmentationNode.GetSegmentation().ContainsRepresentation(SURFACE)
    return bool(isThere and display is not None and display.GetVisibility3D())


def _boxFinder(labelMaps: list[Any]) -> Callable[[Callable[[], None]], dict[tuple[str, int], Extent]]:
    """A function for ``InBackground`` that finds the box of each label: (identity of the label map, value) -> extent."""
    parts = [(_identity(each), np.array(each.GetExtent()[::2]), _voxelsOf(each)) for each in labelMaps]

    def find(checkStop: Callable[[], None]) -> dict[tuple[str, int], Extent]:
        return {
            (identity, value): tuple((box + first[:, None]).ravel().tolist())
            for identity, first, voxels in parts
            for value, box in boxes_of(voxels, checkStop).items()
        }

    return find


def _voxelsOf(labelMap: Any) -> Any:
    """A view of a label map's voxels, (k, j, i), which keeps them."""
    return vtk_to_numpy(labelMap.GetPointData().GetScalars()).reshape(tuple(reversed(labelMap.GetDimensions())))


def _surfaceOf(segmentation: Any, labelMap: Any, value: int, box: Extent) -> Generator[Any, None, Any]:
    """The closed surface that Slicer makes of one label, with the segmentation's own conversion parameters."""
    part = _cropped(labelMap, box)
    if any(segmentation.GetConversionParameter(name) not in ("", "0") for name in OTHER_WAYS):
        return _surfaceBySlicer(segmentation, part, value)
    filters = _filters(segmentation, part, value, box)
    yield from InBackground(lambda checkStop: filters[-1].Update()).steps()
    surface = vtk.vtkPolyData()
    surface.ShallowCopy(filters[-1].GetOutput())
    surface.GetPointData().RemoveArray("ImageScalars")  # views would color the surface by them
    return surface


OTHER_WAYS = ("Conversion method", "SurfaceNets smoothing", "Joint smoothing")
"""Conversion parameters that ``_filters`` knows by their default value only, 0."""


def _filters(segmentation: Any, part: Any, value: int, box: Extent) -> list[Any]:
    """The steps of Slicer's vtkBinaryLabelmapToClosedSurfaceConversionRule, which itself keeps Python's lock while it computes.

    They are connected, none is run yet, and each must be kept until the last one has run.
    """
    decimation, smoothing, normals = (
        float(segmentation.GetConversionParameter(name) or default)
        for name, default in (("Decimation factor", 0), ("Smoothing factor", 0.5), ("Compute surface normals", 1))
    )
    toWorld = vtk.vtkMatrix4x4()
    part.GetImageToWorldMatrix(toWorld)
    voxels = vtk.vtkImageData()
    voxels.ShallowCopy(part)
    voxels.SetOrigin(0, 0, 0)
    voxels.SetSpacing(1, 1, 1)
    threshold = _threshold(value)
    threshold.SetInputData(voxels)
    padding = vtk.vtkImageConstantPad()
    padding.SetOutputWholeExtent(*(box[n] - MARGIN if n % 2 == 0 else box[n] + MARGIN for n in range(6)))
    edges = vtk.vtkDiscreteFlyingEdges3D()
    edges.ComputeGradientsOff()
    edges.ComputeNormalsOff()
    edges.SetValue(0, 1)
    filters = [threshold, padding, edges]
    if decimation > 0:
        decimate = vtk.vtkDecimatePro()
        decimate.SetFeatureAngle(60)
        decimate.SplittingOff()
        decimate.PreserveTopologyOn()
        decimate.SetMaximumError(1)
        decimate.SetTargetReduction(decimation)
        filters.append(decimate)
    if smoothing > 0:
        smooth = vtk.vtkWindowedSincPolyDataFilter()
        smooth.SetNumberOfIterations(int(20 + smoothing * 40))
        smooth.SetPassBand(10.0 ** (-4 * smoothing))
        smooth.BoundarySmoothingOff()
        smooth.FeatureEdgeSmoothingOff()
        smooth.NonManifoldSmoothingOn()
        smooth.NormalizeCoordinatesOn()
        filters.append(smooth)
    transform = vtk.vtkTransform()
    transform.SetMatrix(toWorld)
    move = vtk.vtkTransformPolyDataFilter()
    move.SetTransform(transform)
    filters.append(move)
    if normals > 0:
        orient = vtk.vtkPolyDataNormals()
        orient.ConsistencyOn()
        orient.SplittingOff()
        filters.append(orient)
    for one, following in pairwise(filters):
        following.SetInputConnection(one.GetOutputPort())
    return filters


def _surfaceBySlicer(segmentation: Any, part: Any, value: int) -> Any:
    """The same by Slicer's own conversion, in one step of the main thread: for ways that are not its default."""
    threshold = _threshold(value)
    threshold.SetInputData(part)
    threshold.Update()
    mask = slicer.vtkOrientedImageData()
    mask.ShallowCopy(threshold.GetOutput())
    mask.CopyDirections(part)
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(LABEL_MAP)
    alone.CopyConversionParameters(segmentation)
    segment = slicer.vtkSegment()
    segment.SetLabelValue(1)
    segment.AddRepresentation(LABEL_MAP, mask)
    alone.AddSegment(segment, "segment")
    alone.CreateRepresentation(SURFACE)
    return alone.GetSegment("segment").GetRepresentation(SURFACE)


def _cropped(labelMap: Any, box: Extent) -> Any:
    """A copy of a label map, no larger than a box and a margin."""
    whole = labelMap.GetExtent()
    extent = [max(box[n] - MARGIN, whole[n]) if n % 2 == 0 else min(box[n] + MARGIN, whole[n]) for n in range(6)]
    part = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.CopyImage(labelMap, part, extent)
    return part


def _threshold(value: int) -> Any:
    """A filter that leaves ones where the label is."""
    threshold = vtk.vtkImageThreshold()
    threshold.ThresholdBetween(value, value)
    threshold.SetInValue(1)
    threshold.SetOutValue(0)
    threshold.SetOutputScalarTypeToUnsignedChar()
    return threshold


def _identity(labelMap: Any) -> str:
    """The same for all segments that share a label map, though Python wraps it anew each time."""
    return str(labelMap.GetAddressAsString(""))
