"""What the user wants checked: folders, cases of the scene, and how they are split and named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import read_json
from dinomix.images.channel_files import Channel, channel_of_option
from dinomix.names import normalized_name
from dinomix_slicer.paths import isFile
from dinomix_slicer.stored_text import jsonIn

from .decisions import Decisions
from .study import CASES, COHORT, CORRECTED, IN_STUDY, RENAMES

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode


@dataclass(frozen=True)
class SceneChoice:
    """A case of the scene that the user has chosen.

    Attributes:
        volume, segmentation: IDs of the nodes; the segmentation's is empty for an unlabeled case.
        file: instead of nodes, the name of a case that was exported while its scene was open.
        more: IDs of the volumes of the case's further images; empty for one that is not chosen.
    """

    volume: str = ""
    segmentation: str = ""
    file: str = ""
    more: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As the parameter node holds it."""
        volumes = "+".join((self.volume, *self.more))
        return f"file:{self.file}" if self.file else f"{volumes} {self.segmentation}".strip()

    @classmethod
    def of(cls, text: str) -> SceneChoice:
        """The choice that a text of the parameter node stands for."""
        if text.startswith("file:"):
            return cls(file=text.removeprefix("file:"))
        volumes, _space, segmentation = text.partition(" ")
        volume, *more = volumes.split("+")
        return cls(volume, segmentation, more=tuple(more))


@dataclass(frozen=True)
class CohortRequest:
    """The choices that a check depends on, as ``parameter_node`` describes them.

    Attributes:
        corrected: how many corrected labels lie in the study folder.
    """

    studyFolder: str
    labeledFolders: tuple[str, ...] = ()
    unlabeledFolders: tuple[str, ...] = ()
    testFolders: tuple[str, ...] = ()
    sceneLabeled: tuple[str, ...] = ()
    sceneUnlabeled: tuple[str, ...] = ()
    validationCount: int = 0
    patientPattern: str = ""
    overlapOrder: str = ""
    channels: str = ""
    modality: str = "auto"
    seed: int = 0
    renames: str = ""
    decisions: str = ""
    excluded: tuple[str, ...] = ()
    corrected: int = 0

    @property
    def folder(self) -> Path:
        """The study folder."""
        return Path(self.studyFolder)

    @property
    def sceneChoices(self) -> list[SceneChoice]:
        """The cases of the scene, labeled ones first."""
        return [SceneChoice.of(text) for text in (*self.sceneLabeled, *self.sceneUnlabeled)]

    @property
    def hasList(self) -> bool:
        """Whether there are cases beside those of the folders, or something is said of one."""
        return bool(self.sceneLabeled or self.sceneUnlabeled or self.corrected or Decisions.of(self.decisions).cases)

    def isLike(self, other: CohortRequest) -> bool:
        """Whether the choices are the same, in whatever folder."""
        return replace(self, studyFolder="") == replace(other, studyFolder="")

    def withFiles(self, exported: Mapping[str, str]) -> CohortRequest:
        """The request for another scene: cases of the scene are the files that they were exported to.

        Args:
            exported: a scene choice's text -> the name of the case that it was exported as.
        """

        def files(texts: tuple[str, ...]) -> tuple[str, ...]:
            names = (exported.get(text, SceneChoice.of(text).file) for text in texts)
            return tuple(SceneChoice(file=name).text for name in names if name)

        return replace(self, sceneLabeled=files(self.sceneLabeled), sceneUnlabeled=files(self.sceneUnlabeled))

    def choose(self, node: DINOMixTrainParameterNode) -> None:
        """Make these the choices of a parameter node; its study folder stays."""
        with slicer.util.NodeModify(node.parameterNode):
            for name, value in vars(self).items():
                if name not in ("studyFolder", "corrected"):
                    setattr(node, name, list(value) if isinstance(value, tuple) else value)

    def whyNot(self) -> str | None:
        """The sentence that says what is missing before the cases can be checked; None when nothing is."""
        if not self.studyFolder:
            return _("Choose a study folder: everything that belongs to this training is kept there.")
        if isFile(self.folder):
            return _("{path} is a file. Choose a folder for the study.").format(path=self.studyFolder)
        if not self.folder.is_absolute():
            return _("Give the whole path of the study folder, not {path}.").format(path=self.studyFolder)
        if not (self.labeledFolders or self.sceneLabeled or self.corrected):
            return _(
                "There is no labeled case yet. Add a folder of images with labels, or tick volumes of the scene that have a "
                "segmentation."
            )
        try:
            channelsOfText(self.channels)
        except DinomixError as error:
            return str(error)
        return None

    def arguments(self) -> list[str]:
        """The engine's verb and options."""
        words = ["check", "--out", str(self.folder / COHORT), "--overwrite", "--seed", str(self.seed)]
        words += ["--modality", self.modality]
        folders = (
            ("--labeled", self.labeledFolders),
            ("--unlabeled", self.unlabeledFolders),
            ("--test", self.testFolders),
            ("--exclude", self.excluded),
        )
        for option, values in folders:
            for value in values:
                words += [f"{option}={value}"]
        if self.validationCount:
            words += ["--validation", str(self.validationCount)]
        if self.patientPattern:
            words += [f"--patient-pattern={self.patientPattern}"]
        if self.overlapOrder.strip():
            words += [f"--order={self.overlapOrder}"]
        for channel in channelsOfText(self.channels):
            words += [f"--channel={channel.name}" + (f"={channel.pattern}" if channel.pattern else "")]
        if self.hasList:
            words += ["--cases", str(self.folder / CASES)]
        if self.renames:
            words += ["--rename", str(self.folder / RENAMES)]
        return words + Decisions.of(self.decisions).options()


def channelsOfText(text: str) -> tuple[Channel, ...]:
    """The images of each case as the user names them; none where there is nothing to name.

    Raises:
        DinomixError: something is no name, or two are the same.
    """
    channels = tuple(channel_of_option(part.strip()) for part in text.split(",") if part.strip())
    if len({normalized_name(channel.name) for channel in channels}) < len(channels):
        raise DinomixError(
            _("Two images of each case have the same name."), _("Give each a name of its own under Advanced.")
        )
    return channels


def requestOf(node: DINOMixTrainParameterNode) -> CohortRequest:
    """The choices of a parameter node, and what lies in its study folder."""
    names = [each.name for each in fields(CohortRequest) if each.name not in ("renames", "decisions", "corrected")]
    values = {name: getattr(node, name) for name in names}
    renames = renamesOf(node)
    return CohortRequest(
        **{name: value if isinstance(value, str | int) else tuple(value) for name, value in values.items()},
        renames=json.dumps(renames, ensure_ascii=False, sort_keys=True) if renames else "",
        decisions=Decisions.of(node.decisions).text,
        corrected=len(correctedCases(Path(node.studyFolder))) if node.studyFolder else 0,
    )


def renamesOf(choices: CohortRequest | DINOMixTrainParameterNode) -> dict[str, str | None]:
    """A structure's name in the label files -> its name in the cohort, or None to leave it out; none where damaged."""
    return jsonIn(choices.renames, dict)


def correctedCases(studyFolder: Path) -> list[dict[str, str]]:
    """Pseudo-labels that were corrected and belong to the labeled cases: image, label (absolute paths) and name of each."""
    folder = studyFolder / CORRECTED
    try:
        entries = read_json(folder / CASES)
        return [
            {
                "image": _absolute(str(entry["image"]), studyFolder),
                "label": str(folder / entry["label"]),
                "name": str(entry["name"]),
            }
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _absolute(image: str, studyFolder: Path) -> str:
    return str(studyFolder / image.removeprefix(IN_STUDY)) if image.startswith(IN_STUDY) else image
