"""The representations of segments, by Slicer's names, and taking segments out of a label map that they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

LABEL_MAP = "Binary labelmap"
SURFACE = "Closed surface"


def removeSegments(segmentation: Any, identifiers: Sequence[str]) -> None:
    """Remove segments, all together.

    Slicer itself would take each out of the label map that it shares with others, which copies all voxels for every one: for
    twenty organs in a large volume that is seconds. Here a label map that no other segment uses just goes with its segments.
    """
    staying = {
        segmentation.GetSegment(each).GetRepresentation(LABEL_MAP)
        for each in segmentation.GetSegmentIDs()
        if each not in identifiers
    }
    values = defaultdict(list)
    for segment in map(segmentation.GetSegment, identifiers):
        values[segment.GetRepresentation(LABEL_MAP)].append(segment.GetLabelValue())
    for labelMap in staying & values.keys() - {None}:
        voxels = vtk_to_numpy(labelMap.GetPointData().GetScalars())
        voxels[np.isin(voxels, values[labelMap])] = 0
        labelMap.GetPointData().GetScalars().Modified()
        labelMap.Modified()
    for identifier in identifiers:
        segmentation.GetSegment(identifier).RemoveRepresentation(LABEL_MAP)
        segmentation.RemoveSegment(identifier)


def removeAllSegments(segmentation: Any) -> None:
    """Empty a segmentation whose node has left the scene, which its end would do in Slicer's way."""
    removeSegments(segmentation, segmentation.GetSegmentIDs())
