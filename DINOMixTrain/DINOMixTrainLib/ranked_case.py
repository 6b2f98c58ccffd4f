"""An unlabeled case that a run has ranked: shown with labels to correct, and put among the labeled ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import write_json
from dinomix.images.formats import SEGMENTATION
from dinomix.images.nrrd_writing import nrrd_header, write_nrrd
from dinomix.images.segments import segment_keys
from dinomix.names import file_name
from dinomix_slicer.paths import isFile, isThere
from dinomix_slicer.scene.case_files import labelsOf
from dinomix_slicer.scene.label_file import LabelFile, labelFileSteps
from dinomix_slicer.scene.scene_cohort import CaseArrays, SceneCase, stepsOfCase
from dinomix_slicer.scene.scene_export import stepsOfWriting
from dinomix_slicer.scene.segmentations import labelMapFrom, newSegmentation
from dinomix_slicer.scene.views import shownVolumes

from .case_loading import loadedNode, showMiddle, showOnly, showVolumes, volumeOf, volumesOf
from .cohort_request import correctedCases
from .study import CASES, CORRECTED, IN_STUDY, cohortOf

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

PSEUDO_LABEL = "DINOMix.PseudoLabel"
"""Attribute of a segmentation node: the file that its labels were loaded from."""


@dataclass(frozen=True)
class RankedCase:
    """A case of a ranking.

    Attributes:
        image: its image file or DICOM folder; of several the first, and ``moreImages`` are the others.
        score: 0 to 1, what the order goes by; None where it goes by chance.
        classes: structure -> the same, or None where it is not found; what speaks most for labeling the case first.
        run: the folder of the run that ranked it.
        labelFile: the labels that the model gives it, relative to the run.
    """

    name: str
    image: str
    score: float | None
    classes: dict[str, float | None]
    run: Path
    labelFile: str
    moreImages: tuple[str, ...] = ()

    @property
    def pseudoLabel(self) -> Path:
        """The file of the labels that the model gives it."""
        return self.run / self.labelFile

    @property
    def scoreText(self) -> str:
        """The score for a reader."""
        return "" if self.score is None else f"{self.score:.3f}"

    @property
    def details(self) -> list[str]:
        """The structures that are found, each with its figure."""
        return [f"{name} {value:.2f}" for name, value in self.classes.items() if value is not None]


def rankedBy(ranking: dict[str, Any] | None) -> str:
    """The strategy of a ranking.json; earlier versions knew one."""
    return str((ranking or {}).get("by", "disagreement"))


def rankedCases(run: Path, ranking: dict[str, Any] | None) -> list[RankedCase]:
    """The cases of a ranking.json, in its order; none where it is damaged."""
    cohort = cohortOf(run)
    sign = 1 if rankedBy(ranking) == "predicted-dice" else -1
    more = cohort.moreImages if cohort is not None else {}
    try:
        return [
            RankedCase(
                str(case["name"]),
                str(case["image"]),
                scoreOf(case),
                dict(
                    sorted(case["classes"].items(), key=lambda item: 2.0 if item[1] is None else sign * float(item[1]))
                ),
                run,
                str(case["pseudo_label"]),
                tuple(more.get(str(case["name"]), ())),
            )
            for case in (ranking or {}).get("cases", ())
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def scoreOf(case: dict[str, Any]) -> float | None:
    """The score of an entry, which in files of earlier versions is its disagreement."""
    score = case["score"] if "score" in case else case["disagreement"]
    return None if score is None else float(score)


def nodeOfCase(case: RankedCase) -> vtkMRMLSegmentationNode | None:
    """The segmentation node in which the case's labels are corrected; None when it is not in the scene."""
    return loadedNode("vtkMRMLSegmentationNode", PSEUDO_LABEL, str(case.pseudoLabel))


def openFiles() -> set[str]:
    """The files whose labels are in the scene to be corrected."""
    return {node.GetAttribute(PSEUDO_LABEL) for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")} - {None}


# -- Opening


def stepsOfOpening(case: RankedCase) -> Iterator[None]:
    """Load all images of a case with its labels, or show them again.

    Raises:
        DinomixError: an image or the labels are not there any more, or cannot be read.
    """
    node, read = nodeOfCase(case), None
    if node is None:
        if not isFile(case.pseudoLabel):
            raise DinomixError(
                _("The labels of {name} are not there any more ({path}).").format(
                    name=case.name, path=case.pseudoLabel
                ),
                _("Rank the cases again."),
            )
        read = yield from labelFileSteps(case.pseudoLabel)
    volume = loadedVolume(case)
    yield
    volumes = volumesOf([case.image, *case.moreImages], case.name)
    yield
    if read is not None:
        name = _("{case} to correct").format(case=case.name)
        node = newSegmentation(name, volume, labelMapFrom(read.labels, read.affineRas), read.structures)
        node.SetAttribute(PSEUDO_LABEL, str(case.pseudoLabel))
        showMiddle(read)
    if volume not in shownVolumes():
        showVolumes(volumes)
    showOnly(node, volume)


def loadedVolume(case: RankedCase) -> Any:
    """The volume node of the case's first image; loaded where it is not in the scene."""
    for image in (case.image, *case.moreImages):
        if not isThere(Path(image)):
            raise DinomixError(
                _("The image of {name} is not there any more ({path}).").format(name=case.name, path=image),
                _("Connect its disk, or put the file back."),
            )
    return volumeOf(Path(case.image), case.name)


# -- Adding to the labeled cases


def stepsOfAdding(case: RankedCase, studyFolder: Path) -> Iterator[Any]:
    """Write the corrected labels of an open case into the study folder, on the grid that the engine gave them.

    Raises:
        DinomixError: the case is not open, its segments overlap or lie outside of the image, or the folder cannot be written.
    """
    node = nodeOfCase(case)
    if node is None:
        raise DinomixError(_("{name} is not open.").format(name=case.name), _("Open it, and correct its labels."))
    read = yield from labelFileSteps(case.pseudoLabel)
    arrays = yield from stepsOfCase(SceneCase(file_name(case.name, "case"), loadedVolume(case), node))
    onItsGrid = onGrid(arrays, read)
    write = partial(writeCorrected, case, onItsGrid, studyFolder / CORRECTED)
    yield from stepsOfWriting(write, case.name, studyFolder / CORRECTED)


def onGrid(case: CaseArrays, read: LabelFile) -> CaseArrays:
    """The case's segments for the grid of its labels, which is the engine's; Slicer may have loaded the image otherwise."""
    toVolume = np.linalg.inv(case.affineRas) @ read.affineRas
    layers = tuple(replace(layer, fromVolume=layer.fromVolume @ toVolume) for layer in case.layers)
    # Of the image only the shape matters.
    image = np.broadcast_to(np.uint8(0), read.labels.shape)
    return replace(case, image=image, affineRas=read.affineRas, layers=layers)


def writeCorrected(case: RankedCase, arrays: CaseArrays, folder: Path, checkStop: Any) -> None:
    """Write the label file, and then its entry in the list of corrected cases. Runs in a thread."""
    labels = labelsOf(arrays, checkStop)
    head = nrrd_header(labels, arrays.affineRas, segment_keys(labels, arrays.segments, checkStop))
    name = arrays.name + SEGMENTATION
    write_nrrd(folder / name, labels, head, checkStop)
    others = [entry for entry in correctedCases(folder.parent) if entry["image"] != case.image]
    entries = [*others, {"name": case.name, "image": case.image, "label": name}]
    write_json(folder / CASES, [inStudy(entry, folder.parent) for entry in entries])


def inStudy(entry: dict[str, str], study: Path) -> dict[str, str]:
    """With paths relative to the list where they lie in the study folder, so that this can move."""
    image = Path(entry["image"])
    if image.is_relative_to(study):
        entry = {**entry, "image": IN_STUDY + image.relative_to(study).as_posix()}
    return {**entry, "label": Path(entry["label"]).name}


def correctedImages(studyFolder: Path) -> set[str]:
    """The images of the cases whose labels were corrected."""
    return {entry["image"] for entry in correctedCases(studyFolder)}
