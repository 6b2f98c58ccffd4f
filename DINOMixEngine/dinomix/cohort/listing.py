"""A list of cases in a file: those that lie in no folder of the usual layouts, and what is said of the labels of others."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, model_validator

from dinomix.cohort.cohort import CaseName, LabeledSlices, Role
from dinomix.cohort.found import FoundCase
from dinomix.cohort.problems import Problem
from dinomix.cohort.said import Said
from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_json
from dinomix.images.formats import case_name
from dinomix.images.masks import mask_files


class ListedCase(BaseModel):
    """One entry: relative paths start at the list's folder; without a name, the image's file gives it.

    An entry without an image says something of a case of the folders, by its name. ``drawn``, ``absent``, ``not_drawn`` and
    ``labeled_slices`` (their numbers along ``slice_axis`` of the file, from 0) are as ``Said`` has them. ``more_images`` are the
    further channels, in the cohort's order.
    """

    model_config = ConfigDict(extra="forbid")
    image: Path | None = None
    more_images: tuple[Path, ...] = ()
    label: Path | None = None
    role: Role | None = None
    name: CaseName | None = None
    patient: str | None = None
    drawn: tuple[str, ...] | None = None
    absent: tuple[str, ...] = ()
    not_drawn: tuple[str, ...] = ()
    labeled_slices: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | Literal["all", "drawn"] | None = None
    slice_axis: Literal["i", "j", "k"] = "k"

    @model_validator(mode="after")
    def _is_a_case_or_about_one(self) -> "ListedCase":
        if self.image is not None and self.role is None:
            raise ValueError(f"the entry of {self.image} has no role")
        if self.image is None and (self.name is None or self.label or self.role or self.patient):
            raise ValueError("an entry without an image has a name, and what is drawn, absent or not_drawn in the case")
        return self

    @property
    def said(self) -> Said:
        slices = self.labeled_slices
        if isinstance(slices, tuple):
            numbers = tuple(sorted(set(slices)))
            return Said(self.drawn, self.absent, self.not_drawn, LabeledSlices(axis=self.slice_axis, numbers=numbers))
        return Said(self.drawn, self.absent, self.not_drawn, slices)


def read_cases(path: Path, problems: list[Problem]) -> tuple[list[FoundCase], dict[str, Said]]:
    """The cases of a JSON list; one that lacks the label that its role needs, or comes twice, is a problem, and is left out.

    Returns:
        The cases, and what is said of those of the folders, by their names.

    Raises:
        DinomixError: no such file, or not such a list.
    """
    try:
        entries = TypeAdapter(list[ListedCase]).validate_python(read_json(path))
    except (OSError, ValueError) as error:
        raise DinomixError(
            f"{path} is not a list of cases ({reason_of(error)}).",
            'Write [{"image": "scan.nii.gz", "label": "scan.seg.nrrd", "role": "labeled"}]; "label" may be null.',
        ) from error
    cases: list[FoundCase] = []
    said: dict[str, Said] = {}
    seen, twice = set[Path](), set[Path]()
    for entry in entries:
        if entry.image is None or entry.role is None:
            said[entry.name or ""] = entry.said
            continue
        image, label = (
            path.absolute().parent / part if part is not None else None for part in (entry.image, entry.label)
        )
        assert image is not None
        name = entry.name or case_name(image)
        if image in seen:
            twice.add(image)
            continue
        seen.add(image)
        if label is None and entry.role != "unlabeled":
            problems.append(Problem(
                f"{image} is a {entry.role} case without a label.", 'Give its label, or the role "unlabeled".',
                case=name, file=image,
            ))  # fmt: skip
            continue
        more = tuple(path.absolute().parent / part for part in entry.more_images)
        drawn = tuple(mask_files(label)) or None if label is not None else None
        cases.append(FoundCase(
            name, name, entry.role, image, label, entry.patient, drawn=drawn, said=entry.said, more_images=more
        ))  # fmt: skip
    if twice:
        others = f", and {len(twice) - 1} others" if len(twice) > 1 else ""
        problems.append(Problem(f"{path} lists {min(twice)} twice{others}.", "List each image once.", file=path))
    return cases, said
