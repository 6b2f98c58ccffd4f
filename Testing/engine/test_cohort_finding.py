"""Which files are taken for a case, in every layout that is recognized."""

import json
import shutil
from pathlib import Path

import pytest

from cohort_folders import image_array, label_array, labeled_folder, write
from dinomix.cohort.finding import find_cases
from dinomix.cohort.found import Findings
from dinomix.images.channel_files import Channel


def pairs(found: Findings) -> dict[str, tuple[str, str | None]]:
    return {c.name: (c.image.name, c.label.name if c.label else None) for c in found.cases}


def touch(folder: Path, *names: str) -> Path:
    """Empty files: finding opens none."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_images_and_labels_with_equal_names_whatever_the_ending(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz", "images/b.nrrd", "images/._a.nii.gz", "images/notes.txt",
          "labels/a.seg.nrrd", "labels/b.nii.gz")  # fmt: skip
    found = find_cases([tmp_path], [], [])
    assert not found.problems
    assert pairs(found) == {"a": ("a.nii.gz", "a.seg.nrrd"), "b": ("b.nrrd", "b.nii.gz")}


def test_nnunet_and_decathlon(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/h_001_0000.nii.gz", "labelsTr/h_001.nii.gz", "imagesTs/h_002_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumor": 2}
    }))  # fmt: skip
    found = find_cases([tmp_path], [tmp_path], [])
    assert not found.problems
    assert pairs(found) == {"h_001": ("h_001_0000.nii.gz", "h_001.nii.gz"), "h_002": ("h_002_0000.nii.gz", None)}
    assert found.cases[0].names == {1: "liver", 2: "tumor"}
    assert found.modality == "CT"


def test_numbers_that_look_like_channels_stay_part_of_equal_names(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/amos_0000.nii.gz", "labelsTr/amos_0000.nii.gz")
    assert list(pairs(find_cases([tmp_path], [], []))) == ["amos_0000"]


@pytest.mark.parametrize("label", ["p1.seg.nrrd", "p1_seg.nii.gz", "p1-label.nrrd", "p1.labels.mha", "label_p1.nii.gz"])
def test_image_and_label_side_by_side(tmp_path: Path, label: str) -> None:
    touch(tmp_path, "p1.nii.gz", label)
    found = find_cases([tmp_path], [], [])
    assert not found.problems
    assert pairs(found) == {"p1": ("p1.nii.gz", label)}


def test_prefixes_of_image_and_label_folders(tmp_path: Path) -> None:
    touch(tmp_path, "img/img0007.nii.gz", "label/label0007.nii.gz")
    assert pairs(find_cases([tmp_path], [], [])) == {"0007": ("img0007.nii.gz", "label0007.nii.gz")}


def test_one_subfolder_for_each_case(tmp_path: Path) -> None:
    touch(tmp_path, "p1/ct.nrrd", "p1/Segmentation.seg.nrrd", "p2/t1.nii.gz", "p2/label.nii.gz")
    found = find_cases([tmp_path], [], [])
    assert pairs(found) == {"p1": ("ct.nrrd", "Segmentation.seg.nrrd"), "p2": ("t1.nii.gz", "label.nii.gz")}


def test_dicom_folders_are_cases(tmp_path: Path, test_data: Path) -> None:
    series = test_data / "dicom" / "ge_anatomical" / "001"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "p1").symlink_to(series)
    shutil.copytree(series, tmp_path / "images" / "p2" / "study" / "series")
    touch(tmp_path, "labels/p1.nii.gz", "labels/p2.seg.nrrd")
    assert pairs(find_cases([tmp_path], [], [])) == {"p1": ("p1", "p1.nii.gz"), "p2": ("series", "p2.seg.nrrd")}


def test_several_series_below_one_folder_are_one_patient(test_data: Path) -> None:
    found = find_cases([], [test_data / "dicom" / "failing"], [])
    assert {c.name: c.patient for c in found.cases if c.name.startswith("sliceincrement")} == {
        "sliceincrement_001": "sliceincrement", "sliceincrement_002": "sliceincrement"
    }  # fmt: skip


def test_an_unlabeled_folder_gives_images_only(tmp_path: Path) -> None:
    whole = touch(tmp_path / "whole", "images/a.nii.gz", "labels/a.nii.gz")
    flat = touch(tmp_path / "flat", "b.nii.gz", "b.seg.nrrd", "b_mask.nii.gz")
    found = find_cases([], [whole, flat], [])
    assert pairs(found) == {"a": ("a.nii.gz", None), "b": ("b.nii.gz", None)}
    deep = touch(tmp_path / "deep", "c.nii.gz", "site/d.nii.gz", "site/old/e.nrrd")
    found = find_cases([], [deep], [])
    assert pairs(found) == {"c": ("c.nii.gz", None)}
    assert any(f"passed over: 2, such as {deep / 'site' / 'd.nii.gz'}" in notice.message for notice in found.notices)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz"], "images/b.nii.gz has no label"),
        (["images/a.nii.gz", "labels/a.nii.gz", "labels/c.nii.gz"], "labels/c.nii.gz has no image"),
        (["a.nii.gz", "a_seg.nii.gz", "a-label.nii.gz"], "several labels: a-label.nii.gz and a_seg.nii.gz"),
        (
            ["a_ct.nii.gz", "a_mr.nii.gz", "a_seg.nii.gz"],
            "a_seg.nii.gz is the label of several images: a_ct.nii.gz and a_mr",
        ),
        (["images/a.nii.gz", "images/a_mr.nii.gz", "labels/a.nrrd"], "a.nrrd is the label of several images"),
        (["images/a.nii.gz"], "has images/ but no labels/"),
        (["readme.txt"], "holds no case"),
    ],
)
def test_what_cannot_be_paired_is_a_problem(tmp_path: Path, files: list[str], says: str) -> None:
    found = find_cases([touch(tmp_path, *files)], [], [])
    assert len(found.problems) == 1
    assert says in found.problems[0].problem
    assert found.problems[0].remedy


def test_images_of_one_label_are_the_channels_of_one_case_or_left_out(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a_ct.nii.gz", "a_mr.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz")
    (problem,) = find_cases([folder], [], []).problems
    assert problem.case == "a" and "--channel" in problem.remedy
    found = find_cases([folder], [], [], exclude=["a"])
    assert not found.problems and list(pairs(found)) == ["b"]
    for name in ("b.nii.gz", "b_seg.nii.gz"):
        (folder / name).unlink()
    found = find_cases([folder], [], [], channels=[Channel("ct"), Channel("mr")])
    assert not found.problems
    assert [[path.name for path in case.images] for case in found.cases] == [["a_ct.nii.gz", "a_mr.nii.gz"]]


@pytest.mark.parametrize("labels", [{"whole": [1, 1]}, "liver"])
def test_label_names_that_cannot_be_used(tmp_path: Path, labels: object) -> None:
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert "dataset.json" in find_cases([tmp_path], [], []).problems[0].problem


def test_a_folder_given_twice(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "f", ["a"])
    assert "as labeled and as test" in find_cases([folder], [], [folder]).problems[0].problem
    assert "--labeled-count" in find_cases([folder], [folder], []).problems[0].remedy


def test_equal_names_in_two_folders_stay_two_cases(tmp_path: Path) -> None:
    one, two = (touch(tmp_path / x, "images/a.nii.gz", "labels/a.nii.gz") for x in ("one", "two"))
    found = find_cases([one], [], [two])
    assert [c.name for c in found.cases] == ["labeled_a", "test_a"]
    assert any(notice.code == "patients" for notice in found.notices)


def test_names_of_any_script(tmp_path: Path) -> None:
    folder = tmp_path / "Prüfung 测试 mit Raum"
    write(folder / "images" / "Müller 患者 1.nii.gz", image_array(0))
    write(folder / "labels" / "Müller 患者 1.nii.gz", label_array())
    assert list(pairs(find_cases([folder], [], []))) == ["Müller 患者 1"]
