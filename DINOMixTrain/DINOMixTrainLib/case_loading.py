"""Showing a case: its nodes where they are in the scene, else its files, loaded with the label as a segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.formats import is_segmentation
from dinomix_slicer.scene.segmentations import attach

from .cohort_report import CheckedCase
from .cohort_request import COHORT

IMAGE, LABEL = "DINOMix.Image", "DINOMix.Label"
"""Attributes of nodes that were loaded from a case's files."""


def showCase(case: CheckedCase, studyFolder: str, volume: Any = None, segmentation: Any = None) -> tuple[Any, Any]:
    """Show a case in the views; what is loaded already is not loaded again.

    Args:
        volume, segmentation: the nodes that the case was exported from, where they are in the scene.

    Returns:
        The volume node, and the segmentation node or None.

    Raises:
        DinomixError: a file cannot be loaded.
    """
    if volume is None:
        volume = loadedNode("vtkMRMLScalarVolumeNode", IMAGE, case.image) or loadImage(case)
        if case.label:
            segmentation = loadedNode("vtkMRMLSegmentationNode", LABEL, case.label)
            segmentation = segmentation or loadLabel(case, volume, studyFolder)
    hasViews = slicer.app.layoutManager() is not None
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None, fit=hasViews)
    showOnly(segmentation, volume)
    return volume, segmentation


def loadedNode(className: str, attribute: str, path: str) -> Any:
    """The node that was loaded from this file; None if it is not in the scene any more."""
    nodes = slicer.util.getNodesByClass(className)
    return next((node for node in nodes if node.GetAttribute(attribute) == path), None)


def loadImage(case: CheckedCase) -> Any:
    """The volume node of a case's image: a file, a DICOM folder, or one file of a DICOM series."""
    path = Path(case.image)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and isDicom(file))
        if not files:
            raise cannotLoad(path)
        path = files[0]
    try:
        node = slicer.util.loadVolume(str(path), {"name": case.name, "show": False})
    except RuntimeError as error:
        raise cannotLoad(path) from error
    node.SetAttribute(IMAGE, case.image)
    return node


def loadLabel(case: CheckedCase, volume: Any, studyFolder: str) -> Any:
    """The segmentation node of a case's label, with names and colors."""
    name = _("{case} label").format(case=case.name)
    try:
        if is_segmentation(Path(case.label)):
            node = slicer.util.loadSegmentation(case.label, {"name": name})
        else:
            node = importLabelMap(case, name, structuresOf(case, studyFolder))
    except RuntimeError as error:
        raise cannotLoad(Path(case.label)) from error
    node.SetAttribute(LABEL, case.label)
    attach(node, volume)
    return node


def importLabelMap(case: CheckedCase, name: str, structures: dict[int, dict[str, Any]]) -> Any:
    """A segmentation of a file with numbers; ``structures`` are those of the numbers, {name, color} each."""
    labels = slicer.util.loadVolume(case.label, {"name": name, "labelmap": True, "show": False})
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    try:
        if not slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node):
            raise RuntimeError(name)
    finally:
        slicer.mrmlScene.RemoveNode(labels)
    for number in range(node.GetSegmentation().GetNumberOfSegments()):
        segment = node.GetSegmentation().GetNthSegment(number)
        structure = structures.get(segment.GetLabelValue())
        if structure is not None:
            segment.SetName(structure["name"])
            segment.SetColor(*(value / 255 for value in structure["color"]))
    return node


def structuresOf(case: CheckedCase, studyFolder: str) -> dict[int, dict[str, Any]]:
    """Value in a case's label file -> the structure of the cohort; empty where there is no cohort or it lacks the case."""
    try:
        cohort = json.loads((Path(studyFolder) / COHORT).read_text(encoding="utf-8"))
        structures = {structure["id"]: structure for structure in cohort["labels"]["structures"]}
        entry = next(entry for entry in cohort["cases"] if entry["name"] == case.name)
        return {int(value): structures[id] for value, id in entry["label_values"].items() if id in structures}
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        return {}


def showOnly(segmentation: Any, volume: Any) -> None:
    """Show this segmentation, and hide those that were drawn on other volumes, which would lie over this one."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        if node is segmentation:
            node.CreateDefaultDisplayNodes()
            node.SetDisplayVisibility(True)
        elif reference is not None and reference is not volume:
            node.SetDisplayVisibility(False)


def isDicom(file: Path) -> bool:
    """Whether a file bears DICOM's mark."""
    try:
        with open(file, "rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def cannotLoad(path: Path) -> DinomixError:
    """What to say of a file that Slicer cannot load."""
    return DinomixError(
        _("{path} cannot be loaded.").format(path=path), _("Check the file; Slicer's error log says what is wrong.")
    )
