"""The phantom abdomens: all organs, a real imbalance, plausible HU, variation between cases, and one case for one seed."""

from pathlib import Path

import numpy as np
import pytest

from dinomix.demo.cohort_folders import phantom_labels, write_phantom_cohort
from dinomix.demo.phantom import SYNAPSE_ORGANS, phantom_case
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume

LIVER, ADRENALS = 6, (12, 13)


@pytest.fixture(scope="module")
def cases() -> list[tuple[Volume, Volume]]:
    return [phantom_case((0, number)) for number in range(4)]


def test_every_case_has_the_13_synapse_organs_on_the_grid_of_its_image(cases: list[tuple[Volume, Volume]]) -> None:
    for image, labels in cases:
        assert image.geometry.difference(labels.geometry) == ""
        assert set(np.unique(labels.array)) == {0, *SYNAPSE_ORGANS}
        assert image.array.dtype == np.float32
        assert labels.array.dtype == np.uint8
    assert phantom_labels().ids == tuple(range(1, 14))
    assert all(structure.terminology for structure in phantom_labels().structures)


def test_the_liver_has_about_200_times_the_voxels_of_an_adrenal_gland(cases: list[tuple[Volume, Volume]]) -> None:
    counts = sum(np.bincount(labels.array.ravel(), minlength=14) for _, labels in cases)
    for adrenal in ADRENALS:
        assert 150 < counts[LIVER] / counts[adrenal] < 260
    assert counts.argsort()[-2] == LIVER


def test_tissues_have_the_hounsfield_units_of_a_contrast_enhanced_ct(cases: list[tuple[Volume, Volume]]) -> None:
    for image, labels in cases:
        hu = {name: np.median(image.array[labels.array == i]) for i, name in SYNAPSE_ORGANS.items()}
        assert 50 < hu["liver"] < 140
        assert hu["gallbladder"] < 35 < hu["pancreas"]
        assert hu["aorta"] > hu["pancreas"]
        assert np.percentile(image.array, 99.8) > 200, "no bone"
        assert -1024 <= image.array.min() < -900, "no air"


def test_organs_lie_where_they_belong(cases: list[tuple[Volume, Volume]]) -> None:
    """The axes run to the left, back and head, so indices compare as positions do."""
    for _, labels in cases:
        k, j, i = (
            {organ: np.argwhere(labels.array == organ)[:, axis].mean() for organ in SYNAPSE_ORGANS} for axis in range(3)
        )
        spleen, kidney_right, kidney_left, gallbladder, liver, aorta, vena_cava = 1, 2, 3, 4, 6, 8, 9
        assert i[liver] < i[vena_cava] < i[aorta] < i[spleen]
        assert i[kidney_right] < i[aorta] < i[kidney_left]
        assert j[gallbladder] < j[aorta]
        assert k[12] > k[kidney_right]
        assert k[13] > k[kidney_left]


def test_cases_differ_and_a_seed_repeats_itself(cases: list[tuple[Volume, Volume]]) -> None:
    image, labels = phantom_case((0, 1))
    np.testing.assert_array_equal(image.array, cases[1][0].array)
    np.testing.assert_array_equal(labels.array, cases[1][1].array)
    a, b = cases[0][1].array == LIVER, cases[1][1].array == LIVER
    dice = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
    assert 0.5 < dice < 0.95


def test_an_interrupted_cohort_is_completed_and_hides_no_labels(tmp_path: Path) -> None:
    write_phantom_cohort(tmp_path, labeled=1, unlabeled=0, test=1, seed=2, spacing=9.0)
    kept = (tmp_path / "labeled/images/labeled_001.nii.gz").stat().st_mtime_ns
    write_phantom_cohort(tmp_path, labeled=1, unlabeled=1, test=1, seed=2, spacing=9.0)
    assert (tmp_path / "labeled/images/labeled_001.nii.gz").stat().st_mtime_ns == kept
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "unlabeled").rglob("*")) == [
        "unlabeled/unlabeled_001.nii.gz"
    ]
    assert len(list(tmp_path.rglob("labels/*.nii.gz"))) == 2
    image, labels = phantom_case((2, 1), spacing=9.0)
    np.testing.assert_array_equal(read_label(tmp_path / "test/labels/test_001.nii.gz")[0].array, labels.array)
    stored = read_image(tmp_path / "test/images/test_001.nii.gz")
    assert np.abs(stored.array - image.array).max() <= 0.5
    assert stored.geometry.difference(image.geometry) == ""
