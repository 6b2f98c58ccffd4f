"""What page 2 needs to know of a study's cohort, read with the standard library alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.names import normalized_name
from dinomix_slicer.run.state import readJson


@dataclass(frozen=True)
class Cohort:
    """A checked cohort: its modality ("CT" or "MR"), its structures' names, and how many cases play which part."""

    modality: str
    structures: tuple[str, ...]
    labeled: int
    unlabeled: int
    validation: int
    test: int

    @property
    def text(self) -> str:
        """One sentence."""
        return _("{labeled} labeled, {unlabeled} unlabeled and {validation} validation cases; {n} structures: {names}.").format(
            labeled=self.labeled, unlabeled=self.unlabeled, validation=self.validation, n=len(self.structures),
            names=", ".join(self.structures),
        )  # fmt: skip


class CohortReader:
    """Reads a study's cohort.json again when it has changed."""

    def __init__(self) -> None:
        self._key: object = None
        self._cohort: Cohort | None = None

    def read(self, path: Path) -> Cohort | None:
        """The cohort; None where there is none yet, or none that can be read."""
        key = stamp(path)
        if key != self._key:
            self._key, self._cohort = key, cohortOf(readJson(path))
        return self._cohort


def stamp(path: Path) -> tuple[str, int, int] | None:
    """What tells that a file has changed; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size


def cohortOf(data: dict[str, Any] | None) -> Cohort | None:
    try:
        modality, names = str(data["modality"]), tuple(str(each["name"]) for each in data["labels"]["structures"])
        roles = Counter(case["role"] for case in data["cases"])
    except (KeyError, TypeError):
        return None
    return Cohort(modality, names, roles["labeled"], roles["unlabeled"], roles["validation"], roles["test"])


def structuresOfModel(folder: Path) -> tuple[str, ...]:
    """Names of the structures of a model folder that the worker has not listed; empty where it cannot be read."""
    data = readJson(folder / "labels.json") or {}
    try:
        return tuple(str(each["name"]) for each in data["structures"])
    except (KeyError, TypeError):
        return ()


def modalityOfModel(folder: Path) -> str:
    """What a model was trained on, "CT" or "MR"; empty where that cannot be read."""
    return str((readJson(folder / "plan.json") or {}).get("modality", ""))


def modalityText(cohort: str, model: str) -> str:
    """What it means when a run starts from a model of the other modality; empty for the same one."""
    if not model or cohort == model:
        return ""
    return _("It is for {model}, your cases are {cohort}: only its weights are taken over.").format(
        model=model, cohort=cohort
    )


def overlapText(cohort: tuple[str, ...], model: tuple[str, ...]) -> str:
    """What becomes of the structures when a run starts from a model: classes are matched by name."""
    known = {normalized_name(name) for name in model}
    wanted = {normalized_name(name) for name in cohort}
    new = [name for name in cohort if normalized_name(name) not in known]
    dropped = [name for name in model if normalized_name(name) not in wanted]
    if not new:
        text = _("The model knows all {n} structures of your cases.").format(n=len(cohort))
    elif len(new) == len(cohort):
        text = _("The model knows none of your structures; only what it has learned of images is taken over.")
    else:
        text = _("The model knows {n} of your {all} structures; {new} will be learned from the beginning.").format(
            n=len(cohort) - len(new), all=len(cohort), new=", ".join(new)
        )
    if dropped:
        names = ", ".join(dropped[:8]) + (" ..." if len(dropped) > 8 else "")
        text += " " + _("It will no longer find {names}, which your cases do not have.").format(names=names)
    return text
