"""What the user wants checked: folders, cases of the scene, and how they are split and named."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode

COHORT, CHECK, CASES, RENAMES = "cohort.json", "check.json", "cases.json", "renames.json"
"""Files in the study folder: the cohort; the last check; what it was given."""
SCENE, CORRECTED = "scene", "corrected"
"""Folders in the study folder: cases of the open scene; labels that were corrected."""


@dataclass(frozen=True)
class SceneChoice:
    """A case of the scene that the user has chosen.

    Attributes:
        volume, segmentation: IDs of the nodes; the segmentation's is empty for an unlabeled case.
        file: instead of nodes, the name of a case that was exported while its scene was open.
    """

    volume: str = ""
    segmentation: str = ""
    file: str = ""

    @property
    def text(self) -> str:
        """As the parameter node holds it."""
        return f"file:{self.file}" if self.file else f"{self.volume} {self.segmentation}".strip()

    @classmethod
    def of(cls, text: str) -> SceneChoice:
        """The choice that a text of the parameter node stands for."""
        if text.startswith("file:"):
            return cls(file=text.removeprefix("file:"))
        volume, _space, segmentation = text.partition(" ")
        return cls(volume, segmentation)


@dataclass(frozen=True)
class CohortRequest:
    """The choices that a check depends on; see ``parameter_node``.

    Attributes:
        renames: a structure's name in the label files -> its name in the cohort, or None to leave it out.
        corrected: how many corrected labels lie in the study folder.
    """

    studyFolder: str
    labeledFolders: tuple[str, ...] = ()
    unlabeledFolders: tuple[str, ...] = ()
    testFolders: tuple[str, ...] = ()
    sceneLabeled: tuple[SceneChoice, ...] = ()
    sceneUnlabeled: tuple[SceneChoice, ...] = ()
    validationCount: int = 0
    patientPattern: str = ""
    modality: str = "auto"
    seed: int = 0
    renames: dict[str, str | None] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    corrected: int = 0

    @property
    def folder(self) -> Path:
        """The study folder."""
        return Path(self.studyFolder)

    @property
    def leftOutNames(self) -> list[str]:
        """Names of structures that are left out of all labels."""
        return [name for name, new in self.renames.items() if new is None]

    def whyNot(self) -> str | None:
        """The sentence that says what is missing before the cases can be checked; None when nothing is."""
        if not self.studyFolder:
            return _("Choose a study folder: everything that belongs to this training is kept there.")
        if self.folder.exists() and not self.folder.is_dir():
            return _("{path} is a file. Choose a folder for the study.").format(path=self.studyFolder)
        if not self.folder.is_absolute():
            return _("Give the whole path of the study folder, not {path}.").format(path=self.studyFolder)
        if not (self.labeledFolders or self.sceneLabeled or self.corrected):
            return _(
                "There is no labeled case yet. Add a folder of images with labels, or tick volumes of the scene that have a "
                "segmentation."
            )
        return None

    def arguments(self, hasCases: bool) -> list[str]:
        """The engine's verb and options; ``hasCases`` says that there is a list of cases beside those of the folders."""
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
        if hasCases:
            words += ["--cases", str(self.folder / CASES)]
        if self.renames:
            words += ["--rename", str(self.folder / RENAMES)]
        return words

    def asJson(self) -> dict[str, Any]:
        """The choices for a file; two requests are alike when these are equal."""
        return json.loads(json.dumps({**asdict(self), "studyFolder": ""}))

    @classmethod
    def fromJson(cls, data: dict[str, Any], studyFolder: str) -> CohortRequest:
        """What ``asJson`` has written. Raises TypeError when it is something else."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        for key in ("sceneLabeled", "sceneUnlabeled"):
            values[key] = tuple(SceneChoice(**choice) for choice in values.get(key, ()))
        return replace(cls(**values), studyFolder=studyFolder)


def requestOf(node: DINOMixTrainParameterNode) -> CohortRequest:
    """The choices of a parameter node, and what lies in its study folder."""
    return CohortRequest(
        studyFolder=node.studyFolder,
        labeledFolders=tuple(node.labeledFolders),
        unlabeledFolders=tuple(node.unlabeledFolders),
        testFolders=tuple(node.testFolders),
        sceneLabeled=tuple(map(SceneChoice.of, node.sceneLabeled)),
        sceneUnlabeled=tuple(map(SceneChoice.of, node.sceneUnlabeled)),
        validationCount=node.validationCount,
        patientPattern=node.patientPattern,
        modality=node.modality,
        seed=node.seed,
        renames=renamesOf(node),
        excluded=tuple(node.excluded),
        corrected=len(correctedCases(Path(node.studyFolder))) if node.studyFolder else 0,
    )


def renamesOf(node: DINOMixTrainParameterNode) -> dict[str, str | None]:
    """The renamed structures of a parameter node."""
    try:
        renames = json.loads(node.renames or "{}")
    except ValueError:
        return {}
    return renames if isinstance(renames, dict) else {}


def correctedCases(studyFolder: Path) -> list[dict[str, str]]:
    """Pseudo-labels that were corrected and belong to the labeled cases: image, label (absolute paths) and name of each."""
    folder = studyFolder / CORRECTED
    try:
        entries = json.loads((folder / CASES).read_text(encoding="utf-8"))
        return [
            {
                "image": str(folder / entry["image"]),
                "label": str(folder / entry["label"]),
                "name": str(entry["name"]),
            }
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []
