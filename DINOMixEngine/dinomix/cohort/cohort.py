"""The cohort file: which case plays which part, with hashes, so that a run can be repeated and a leak be seen."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError, reason_of
from dinomix.files import LARGEST_COHORT, path_from, read_json, write_rows
from dinomix.labels import LARGEST_ID, LabelSet
from dinomix.names import CHANNEL_NAME, normalized_name


def names_a_file(name: str) -> str:
    """A case's name, which files are called after. Raises ValueError for one that is no text or leads out of a folder."""
    if not name or Path(name).name != name or name == ".." or "\0" in name:
        raise ValueError(f"{name!r} cannot be a case's name")
    name.encode()
    return name


CaseName = Annotated[str, AfterValidator(names_a_file)]
Millimeters = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
LabelValue = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Role = Literal["labeled", "unlabeled", "validation", "test"]


MOST_CHANNELS = 16
ChannelName = Annotated[str, Field(pattern=CHANNEL_NAME)]
Percentiles = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class LabeledSlices(BaseModel):
    """The slices of a case that somebody labeled, by their numbers along an axis of the file; nobody labeled the others."""

    model_config = ConfigDict(extra="forbid")
    axis: Literal["i", "j", "k"] = "k"
    numbers: tuple[NonNegativeInt, ...] = Field(min_length=1)


class Case(BaseModel):
    """One volume. ``label`` is None exactly for unlabeled cases: nothing may read a label of theirs.

    ``size`` in voxels and ``spacing`` in mm along the file's (i, j, k); ``orientation`` is nibabel's axis code ("RAS");
    ``intensity`` are the percentiles 0.5, 50 and 99.5 of the image as stored; ``foreground_intensity`` the same inside
    the labeled structures; ``voxels`` maps structure id to count, and ``thickness`` to mm (see ``thickness.thickness``; empty in
    files of older versions); ``patient`` groups cases that must not be split apart.
    ``more_images`` are the further channels of a case, in the order of ``Cohort.channels``; where all are one path, they are the
    volumes of that file. What is said of the grid is said of the first one, on whose grid the others are resampled before they
    are looked at. ``label_values`` maps the value in the label file to the structure's id in the cohort's label set. ``order``
    settles where structures of the label overlap: names as the label has them, of which a later one lies over an earlier one.

    What the label does not say: ``drawn`` are the ids of the structures that were drawn completely, None for all. One of these
    without a voxel is absent in the patient; where the label is 0, there may be any of the others. ``undecided`` are those of the
    others of which nobody has said whether they are absent. ``ignored`` are values of the label file that stand for voxels that
    nobody labeled, and ``labeled_slices`` the only slices that somebody did.
    ``predicted`` are ids of structures that nobody drew in this case: what a model predicts of them is merged into the label,
    and counts as drawn.
    """

    model_config = ConfigDict(extra="forbid")
    name: CaseName
    role: Role
    image: Path
    more_images: tuple[Path, ...] = ()
    label: Path | None = None
    patient: str
    image_sha256: str
    more_image_sha256: tuple[str, ...] = ()
    label_sha256: str | None = None
    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing: tuple[Millimeters, Millimeters, Millimeters]
    orientation: str
    intensity: Percentiles
    foreground_intensity: Percentiles | None = None
    more_intensity: tuple[Percentiles, ...] = ()
    more_foreground_intensity: tuple[Percentiles | None, ...] = ()
    voxels: dict[int, NonNegativeInt] = {}
    thickness: dict[int, Millimeters] = {}
    label_values: dict[LabelValue, LabelValue] = {}
    order: tuple[str, ...] = ()
    drawn: tuple[LabelValue, ...] | None = None
    undecided: tuple[LabelValue, ...] = ()
    ignored: tuple[LabelValue, ...] = ()
    labeled_slices: LabeledSlices | None = None
    predicted: tuple[LabelValue, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Case":
        if (self.role == "unlabeled") != (self.label is None):
            raise ValueError(f"the {self.role} case {self.name} has {'no' if self.label is None else 'a'} label")
        if len(self.orientation) != 3 or not all(set(pair) & set(self.orientation) for pair in ("LR", "PA", "IS")):
            raise ValueError(f"the case {self.name} has the orientation {self.orientation}")
        more = len(self.more_images)
        if {len(self.more_image_sha256), len(self.more_intensity), len(self.more_foreground_intensity)} != {more}:
            raise ValueError(f"the case {self.name} does not say the same of all its images")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A case of one image says nothing of others, as in files of earlier versions."""
        return {key: value for key, value in serialized(self).items() if not key.startswith("more_") or value}

    @property
    def images(self) -> tuple[Path, ...]:
        """Of all channels."""
        return self.image, *self.more_images

    @property
    def images_sha256(self) -> str:
        """The hash of the one image, or those of all, one after the other."""
        return " ".join((self.image_sha256, *self.more_image_sha256))

    @property
    def intensities(self) -> tuple[Percentiles, ...]:
        """Of all channels."""
        return self.intensity, *self.more_intensity

    @property
    def foreground_intensities(self) -> tuple[Percentiles | None, ...]:
        """Of all channels."""
        return self.foreground_intensity, *self.more_foreground_intensity

    def has_drawn(self, structure_id: int) -> bool:
        """Whether its label says of each labeled voxel whether it is that structure."""
        return self.drawn is None or structure_id in self.drawn

    @property
    def is_whole(self) -> bool:
        """Whether its label says of each voxel what it is."""
        return self.drawn is None and not self.ignored and self.labeled_slices is None


class Cohort(BaseModel):
    """All cases of a study. ``modality`` is "CT" (intensities are HU), "MR" or "PT" (intensities have no unit).

    ``channels`` are the names of the images that each case has, in the order in which a network takes them; empty where there is
    one that needs no name. ``modality`` is then that of the first, and ``more_modalities`` are those of the others.
    """

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    modality: Modality
    channels: Annotated[tuple[ChannelName, ...], Field(max_length=MOST_CHANNELS)] = ()
    more_modalities: tuple[Modality, ...] = ()
    labels: LabelSet
    seed: int
    cases: tuple[Case, ...] = Field(min_length=1)

    @field_validator("cases")
    @classmethod
    def _unique(cls, cases: tuple[Case, ...]) -> tuple[Case, ...]:
        if twice := [name for name, count in Counter(case.name for case in cases).items() if count > 1]:
            raise ValueError(f"two cases are called {twice[0]}")
        return cases

    @model_validator(mode="after")
    def _has_all_channels(self) -> "Cohort":
        more = max(1, len(self.channels)) - 1
        if len({normalized_name(name) for name in self.channels}) < len(self.channels):
            raise ValueError(f"two channels have the same name ({', '.join(self.channels)})")
        if len(self.more_modalities) != more:
            raise ValueError("it does not say what each channel holds")
        if other := next((case for case in self.cases if len(case.more_images) != more), None):
            raise ValueError(f"the case {other.name} has {len(other.images)} images for {more + 1} channels")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            key: value for key, value in serialized(self).items() if key not in ("channels", "more_modalities") or value
        }

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Of all channels."""
        return self.modality, *self.more_modalities

    @property
    def channel_names(self) -> tuple[str, ...]:
        """As ``Plan.channels`` has them: ("",) where there is one image that needs no name."""
        return self.channels or ("",)

    def with_role(self, role: Role) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.role == role)

    def only(self, *roles: Role) -> "Cohort":
        """The same cohort with the cases of these roles alone."""
        return self.model_copy(update={"cases": tuple(case for case in self.cases if case.role in roles)})

    def write(self, path: Path) -> None:
        """Write the cohort; paths below the cohort's folder are kept relative, so that the folder can move."""
        data = self.model_dump(mode="json")
        folder = path.absolute().parent
        for case in data["cases"]:
            for key in ("image", "label"):
                if case[key] is not None:
                    case[key] = _below(folder, case[key])
            if "more_images" in case:
                case["more_images"] = [_below(folder, image) for image in case["more_images"]]
        write_rows(path, data)

    @classmethod
    def read(cls, path: Path) -> "Cohort":
        """Read a cohort file and make its paths absolute. Raises DinomixError when it is not one."""
        try:
            cohort = cls.model_validate(read_json(path, LARGEST_COHORT))
        except (OSError, ValueError) as error:
            raise DinomixError(
                f"{path} is not a cohort file ({reason_of(error)}).", "Make one with `dinomix check`.", "cohort"
            ) from error
        folder = Path(os.path.realpath(path)).parent
        cases = tuple(
            case.model_copy(
                update={
                    "image": path_from(folder, case.image),
                    "more_images": tuple(path_from(folder, image) for image in case.more_images),
                    "label": path_from(folder, case.label) if case.label else None,
                }
            )
            for case in cohort.cases
        )
        return cohort.model_copy(update={"cases": cases})


def _below(folder: Path, path: str) -> str:
    """A path as a cohort file in ``folder`` has it: relative where it lies below, and then such as every system reads."""
    # Not resolved: links may point to stores in which files have lost the ending that tells their format.
    absolute = Path(path).absolute()
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)
