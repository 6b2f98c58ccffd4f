"""The cohort file: which case plays which part, with hashes, so that a run can be repeated and a leak be seen."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dinomix.errors import DinomixError
from dinomix.files import write_json
from dinomix.labels import LabelSet

Role = Literal["labeled", "unlabeled", "validation", "test"]


class Case(BaseModel):
    """One volume. ``label`` is None exactly for unlabeled cases: nothing may read a label of theirs.

    ``size`` in voxels and ``spacing`` in mm along the file's (i, j, k); ``orientation`` is nibabel's axis code ("RAS");
    ``intensity`` are the percentiles 0.5, 50 and 99.5 of the image as stored; ``foreground_intensity`` the same inside
    the labeled structures; ``voxels`` maps structure id to count; ``patient`` groups cases that must not be split apart.
    ``label_values`` maps the value in the label file to the structure's id in the cohort's label set.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    role: Role
    image: Path
    label: Path | None = None
    patient: str
    image_sha256: str
    label_sha256: str | None = None
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    intensity: tuple[float, float, float]
    foreground_intensity: tuple[float, float, float] | None = None
    voxels: dict[int, int] = {}
    label_values: dict[int, int] = {}


class Cohort(BaseModel):
    """All cases of a study. ``modality`` is "CT" (intensities are HU) or "MR" (intensities have no unit)."""

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    modality: Literal["CT", "MR"]
    labels: LabelSet
    seed: int
    cases: tuple[Case, ...]

    def with_role(self, role: Role) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.role == role)

    def write(self, path: Path) -> None:
        """Write the cohort; paths below the cohort's folder are kept relative, so that the folder can move."""
        data = self.model_dump(mode="json")
        folder = path.absolute().parent
        for case in data["cases"]:
            for key in ("image", "label"):
                if case[key] is not None:
                    # Not resolved: links may point to stores in which files have lost the ending that tells their format.
                    absolute = Path(case[key]).absolute()
                    inside = absolute.is_relative_to(folder)
                    case[key] = str(absolute.relative_to(folder) if inside else absolute)
        write_json(path, data)

    @classmethod
    def read(cls, path: Path) -> "Cohort":
        """Read a cohort file and make its paths absolute. Raises DinomixError when it is not one."""
        try:
            cohort = cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise DinomixError(
                f"{path} is not a cohort file ({str(error).splitlines()[0]}).",
                "Make one with `dinomix check`.",
                "cohort",
            ) from error
        folder = path.resolve().parent
        cases = tuple(
            case.model_copy(update={"image": folder / case.image, "label": folder / case.label if case.label else None})
            for case in cohort.cases
        )
        return cohort.model_copy(update={"cases": cases})
