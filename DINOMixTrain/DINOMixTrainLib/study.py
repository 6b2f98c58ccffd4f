"""What lies in a study folder, and what the window reads of its cohort and of models, with the standard library alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.files import LARGEST_COHORT, path_from
from dinomix.names import normalized_name
from dinomix_slicer.run.state import readJson

COHORT, CHECK, CASES, RENAMES = "cohort.json", "check.json", "cases.json", "renames.json"
"""Files in the study folder: the cohort; the last check; what it was given."""
FIRST_CASES, LOOKED_AT = "first_cases.json", "looked_at.json"
"""Files in the study folder: the cases that were proposed to be drawn first; which were looked at for that."""
SCENE, CORRECTED = "scene", "corrected"
"""Folders in the study folder: cases of the open scene; labels that were corrected."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Cohort:
    """A checked cohort.

    Attributes:
        modality: "CT" or "MR".
        colors: each structure's, 0 to 255, in the order of the label set.
        counts: how many cases are "labeled", "unlabeled", "validation", "test".
        images: case -> its image's file or folder.
        moreImages: case -> the paths of its further images.
        labels: case -> value in its label file -> structure.
    """

    modality: str
    colors: dict[str, Color]
    counts: Counter[str]
    images: dict[str, Path]
    moreImages: dict[str, list[str]]
    labels: dict[str, dict[int, str]]

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures' names."""
        return tuple(self.colors)

    @property
    def text(self) -> str:
        """One sentence."""
        return _("{labeled} labeled, {unlabeled} unlabeled and {validation} validation cases; {n} structures: {names}.").format(
            labeled=self.counts["labeled"], unlabeled=self.counts["unlabeled"], validation=self.counts["validation"],
            n=len(self.colors), names=", ".join(self.colors),
        )  # fmt: skip


IN_STUDY = "../"
"""Before paths of the list of corrected cases that lie in the study folder, whose folder beside it the list lies in."""


def cohortOf(folder: Path | str) -> Cohort | None:
    """The cohort of a study or a run; None where there is none yet, or none that can be read."""
    key = stamp(Path(folder) / COHORT) if str(folder) else None
    return _readCohort(*key) if key is not None else None


def stamp(path: Path) -> tuple[str, int, int] | None:
    """What tells that a file has changed; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4)
def _readCohort(path: str, *stamp: int) -> Cohort | None:
    data, folder = readJson(Path(path), LARGEST_COHORT) or {}, Path(path).parent
    try:
        names = {each["id"]: str(each["name"]) for each in data["labels"]["structures"]}
        return Cohort(
            modality=str(data["modality"]),
            colors={str(each["name"]): tuple(each["color"]) for each in data["labels"]["structures"]},
            counts=Counter(case["role"] for case in data["cases"]),
            images={str(case["name"]): path_from(folder, Path(case["image"])) for case in data["cases"]},
            moreImages={
                str(case["name"]): [str(path_from(folder, Path(image))) for image in case.get("more_images") or ()]
                for case in data["cases"]
            },
            labels={str(case["name"]): _structures(case.get("label_values") or {}, names) for case in data["cases"]},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _structures(ids: dict[str, Any], names: dict[int, str]) -> dict[int, str]:
    """Value in a label file -> structure."""
    return {int(value): names[id] for value, id in ids.items() if id in names}


def modelIn(folder: Path) -> dict[str, Any] | None:
    """Structures and modality of a model folder that the engine has not listed; None where it is none."""
    structures = (readJson(folder / "labels.json") or {}).get("structures")
    if not isinstance(structures, list):
        return None
    return {"structures": structures, "modality": (readJson(folder / "plan.json") or {}).get("modality")}


def modalityText(cohort: str, model: str | None) -> str:
    """What it means when a run starts from a model of the other modality; empty for the same one."""
    if not model or cohort == model:
        return ""
    return _("It is for {model}, your cases are {cohort}: only its weights are taken over.").format(
        model=model, cohort=cohort
    )


def overlapText(cohort: tuple[str, ...], model: tuple[str, ...], keeps: bool = False) -> str:
    """What becomes of the structures when a run starts from a model: classes are matched by name.

    Args:
        keeps: whether those stay that only the model knows.
    """
    known = {normalized_name(name) for name in model}
    wanted = {normalized_name(name) for name in cohort}
    new = [name for name in cohort if normalized_name(name) not in known]
    dropped = [name for name in model if normalized_name(name) not in wanted]
    if not new:
        text = _("The model knows all {n} structures of your cases.").format(n=len(cohort))
    elif len(new) == len(cohort) and keeps and dropped:
        text = _("The model does not know {new}; that will be learned from the beginning.").format(new=", ".join(new))
    elif len(new) == len(cohort):
        text = _("The model knows none of your structures; only what it has learned of images is taken over.")
    else:
        text = _("The model knows {n} of your {all} structures; {new} will be learned from the beginning.").format(
            n=len(cohort) - len(new), all=len(cohort), new=", ".join(new)
        )
    if dropped:
        names = ", ".join(dropped[:8]) + (" ..." if len(dropped) > 8 else "")
        fate = _("It will no longer find {names}, which your cases do not have.")
        if keeps:
            fate = _("What it predicts of {names}, which your cases do not have, is kept.")
        text += " " + fate.format(names=names)
    elif keeps:
        text += " " + _("It knows nothing more, so there is nothing to keep.")
    return text
