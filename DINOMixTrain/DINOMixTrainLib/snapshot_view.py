"""A validation case in the slice views, with the segmentation that the run makes of it by now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from dinomix.errors import DinomixError
from dinomix_slicer.run.state import readJson
from dinomix_slicer.scene.label_file import LabelFile, labelFileSteps
from dinomix_slicer.scene.segmentations import labelMapFrom, newSegmentation
from dinomix_slicer.scene.views import showVolume
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

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
        self._volumeId = self._segmentationId = ""
        self._key = ""

    @property
    def segmentation(self) -> vtkMRMLSegmentationNode | None:
        """The node that is shown; None without one."""
        return slicer.mrmlScene.GetNodeByID(self._segmentationId) if self._segmentationId else None

    def show(self, run: Path, event: dict[str, Any]) -> None:
        """Show what a ``snapshot`` event names; what is still being read is given up."""
        self.stop()
        self._steps = Steps(self._show(run, event))
        self._steps.failed.connect(self.failed.emit)

    def stop(self) -> None:
        """Show nothing new; what is shown stays in the scene."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None

    # -- Inside

    def _show(self, run: Path, event: dict[str, Any]) -> Iterator[None]:
        case, key = str(event.get("case", "")), f"{run}\n{event.get('case')}"
        read: LabelFile | None = None
        for part in labelFileSteps(run / str(event.get("path", ""))):
            read = part
            yield
        node = self.segmentation if key == self._key else None
        if read is None:
            return
        if node is not None and fits(node, read):
            yield from replaced(node, read)
        else:
            self._key = key
            self._makeNodes(run, case, read)
        self.shown.emit(case, int(event.get("step", 0)))

    def _makeNodes(self, run: Path, case: str, read: LabelFile) -> None:
        volume = volumeOf(imageOf(run, case))
        name = _("{case} as {run} segments it").format(case=case, run=run.name)
        node = newSegmentation(name, volume, labelMapFrom(read.labels, read.affineRas), read.structures)
        self._segmentationId = node.GetID()
        if volume is not None:
            showVolume(volume)
            self._volumeId = volume.GetID()
        showMiddle(read)


def imageOf(run: Path, case: str) -> Path | None:
    """The image file of a case of a run; None where this computer does not have it."""
    cohort = readJson(run / "cohort.json") or {}
    for each in cohort.get("cases", ()):
        if isinstance(each, dict) and each.get("name") == case:
            path = run / str(each.get("image", ""))
            return path if path.exists() else None
    return None


def volumeOf(image: Path | None) -> vtkMRMLScalarVolumeNode | None:
    """The volume node of an image file: the one that is in the scene, else loaded. None for a folder or without a file."""
    if image is None or not image.is_file():
        return None
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        storage = node.GetStorageNode()
        if storage is not None and Path(storage.GetFileName() or "/").resolve() == image.resolve():
            return node
    try:
        return slicer.util.loadVolume(str(image))
    except RuntimeError as error:
        raise DinomixError(
            _("The image {path} cannot be loaded.").format(path=image), _("The segmentation is not shown.")
        ) from error


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


def showMiddle(read: LabelFile) -> None:
    """Lead the slice views to the middle of what is segmented; every fourth voxel suffices."""
    found = read.labels[::4, ::4, ::4].nonzero()
    if not len(found[0]):
        return
    k, j, i = (4 * float(index.mean()) for index in found)
    ras = read.affineRas @ [i, j, k, 1]
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *(float(value) for value in ras[:3]))
