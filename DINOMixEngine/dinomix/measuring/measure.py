"""Segmentation files measured, with their images where these are given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.evaluation.label_ids import read_ids
from dinomix.events import Emit, Progress, silent
from dinomix.images.dicom_drawn import drawn_file
from dinomix.images.formats import case_name, is_segmentation
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.outputs import find_images, name_of, predicted_dice_of
from dinomix.labels import LabelSet
from dinomix.measuring.measurements import check_grid, measured
from dinomix.measuring.table import Row, rows


@dataclass(frozen=True)
class Case:
    """A segmentation as it was read: ids, (k, j, i), and its image on the same grid, or None."""

    name: str
    file: Path
    labels: LabelSet
    segmentation: Volume
    image: Volume | None


def measure_files(
    segmentations: Sequence[Path],
    *,
    images: Sequence[Path] = (),
    labels: LabelSet | None = None,
    modality: str | None = None,
    order: Sequence[str] = (),
    emit: Emit = silent,
) -> list[Row]:
    """Measure each structure of each segmentation.

    Args:
        segmentations: label files, or folders of them.
        images: what was segmented, files, DICOM folders or folders of these; matched by name. Empty: intensities are left out.
        labels: the label set; None where the files carry the names of their structures.
        modality: "CT" where the intensities are HU.
        order: names of structures; where a file has several in one voxel, the later one wins.

    Returns:
        The rows of ``table.write_table``, case by case; with the Dice that ``dinomix segment`` predicted of a file of its own.

    Raises:
        DinomixError: a file cannot be read, has no image among ``images``, or holds what the label set does not have.
    """
    files = find_images(list(segmentations))
    progress = Progress(emit, "measure", len(files))
    found: list[Row] = []
    for done, case in enumerate(cases_of(files, images, labels, order), start=1):
        numbers = measured(case.segmentation, case.labels, case.image)
        found += rows(case.name, numbers, case.labels, modality, predicted_dice_of(case.file))
        progress(done)
    return found


def cases_of(
    files: Sequence[Path], images: Sequence[Path], labels: LabelSet | None, order: Sequence[str]
) -> Iterator[Case]:
    """Read segmentations one after the other, as ``measure_files`` takes them."""
    by_name = _by_name(images)
    for file in files:
        name = case_name(file)
        if images and name not in by_name:
            raise DinomixError(
                f"There is no image of {file} among those given.",
                f"Give one called {name}, or leave --images away to measure without intensities.",
                "no-image",
            )
        image = read_image(by_name[name], resample_sheared=True) if images else None
        like = image.geometry if image else None
        own = labels or _labels_of(file, order, like)
        segmentation = read_ids(file, own, like=like, order=order)
        try:
            check_grid(segmentation, image)
        except DinomixError as error:
            raise DinomixError(f"{file}: {error.problem}", error.remedy, error.code) from error
        yield Case(name, file, own, segmentation, image)


def _by_name(images: Sequence[Path]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for image in find_images(list(images)) if images else []:
        name = name_of(image, images)
        if name in by_name:
            raise DinomixError(f"Two images are called {name}: {by_name[name]} and {image}.", "Give one of them.")
        by_name[name] = image
    return by_name


def _labels_of(file: Path, order: Sequence[str], like: Geometry | None) -> LabelSet:
    names = None
    if is_segmentation(file):
        names = read_label(file, order=order)[1]
    elif drawn_file(file) is not None:
        names = read_label(file, like=like, order=order)[1]
    if not names:
        raise DinomixError(
            f"{file} does not say which number is which structure.",
            "Give the label set with --labels, such as a model's labels.json.",
            "structures",
        )
    return LabelSet.from_names(names)
