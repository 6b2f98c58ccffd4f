"""The cohort made from one real scan: every structure survives, nothing is random but the seed, no hidden labels."""

from pathlib import Path

import numpy as np
import pytest

from dinomix.demo.deformed import deformed_case, field_of_view, write_deformed_cohort
from dinomix.errors import DinomixError
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet


@pytest.fixture(scope="module")
def scan(test_data: Path) -> tuple[Volume, Volume]:
    folder = test_data / "ct_multiorgan"
    return read_image(folder / "ct.nii.gz"), read_label(folder / "labels_synapse13.nii.gz")[0]


@pytest.fixture
def small_scan(tmp_path: Path) -> tuple[Path, Path]:
    """A scan of 24 voxels a side with a big cube of structure 1 and a bar of structure 3, one voxel thin."""
    from dinomix.images.writing import write_image, write_labels

    geometry = Geometry((24, 22, 20), (4.0, 4.0, 5.0), (1.0, 2.0, 3.0), np.eye(3))
    labels = np.zeros((20, 22, 24), np.uint8)
    labels[4:14, 4:14, 4:12] = 1
    labels[6:14, 10, 16] = 3
    image = np.where(labels == 1, 60, np.where(labels == 3, 120, -80)).astype(np.float32)
    names = LabelSet.from_names({1: "liver", 3: "adrenal_gland_right"})
    write_image(Volume(image, geometry), tmp_path / "ct.nii.gz")
    write_labels(labels, geometry, names, tmp_path / "labels.nii.gz")
    names.write(tmp_path / "names.json")
    return tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"


def test_small_organs_of_a_real_scan_survive_strong_deformation(scan: tuple[Volume, Volume]) -> None:
    image, labels = scan
    before = np.bincount(labels.array.ravel(), minlength=14)
    _, bent = deformed_case(image, labels, 7)
    after = np.bincount(bent.array.ravel(), minlength=14)
    assert bent.geometry.difference(labels.geometry) == ""
    assert np.all((after > 0) == (before > 0))
    thin = [11, 12, 13]
    assert np.all(after[thin] > 0.5 * before[thin])
    moved = np.count_nonzero((bent.array == 6) != (labels.array == 6))
    assert moved > 0.2 * before[6], "the liver hardly moved"


def test_image_and_labels_bend_together(scan: tuple[Volume, Volume]) -> None:
    image, labels = scan
    bent_image, bent_labels = deformed_case(image, labels, 3)
    for organ in (1, 6):
        before = np.median(image.array[labels.array == organ])
        after = np.median(bent_image.array[bent_labels.array == organ])
        assert abs(after - before) < 100, "the organ shows other tissue than before"
    # The trunk around the organs is tissue, so almost nothing inside of a label may be air.
    assert np.mean(bent_image.array[bent_labels.array > 0] < -500) < 0.02


def test_the_seed_decides(scan: tuple[Volume, Volume]) -> None:
    image, labels = scan
    cut = (slice(80, 112), slice(20, 70), slice(20, 100))
    geometry = Geometry((80, 50, 32), image.geometry.spacing, (0.0, 0.0, 0.0), image.geometry.direction)
    image, labels = Volume(image.array[cut], geometry), Volume(labels.array[cut], geometry)
    first, again, other = (deformed_case(image, labels, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(first[0].array, again[0].array)
    np.testing.assert_array_equal(first[1].array, again[1].array)
    assert np.any(first[1].array != other[1].array)


def test_no_label_of_an_unlabeled_case_is_written(small_scan: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    names = LabelSet.read(tmp_path / "names.json")
    write_deformed_cohort(*small_scan, out, names=names, labeled=1, unlabeled=2, test=1, seed=5)
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        "labeled/dataset.json", "labeled/images/labeled_001.nii.gz", "labeled/labels/labeled_001.nii.gz",
        "test/dataset.json", "test/images/test_001.nii.gz", "test/labels/test_001.nii.gz",
        "unlabeled/unlabeled_001.nii.gz", "unlabeled/unlabeled_002.nii.gz",
    }  # fmt: skip
    image, labels = read_image(small_scan[0]), read_label(small_scan[1])[0]
    expected = deformed_case(image, labels, (5, 1))
    np.testing.assert_array_equal(read_label(out / "test/labels/test_001.nii.gz")[0].array, expected[1].array)
    np.testing.assert_array_equal(read_image(out / "test/images/test_001.nii.gz").array, expected[0].array)


def test_labels_of_another_grid_are_refused(small_scan: tuple[Path, Path]) -> None:
    image, labels = read_image(small_scan[0]), read_label(small_scan[1])[0]
    with pytest.raises(DinomixError, match="different grids"):
        deformed_case(image, Volume(labels.array[:-1], Geometry((24, 22, 19), (4, 4, 5), (1, 2, 3), np.eye(3))), 0)


def test_a_smaller_field_of_view_leaves_every_voxel_where_it_was(scan: tuple[Volume, Volume]) -> None:
    image, labels = scan
    seen, seen_labels = field_of_view(image, labels, 15.0)
    assert seen.array.size < image.array.size / 2
    assert np.array_equal(np.bincount(seen_labels.array.ravel())[1:], np.bincount(labels.array.ravel())[1:])
    corner = np.array([3, 5, 7, 1])
    here = (seen.geometry.affine_ras @ corner)[:3]
    i, j, k = np.rint(np.linalg.inv(image.geometry.affine_ras) @ [*here, 1])[:3].astype(int)
    assert np.allclose(image.geometry.affine_ras @ [i, j, k, 1], [*here, 1])
    assert seen.array[7, 5, 3] == image.array[k, j, i]
