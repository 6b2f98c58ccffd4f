"""Labels of a DICOM series as a result in DICOM: what a segmentation and a structure set have in common."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dinomix import __version__
from dinomix.errors import DinomixError, printable
from dinomix.images.dicom_source import SourceSeries
from dinomix.labels import LabelSet
from dinomix.terminology import TISSUE, Code, Terminology, color_for, terminology_for

if TYPE_CHECKING:
    from pydicom import Dataset

LONGEST_TEXT = 64
"""Characters of a name in DICOM (LO)."""
_LONGEST_CODE = 16
PRODUCT = "DINOMix"


@dataclass(frozen=True)
class Maker:
    """What made a result.

    Attributes:
        title: of the model; of several, all titles.
        version: by which it is told from others of that title.
        owners: of several models, structure -> title of the one that found it.
    """

    title: str
    version: str
    owners: Mapping[str, str] = field(default_factory=dict)

    def name(self, structure: str = "") -> str:
        """The title, or that of a structure's model, as DICOM can hold it."""
        title = self.owners.get(structure, self.title)
        return printable(title).replace("\\", "/").strip()[:LONGEST_TEXT] or PRODUCT


UNKNOWN_MAKER = Maker("", "0")


@dataclass(frozen=True)
class Drawn:
    """A structure or a region, as a segment or an ROI; ``number`` counts from 1, ``ids`` are the values that its voxels have."""

    number: int
    name: str
    color: tuple[int, int, int]
    terminology: Terminology
    ids: tuple[int, ...]


def drawn_of(labels: LabelSet) -> list[Drawn]:
    """The structures of a label set, then its regions.

    Raises:
        DinomixError: DICOM cannot hold one of the names.
    """
    unknown = Terminology(category=TISSUE, type=TISSUE)
    parts: list[tuple[str, tuple[int, int, int], Terminology | None, tuple[int, ...]]] = [
        *((s.name, s.color, s.terminology, (s.id,)) for s in labels.structures),
        *((r.name, color_for(r.name, n), terminology_for(r.name), r.structures) for n, r in enumerate(labels.regions)),
    ]
    for name, *_ in parts:
        if len(name) > LONGEST_TEXT or "\\" in name:
            raise DinomixError(
                f'DICOM has no names like "{name}": they have at most {LONGEST_TEXT} characters, and no backslash.',
                "Give another --format, such as seg.nrrd, or leave this structure out with --keep.",
                "dicom-name",
            )
    return [
        Drawn(number, name, color, codes or unknown, ids) for number, (name, color, codes, ids) in enumerate(parts, 1)
    ]


def code_item(code: Code) -> "Dataset":
    """A code as an item of a sequence."""
    from pydicom import Dataset

    item = Dataset()
    setattr(item, "CodeValue" if len(code.value) <= _LONGEST_CODE else "LongCodeValue", code.value)
    item.CodingSchemeDesignator, item.CodeMeaning = code.scheme, code.meaning[:LONGEST_TEXT]
    return item


def describe(result: "Dataset", source: SourceSeries, maker: Maker, what: str, number: int) -> None:
    """Say whose a result is, that it is a series of its own, and what made it.

    Args:
        what: kind of the result, in words, for the series' description.
        number: added to the source's series number, so that both stand together in a list.
    """
    source.give_identity(result)
    now = datetime.datetime.now()
    result.SeriesNumber, result.InstanceNumber = source.number + number, 1
    result.SeriesDescription = f"{what} by {PRODUCT}: {maker.name()}"[:LONGEST_TEXT]
    result.SeriesDate = result.InstanceCreationDate = now.strftime("%Y%m%d")
    result.SeriesTime = result.InstanceCreationTime = now.strftime("%H%M%S")
    result.Manufacturer = result.ManufacturerModelName = PRODUCT
    result.SoftwareVersions, result.DeviceSerialNumber = __version__, maker.version
