"""DICOM files that hold what somebody drew on a series: which they are, and which series it was."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dinomix.errors import DEFECTS, DinomixError, reason_of
from dinomix.images.dicom import UNEVEN, describe_series, series_headers
from dinomix.images.dicom_header import (
    STRUCTURE_SET,
    DicomHeader,
    is_dicom_file,
    is_dicom_image,
    read_dicom_header,
)
from dinomix.images.formats import ENDINGS
from dinomix.images.lattice import SAME_PLACE
from dinomix.images.stored import DAMAGED
from dinomix.names import listed

if TYPE_CHECKING:
    from pydicom import Dataset

ACROSS = UNEVEN + SAME_PLACE
"""Parts of a slice's distance that what is drawn may lie beside its slice: slices may lie as far off their even grid."""
_LARGE = 2**20
"""Bytes; values that are larger, such as pixels, are read when they are asked for."""
ON_ITS_IMAGE = "Export it as .seg.nrrd from 3D Slicer, with the image as its reference."


@dataclass(frozen=True)
class DrawnOn:
    """What a segmentation or a structure set says of the images below it; what it does not say is empty.

    Attributes:
        series: UIDs of the series.
        images: UIDs of their slices.
        frame: UID of the patient's space (the frame of reference).
    """

    series: frozenset[str]
    images: frozenset[str]
    frame: str

    def fits(self, headers: list[DicomHeader]) -> bool:
        """Whether the slices of one series are those that it was drawn on.

        By the series' UID or a slice's; by the frame of reference only where it names neither, as some programs write it.
        """
        tags = [header.tags for header in headers]
        if self.series or self.images:
            return any(tag.get("0020|000e") in self.series or tag.get("0008|0018") in self.images for tag in tags)
        return bool(self.frame) and any(tag.get("0020|0052") == self.frame for tag in tags)


def drawn_file(path: Path) -> Path | None:
    """The file of a DICOM segmentation or structure set: ``path`` itself, or the only one in that folder without images.

    None where it is something else, damaged files too: reading them will say what is wrong.

    Raises OSError where it cannot be opened.
    """
    if not path.is_dir():
        return path if _is_label(path) else None
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    labels = [file for file in files if _is_label(file)]
    return labels[0] if len(labels) == 1 and not any(map(is_dicom_image, files)) else None


def drawn_in(folder: Path) -> list[Path]:
    """The segmentations and structure sets of a folder: files, and folders that hold one alone; sorted."""
    inside = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [path for path in inside if not path.name.lower().endswith(ENDINGS) and drawn_file(path) is not None]


def drawn_on(path: Path) -> DrawnOn:
    """What the file of a segmentation or a structure set says of its images.

    Raises DinomixError when it is damaged.
    """
    with opened(path) as dataset:
        return references_of(dataset)


def references_of(dataset: "Dataset") -> DrawnOn:
    """As ``drawn_on``, of what is open already."""
    series, images, frames = set[str](), set[str](), [str(dataset.get("FrameOfReferenceUID", ""))]
    places = [dataset]
    for frame in dataset.get("ReferencedFrameOfReferenceSequence", []):
        frames.append(str(frame.get("FrameOfReferenceUID", "")))
        for study in frame.get("RTReferencedStudySequence", []):
            places += study.get("RTReferencedSeriesSequence", [])
    places += dataset.get("ReferencedSeriesSequence", [])
    for place in places:
        if place is not dataset and "SeriesInstanceUID" in place:
            series.add(str(place.SeriesInstanceUID))
        for name in ("ReferencedInstanceSequence", "ContourImageSequence", "SourceImageSequence"):
            images |= {str(item.ReferencedSOPInstanceUID) for item in place.get(name, [])}
    return DrawnOn(frozenset(series), frozenset(images), next(filter(None, frames), ""))


def check_drawn_on(label: Path, images: Sequence[Path]) -> None:
    """Raises DinomixError when a DICOM segmentation or structure set was drawn on another series than those of a case.

    Args:
        label: such a file, or its folder; nothing is asked of other labels.
        images: of the case's channels, the DICOM ones: folders with one series each, or files of such. On any of them, the
            structures may have been drawn.
    """
    file = drawn_file(label)
    if file is None or not images:
        return
    said, series = drawn_on(file), [series_headers(image) for image in images]
    if any(said.fits(headers) for headers in series):
        return
    theirs = ", ".join(sorted(said.series)) or "none that it names"
    ours = [
        f"{headers[0].tags.get('0020|000e', 'without a UID')} ({describe_series(headers[0])})" for headers in series
    ]
    raise DinomixError(
        f"{label} was drawn on another series than {listed([str(image) for image in images])}: on {theirs}, not on "
        f"{listed(ours)}.",
        "Put it beside the series that it was drawn on, or draw it again on this one.",
    )


@contextmanager
def opened(path: Path) -> Iterator["Dataset"]:
    """A segmentation or structure set as pydicom reads it, after the walk through its lengths.

    Raises DinomixError when it is damaged, also for what comes up while it is open: pydicom reads values when they are
    asked for.
    """
    import pydicom

    header = read_dicom_header(path)
    if not header.is_label:
        raise DinomixError(
            f"{path} is DICOM, but neither a segmentation nor a structure set (RTSTRUCT).",
            "Give the file with the labels: DICOM SEG, RTSTRUCT, .seg.nrrd or .nii.gz.",
        )
    try:
        yield pydicom.dcmread(path, defer_size=_LARGE)
    except (*DEFECTS, EOFError, struct.error, zlib.error, pydicom.errors.InvalidDicomError) as error:
        raise DinomixError(f"{path} is a damaged DICOM file ({reason_of(error)}).", DAMAGED) from error


def distinct(names: Iterable[tuple[int, str]], path: Path) -> dict[int, str]:
    """Number -> name. Raises DinomixError when a number or a name comes twice."""
    given = list(names)
    for what, values in (("numbered", [str(number) for number, _ in given]), ("named", [name for _, name in given])):
        if twice := sorted(value for value, count in Counter(values).items() if count > 1):
            raise DinomixError(
                f"{path} has several structures {what} {listed(twice)}.",
                "Give each its own name, for example in 3D Slicer, and save it as .seg.nrrd.",
            )
    return dict(given)


def outside_of_image(path: Path, what: str) -> DinomixError:
    return DinomixError(f"{path} has {what} outside of its image.", "Check that it belongs to the image.")


def is_structure_set(dataset: "Dataset") -> bool:
    return str(dataset.get("SOPClassUID")) == STRUCTURE_SET


def _is_label(path: Path) -> bool:
    try:
        return path.is_file() and is_dicom_file(path) and read_dicom_header(path).is_label
    except DinomixError:
        return False
