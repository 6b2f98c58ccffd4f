"""Cohorts of cases with several images: which files belong together, what they hold, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from cohort_folders import SHAPE, image_array, label_array, write
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.problems import CohortError
from dinomix.errors import DinomixError
from dinomix.images.channel_files import Channel, channel_of_option

T1, T2 = image_array(1), image_array(2)


def four(path: Path, *arrays: np.ndarray) -> None:
    """A 4D file with the channels last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stacked = np.stack([array.transpose(2, 1, 0) for array in arrays], -1)
    image = nibabel.Nifti1Image(stacked, np.diag([-1.0, -1.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def numbered(folder: Path) -> tuple[str, ...]:
    for n, name in enumerate(("a", "b")):
        write(folder / f"labeled/imagesTr/{name}_0000.nii.gz", image_array(10 + n))
        write(folder / f"labeled/imagesTr/{name}_0001.nii.gz", image_array(20 + n))
        write(folder / f"labeled/labelsTr/{name}.nii.gz", label_array())
    write(folder / "unlabeled/c_0000.nii.gz", image_array(12))
    write(folder / "unlabeled/c_0001.nii.gz", image_array(22))
    return "channel_0", "channel_1"


def numbered_with_names(folder: Path) -> tuple[str, ...]:
    numbered(folder)
    names = {"channel_names": {"0": "T1 w/o fat", "1": "T2"}, "labels": {"background": 0, "x": 1, "y": 2}}
    (folder / "labeled/dataset.json").write_text(json.dumps(names))
    return "T1 w o fat", "T2"


def four_dimensional(folder: Path) -> tuple[str, ...]:
    for n, name in enumerate(("a", "b")):
        four(folder / f"labeled/imagesTr/{name}.nii.gz", image_array(10 + n), image_array(20 + n))
        write(folder / f"labeled/labelsTr/{name}.nii.gz", label_array())
    four(folder / "unlabeled/c.nii.gz", image_array(12), image_array(22))
    names = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "x", "2": "y"}}
    (folder / "labeled/dataset.json").write_text(json.dumps(names))
    return "T2", "ADC"


def folders(folder: Path) -> tuple[str, ...]:
    for n, name in enumerate(("a", "b")):
        write(folder / f"labeled/{name}/t1.nii.gz", image_array(10 + n))
        write(folder / f"labeled/{name}/t2.nii.gz", image_array(20 + n))
        write(folder / f"labeled/{name}/segmentation.nii.gz", label_array())
    write(folder / "unlabeled/c/t1.nii.gz", image_array(12))
    write(folder / "unlabeled/c/t2.nii.gz", image_array(22))
    return "t1", "t2"


def folders_with_the_case_in_each_name(folder: Path) -> tuple[str, ...]:
    """As BraTS has them."""
    for n, name in enumerate(("a", "b")):
        write(folder / f"labeled/{name}/{name}_flair.nii.gz", image_array(10 + n))
        write(folder / f"labeled/{name}/{name}_t1.nii.gz", image_array(20 + n))
        write(folder / f"labeled/{name}/{name}_t1ce.nii.gz", image_array(30 + n))
        write(folder / f"labeled/{name}/{name}_seg.nii.gz", label_array())
    for n, kind in enumerate(("flair", "t1", "t1ce")):
        write(folder / f"unlabeled/c/c_{kind}.nii.gz", image_array(40 + n))
    return "flair", "t1", "t1ce"


LAYOUTS = (numbered, numbered_with_names, four_dimensional, folders, folders_with_the_case_in_each_name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_are_found_in_every_layout(layout: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    names = layout(tmp_path)
    cohort = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [], out=tmp_path / "cohort.json")
    assert cohort.channels == names
    assert [case.name for case in cohort.cases] == ["a", "b", "c"]
    assert all(len(case.images) == len(names) for case in cohort.cases)
    assert cohort.modalities == ("MR",) * len(names)
    read = Cohort.read(tmp_path / "cohort.json")
    assert [case.images for case in read.cases] == [case.images for case in cohort.cases]
    assert all(image.exists() for case in read.cases for image in case.images)
    for case in cohort.cases:
        assert len(set(case.intensities)) == len(names)
        assert all((values is None) == (case.role == "unlabeled") for values in case.foreground_intensities)
    again = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [], out=tmp_path / "cohort.json")
    assert again == cohort  # what is remembered is what was read


def test_a_cohort_of_one_image_is_written_as_before(tmp_path: Path) -> None:
    write(tmp_path / "labeled/images/a.nii.gz", T1)
    write(tmp_path / "labeled/labels/a.nii.gz", label_array())
    check_cohort([tmp_path / "labeled"], [], [], out=tmp_path / "cohort.json")
    data = json.loads((tmp_path / "cohort.json").read_text())
    assert not {"channels", "more_modalities"} & set(data)
    assert not [key for key in data["cases"][0] if key.startswith("more_")]


def test_numbers_that_labels_have_too_are_cases(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"labeled/images/scan_{number:04d}.nii.gz", image_array(number))
        write(tmp_path / f"labeled/labels/scan_{number:04d}.nii.gz", label_array())
    cohort = check_cohort([tmp_path / "labeled"], [], [])
    assert cohort.channels == () and len(cohort.cases) == 3


def test_a_missing_channel_is_refused_by_the_names_of_case_and_channel(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "labeled/b/t2.nii.gz").unlink()
    write(tmp_path / "labeled/d/t1.nii.gz", image_array(40))
    write(tmp_path / "labeled/d/t2.nii.gz", image_array(41))
    write(tmp_path / "labeled/d/segmentation.nii.gz", label_array())
    (tmp_path / "unlabeled/c/t1.nii.gz").unlink()
    with pytest.raises(CohortError) as caught:
        check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [])
    told = sorted(str(problem) for problem in caught.value.problems)
    assert len(told) == 2
    assert told[0].startswith("The case b lacks the channel t2.") and told[1].startswith(
        "The case c lacks the channel t1."
    )
    assert {(problem.case, problem.code) for problem in caught.value.problems} == {("b", "channels"), ("c", "channels")}
    kept = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [], exclude=["b", "c"])
    assert [case.name for case in kept.cases] == ["a", "d"]


def test_another_grid_is_told_and_another_place_refused(tmp_path: Path) -> None:
    folders(tmp_path)
    write(tmp_path / "labeled/a/t2.nii.gz", image_array(50)[:4])
    seen: list[str] = []
    check_cohort(
        [tmp_path / "labeled"], [], [], emit=lambda kind, **fields: seen.append(str(fields.get("message", "")))
    )
    assert any("a: The image t2 was resampled onto the grid of t1; it covers 67% of it." in text for text in seen)
    write(tmp_path / "labeled/a/t2.nii.gz", image_array(50), origin=(0, 0, 500))
    with pytest.raises(DinomixError, match="t1 and t2 do not show the same place"):
        check_cohort([tmp_path / "labeled"], [], [])


def test_one_image_as_two_channels_is_refused(tmp_path: Path) -> None:
    folders(tmp_path)
    write(tmp_path / "labeled/a/t2.nii.gz", image_array(10))
    with pytest.raises(DinomixError, match=r"The channels t1 and t2 of .* are the same image"):
        check_cohort([tmp_path / "labeled"], [], [])


def ct_array(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.int16([-1000, -90, 40, 60]), SHAPE)


def test_pet_and_ct_are_told_apart_and_a_swap_is_refused(tmp_path: Path) -> None:
    for n, name in enumerate(("a", "b", "c")):
        write(tmp_path / f"labeled/{name}/ct.nii.gz", ct_array(n))
        write(tmp_path / f"labeled/{name}/pet.nii.gz", image_array(n))
        write(tmp_path / f"labeled/{name}/seg.nii.gz", label_array())
    assert check_cohort([tmp_path / "labeled"], [], []).modalities == ("CT", "PT")
    write(tmp_path / "labeled/c/ct.nii.gz", image_array(2))
    write(tmp_path / "labeled/c/pet.nii.gz", ct_array(2))
    with pytest.raises(DinomixError, match="The images of c seem to be in each other's place"):
        check_cohort([tmp_path / "labeled"], [], [])


def series(folder: Path, description: str, patient: str, seed: int) -> None:
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(image_array(seed)):
        image = sitk.GetImageFromArray(plane)
        tags = {
            "0008|0060": "MR", "0008|103e": description, "0010|0020": patient, "0020|000e": f"1.2.{seed}",
            "0008|0018": f"1.2.{seed}.{number + 1}", "0020|0013": str(number + 1), "0020|0032": f"0\\0\\{2 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:03}.dcm"))
        writer.Execute(image)


def test_dicom_series_are_chosen_by_their_descriptions(tmp_path: Path) -> None:
    for n, name in enumerate(("p1", "p2")):
        series(tmp_path / f"unlabeled/{name}/0001", "t1_mprage_sag", name, 70 + n)
        series(tmp_path / f"unlabeled/{name}/0002", "T2 TSE tra", name, 80 + n)
        series(tmp_path / f"unlabeled/{name}/0003", "localizer", name, 90 + n)
    folders(tmp_path)
    cohort = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [])
    of_p1 = next(case for case in cohort.cases if case.name == "p1")
    assert [image.name for image in of_p1.images] == ["0001", "0002"]
    assert {case.patient for case in cohort.cases} == {"a", "b", "c", "p1", "p2"}
    chosen = [channel_of_option("t1"), channel_of_option("localizer=local*")]
    write(tmp_path / "labeled/a/localizer.nii.gz", image_array(60))
    write(tmp_path / "labeled/b/localizer.nii.gz", image_array(61))
    cohort = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [], channels=chosen, exclude=["c"])
    of_p1 = next(case for case in cohort.cases if case.name == "p1")
    assert [image.name for image in of_p1.images] == ["0001", "0003"]


def test_series_of_two_patients_are_refused(tmp_path: Path) -> None:
    folders(tmp_path)
    series(tmp_path / "unlabeled/p1/0001", "t1", "Jane", 70)
    series(tmp_path / "unlabeled/p1/0002", "t2", "Jill", 80)
    with pytest.raises(DinomixError, match="are of different patients by their DICOM headers"):
        check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [])


def test_channels_are_chosen_and_ordered_by_the_user(tmp_path: Path) -> None:
    folders_with_the_case_in_each_name(tmp_path)
    chosen = [channel_of_option("enhanced=*t1ce"), channel_of_option("t1")]
    cohort = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [], channels=chosen)
    assert cohort.channels == ("enhanced", "t1")
    assert [image.name for image in cohort.cases[0].images] == ["a_t1ce.nii.gz", "a_t1.nii.gz"]
    with pytest.raises(DinomixError, match="--channel @x names no channel"):
        channel_of_option("@x")


def test_a_list_of_cases_names_further_images(tmp_path: Path) -> None:
    write(tmp_path / "one.nii.gz", T1)
    write(tmp_path / "two.nii.gz", T2)
    write(tmp_path / "label.nii.gz", label_array())
    entry = {
        "image": "one.nii.gz",
        "more_images": ["two.nii.gz"],
        "label": "label.nii.gz",
        "role": "labeled",
        "name": "a",
    }
    (tmp_path / "cases.json").write_text(json.dumps([entry]))
    chosen = [Channel("t1"), Channel("t2")]
    cohort = check_cohort([], [], [], cases_file=tmp_path / "cases.json", channels=chosen)
    assert [image.name for image in cohort.cases[0].images] == ["one.nii.gz", "two.nii.gz"]
    with pytest.raises(DinomixError, match="The case a has 2 images; the cohort has 1 channels"):
        check_cohort([], [], [], cases_file=tmp_path / "cases.json")


def test_the_label_of_a_case_that_lacks_a_channel_is_no_problem_of_its_own(tmp_path: Path) -> None:
    numbered(tmp_path)
    (tmp_path / "labeled/imagesTr/b_0001.nii.gz").unlink()
    with pytest.raises(CohortError) as caught:
        check_cohort([tmp_path / "labeled"], [], [], channels=[Channel("t1"), Channel("t2")])
    assert [problem.problem.split(".")[0] for problem in caught.value.problems] == [
        "The case b lacks the channel t2 (_0001)"
    ]


def test_some_channels_of_a_dataset_json_may_be_chosen_in_another_order(tmp_path: Path) -> None:
    numbered_with_names(tmp_path)
    chosen = check_cohort([tmp_path / "labeled"], [], [], channels=[Channel("t2")])
    assert chosen.channels == ("t2",) and [case.image.name for case in chosen.cases] == [
        "a_0001.nii.gz",
        "b_0001.nii.gz",
    ]
    turned = check_cohort([tmp_path / "labeled"], [], [], channels=[Channel("T2"), Channel("T1 w o fat")])
    assert [image.name for image in turned.cases[0].images] == ["a_0001.nii.gz", "a_0000.nii.gz"]


def test_volumes_of_one_file_are_not_taken_in_another_order(tmp_path: Path) -> None:
    four_dimensional(tmp_path)
    with pytest.raises(DinomixError, match="holds its channels in another order than ADC, T2"):
        check_cohort([tmp_path / "labeled"], [], [], channels=[Channel("ADC"), Channel("T2")])


def test_numbers_of_dicom_series_are_no_channels(tmp_path: Path) -> None:
    folders(tmp_path)
    series(tmp_path / "unlabeled/p1/ser_0000", "t2", "p1", 70)
    series(tmp_path / "unlabeled/p1/ser_0001", "t1", "p1", 80)
    cohort = check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled"], [])
    of_p1 = next(case for case in cohort.cases if case.name == "p1")
    assert [image.name for image in of_p1.images] == ["ser_0001", "ser_0000"]
    with pytest.raises(DinomixError, match="lacks the channel t1"):
        check_cohort([tmp_path / "labeled"], [tmp_path / "unlabeled/p1/ser_0000"], [])
