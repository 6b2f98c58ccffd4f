"""`dinomix evaluate` of what Slicer and DICOM crop, and of contours: both sides are put on one grid, and nothing is cut off."""

from pathlib import Path

import numpy as np
import pytest
from test_evaluate import NAMES, partial_study

from dicom_files import GRID, in_patient, write_ct, write_seg, write_structures
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.evaluate import evaluate_folders
from dinomix.evaluation.label_ids import read_ids
from dinomix.evaluation.references import Known
from dinomix.images.masks import box_of
from dinomix.images.volume import Geometry, Volume, cropped
from dinomix.images.writing import write_labels
from dinomix.labels import LabelSet


def write_cropped(path: Path, array: np.ndarray, grid: Geometry, names: dict[int, str] | None = None) -> Path:
    """A ``.seg.nrrd`` of what is labeled alone, as Slicer crops it."""
    box = box_of(array)
    assert box is not None
    part = cropped(Volume(array.astype(np.uint8), grid), box)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(part.array, part.geometry, LabelSet.from_names(names or NAMES), path)
    return path


def block(slices: slice, columns: slice = slice(2, 6)) -> np.ndarray:
    """(k, j, i) of 10 x 9 x 8 voxels, with a liver of four rows in these slices and columns."""
    array = np.zeros((8, 9, 10), np.uint8)
    array[slices, 2:6, columns] = 1
    return array


PLACE = Geometry((10, 9, 8), (1.0, 2.0, 3.0), (-7.0, 5.0, 30.0), np.diag([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("reaches_further", ["prediction", "reference"])
def test_what_one_of_two_crops_has_beyond_the_other_counts(tmp_path: Path, reaches_further: str) -> None:
    for folder in ("prediction", "reference"):
        last = 6 if folder == reaches_further else 5
        write_cropped(tmp_path / folder / "a.seg.nrrd", block(slice(2, last)), PLACE)
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", LabelSet.from_names(NAMES))
    # 16 voxels in each of 3 and 4 slices. Of 44 and 56 voxels on the surfaces, the 4 in the middle of the shorter one's last
    # slice lie 1 mm off the other surface, and the 16 of the longer one's 3 mm.
    expected = {"dice": 2 * 48 / (48 + 64), "nsd": (44 + 40) / 100, "hd95": 3.0, "asd": (4 * 1 + 16 * 3) / 100}
    assert metrics["cases"]["a"]["liver"] == pytest.approx({**expected, "status": "scored"})


def test_crops_that_reach_beyond_each_other_along_several_axes(tmp_path: Path) -> None:
    write_cropped(tmp_path / "p/a.seg.nrrd", block(slice(1, 4), slice(0, 4)), PLACE)
    write_cropped(tmp_path / "r/a.seg.nrrd", block(slice(2, 5), slice(1, 5)), PLACE)
    write_cropped(tmp_path / "p/b.seg.nrrd", block(slice(0, 1)), PLACE)
    write_cropped(tmp_path / "r/b.seg.nrrd", block(slice(6, 8)), PLACE)
    metrics = evaluate_folders(tmp_path / "p", tmp_path / "r", LabelSet.from_names(NAMES))
    # 2 slices of 4 rows of 3 columns are in both.
    assert metrics["cases"]["a"]["liver"]["dice"] == pytest.approx(2 * 24 / (48 + 48))
    # From slice 0 to slices 6 and 7, of 3 mm each.
    assert metrics["cases"]["b"]["liver"]["dice"] == 0 and metrics["cases"]["b"]["liver"]["hd95"] == 21
    half = Geometry(PLACE.size, PLACE.spacing, (-6.5, 5.0, 30.0), PLACE.direction)
    write_cropped(tmp_path / "p/a.seg.nrrd", block(slice(1, 4)), half)
    with pytest.raises(DinomixError, match=r"a\.seg\.nrrd .*different grids.* Segment the image that"):
        evaluate_folders(tmp_path / "p", tmp_path / "r", LabelSet.from_names(NAMES))


def outlined(slices: range, columns: tuple[int, int] = (2, 6)) -> list[np.ndarray]:
    """Contours around the columns and three rows of pixels in slices of ``GRID``."""
    left, right = columns[0] - 0.5, columns[1] - 0.5
    return [in_patient([(left, 0.5, k), (right, 0.5, k), (right, 3.5, k), (left, 3.5, k)]) for k in slices]


def drawn(slices: slice, columns: slice = slice(2, 6)) -> np.ndarray:
    """The same in voxels (k, j, i)."""
    array = np.zeros(GRID.size[::-1], np.uint8)
    array[slices, 1:4, columns] = 1
    return array


def test_dicom_segmentations_and_contours_against_each_other(tmp_path: Path) -> None:
    """Of each pair, one has three slices or columns and the other one more, twelve voxels in a slice or nine."""
    ct = write_ct(tmp_path / "ct", np.zeros(GRID.size[::-1]))
    short, long, names = drawn(slice(2, 4 + 1)), drawn(slice(1, 4 + 1)), {1: "Leber"}
    few, many = {"Leber": outlined(range(2, 5))}, {"Leber": outlined(range(1, 5))}
    p, r = tmp_path / "p", tmp_path / "r"
    for name, array in (("seg-seg", short), ("seg-rt", short), ("seg-crop", short)):
        write_seg(p / f"{name}.dcm", ct, array)
    for name, contours in (("rt-seg", few), ("rt-short", many), ("rt-crop", few), ("rt-whole", few)):
        write_structures(p / f"{name}.dcm", ct, contours)
    for name, array in (("seg-seg", long), ("rt-seg", long), ("rt-short", short)):
        write_seg(r / f"{name}.dcm", ct, array)
    write_structures(r / "seg-rt.dcm", ct, many)
    write_cropped(r / "seg-crop.seg.nrrd", long, GRID, names)
    write_cropped(r / "rt-crop.seg.nrrd", drawn(slice(2, 5), slice(2, 5)), GRID, names)
    write_labels(long, GRID, LabelSet.from_names(names), r / "rt-whole.nii.gz")
    metrics = evaluate_folders(p, r, LabelSet.from_names(names))
    assert {name: case["Leber"]["dice"] for name, case in metrics["cases"].items()} == pytest.approx(
        dict.fromkeys(["rt-crop", "rt-seg", "rt-short", "rt-whole", "seg-crop", "seg-rt", "seg-seg"], 6 / 7)
    )
    far = in_patient([(0, 0, 2), (1e13, 0, 2), (1e13, 9, 2)])
    write_structures(tmp_path / "far/a.dcm", ct, {"Leber": [far]})
    write_seg(tmp_path / "near/a.dcm", ct, short)
    with pytest.raises(DinomixError, match="GB of memory"):
        evaluate_folders(tmp_path / "far", tmp_path / "near", LabelSet.from_names(names))


def test_numbers_of_labeled_slices_hold_for_crops_too(tmp_path: Path) -> None:
    study = partial_study(tmp_path / "study")
    cohort, labels = Cohort.read(study / "cohort.json"), LabelSet.from_names(NAMES)
    for folder, source in (("p", "prediction"), ("r", "labels")):
        volume = read_ids(study / source / "c.nii.gz", labels)
        array = np.where(np.arange(8)[:, None, None] > 0, volume.array, 0)  # the crops begin at slice 1
        write_cropped(tmp_path / folder / "c.seg.nrrd", array, volume.geometry)
    metrics = evaluate_folders(tmp_path / "p", tmp_path / "r", labels, known=Known.of_cohort(cohort, ()))
    assert metrics["cases"]["c"]["liver"]["dice"] == metrics["cases"]["c"]["spleen"]["dice"] == 1.0
