"""What ``check_cohort`` refuses, and what it says about the cases that it takes."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import SimpleITK as sitk

from cohort_folders import image_array, label_array, labeled_folder, write
from dinomix.cohort import cohort as cohort_module
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.facts import orientation
from dinomix.cohort.modality import looks_like_hu
from dinomix.cohort.problems import CohortError
from dinomix.cohort.table import summary, table
from dinomix.errors import DinomixError
from dinomix.files import LARGEST_JSON
from dinomix.images.reading import read_geometry, read_label
from dinomix.labels import LabelSet


class Notices(list):
    def __call__(self, kind: str, **fields: object) -> None:
        if kind == "notice":
            self.append(fields["message"])


def with_nan(folder: Path) -> None:
    array = image_array(1).astype(np.float32)
    array[2, 2, 2] = np.nan
    write(folder / "images/b.nii.gz", array)


def four_d(folder: Path) -> None:
    image = sitk.GetImageFromArray(image_array(1))
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(folder / "images/b.nii.gz"))


def rgb(folder: Path) -> None:
    write(folder / "images/b.nii.gz", np.stack([image_array(1).astype(np.uint8)] * 3, -1), vector=True)


def truncated(folder: Path) -> None:
    file = folder / "images/b.nii.gz"
    file.write_bytes(file.read_bytes()[:-200])


def text(folder: Path) -> None:
    (folder / "images/b.nii.gz").write_text("this is no image")


def constant_image(folder: Path) -> None:
    write(folder / "images/b.nii.gz", np.zeros_like(image_array(0)))


def shifted_label(folder: Path) -> None:
    write(folder / "labels/b.nii.gz", label_array(), origin=(1, 0, 0))


def smaller_label(folder: Path) -> None:
    write(folder / "labels/b.nii.gz", label_array()[:, :, :-1])


def fractions(folder: Path) -> None:
    write(folder / "labels/b.nii.gz", label_array().astype(np.float32) * 0.4)


def unknown_label(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps({"labels": {"1": "liver", "2": "spleen"}}))
    label = label_array()
    label[0, 0, 0] = 9
    write(folder / "labels/b.nii.gz", label)


def same_image_in_another_format(folder: Path) -> None:
    (folder / "images/b.nii.gz").unlink()
    write(folder / "images/b.nrrd", image_array(0).astype(np.float32))


MISTAKES: dict[Callable[[Path], None], str] = {
    with_nan: "images/b.nii.gz holds 1 voxels that are no numbers",
    four_d: "images/b.nii.gz is 4D",
    rgb: "images/b.nii.gz holds 3 numbers per voxel",
    truncated: "images/b.nii.gz is",
    text: "images/b.nii.gz is named like a NIfTI file but is none",
    constant_image: "images/b.nii.gz is empty",
    shifted_label: "labels/b.nii.gz is not on the grid of its image",
    smaller_label: "labels/b.nii.gz is not on the grid of its image",
    fractions: "labels/b.nii.gz holds numbers that are not whole",
    unknown_label: "labels/b.nii.gz holds the label 9",
    same_image_in_another_format: "images/b.nrrd (labeled) is the same image as",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_refused_by_name_and_nothing_is_written(tmp_path: Path, mistake: Callable[[Path], None]) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    mistake(folder)
    with pytest.raises(CohortError) as caught:
        check_cohort([folder], [], [], out=tmp_path / "out" / "cohort.json")
    assert len(caught.value.problems) == 1
    assert MISTAKES[mistake] in caught.value.problem
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c", "d", "e"])
    shutil.copyfile(folder / "images/a.nii.gz", folder / "images/e.nii.gz")
    (folder / "images/b.nii.gz").write_text("no image")
    (folder / "labels/c.nii.gz").unlink()
    label = label_array()
    label[0, 0, 0] = 7
    write(folder / "labels/d.nii.gz", label)
    labels = tmp_path / "labels.json"
    labels.write_text('{"1": "liver", "2": "spleen"}')
    with pytest.raises(CohortError) as caught:
        check_cohort([folder], [], [], labels=labels)
    told = "\n".join(error.problem for error in caught.value.problems)
    assert len(caught.value.problems) == 4, told
    for part in (
        "images/c.nii.gz has no label",
        "images/b.nii.gz is named",
        "labels/d.nii.gz holds the label 7",
        "e.nii.gz",
    ):
        assert part in told


def test_a_test_case_among_the_training_cases(tmp_path: Path) -> None:
    training = labeled_folder(tmp_path / "training", ["a", "b"])
    test = labeled_folder(tmp_path / "test", ["x"], first_seed=1)
    with pytest.raises(CohortError, match=r"x\.nii\.gz \(test\) is the same image as .*b\.nii\.gz \(labeled\)"):
        check_cohort([training], [], [test])


def test_one_image_in_twelve_axis_orders_is_one_image(test_data: Path, tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    with pytest.raises(CohortError) as caught:
        check_cohort([folder], [test_data / "orientations"], [])
    assert sum("is the same image as" in error.problem for error in caught.value.problems) == 11


def test_orientation_codes(test_data: Path) -> None:
    for file in sorted((test_data / "orientations").glob("*.nii.gz")):
        assert orientation(read_geometry(file)) == file.name.removesuffix(".nii.gz")


def test_dicom_that_is_no_volume_gets_a_line_each(test_data: Path, tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    with pytest.raises(CohortError) as caught:
        check_cohort([folder], [test_data / "dicom" / "failing"], [])
    assert len(caught.value.problems) == 6
    for error in caught.value.problems:
        assert "dicom/failing" in error.problem
        assert error.remedy


def test_no_label_of_an_unlabeled_case_is_read(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c", "d"])
    more = labeled_folder(tmp_path / "more", ["x"], first_seed=10)
    (more / "labels/x.nii.gz").write_text("not for your eyes")
    first = check_cohort([folder], [more], [], labeled_count=2, seed=5)
    for case in first.with_role("unlabeled"):
        (case.image.parents[1] / "labels" / case.image.name).write_text("not for your eyes")
    again = check_cohort([folder], [more], [], labeled_count=2, seed=5)
    assert again == first
    assert len(again.with_role("unlabeled")) == 3
    for case in again.with_role("unlabeled"):
        assert case.label is None
        assert case.label_sha256 is None
        assert not case.voxels
        assert not case.label_values


def test_structures_are_matched_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    swapped = label_array()
    swapped[label_array() == 1], swapped[label_array() == 2] = 2, 1
    write(folder / "a.nii.gz", image_array(0))
    write(folder / "a.seg.nrrd", label_array(), names={1: "Left Kidney", 2: "Spleen"})
    write(folder / "b.nii.gz", image_array(1))
    write(folder / "b.seg.nrrd", swapped, names={1: "spleen", 2: "kidney_left"})
    write(folder / "c.nii.gz", image_array(2))
    write(folder / "c.seg.nrrd", label_array(), names={1: "Spleen", 2: "Liver"})
    cohort = check_cohort([folder], [], [])
    assert dict(zip(cohort.labels.ids, cohort.labels.names, strict=True)) == {1: "Left Kidney", 2: "Spleen", 3: "Liver"}
    a, b, c = cohort.cases
    assert (a.label_values, b.label_values, c.label_values) == ({1: 1, 2: 2}, {1: 2, 2: 1}, {1: 2, 2: 3})
    large, small = (int((label_array() == value).sum()) for value in (1, 2))
    assert a.voxels == b.voxels == {1: large, 2: small, 3: 0}
    assert c.voxels == {1: 0, 2: large, 3: small}


def test_given_names_win_over_numbers(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    labels = tmp_path / "labels.json"
    labels.write_text('{"5": "Spleen", "9": "Liver"}')
    cohort = check_cohort([folder], [], [], labels=labels)
    assert cohort.labels.names == ("Spleen", "Liver")
    assert cohort.cases[0].label_values == {1: 9, 2: 5}


def test_a_segmentation_that_slicer_cropped_is_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "a.nii.gz", image_array(0))
    write(folder / "a.seg.nrrd", label_array()[1:5, 2:6, 2:7], origin=(2, 2, 2), names={1: "liver", 2: "spleen"})
    cohort = check_cohort([folder], [], [])
    assert cohort.cases[0].voxels == {1: int((label_array() == 1).sum()), 2: int((label_array() == 2).sum())}


def test_an_image_in_the_place_of_a_label(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    shutil.copyfile(folder / "images/a.nii.gz", folder / "labels/a.nii.gz")
    with pytest.raises(CohortError, match="more like an image than a label map"):
        check_cohort([folder], [], [])


@pytest.mark.parametrize(
    ("intensity", "ct"),
    [
        ((-1000, -50, 900), True),
        ((-110, 40, 180), True),
        ((-1024, -1024, 3000), True),
        ((0, 120, 800), False),
        ((-2.5, 0, 4.0), False),
        ((0, 0, 1.7e6), False),
    ],
)
def test_hounsfield_units(intensity: tuple[float, float, float], ct: bool) -> None:
    assert looks_like_hu(intensity) == ct


def test_modality_of_real_scans(test_data: Path, tmp_path: Path) -> None:
    for source in ("images", "labels"):
        (tmp_path / "ct" / source).mkdir(parents=True)
    (tmp_path / "ct/images/s.nii.gz").symlink_to(test_data / "ct_spleen/ct.nii.gz")
    (tmp_path / "ct/labels/s.nii.gz").symlink_to(test_data / "ct_spleen/spleen.nii.gz")
    heard = Notices()
    ct = check_cohort([tmp_path / "ct"], [test_data / "dicom" / "ge_anatomical" / "001"], [], emit=heard)
    assert ct.modality == "CT"
    assert any("do not look like it: 001" in message for message in heard)
    assert check_cohort([tmp_path / "ct"], [], [], modality="MR").modality == "MR"


def test_the_hippocampus_cohort(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "hippocampus"
    out = tmp_path / "cohort.json"
    cohort = check_cohort([folder], [], [], test_fraction=110, validation=0.03, labeled_count=4, seed=1, out=out)
    assert Cohort.read(out) == cohort
    data = summary(cohort)
    assert data["cases"] == {"labeled": 4, "unlabeled": 16, "validation": 4, "test": 110}
    assert data["modality"] == "MR"
    assert data["orientations"] == {"RAS": 134}
    assert data["spacing"] == {key: [1.0, 1.0, 1.0] for key in ("min", "median", "max")}
    case = cohort.with_role("labeled")[0]
    array = read_label(case.label)[0].array
    assert case.voxels == {1: int((array == 1).sum()), 2: int((array == 2).sum())}
    assert case.foreground_intensity is not None
    assert all(c.foreground_intensity is None for c in cohort.with_role("test"))
    assert "134 cases, 134 patients" in table(data)


def test_imbalance_and_notices(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    label = label_array()
    label[5, 7, 9] = 3
    write(folder / "labels/b.nii.gz", label)
    coarse = sitk.GetImageFromArray(image_array(7))
    coarse.SetSpacing((5, 1, 1))
    (tmp_path / "more").mkdir()
    sitk.WriteImage(coarse, str(tmp_path / "more/c.nrrd"))
    data = summary(check_cohort([folder], [tmp_path / "more"], []))
    assert data["imbalance"] == 2 * (label_array() == 1).sum()
    told = " ".join(data["notices"])
    assert "from 1 x 1 x 2 mm (a) to 5 x 1 x 1 mm (c)" in told
    assert "Only one labeled case shows these structures: class_3." in told


def test_another_cohort_is_not_overwritten(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    out = tmp_path / "cohort.json"
    check_cohort([folder], [], [], out=out)
    before = out.read_bytes()
    check_cohort([folder], [], [], out=out)
    with pytest.raises(DinomixError, match="another cohort"):
        check_cohort([folder], [], [], validation=1, out=out)
    assert out.read_bytes() == before
    check_cohort([folder], [], [], validation=1, out=out, overwrite=True)
    assert len(Cohort.read(out).with_role("validation")) == 1


def test_what_is_no_cohort_is_not_overwritten(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    out = tmp_path / "notes.json"
    out.write_text("{}")
    with pytest.raises(DinomixError, match="is no cohort file"):
        check_cohort([folder], [], [], out=out)
    assert out.read_text() == "{}"


def test_links_into_a_store_keep_the_ending_that_tells_the_format(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    for part in ("images", "labels"):
        file = folder / part / "a.nii.gz"
        file.rename(tmp_path / f"blob-{part}")
        file.symlink_to(tmp_path / f"blob-{part}")
    check_cohort([folder], [], [], out=tmp_path / "cohort.json")
    case = Cohort.read(tmp_path / "cohort.json").cases[0]
    assert (case.image.name, case.label and case.label.name) == ("a.nii.gz", "a.nii.gz")


def test_a_cohort_moves_with_its_folder(tmp_path: Path) -> None:
    labeled_folder(tmp_path / "one" / "in", ["a"])
    check_cohort([tmp_path / "one" / "in"], [], [], out=tmp_path / "one" / "cohort.json")
    (tmp_path / "one").rename(tmp_path / "zwei 二")
    case = Cohort.read(tmp_path / "zwei 二" / "cohort.json").cases[0]
    assert case.image.exists()


def test_a_case_of_many_structures_is_one_short_line_of_the_cohort_file(tmp_path: Path) -> None:
    cohort = check_cohort([labeled_folder(tmp_path / "in", ["a", "b"])], [], [])
    labels = LabelSet.from_names({id: f"structure {id}" for id in range(1, 118)})
    told = {"voxels": dict.fromkeys(labels.ids, 123456), "label_values": {id: id for id in labels.ids}}
    cases = tuple(case.model_copy(update=told) for case in cohort.cases)
    whole = cohort.model_copy(update={"labels": labels, "cases": cases})
    whole.write(tmp_path / "cohort.json")
    lines = (tmp_path / "cohort.json").read_text().splitlines()
    of_cases, of_structures = ([line for line in lines if line.startswith(start)] for start in ('{"name"', '{"id"'))
    assert len(of_cases) == 2 and max(map(len, of_cases)) < 4000 and len(of_structures) == 117
    assert Cohort.read(tmp_path / "cohort.json") == whole


def test_a_cohort_of_thousands_of_cases_can_be_read_again(tmp_path: Path) -> None:
    folder, out = labeled_folder(tmp_path / "in", ["a"]), tmp_path / "cohort.json"
    cohort = check_cohort([folder], [], [])
    case = cohort.cases[0].model_copy(update={"patient": "x" * LARGEST_JSON})  # instead of thousands
    cohort.model_copy(update={"cases": (case,)}).write(out)
    assert out.stat().st_size > LARGEST_JSON and Cohort.read(out).cases == (case,)
    with pytest.raises(DinomixError, match="holds another cohort"):
        check_cohort([folder], [], [], out=out)


def test_a_cohort_moves_between_windows_and_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeled_folder(tmp_path / "in", ["a"])
    out = tmp_path / "cohort.json"
    check_cohort([tmp_path / "in"], [], [], out=out)
    written = out.read_text()
    assert '"in/images/a.nii.gz"' in written
    out.write_text(written.replace("in/images/", "in\\\\images\\\\").replace("in/labels/", "in\\\\labels\\\\"))
    case = Cohort.read(out).cases[0]  # as earlier versions wrote it on Windows
    assert case.image.is_file() and case.label is not None and case.label.is_file()

    class WindowsPath(PureWindowsPath):
        def absolute(self) -> "WindowsPath":
            return self

    monkeypatch.setattr(cohort_module, "Path", WindowsPath)
    folder = WindowsPath("C:/study")
    assert cohort_module._below(folder, "C:\\study\\images\\a.nii.gz") == "images/a.nii.gz"
    assert cohort_module._below(folder, "D:\\a.nii.gz") == "D:\\a.nii.gz"


def test_a_damaged_checksum_is_found(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    file = folder / "images/b.nii.gz"
    data = bytearray(gzip.compress(gzip.decompress(file.read_bytes())))
    data[-6] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(CohortError, match=r"b\.nii\.gz is damaged"):
        check_cohort([folder], [], [])
