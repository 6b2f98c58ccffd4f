"""A validation case in the slice views, with the segmentation that the run makes of it by now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from dinomix_slicer.paths import isThere
from dinomix_slicer.scene.label_file import LabelFile, labelFileSteps
from dinomix_slicer.scene.segmentations import labelMapFrom, newSegmentation
from dinomix_slicer.scene.views import showVolume
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps

from .case_loading import showMiddle, showOnly, volumeOf
from .study import cohortOf

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

SLAB_VOXELS = 2**22


class SnapshotView:
    """Shows one case; a newer segmentation takes the place of the one that is shown.

    Signals:
        shown(case, step): the slice views show this.
        failed(problem, remedy): it cannot be shown.
    """

    def __init__(self) -> None:
        self.shown, self.failed = Signal(), Signal()
        self._steps: Steps | None = None
        self._segmentationId = ""
        self._shownCase: tuple[Path, str] | None = None

    @property
    def segmentation(self) -> vtkMRMLSegmentationNode | None:
        """The node that is shown; None without one."""
        return slicer.mrmlScene.GetNodeByID(self._segmentationId) if self._segmentationId else None

    def show(self, run: Path, event: dict[str, Any]) -> None:
        """Show what a ``snapshot`` event names; what is still being read is given up."""
        self.stop()
        case, step = str(event.get("case", "")), int(event.get("step", 0))
        steps = self._show(run, case, run / str(event.get("path", "")))
        self._steps = Steps(steps)
        self._steps.finished.connect(lambda result: self.shown.emit(case, step))
        self._steps.failed.connect(self.failed.emit)

    def stop(self) -> None:
        """Show nothing new; what is shown stays in the scene."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None

    def release(self) -> None:
        """The scene is about to be emptied: forget the node, since one of the next scene gets its ID."""
        self.stop()
        self._segmentationId, self._shownCase = "", None

    def _show(self, run: Path, case: str, path: Path) -> Iterator[None]:
        read = yield from labelFileSteps(path)
        node = self.segmentation if self._shownCase == (run, case) else None
        if node is not None and fits(node, read):
            yield from replaced(node, read)
            return
        cohort = cohortOf(run)
        image = cohort.images.get(case) if cohort is not None else None
        volume = volumeOf(image, case) if image is not None and isThere(image) else None
        name = _("{case} as {run} segments it").format(case=case, run=run.name)
        node = newSegmentation(name, volume, labelMapFrom(read.labels, read.affineRas), read.structures)
        self._shownCase, self._segmentationId = (run, case), node.GetID()
        if volume is not None:
            showVolume(volume)
            showOnly(node, volume)
        showMiddle(read)


def fits(node: vtkMRMLSegmentationNode, read: LabelFile) -> bool:
    """Whether the labels can take the place of those in the node: same grid and same segments in one layer."""
    segmentation = node.GetSegmentation()
    layer = segmentation.GetLayerDataObject(0) if segmentation.GetNumberOfLayers() == 1 else None
    if layer is None or tuple(reversed(layer.GetDimensions())) != read.labels.shape:
        return False
    if vtk_to_numpy(layer.GetPointData().GetScalars()).dtype != read.labels.dtype:
        return False
    segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
    return [(s.GetName(), s.GetLabelValue()) for s in segments] == [(s["name"], s["id"]) for s in read.structures]


def replaced(node: vtkMRMLSegmentationNode, read: LabelFile) -> Iterator[None]:
    """Copy labels into the node's own label map, a slab at a time."""
    layer = node.GetSegmentation().GetLayerDataObject(0)
    voxels = vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(read.labels.shape)
    thickness = max(SLAB_VOXELS // (read.labels.shape[1] * read.labels.shape[2]), 1)
    for start in range(0, len(voxels), thickness):
        voxels[start : start + thickness] = read.labels[start : start + thickness]
        yield
    layer.GetPointData().GetScalars().Modified()
    layer.Modified()
    node.GetSegmentation().InvalidateNonSourceRepresentations()
    node.Modified()
