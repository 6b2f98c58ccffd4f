"""Radiomics of structures, computed by MIRP (features as the Image Biomarker Standardisation Initiative defines them)."""

import importlib.metadata
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix import __version__
from dinomix.errors import DEFECTS, DinomixError, reason_of
from dinomix.events import Emit, Progress, RepeatedProgress, silent
from dinomix.files import write_json
from dinomix.images.bounding_boxes import Box, bounding_boxes
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.inference.outputs import find_images
from dinomix.labels import LabelSet
from dinomix.measuring.measure import Case, cases_of
from dinomix.measuring.table import Row, check_table, write_table

PACKAGE = "mirp"
ABOUT, VOXELS = ("sample_name", "image_"), "image_voxel_size"
"""How columns begin in which MIRP says what was measured; of these, the voxels' size after resampling is kept."""
MARGIN = 15.0
"""mm around a structure that MIRP is given: its local peaks are means over balls of 6.2 mm radius."""
BIN_WIDTH, BINS = 25.0, 32
Settings = dict[str, str | int | float]


def check_radiomics(path: Path, images: Sequence[Path], may_replace: bool) -> None:
    """Raises DinomixError where MIRP cannot be loaded, without images, or where a table or its record cannot be written."""
    check_table(path, may_replace)
    check_table(_record(path), may_replace)
    if not images:
        raise DinomixError(
            "Radiomics are computed of images.", "Give those that were segmented with --images.", "no-image"
        )
    try:
        import mirp  # noqa: F401
    except (ImportError, OSError) as error:
        raise DinomixError(
            f"Radiomics are computed by the package {PACKAGE}, which cannot be loaded ({reason_of(error)}).",
            "Install it with `python -m pip install 'mirp>=2.7'`, or leave --radiomics away.",
            "radiomics",
        ) from error


def settings_of(
    modality: str | None = None,
    *,
    bin_width: float | None = None,
    bins: int | None = None,
    spacing: float | None = None,
) -> Settings:
    """What MIRP is to be called with.

    Args:
        modality: "CT" or "MR"; None for another kind of intensities.
        bin_width: of the intensities that textures are computed of, in their unit. Without it and ``bins``: 25 HU for CT.
        bins: a number of bins from a structure's lowest to its highest intensity instead. Without both: 32 unless for CT.
        spacing: mm of the isotropic grid that image and structure are brought onto first; None: the image's own.
    """
    if bin_width is not None and bins is not None:
        raise DinomixError("A width of bins and their number cannot both be given.", "Give one of them.")
    if bin_width is None and bins is None and modality == "CT":
        bin_width = BIN_WIDTH
    settings: Settings = {"image_modality": modality.lower() if modality else "generic"}
    if bin_width is not None:
        settings |= {"base_discretisation_method": "fixed_bin_size", "base_discretisation_bin_width": bin_width}
    else:
        settings |= {"base_discretisation_method": "fixed_bin_number", "base_discretisation_n_bins": bins or BINS}
    return settings if spacing is None else {**settings, "new_spacing": spacing}


def write_radiomics(path: Path, rows: list[Row], settings: Settings) -> None:
    """Write a table and, beside it, what repeats it: package, versions and settings."""
    version = importlib.metadata.version(PACKAGE)
    record = {"package": PACKAGE, "version": version, "dinomix": __version__, "margin_mm": MARGIN, "settings": settings}
    write_json(_record(path), record)
    write_table(path, rows)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.stem}.settings.json")


def radiomics_of_files(
    segmentations: Sequence[Path],
    images: Sequence[Path],
    settings: Settings,
    *,
    labels: LabelSet | None = None,
    order: Sequence[str] = (),
    emit: Emit = silent,
) -> list[Row]:
    """The features of each structure of each segmentation; arguments as of ``measure_files``, after ``check_radiomics``.

    Returns:
        Rows with the same columns, case by case: case, structure, voxels, and the features under MIRP's names. None where a
        feature does not exist, as some do not for few voxels, or where MIRP fails; notices say which structures these are.

    Raises:
        DinomixError: a file cannot be read or has no image, or holds what the label set does not have.
    """
    files = find_images(list(segmentations))
    repeated = RepeatedProgress(emit)
    progress = Progress(repeated, "radiomics", len(files))
    found: list[Row] = []
    for done, case in enumerate(cases_of(files, images, labels, order), start=1):
        for row in _rows(case, settings, emit):
            found.append(row)
            repeated.again()  # so that whoever listens can end it between two structures
        progress(done)
    _tell_missing(found, emit)
    columns = dict.fromkeys(column for row in found for column in row)
    return [{column: row.get(column) for column in columns} for row in found]


def _rows(case: Case, settings: Settings, emit: Emit) -> Iterator[Row]:
    boxes = bounding_boxes(case.segmentation.array)
    for structure in case.labels.structures:
        row: Row = {"case": case.name, "structure": structure.name, "voxels": 0}
        if case.image is not None and structure.id in boxes:
            part = _around(boxes[structure.id], case.image)
            mask = case.segmentation.array[part] == structure.id
            row["voxels"] = int(np.count_nonzero(mask))
            try:
                row |= _features(case.image.array[part], mask, case.image.geometry.spacing, settings)
            except (*DEFECTS, MemoryError) as error:
                message = (
                    f"MIRP cannot measure {structure.name} of {case.name}, {row['voxels']} voxels ({reason_of(error)})."
                )
                emit("notice", message=message, remedy="Its cells are empty; look at it, or leave it out.", code="")
        yield row


def _around(box: Box, image: Volume) -> Box:
    by = [math.ceil(MARGIN / mm) for mm in image.geometry.spacing[::-1]]
    sides = zip(box, by, image.array.shape, strict=True)
    return tuple(slice(max(side.start - more, 0), min(side.stop + more, size)) for side, more, size in sides)


def _features(
    image: NDArray[Any], mask: NDArray[np.bool_], spacing: tuple[float, float, float], settings: Settings
) -> dict[str, float | None]:
    """The features of one structure. Raises what MIRP raises where it stumbles over one.

    Args:
        image, mask: (k, j, i).
        spacing: mm along (i, j, k).
    """
    from mirp import extract_features

    size = image.shape[2], image.shape[1], image.shape[0]
    # No feature depends on where a patient lies, so no position is given that ITK might read otherwise.
    geometry = Geometry(size, spacing, (0.0, 0.0, 0.0), np.eye(3))
    with tempfile.TemporaryDirectory() as folder:
        paths = {"image": Path(folder, "image.nii.gz"), "mask": Path(folder, "mask.nii.gz")}
        write_image(Volume(image, geometry), paths["image"])
        write_image(Volume(mask.astype(np.uint8), geometry), paths["mask"])
        with _quiet():
            tables = extract_features(**{key: str(path) for key, path in paths.items()}, **settings)
    if not tables or tables[0] is None:
        raise ValueError("it found nothing to measure")
    values = tables[0].iloc[0]
    kept = [name for name in values.index if name.startswith(VOXELS) or not name.startswith(ABOUT)]
    return {name: _finite(values[name]) for name in kept}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """MIRP writes its log to stdout, where ``--json`` has its lines, unless the root logger has a handler."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)


def _tell_missing(found: list[Row], emit: Emit) -> None:
    lacking = [row for row in found if None in row.values()]
    if lacking:
        named = ", ".join(f"{row['structure']} of {row['case']} ({row['voxels']} voxels)" for row in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        emit("notice", message=f"Some features do not exist of {named}{more}: their cells are empty.",
             remedy="They have too few voxels, or too equal ones; leave such rows out of a study.", code="")  # fmt: skip
