"""Surfaces for the 3D view, in steps short enough to be done between the events of the window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .segmentations import LABEL_MAP

SURFACE = "Closed surface"
MARGIN = 1
"""Voxels around a segment, so that its surface is closed there."""
Extent = tuple[int, int, int, int, int, int]


def surfaceSteps(segmentationNode: Any) -> Iterator[str]:
    """Make the closed surface of each segment that has none, and show the segmentation in 3D.

    Yields a segment's name when its surface is made, and "" between the slabs of voxels that are searched for the segments'
    boxes; only the box around a segment is worked on.
    """
    segmentation = segmentationNode.GetSegmentation()
    boxes: dict[tuple[str, int], Extent] = {}
    for number in range(segmentation.GetNumberOfLayers()):
        labelMap = segmentation.GetLayerDataObject(number, LABEL_MAP)
        for found in _boxesInSlabs(labelMap):
            for value, extent in found.items():
                key = (_identity(labelMap), value)
                boxes[key] = _union(boxes.get(key, extent), extent)
            yield ""
    for identifier in [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]:
        segment = segmentation.GetSegment(identifier)
        if segment is None:
            continue  # removed between two steps
        labelMap = segment.GetRepresentation(LABEL_MAP)
        box = boxes.get((_identity(labelMap), segment.GetLabelValue())) if labelMap else None
        if box is not None and segment.GetRepresentation(SURFACE) is None:
            segment.AddRepresentation(SURFACE, _surfaceOf(segmentation, labelMap, segment.GetLabelValue(), box))
        yield segment.GetName()
    display = segmentationNode.GetDisplayNode()
    if display is not None:
        display.SetVisibility3D(True)
        display.SetPreferredDisplayRepresentationName3D(SURFACE)
    segmentation.InvokeEvent(slicer.vtkSegmentation.ContainedRepresentationNamesModified)


def _boxesInSlabs(labelMap: Any) -> Iterator[dict[int, Extent]]:
    """Label value -> extent (i, j, k), of about 4 million voxels at a time."""
    from scipy.ndimage import find_objects

    if labelMap is None or labelMap.GetNumberOfPoints() == 0:
        return
    first = labelMap.GetExtent()
    shape = tuple(reversed(labelMap.GetDimensions()))
    voxels = vtk_to_numpy(labelMap.GetPointData().GetScalars()).reshape(shape)
    thickness = max(2**22 // (shape[1] * shape[2]), 1)
    for start in range(0, shape[0], thickness):
        slab = np.ascontiguousarray(voxels[start : start + thickness])
        found = {}
        for value, place in enumerate(find_objects(slab.astype(np.int32, copy=False)), start=1):
            if place is not None:
                k, j, i = place
                low = (i.start + first[0], j.start + first[2], k.start + start + first[4])
                high = (i.stop - 1 + first[0], j.stop - 1 + first[2], k.stop - 1 + start + first[4])
                found[value] = (low[0], high[0], low[1], high[1], low[2], high[2])
        yield found


def _surfaceOf(segmentation: Any, labelMap: Any, value: int, box: Extent) -> Any:
    """The closed surface that Slicer makes of one segment, with the segmentation's own conversion parameters."""
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(LABEL_MAP)
    alone.CopyConversionParameters(segmentation)
    segment = slicer.vtkSegment()
    segment.SetLabelValue(1)
    segment.AddRepresentation(LABEL_MAP, _cropped(labelMap, value, box))
    alone.AddSegment(segment, "segment")
    alone.CreateRepresentation(SURFACE)
    return alone.GetSegment("segment").GetRepresentation(SURFACE)


def _cropped(labelMap: Any, value: int, box: Extent) -> Any:
    """One label as a label map of ones, no larger than its box and a margin."""
    whole = labelMap.GetExtent()
    extent = [max(box[n] - MARGIN, whole[n]) if n % 2 == 0 else min(box[n] + MARGIN, whole[n]) for n in range(6)]
    part = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.CopyImage(labelMap, part, extent)
    threshold = vtk.vtkImageThreshold()
    threshold.SetInputData(part)
    threshold.ThresholdBetween(value, value)
    threshold.SetInValue(1)
    threshold.SetOutValue(0)
    threshold.SetOutputScalarTypeToUnsignedChar()
    threshold.Update()
    mask = slicer.vtkOrientedImageData()
    mask.ShallowCopy(threshold.GetOutput())
    mask.CopyDirections(labelMap)
    return mask


def _identity(labelMap: Any) -> str:
    """The same for all segments that share a label map, though Python wraps it anew each time."""
    return str(labelMap.GetAddressAsString(""))


def _union(one: Extent, other: Extent) -> Extent:
    low = [min(one[n], other[n]) for n in (0, 2, 4)]
    high = [max(one[n], other[n]) for n in (1, 3, 5)]
    return (low[0], high[0], low[1], high[1], low[2], high[2])
