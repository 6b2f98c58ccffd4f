"""A prediction and its reference read onto one grid: Slicer's segmentations are cropped, and contours have no voxels."""

import math
from collections.abc import Sequence
from pathlib import Path

from dinomix.evaluation.label_ids import read_ids
from dinomix.evaluation.references import Known, Reference, read_reference
from dinomix.images.dicom_drawn import drawn_file
from dinomix.images.dicom_labels import grid_of_dicom_label
from dinomix.images.formats import is_segmentation
from dinomix.images.lattice import union
from dinomix.images.masks import mask_files
from dinomix.images.reading import read_geometry
from dinomix.images.stored import check_memory
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet


def read_pair(
    name: str, prediction: Path, reference: Path, labels: LabelSet, known: Known, order: Sequence[str] = ()
) -> tuple[Volume, Reference]:
    """A prediction and its reference, on one grid where that takes no more than putting a segmentation in its place.

    A cropped one is put on the grid of the other, and two such on the smallest grid that holds both, so that what one of them
    has beyond the other counts. Other files are never moved.

    Args:
        name: of the case.
        labels, order: as of ``read_ids``.
        known: as of ``read_reference``.

    Raises:
        DinomixError: as ``read_ids``; or a label lies outside of a grid that is an image's.
    """
    grid = _grid_of_both(name, prediction, reference, known)
    predicted = read_ids(prediction, labels, grid if _is_movable(prediction) else None, order)
    expected = read_reference(name, reference, labels, known, grid if _is_movable(reference) else None, order)
    return predicted, expected


def _is_movable(path: Path) -> bool:
    """Whether a file says itself where its labels lie on any grid: a segmentation of Slicer's, or DICOM."""
    return is_segmentation(path) or drawn_file(path) is not None


def _grid_of_both(name: str, prediction: Path, reference: Path, known: Known) -> Geometry | None:
    """The grid to put on what is movable; None where nothing is, or where there are contours alone."""
    fixed = [path for path in (prediction, reference) if not _is_movable(path)]
    if len(fixed) == 2:
        return None
    if fixed:
        masks = mask_files(fixed[0])
        return read_geometry(next(iter(masks.values())) if masks else fixed[0])
    case, _ = known.cases.get(name, (None, frozenset()))
    if case is not None and case.labeled_slices is not None:
        return read_geometry(case.image)  # whose slices the numbers are of
    # On the lattice of Slicer's own, which are not turned when they are read.
    paths = sorted((prediction, reference), key=lambda path: not is_segmentation(path))
    return _grid_around(paths)


def _grid_around(paths: Sequence[Path]) -> Geometry | None:
    """The smallest grid that holds all that is drawn in movable files; None where there are contours alone.

    What does not lie on the lattice of the first one is left out, so that reading it onto the grid tells.
    """
    grids = [read_geometry(path) if is_segmentation(path) else grid_of_dicom_label(path) for path in paths]
    grid = next((own for own in grids if own is not None), None)
    if grid is None:
        return None
    for path, own in zip(paths, grids, strict=True):
        reached = own if own is not None else grid_of_dicom_label(path, grid)
        grid = (union(grid, reached) if reached is not None else None) or grid
    check_memory(2 * math.prod(grid.size), paths[0])
    return grid
