"""Data sets as other programs lay them out: which files are a case, and one clear line for what is not."""

import json
from pathlib import Path

import numpy as np
import pytest

from cohort_folders import image_array, label_array, write
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.finding import find_cases
from dinomix.cohort.found import Findings
from dinomix.cohort.problems import CohortError
from dinomix.images.channel_files import Channel


def touch(folder: Path, *names: str) -> Path:
    """Empty files: finding opens none."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def shown(found: Findings) -> dict[str, tuple[str, str | None]]:
    """Case -> image and label, relative to the folder above the data set."""
    return {
        case.name: (case.image.name, str(Path(*case.label.parts[-3:])) if case.label is not None else None)
        for case in found.cases
    }


def problem_of(found: Findings) -> str:
    (problem,) = found.problems
    assert problem.remedy and problem.file is not None
    return str(problem)


# MONAI Label


def store(folder: Path, names: dict[int, str] | None = None) -> Path:
    for number in range(3):
        write(folder / f"spleen_{number}.nii.gz", image_array(number))
    write(folder / "labels" / "final" / "spleen_0.nii.gz", label_array())
    write(folder / "labels" / "original" / "spleen_1.nii.gz", label_array())
    info = {"label_info": [{"name": name, "idx": value} for value, name in (names or {}).items()]}
    entry = {"image": {"ext": ".nii.gz"}, "labels": {"final": {"ext": ".nii.gz", "info": info}}}
    (folder / "datastore_v2.json").write_text(json.dumps({"name": "x", "objects": {"spleen_0": entry}}))
    return folder


def test_a_store_of_monai_label_gives_its_final_labels(tmp_path: Path) -> None:
    folder = store(tmp_path, {1: "spleen", 2: "tumor"})
    found = find_cases([folder], [], [])
    assert shown(found) == {"spleen_0": ("spleen_0.nii.gz", "labels/final/spleen_0.nii.gz")}
    assert "without a label in labels/final were passed over: 2" in found.notices[0].message
    both = find_cases([folder], [folder], [])
    assert [case.name for case in both.cases if case.pool == "unlabeled"] == ["spleen_1", "spleen_2"]
    assert len(find_cases([], [folder], []).cases) == 3
    cohort = check_cohort([folder], [folder], [])
    assert cohort.labels.names == ("spleen", "tumor")


def test_a_store_with_images_in_a_folder_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "scans/a.nrrd", "labels/final/a.seg.nrrd", "labels/original/b.nii.gz")
    (tmp_path / "datastore_v2.json").write_text('{"images_dir": "scans"}')
    assert shown(find_cases([tmp_path], [], [])) == {"a": ("a.nrrd", "labels/final/a.seg.nrrd")}


def test_a_store_whose_label_lost_its_image_or_whose_table_is_damaged(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.nii.gz", "labels/final/a.nii.gz", "labels/final/b.nii.gz")
    assert "b.nii.gz has no image" in problem_of(find_cases([folder], [], []))
    (folder / "labels/final/b.nii.gz").unlink()
    (folder / "datastore_v2.json").write_text("{")
    assert "datastore_v2.json cannot be read" in problem_of(find_cases([folder], [], []))


def test_numbers_that_the_store_does_not_name_are_refused(tmp_path: Path) -> None:
    folder = store(tmp_path, {1: "spleen"})
    with pytest.raises(CohortError, match=r"spleen_0.nii.gz holds the label 2"):
        check_cohort([folder], [], [])


# BIDS


def bids(folder: Path, *more: str) -> Path:
    (folder / "derivatives" / "manual").mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"BIDSVersion": "1.9.0"}')
    (folder / "derivatives/manual/desc-manual_dseg.tsv").write_text(
        "index\tname\tcolor\n0\tBackground\t-\n1\tGM\t-\n2\tWM\t-\n"
    )
    return touch(
        folder,
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-02/anat/sub-02_T2w.nii.gz",
        "sub-02/func/sub-02_task-rest_bold.nii.gz",
        "sub-03/anat/sub-03_T1w.nii.gz",
        "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_desc-manual_dseg.nii.gz",
        "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_desc-manual_probseg.nii.gz",
        "derivatives/manual/sub-02/anat/sub-02_space-T1w_desc-manual_dseg.nii.gz",
        *more,
    )


def test_bids_pairs_by_entities_and_the_subject_is_the_patient(tmp_path: Path) -> None:
    folder = bids(tmp_path)
    found = find_cases([folder], [folder], [])
    assert not found.problems
    assert shown(found) == {
        "sub-01_ses-1_T1w": ("sub-01_ses-1_T1w.nii.gz", "ses-1/anat/sub-01_ses-1_desc-manual_dseg.nii.gz"),
        "sub-02_T1w": ("sub-02_T1w.nii.gz", "sub-02/anat/sub-02_space-T1w_desc-manual_dseg.nii.gz"),
        "sub-01_ses-2_T1w": ("sub-01_ses-2_T1w.nii.gz", None),
        "sub-03_T1w": ("sub-03_T1w.nii.gz", None),
    }
    assert [case.patient for case in found.cases] == ["sub-01", "sub-02", "sub-01", "sub-03"]
    assert found.cases[0].names == {1: "GM", 2: "WM"}
    assert len(find_cases([], [folder], []).cases) == 5


def test_bids_a_table_beside_the_label_comes_first(tmp_path: Path) -> None:
    folder = bids(tmp_path)
    beside = folder / "derivatives/manual/sub-02/anat/sub-02_space-T1w_desc-manual_dseg.tsv"
    beside.write_text("index\tname\n1\tlesion\n")
    cases = {case.name: case.names for case in find_cases([folder], [], []).cases}
    assert cases == {"sub-01_ses-1_T1w": {1: "GM", 2: "WM"}, "sub-02_T1w": {1: "lesion"}}
    beside.write_text("number,name\n1,lesion\n")
    assert 'the columns "index" and "name"' in problem_of(find_cases([folder], [], []))
    for row in (b"1\t\xff", b"1", b"1\ta\n1\tb", b"x\ta"):
        beside.write_bytes(b"index\tname\n" + row + b"\n")
        assert "cannot be used" in problem_of(find_cases([folder], [], []))


def test_bids_one_pipeline_is_chosen_by_its_folder(tmp_path: Path) -> None:
    folder = bids(tmp_path, "derivatives/auto/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz")
    told = problem_of(find_cases([folder], [], []))
    assert "several labels: derivatives/auto/sub-01" in told and "derivatives/NAME" in told
    found = find_cases([folder / "derivatives" / "auto"], [], [])
    assert shown(found) == {"sub-01_ses-1_T1w": ("sub-01_ses-1_T1w.nii.gz", "ses-1/anat/sub-01_ses-1_dseg.nii.gz")}


def test_bids_a_pipeline_and_the_whole_data_set(tmp_path: Path) -> None:
    folder = bids(tmp_path)
    found = find_cases([folder / "derivatives" / "manual"], [folder], [])
    assert [case.pool for case in found.cases] == ["labeled"] * 2 + ["unlabeled"] * 3
    assert any("passed over: 2" in notice.message for notice in found.notices)


def test_bids_a_label_that_fits_several_images_needs_its_source(tmp_path: Path) -> None:
    label = "derivatives/manual/sub-02/anat/sub-02_desc-manual_dseg"
    folder = bids(tmp_path, f"{label}.nii.gz")
    (folder / "derivatives/manual/sub-02/anat/sub-02_space-T1w_desc-manual_dseg.nii.gz").unlink()
    assert "several images: sub-02_T1w.nii.gz, sub-02_T2w.nii.gz" in problem_of(find_cases([folder], [], []))
    (folder / f"{label}.json").write_text('{"Sources": ["bids:raw:sub-02/anat/sub-02_T2w.nii.gz"]}')
    assert "sub-02_T2w" in shown(find_cases([folder], [], []))


def test_bids_without_labels_or_images(tmp_path: Path) -> None:
    folder = touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    assert "holds no label" in problem_of(find_cases([folder], [], []))
    touch(folder, "derivatives/x/sub-09/anat/sub-09_dseg.nii.gz", "derivatives/x/sub-01/anat/sub-01_dseg.nii.gz")
    assert "sub-09_dseg.nii.gz has no image" in problem_of(find_cases([folder], [], []))


def test_a_bids_cohort_is_checked_and_split_by_subject(tmp_path: Path) -> None:
    for number, name in enumerate(("sub-01_run-1", "sub-01_run-2", "sub-02_run-1")):
        subject = name[:6]
        write(tmp_path / subject / "anat" / f"{name}_T1w.nii.gz", image_array(number))
        write(tmp_path / "derivatives" / "m" / subject / "anat" / f"{name}_dseg.nii.gz", label_array())
    cohort = check_cohort([tmp_path], [], [], validation=1, seed=3)
    assert {case.patient for case in cohort.cases} == {"sub-01", "sub-02"}
    assert len({case.role for case in cohort.cases if case.patient == "sub-01"}) == 1


def test_bids_masks_are_structures_by_their_names(tmp_path: Path) -> None:
    """Two of one image in a folder of their own; beside the image; and of two images in one folder."""
    liver = (label_array() == 1).astype(np.uint8)
    files = {
        "sub-01/anat/sub-01_T1w": image_array(1), "sub-02/anat/sub-02_T1w": image_array(2),
        "sub-03/anat/sub-03_acq-a_T1w": image_array(3), "sub-03/anat/sub-03_acq-b_T1w": image_array(4),
        "derivatives/manual/sub-01/anat/sub-01_space-T1w_label-liver_mask": liver,
        "derivatives/manual/sub-01/anat/sub-01_space-T1w_desc-by2_label-cyst_mask": (label_array() == 2) * np.uint8(1),
        "derivatives/manual/sub-01/anat/sub-01_space-T1w_desc-preproc_T1w": image_array(1),
        "sub-02/anat/sub-02_label-liver_mask": liver,
        "derivatives/manual/sub-03/anat/sub-03_acq-a_label-liver_mask": liver,
        "derivatives/manual/sub-03/anat/sub-03_acq-b_label-liver_mask": liver,
    }  # fmt: skip
    for name, array in files.items():
        write(tmp_path / "set" / f"{name}.nii.gz", array)
    cohort = check_cohort([tmp_path / "set"], [], [])
    assert cohort.labels.names == ("liver", "cyst")
    whole, part = liver.sum(), (label_array() == 2).sum()
    found = {case.name: (case.voxels, case.drawn, case.undecided) for case in cohort.cases}
    assert found["sub-01_T1w"] == ({1: whole, 3: part}, None, ())
    others = ("sub-02_T1w", "sub-03_acq-a_T1w", "sub-03_acq-b_T1w")
    assert {name: found[name] for name in others} == dict.fromkeys(others, ({1: whole, 3: 0}, (1,), (3,)))
    write(tmp_path / "set/derivatives/manual/sub-03/anat/sub-03_acq-b_label-cyst_mask.nii.gz", liver)
    with pytest.raises(CohortError, match="beside those of other images"):
        check_cohort([tmp_path / "set"], [], [])
    # Where there are segmentations, masks are something else.
    write(tmp_path / "set/derivatives/manual/sub-02/anat/sub-02_dseg.nii.gz", label_array())
    assert [case.name for case in check_cohort([tmp_path / "set"], [], []).cases] == ["sub-02_T1w"]


def test_bids_cases_of_several_channels(tmp_path: Path) -> None:
    folder = bids(tmp_path, "sub-04/anat/sub-04_T1w.nii.gz", "sub-04/anat/sub-04_T2w.nii.gz")
    (folder / "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_desc-manual_dseg.nii.gz").unlink()
    for name in ("sub-01/ses-1/anat/sub-01_ses-1", "sub-01/ses-2/anat/sub-01_ses-2"):
        touch(folder, f"{name}_T2w.nii.gz")
    found = find_cases([folder], [folder], [], channels=[Channel("T1w"), Channel("T2w")])
    images = {case.name: [path.name for path in case.images] for case in found.cases}
    assert images["sub-02"] == ["sub-02_T1w.nii.gz", "sub-02_T2w.nii.gz"]
    assert [case.name for case in found.cases if case.pool == "unlabeled"] == ["sub-01_ses-1", "sub-01_ses-2", "sub-04"]
    assert {"T2w" in problem.problem and "sub-03" in problem.problem for problem in found.problems} == {True}


def test_a_store_of_several_channels_and_cases_with_masks(tmp_path: Path) -> None:
    channels = [Channel("t1"), Channel("t2")]
    touch(tmp_path, "s/a_t1.nii.gz", "s/a_t2.nii.gz", "s/b_t1.nii.gz", "s/b_t2.nii.gz", "s/labels/final/a.nii.gz")
    found = find_cases([tmp_path / "s"], [tmp_path / "s"], [], channels=channels)
    assert not found.problems
    assert [(case.name, case.pool, len(case.images)) for case in found.cases] == [
        ("a", "labeled", 2),
        ("b", "unlabeled", 2),
    ]
    for case in ("p1", "p2"):
        touch(tmp_path / "m" / case, "t1.nii.gz", "t2.nii.gz", "segmentations/liver.nii.gz")
    found = find_cases([tmp_path / "m"], [], [])
    assert [channel.name for channel in found.channels] == ["t1", "t2"]
    assert [(case.name, len(case.images), case.drawn) for case in found.cases] == [
        ("p1", 2, ("liver",)),
        ("p2", 2, ("liver",)),
    ]


def test_folders_named_image_and_label_or_masks(tmp_path: Path) -> None:
    """As the archive has them that a MONAI Label server gives out, and as many scripts write them."""
    touch(tmp_path, "one/image/a.nii.gz", "one/label/a.nii.gz", "two/images/b.nii.gz", "two/masks/b_mask.nii.gz")
    assert len(find_cases([tmp_path / "one", tmp_path / "two"], [], []).cases) == 2
