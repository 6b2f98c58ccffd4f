"""What is found in folders before any file is opened: cases, what could not be paired, and what there is to tell."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dinomix.cohort.problems import Problem
from dinomix.cohort.said import Said
from dinomix.events import Notice
from dinomix.images.channel_files import Channel

Pool = Literal["labeled", "unlabeled", "validation", "test"]


@dataclass(frozen=True)
class FoundCase:
    """An image and, unless the case is unlabeled, its label.

    Attributes:
        name: unique in the cohort.
        short_name: as in its folder; what patterns and split files speak of.
        pool: which option brought it in, or the part that a list of cases gives it.
        patient: the folder that holds several series of one patient, else None.
        names: voxel value -> name, where the folder's ``dataset.json`` says so.
        more_images: the further channels of the case, in the cohort's order; where one file holds all, it again and again.
        drawn: names of the structures that were drawn completely, where the layout says it: those that have a mask file, an
            empty one too. None where it does not.
        said: what a list of cases says of the completeness of its label.
    """

    name: str
    short_name: str
    pool: Pool
    image: Path
    label: Path | None
    patient: str | None = None
    names: dict[int, str] = field(default_factory=dict)
    drawn: tuple[str, ...] | None = None
    said: Said | None = None
    more_images: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """Of all channels."""
        return self.image, *self.more_images


@dataclass
class Findings:
    """What was found.

    Attributes:
        modality: what the ``dataset.json`` files say, if anything.
        regions: of these files, region -> names of the structures that it is made of.
        channels: the images of each case by their names, where there are several or one has a name.
    """

    cases: list[FoundCase] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    modality: str | None = None
    regions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
