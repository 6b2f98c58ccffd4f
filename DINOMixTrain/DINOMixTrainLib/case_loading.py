"""A case in Slicer's views: its nodes where they are in the scene, else made of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.dicom_header import is_dicom_file
from dinomix.images.formats import is_segmentation
from dinomix.images.masks import mask_files
from dinomix_slicer.scene.label_file import LabelFile
from dinomix_slicer.scene.segmentations import attach

from .cohort_report import CheckedCase
from .study import Cohort, cohortOf

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

IMAGE, LABEL = "DINOMix.Image", "DINOMix.Label"
"""Attributes of nodes that were loaded from a case's files."""


def showCase(
    case: CheckedCase, studyFolder: str, volume: Any = None, segmentation: Any = None, more: Sequence[Any] = ()
) -> None:
    """Show a case in the views, all of its images; what is loaded already is not loaded again.

    Args:
        volume, segmentation, more: the nodes that the case was exported from, where they are in the scene.

    Raises:
        DinomixError: a file cannot be loaded.
    """
    if volume is None:
        volume, *more = volumesOf([case.image, *case.moreImages], case.name)
        if case.label:
            segmentation = loadedNode("vtkMRMLSegmentationNode", LABEL, case.label)
            segmentation = segmentation or loadLabel(case, volume, cohortOf(studyFolder))
    showVolumes([volume, *more])
    showOnly(segmentation, volume)


def showVolumes(volumes: Sequence[Any]) -> None:
    """Show the first image of a case in the slice views, and the second half transparent over it; others are loaded only."""
    second = volumes[1] if len(volumes) > 1 else None
    # Without a main window there is no layout to fit the views in.
    hasViews = slicer.app.layoutManager() is not None
    slicer.util.setSliceViewerLayers(
        background=volumes[0], foreground=second, label=None, foregroundOpacity=0.5 if second else None, fit=hasViews
    )


def volumesOf(images: Sequence[str], name: str) -> list[vtkMRMLScalarVolumeNode]:
    """The volume nodes of a case's images, each file once. Raises DinomixError as ``volumeOf``."""
    first, *more = (Path(image) for image in dict.fromkeys(images))
    names = (_("{case} image {number}").format(case=name, number=number) for number in range(2, 2 + len(more)))
    return [volumeOf(first, name), *(volumeOf(*each) for each in zip(more, names, strict=True))]


def volumeOf(image: Path, name: str) -> vtkMRMLScalarVolumeNode:
    """The volume node of an image, a file or a DICOM folder: the one that is in the scene, else loaded.

    Raises:
        DinomixError: it cannot be loaded.
    """
    if known := loadedNode("vtkMRMLScalarVolumeNode", IMAGE, str(image)):
        return known
    try:
        files = sorted(image.iterdir()) if image.is_dir() else []
        path = next((file for file in files if file.is_file() and is_dicom_file(file)), image)
    except OSError as error:
        raise cannotLoad(image) from error
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        storage = node.GetStorageNode()
        if storage is not None and Path(storage.GetFileName() or "/").resolve() == path.resolve():
            return node
    try:
        node = slicer.util.loadVolume(str(path), {"name": name, "show": False})
    except RuntimeError as error:
        raise cannotLoad(image) from error
    node.SetAttribute(IMAGE, str(image))
    return node


def loadedNode(className: str, attribute: str, path: str) -> Any:
    """The node that was loaded from this file; None if it is not in the scene any more."""
    nodes = slicer.util.getNodesByClass(className)
    return next((node for node in nodes if node.GetAttribute(attribute) == path), None)


def showMiddle(read: LabelFile) -> None:
    """Lead the slice views to the middle of what is segmented; every fourth voxel suffices."""
    found = read.labels[::4, ::4, ::4].nonzero()
    if not len(found[0]):
        return
    k, j, i = (4 * float(index.mean()) for index in found)
    ras = read.affineRas @ [i, j, k, 1]
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *(float(value) for value in ras[:3]))


def loadLabel(case: CheckedCase, volume: Any, cohort: Cohort | None) -> Any:
    """The segmentation node of a case's label, with names and colors."""
    name = _("{case} label").format(case=case.name)
    try:
        if is_segmentation(Path(case.label)):
            node = slicer.util.loadSegmentation(case.label, {"name": name})
        elif masks := mask_files(Path(case.label)):
            node = importMasks(masks, name, cohort)
        else:
            node = importLabelMap(case, name, cohort)
    except RuntimeError as error:
        raise cannotLoad(Path(case.label)) from error
    node.SetAttribute(LABEL, case.label)
    attach(node, volume)
    return node


def importLabelMap(case: CheckedCase, name: str, cohort: Cohort | None) -> Any:
    """A segmentation of a file with numbers, whose structures the cohort knows."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    addSegments(node, case.label, name)
    structures = cohort.labels.get(case.name, {}) if cohort is not None else {}
    for number in range(node.GetSegmentation().GetNumberOfSegments()):
        segment = node.GetSegmentation().GetNthSegment(number)
        structure = structures.get(segment.GetLabelValue())
        if structure is not None:
            segment.SetName(structure)
            segment.SetColor(*(value / 255 for value in cohort.colors[structure]))
    return node


def importMasks(masks: Mapping[str, Path], name: str, cohort: Cohort | None) -> Any:
    """A segmentation of the files of masks, each a segment called like its file."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation = node.GetSegmentation()
    for structure, path in masks.items():
        before = segmentation.GetNumberOfSegments()
        addSegments(node, str(path), structure)
        for number in range(before, segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(number)
            segment.SetName(structure)
            if cohort is not None and structure in cohort.colors:
                segment.SetColor(*(value / 255 for value in cohort.colors[structure]))
    return node


def addSegments(node: Any, path: str, name: str) -> None:
    """Add a segment for each number in a file of labels. Raises RuntimeError where Slicer cannot load it."""
    labels = slicer.util.loadVolume(path, {"name": name, "labelmap": True, "show": False})
    try:
        if not slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node):
            raise RuntimeError(name)
    finally:
        slicer.mrmlScene.RemoveNode(labels)


def showOnly(segmentation: Any, volume: Any) -> None:
    """Show this segmentation, and hide those that were drawn on other volumes, which would lie over this one."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        if node is segmentation:
            node.CreateDefaultDisplayNodes()
            node.SetDisplayVisibility(True)
        elif reference is not None and reference is not volume:
            node.SetDisplayVisibility(False)


def cannotLoad(path: Path) -> DinomixError:
    """What to say of a file that Slicer cannot load."""
    return DinomixError(
        _("{path} cannot be loaded.").format(path=path), _("Check the file; Slicer's error log says what is wrong.")
    )
