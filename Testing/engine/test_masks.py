"""A mask file for each structure: what is read as one label map, and what is refused by the name of the mask."""

import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cohort_folders import SHAPE, image_array, write
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.finding import find_cases
from dinomix.cohort.overlapping import read_order
from dinomix.cohort.problems import CohortError
from dinomix.errors import DinomixError
from dinomix.images.overlaps import OverlapError
from dinomix.images.reading import read_label
from dinomix.planning.cache import cached_case, prepared_case
from dinomix.planning.planning import override_plan
from tiny_cohort import make_plan

LIVER, TUMOR, SPLEEN = np.zeros((3, *SHAPE), np.uint8)
LIVER[1:5, 2:7, 2:5] = 1
TUMOR[2:3, 3:5, 3:5] = 1
SPLEEN[1:4, 2:6, 7:9] = 1


def masks(folder: Path, **arrays: np.ndarray) -> Path:
    for name, array in arrays.items():
        write(folder / f"{name}.nii.gz", array)
    return folder


def cases(folder: Path, count: int = 2, **arrays: np.ndarray) -> Path:
    """As TotalSegmentator's data set lies on a disk."""
    for number in range(count):
        write(folder / f"s{number:04d}" / "ct.nii.gz", image_array(number))
        masks(folder / f"s{number:04d}" / "segmentations", **arrays)
    (folder / "meta.csv").write_text("image_id;age\ns0000;60\n")
    return folder


@pytest.mark.parametrize(("dtype", "inside"), [(np.uint8, 255), (np.float32, 1), (np.float64, 0.5), (np.int16, 7)])
def test_masks_of_any_value_are_one_label_map(tmp_path: Path, dtype: type, inside: float) -> None:
    folder = masks(tmp_path / "masks", spleen=SPLEEN, liver=(LIVER * inside).astype(dtype), empty=LIVER * 0)
    volume, names = read_label(folder)
    assert names == {1: "empty", 2: "liver", 3: "spleen"}
    np.testing.assert_array_equal(volume.array, 2 * LIVER + 3 * SPLEEN)


def test_where_masks_overlap_the_later_in_the_order_wins(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", liver=LIVER, tumor=TUMOR, spleen=SPLEEN)
    with pytest.raises(OverlapError, match=r'liver and tumor \(4 voxels\).*--order "liver,tumor"') as refused:
        read_label(folder)
    assert refused.value.pairs == {("liver", "tumor"): 4}
    for order, inside in ((["liver", "Tumor"], 3), (["tumor"], 3), (["tumor", "liver"], 1), (["liver"], 1)):
        volume, names = read_label(folder, order=order)
        assert names is not None and volume.array[2, 3, 3] == {"liver": 1, "tumor": 3}[names[inside]]
        below, above = ("liver", "tumor") if inside == 3 else ("tumor", "liver")
        assert volume.overlaps == ((below, above, 4),)
        assert np.count_nonzero(volume.array == 1) == np.count_nonzero(LIVER) - 4 * (inside == 3)
    assert "Nothing is left of tumor" in read_label(folder, order=["liver"])[0].notices[0]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (LIVER.astype(np.float32) * np.linspace(0.1, 0.9, SHAPE[0], dtype=np.float32)[:, None, None], "not whole"),
        (LIVER + TUMOR, "several values, from 1 to 2"),
        (LIVER.astype(np.int16) * -1, "holds -1"),
        (np.where(LIVER, np.nan, 0).astype(np.float32), "nan"),
        (LIVER[:-1], "not on the grid"),
    ],
)
def test_what_is_no_mask_is_refused_by_its_name(tmp_path: Path, array: np.ndarray, says: str) -> None:
    folder = masks(tmp_path / "masks", aorta=SPLEEN, odd=array)
    with pytest.raises(DinomixError, match=says) as refused:
        read_label(folder)
    assert str(folder / "odd.nii.gz") in refused.value.problem and refused.value.remedy


def test_two_masks_of_one_structure(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", kidney_left=LIVER)
    write(folder / "left kidney.nrrd", LIVER)
    with pytest.raises(DinomixError, match="two masks of one structure"):
        read_label(folder)


def test_a_cohort_of_masks(tmp_path: Path) -> None:
    folder = cases(tmp_path / "data", 2, liver=LIVER, spleen=SPLEEN)
    write(folder / "s0001" / "segmentations" / "spleen.nii.gz", SPLEEN * 0)
    cohort = check_cohort([folder], [], [], modality="CT", out=tmp_path / "cohort.json")
    assert cohort.labels.names == ("liver", "spleen")
    assert [case.voxels for case in cohort.cases] == [{1: 60, 2: 24}, {1: 60, 2: 0}]
    assert cohort.cases[0].label == folder / "s0000" / "segmentations"
    assert Cohort.read(tmp_path / "cohort.json").cases[0].label == cohort.cases[0].label
    write(folder / "s0000" / "segmentations" / "spleen.nii.gz", SPLEEN[::-1] * SPLEEN)
    again = check_cohort([folder], [], [], modality="CT", out=tmp_path / "cohort.json", overwrite=True)
    assert again.cases[0].label_sha256 != cohort.cases[0].label_sha256 and again.cases[0].voxels[2] == 16


def test_a_mask_that_lies_elsewhere_is_named(tmp_path: Path) -> None:
    folder = cases(tmp_path / "data", 1, liver=LIVER, spleen=SPLEEN)
    mask = write(folder / "s0000" / "segmentations" / "liver.nii.gz", LIVER, origin=(0, 0, 9))
    with pytest.raises(CohortError, match="not on the grid of its image") as refused:
        check_cohort([folder], [], [])
    assert str(mask) in refused.value.problem


def test_one_order_is_proposed_for_all_cases_and_settles_them(tmp_path: Path) -> None:
    folder = cases(tmp_path / "data", 1, liver=LIVER, tumor=TUMOR)
    write(folder / "s0001" / "ct.nii.gz", image_array(5))
    masks(folder / "s0001" / "segmentations", liver=LIVER, vessel=TUMOR[::-1])
    with pytest.raises(CohortError) as refused:
        check_cohort([folder], [], [])
    assert len(refused.value.problems) == 2
    assert {p.code for p in refused.value.problems} == {"overlap"}
    assert all('--order "liver,tumor,vessel"' in p.remedy for p in refused.value.problems)
    told: list[str] = []
    out = tmp_path / "cohort.json"
    cohort = check_cohort([folder], [], [], order=["liver", "tumor", "vessel"], modality="CT", out=out,
                          emit=lambda kind, **fields: told.append(str(fields.get("message"))))  # fmt: skip
    assert [case.voxels for case in cohort.cases] == [{1: 56, 2: 4, 3: 0}, {1: 56, 2: 0, 3: 4}]
    assert all(case.order == ("liver", "tumor", "vessel") for case in Cohort.read(out).cases)
    assert any("tumor lies over liver where both were drawn: in 1 case, at most 4 voxels (s0000)" in t for t in told)
    other = check_cohort([folder], [], [], order=["tumor", "vessel", "liver"], out=out, modality="CT", overwrite=True)
    assert other.cases[0].voxels == {1: 60, 2: 0, 3: 0}
    with pytest.raises(CohortError, match="No label file has a structure tumour"):
        check_cohort([folder], [], [], order=["liver", "tumor", "vessel", "tumour"])


def test_training_prepares_masks_by_the_order_of_the_check(tmp_path: Path) -> None:
    folder = cases(tmp_path / "data", 1, liver=LIVER, tumor=TUMOR)
    plan = override_plan(make_plan().model_dump(mode="json"), {"grid.spacing": [1.0, 1.0, 2.0]})
    found = {}
    for above in ("tumor", "liver"):
        cohort = check_cohort([folder], [], [], order=[above], modality="CT")
        (case,) = cohort.cases
        label = prepared_case(case, cohort, plan).label
        found[above] = [int(np.count_nonzero(label == channel)) for channel in (1, 2)]
        assert found[above] == [case.voxels[1], case.voxels[2]]
    assert found == {"tumor": [56, 4], "liver": [60, 0]}
    keys = {cached_case(case.model_copy(update={"order": order}), cohort, plan, tmp_path).folder
            for order in ((), ("liver",), ("tumor",))}  # fmt: skip
    assert len(keys) == 3
    write(folder / "s0000" / "segmentations" / "tumor.nii.gz", TUMOR * 2)
    with pytest.raises(DinomixError, match="has changed since it was checked"):
        prepared_case(case, cohort, plan)


@pytest.mark.parametrize("text", ["liver,,tumor", "liver,Liver", "none.json"])
def test_orders_that_cannot_be_used(text: str) -> None:
    with pytest.raises(DinomixError, match="order"):
        read_order(text)


def test_an_order_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('["liver, left", "tumor"]')
    assert read_order(str(tmp_path / "order.json")) == ("liver, left", "tumor")
    assert read_order("liver, tumor") == ("liver", "tumor")


def test_case_folders_tell_which_structures_were_drawn(tmp_path: Path) -> None:
    folder = cases(tmp_path / "data", 2, liver=LIVER, spleen=SPLEEN)
    (folder / "s0001" / "segmentations" / "spleen.nii.gz").unlink()
    found = find_cases([folder], [], [])
    assert [case.drawn for case in found.cases] == [("liver", "spleen"), ("liver",)]
    (folder / "s0001" / "ct.nii.gz").unlink()
    write(folder / "s0002" / "ct.nii.gz", image_array(3))
    found = find_cases([folder], [], [])
    assert [case.name for case in found.cases] == ["s0000"]
    assert [problem.problem.split("/")[-1] for problem in found.problems] == [
        "s0001 holds a label but no image.", "s0002 holds an image but no label."
    ]  # fmt: skip
    assert [case.name for case in find_cases([], [folder], []).cases] == ["s0000", "s0002"]


def test_masks_in_a_folder_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "images" / "p1.nii.gz", image_array(0))
    masks(tmp_path / "labels" / "p1", liver=LIVER)
    (found,) = find_cases([tmp_path], [], []).cases
    assert found.label == tmp_path / "labels" / "p1" and found.drawn == ("liver",)


def test_a_hundred_masks_are_read_quickly_and_one_at_a_time(tmp_path: Path) -> None:
    shape, count = (96, 128, 128), 100
    for number in range(count):
        array = np.zeros(shape, np.uint8)
        array[4 * (number % 20) : 4 * (number % 20) + 3, 20 * (number // 20) : 20 * (number // 20) + 10, 30:90] = 1
        write(tmp_path / "masks" / f"part{number:03d}.nii.gz", array)
    began = time.process_time()
    tracemalloc.start()
    volume, _ = read_label(tmp_path / "masks")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(volume.array)) == count + 1
    assert peak < count / 10 * volume.array.nbytes
    assert time.process_time() - began < 20


@pytest.mark.parametrize("listed", [False, True])
def test_a_missing_mask_was_not_drawn_and_an_empty_one_is_absent(tmp_path: Path, listed: bool) -> None:
    folder = cases(tmp_path / "data", 3, liver=LIVER, spleen=SPLEEN)
    write(folder / "s0001" / "segmentations" / "spleen.nii.gz", SPLEEN * 0)
    write(folder / "s0002" / "segmentations" / "spleen.nii.gz", SPLEEN * 0)
    (folder / "s0002" / "segmentations" / "liver.nii.gz").unlink()
    entries = [
        {
            "image": f"data/s000{n}/ct.nii.gz",
            "label": f"data/s000{n}/segmentations",
            "role": "labeled",
            "name": f"s000{n}",
        }
        for n in range(3)
    ]
    (tmp_path / "cases.json").write_text(json.dumps(entries))
    given = {"cases_file": tmp_path / "cases.json"} if listed else {}
    cohort = check_cohort([] if listed else [folder], [], [], modality="CT", **given)
    assert {case.name: case.drawn for case in cohort.cases} == {"s0000": None, "s0001": None, "s0002": (2,)}
