"""A folder with a mask file for each structure, as TotalSegmentator's data set has it, read into one label map.

The structures are called like the files, and are numbered in the order of their names. In the Brain Imaging Data Structure a
mask is ``sub-01_label-lesion_mask.nii.gz``: it is called after its label, and what else lies in its folder is no mask. Masks are
read one after another, and of each only the box that holds its structure is worked on.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.formats import ENDINGS, case_name
from dinomix.images.overlaps import Box, LabelMap
from dinomix.images.volume import Geometry, Volume
from dinomix.names import normalized_name

MASK_FOLDERS = ("segmentations", "segmentation", "masks", "mask", "labels", "label", "structures", "rois")
"""Names, in small letters, of a case's folder with a mask for each structure."""
NO_MASK = "Give a mask: one value inside of the structure, and 0 elsewhere."


_OF_BIDS = re.compile(r"sub-[^_]+_(?:.*_)?mask")
_STRUCTURE_OF_BIDS = re.compile(r"_(?:label|desc)-([^_]+)")


def mask_files(folder: Path) -> dict[str, Path]:
    """Name of the structure -> file, sorted by name; empty where the folder holds none. No file is opened."""
    return {structure_of(path): path for path in _files(folder)}


def structure_of(path: Path) -> str:
    """What the structure of a mask file is called: by its entity ``label``, else ``desc``, in BIDS; else like the file."""
    name = case_name(path)
    if _OF_BIDS.fullmatch(name) is None:
        return name
    entities = sorted(_STRUCTURE_OF_BIDS.finditer(name), key=lambda found: not found[0].startswith("_label"))
    return entities[0][1] if entities else "mask"


def masks_in_case(folder: Path) -> Path | None:
    """The folder of masks in that of a case, beside the image: ``CASE/segmentations``; None where there is none."""
    inside = sorted(path for path in folder.iterdir() if path.name.lower() in MASK_FOLDERS) if folder.is_dir() else []
    return next((path for path in inside if mask_files(path)), None)


def mask_folders_in(folder: Path) -> list[Path]:
    """Subfolders that hold a mask file for each structure of a case; sorted."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and mask_files(path)]


def read_masks(
    folder: Path,
    read: Callable[[Path], tuple[NDArray[np.generic], Geometry]],
    like: Geometry | None,
    order: Sequence[str],
) -> tuple[Volume, dict[int, str]]:
    """The label map of a folder of masks, on their grid, and value -> name; structures without a voxel have names too.

    Args:
        read: a file's voxels (k, j, i), and its grid.
        like: the image's grid, if the masks are to lie on it.
        order: names; where masks overlap, the later one wins.

    Raises:
        DinomixError: a mask lies on another grid, or is none; two masks have the same name.
        OverlapError: masks overlap, and ``order`` does not say which one wins.
    """
    files = mask_files(folder)
    _refuse_equal_names(folder)
    names = dict(enumerate(files, 1))
    grid, first = like, "its image"
    label: LabelMap | None = None
    for value, path in enumerate(files.values(), 1):
        array, geometry = read(path)
        if grid is None:
            grid, first = geometry, str(path)
        if difference := grid.difference(geometry):
            raise DinomixError(
                f"The mask {path} is not on the grid of {first}: {difference} (mask last).",
                "Export it again with the image as reference, or resample it with nearest neighbor.",
            )
        label = label or LabelMap(array.shape, names, order, folder)
        if (box := box_of(array)) is not None:
            label.add(value, _inside(array[box], path), box)
    assert label is not None and grid is not None
    overlaps = label.settled()
    return Volume(label.array, grid, label.notices(), overlaps), names


def box_of(array: NDArray[np.generic]) -> Box | None:
    """The smallest box (k, j, i) that holds all voxels but those of 0; None where there are none."""
    box: list[slice] = []
    part = array
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(part.any(axis=others))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
        part = array[tuple(box)]
    return box[0], box[1], box[2]


def _inside(values: NDArray[np.generic], path: Path) -> NDArray[np.bool_]:
    """Where a mask is. Raises DinomixError where there are several values beside 0, or a negative one, or NaN."""
    inside = values != 0
    there = values[inside]
    low, high = float(there.min()), float(there.max())
    if not low > 0 or not np.isfinite(high):
        raise DinomixError(f"The mask {path} holds {low:g}, which is no value of a mask.", NO_MASK)
    if low != high:
        if values.dtype.kind == "f" and np.any(there != np.rint(there)):
            raise DinomixError(f"The mask {path} holds numbers from {low:g} to {high:g} that are not whole.", NO_MASK)
        raise DinomixError(
            f"The mask {path} holds several values, from {low:g} to {high:g}, like a label map.",
            "Take it out of the folder, which holds a mask for each structure.",
        )
    return inside


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")]
    of_bids = [path for path in files if _OF_BIDS.fullmatch(case_name(path))]
    return sorted(of_bids or files, key=lambda path: (case_name(path), path.name))


def _refuse_equal_names(folder: Path) -> None:
    seen: dict[str, Path] = {}
    for path in _files(folder):
        other = seen.setdefault(normalized_name(structure_of(path)), path)
        if other is not path:
            raise DinomixError(
                f"{folder} holds two masks of one structure: {other.name} and {path.name}.", "Keep one of them."
            )
