"""Cohorts whose labels are DICOM segmentations and structure sets: each is found by the UIDs of the series it was drawn on."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_files import GRID, ORGANS, in_patient, write_ct, write_seg, write_structures
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.found import Findings
from dinomix.cohort.layouts import dicom_trees
from dinomix.cohort.layouts.dicom_trees import DicomTree, tree_cases
from dinomix.cohort.problems import CohortError
from dinomix.cohort.renaming import Renames
from dinomix.errors import DinomixError
from dinomix.evaluation.evaluate import evaluate_folders
from dinomix.images.channel_files import channels_of
from dinomix.images.dicom_drawn import DrawnOn
from dinomix.images.dicom_header import DicomHeader
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume
from dinomix.images.writing import write_image, write_labels

SIZE = GRID.size[::-1]
SQUARE = [(0.5, 1.5), (3.5, 1.5), (3.5, 4.5), (0.5, 4.5)]
"""(i, j) in voxels; around 9 centers."""


def ct(folder: Path, seed: int, **more: str) -> list[Dataset]:
    return write_ct(folder, np.random.default_rng(seed).integers(-1000, 1000, SIZE), **more)


def organs(seed: int = 0) -> np.ndarray:
    array = np.random.default_rng(seed).integers(0, 4, SIZE).astype(np.uint8)
    array[0] = 0
    return array


def square(k: int) -> list[np.ndarray]:
    return [in_patient([(i, j, k) for i, j in SQUARE])]


def counts(array: np.ndarray) -> dict[int, int]:
    return {id: int((array == id).sum()) for id in (1, 2, 3)}


def problems(*folders: Path) -> list[str]:
    with pytest.raises(CohortError) as caught:
        check_cohort(list(folders), [], [])
    for error in caught.value.problems:
        assert error.remedy
        assert "\n" not in str(error)
    return [error.problem for error in caught.value.problems]


def labeled(*folders: Path, told: list[str] | None = None) -> Cohort:
    def emit(kind: str, **fields: object) -> None:
        if kind == "notice" and told is not None:
            told.append(str(fields["message"]))

    return check_cohort(list(folders), [], [], emit=emit)


def test_folders_of_images_and_of_labels(tmp_path: Path) -> None:
    """A file of the case's name, and a folder with the file, as archives name it."""
    for number, name in enumerate(("a", "b")):
        slices = ct(tmp_path / "in/images" / name, number)
        write_seg(tmp_path / "in/labels" / ("a.dcm" if name == "a" else "b/1-1"), slices, organs(number))
    cohort = labeled(tmp_path / "in")
    assert [case.name for case in cohort.cases] == ["a", "b"]
    assert cohort.labels.names == tuple(ORGANS)
    assert cohort.modality == "CT"
    for number, case in enumerate(cohort.cases):
        assert case.voxels == counts(organs(number))
        np.testing.assert_array_equal(
            read_label(case.label, like=read_image(case.image).geometry)[0].array, organs(number)
        )


def test_an_archives_tree(tmp_path: Path) -> None:
    """Series, segmentation and structure set in folders of their own; a scout on which nothing was drawn."""
    root = tmp_path / "export"
    first = ct(root / "P1/study/1-CT", 0)
    write_seg(root / "P1/study/300-SEG/1-1.dcm", first, organs())
    ct(root / "P1/study/2-scout", 1, description="Scout")
    second = ct(root / "P2/2020/CT", 2)
    write_structures(root / "P2/2020/RT/rt", second, {"Leber": square(2), "cord": square(4)})
    told: list[str] = []
    cohort = labeled(root, told=told)
    assert [(case.name, case.patient) for case in cohort.cases] == [("P1", "P1"), ("P2", "P2")]
    assert cohort.cases[0].image == root / "P1/study/1-CT"
    assert cohort.cases[0].label == root / "P1/study/300-SEG/1-1.dcm"
    assert set(cohort.labels.names) == {*ORGANS, "cord"}
    assert sorted(cohort.cases[1].voxels.values()) == [0, 0, 9, 9]
    assert any("passed over in" in line and "2-scout" in line and '"Scout"' in line for line in told)
    more = shutil.copytree(root / "P1", tmp_path / "more/P9")
    ct(more / "study/4-CT", 7)
    both = check_cohort([root], [more], [], exclude=["study_1-CT"])  # which is P1's
    assert [case.name for case in both.with_role("unlabeled")] == ["study_2-scout", "study_4-CT"]


def test_codes_come_along(tmp_path: Path) -> None:
    """Of names that are not known here: from a segmentation, a structure set and Slicer's own format alike."""
    import pydicom
    from pydicom.sequence import Sequence

    root = tmp_path / "dicom"
    slices = ct(root / "P1/ct", 0)
    write_seg(root / "P1/seg/1.dcm", slices, organs(), names=["Leber", "thing", "kidney"])
    slices = ct(root / "P2/ct", 1)
    path = write_structures(root / "P2/rt/1.dcm", slices, {"Milz": square(2), "GTV": square(4)})
    data = pydicom.dcmread(path)
    observation, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "78961009", "SCT", "Spleen"
    observation.ObservationNumber = observation.ReferencedROINumber = 1
    observation.RTROIIdentificationCodeSequence = Sequence([code])
    data.RTROIObservationsSequence = Sequence([observation])
    data.save_as(path)
    labels = labeled(root).labels
    out = tmp_path / "cohort.json"
    check_cohort([root], [], [], out=out)
    earlier = json.loads(out.read_text())
    for structure in earlier["labels"]["structures"]:
        structure["terminology"] = None
    out.write_text(json.dumps(earlier))
    check_cohort([root], [], [], out=out)  # a file of an earlier version is the same cohort
    codes = {s.name: s.terminology and s.terminology.type.value for s in labels.structures}
    assert codes == {"Leber": "10200004", "thing": None, "kidney": "64033007", "Milz": "78961009", "GTV": None}
    image = read_image(root / "P1/ct")
    write_image(image, tmp_path / "slicer/a.nii.gz")
    array = organs()
    array[array == 3] = labels.ids[labels.names.index("Milz")]
    write_labels(array, image.geometry, labels, tmp_path / "slicer/a.seg.nrrd")
    again = labeled(tmp_path / "slicer").labels
    for name in ("Leber", "Milz", "thing"):
        assert (
            again.structures[again.names.index(name)].terminology
            == labels.structures[labels.names.index(name)].terminology
        )


def test_two_series_of_a_patient(tmp_path: Path) -> None:
    root = tmp_path / "export"
    for number, phase in enumerate(("arterial", "venous")):
        slices = ct(root / "P1" / phase, number)
        write_seg(root / "P1/seg" / f"{number}.dcm", slices, organs(number))
    cohort = labeled(root)
    assert [(case.name, case.patient) for case in cohort.cases] == [("P1_arterial", "P1"), ("P1_venous", "P1")]
    for number, case in enumerate(cohort.cases):
        assert case.voxels == counts(organs(number))


def test_what_is_left_out_hides_nothing(tmp_path: Path) -> None:
    """A body's outline and a target volume, around and within the organ: without a word on the order they count for nothing."""
    root = tmp_path / "export"
    slices = ct(root / "P1/ct", 0)
    body = [in_patient([(-0.4, -0.4, k), (8.4, -0.4, k), (8.4, 6.4, k), (-0.4, 6.4, k)]) for k in range(6)]
    inner = [in_patient([(1.5, 2.5, 2), (2.5, 2.5, 2), (2.5, 3.5, 2), (1.5, 3.5, 2)])]
    write_structures(root / "P1/rt/1.dcm", slices, {"BODY": body, "Leber": square(2), "PTV": inner, "cord": square(4)})
    with pytest.raises(CohortError, match="structures overlap"):
        check_cohort([root], [], [])
    told: list[str] = []
    drop = Renames({"body": None, "ptv": None, "nowhere": None})
    for order in ((), ("Leber", "PTV")):
        cohort = check_cohort(
            [root], [], [], renames=drop, order=order, emit=lambda kind, **f: told.append(str(f.get("message", "")))
        )
        (case,) = cohort.cases
        assert cohort.labels.names == ("Leber", "cord")
        assert sorted(case.voxels.values()) == [9, 9]
        array = read_label(case.label, like=read_image(case.image).geometry, order=case.order)[0].array
        inside = {id for value, id in case.label_values.items() if (array == value).any()}
        assert inside == {0, *cohort.labels.ids}
    assert not any("BODY" in line or "PTV" in line for line in told)
    below = check_cohort([root], [], [], order=("BODY", "*", "PTV"))
    assert sorted(below.cases[0].voxels.values())[:3] == [1, 8, 9]


def test_several_channels(tmp_path: Path) -> None:
    """The structures were drawn on the second one; the third series is none."""
    root = tmp_path / "export"
    for number, patient in enumerate(("P1", "P2")):
        ct(root / patient / "s1", 10 * number, description="T1 axial")
        second = ct(root / patient / "s2", 10 * number + 1, description="T2 fat sat")
        ct(root / patient / "s3", 10 * number + 2, description="Localizer")
        write_seg(root / patient / "seg/1.dcm", second, organs(number))
    told: list[str] = []
    cohort = check_cohort(
        [root],
        [],
        [],
        channels=channels_of(["T1", "T2"]),
        emit=lambda kind, **f: told.append(str(f.get("message", ""))),
    )
    for number, case in enumerate(cohort.cases):
        assert [path.name for path in case.images] == ["s1", "s2"]
        assert case.voxels == counts(organs(number))
    assert any("passed over" in line and "Localizer" in line for line in told)
    shutil.rmtree(root / "P2/s1")
    with pytest.raises(CohortError, match="lacks the channel T1"):
        check_cohort([root], [], [], channels=channels_of(["T1", "T2"]))


def test_everything_in_one_folder(tmp_path: Path) -> None:
    """Two series and their labels: the image is then named by a file of its series."""
    root = tmp_path / "export"
    for number in range(2):
        slices = ct(root / "P1", number)
        write_seg(root / "P1" / f"seg{number}.dcm", slices, organs(number))
    cohort = labeled(root)
    assert len({case.name for case in cohort.cases}) == 2
    expected = [counts(organs(number)) for number in range(2)]
    assert sorted(case.voxels[1] for case in cohort.cases) == sorted(count[1] for count in expected)
    for case in cohort.cases:
        assert case.image.is_file()
        assert read_image(case.image).geometry.size == GRID.size


def test_a_label_of_another_series(tmp_path: Path) -> None:
    root = tmp_path / "in"
    other = ct(tmp_path / "elsewhere", 5)
    ct(root / "images/a", 0)
    path = write_seg(root / "labels/a.dcm", other, organs())
    (told,) = problems(root)
    assert str(path) in told
    assert "was drawn on another series" in told
    assert other[0].SeriesInstanceUID in told
    tree = tmp_path / "tree"
    slices = ct(tree / "P1/ct", 0)
    write_seg(tree / "P1/seg/1.dcm", slices, organs())
    ct(tree / "P2/ct", 1)
    path = write_seg(tree / "P2/seg/1.dcm", other, organs())
    (told,) = problems(tree)
    assert str(path) in told
    assert f"was drawn on the series {other[0].SeriesInstanceUID}, which does not lie in {tree}" in told


def test_patients_without_a_label_and_with_several(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    slices = ct(root / "P1/ct", 0)
    write_seg(root / "P1/seg/1.dcm", slices, organs())
    write_structures(root / "P1/rt/1.dcm", slices, {"cord": square(2)})
    told: list[str] = []
    assert labeled(root, told=told).labels.names == tuple(ORGANS)
    assert any("the segmentation was taken" in line for line in told)
    ct(root / "P2/ct", 1)
    (line,) = problems(root)
    assert f"{root / 'P2'} holds no DICOM segmentation" in line
    shutil.rmtree(root / "P2")
    write_seg(root / "P1/seg/2.dcm", slices, organs(3))
    (line,) = problems(root)
    assert "has several labels" in line


def test_series_that_a_label_does_not_tell_apart(tmp_path: Path) -> None:
    """A structure set that names nothing but the patient's space, which two series share."""
    import pydicom

    root = tmp_path / "tree"
    slices = ct(root / "P1/a", 0)
    path = write_structures(root / "P1/rt/1.dcm", slices, {"cord": square(2)})
    data = pydicom.dcmread(path)
    del data.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    data.save_as(path)
    assert labeled(root).cases[0].image == root / "P1/a"
    ct(root / "P1/b", 1)
    (line,) = problems(root)
    assert "does not say on which of several series" in line
    assert str(root / "P1/a") in line


def test_images_that_were_converted(tmp_path: Path) -> None:
    """A NIfTI file has no UIDs, so only its grid is compared."""
    slices = ct(tmp_path / "ct", 0)
    image = read_image(tmp_path / "ct")
    for folder, label in (("by_case/P1", "seg.dcm"), ("side_by_side", "scan.dcm"), ("pairs/labels", "scan.dcm")):
        place = tmp_path / folder.replace("labels", "images")
        write_image(image, place / "scan.nii.gz")
        write_seg(tmp_path / folder / label, slices, organs())
        (case,) = labeled(tmp_path / folder.split("/")[0]).cases
        assert case.image == place / "scan.nii.gz"
        assert case.voxels == counts(organs())


def test_references_of_an_evaluation(tmp_path: Path) -> None:
    """Against the same labels as a file, a segmentation and a structure set alike."""
    slices = ct(tmp_path / "ct", 0)
    grid = read_image(tmp_path / "ct").geometry
    expected = np.zeros(SIZE, np.uint8)
    expected[2, 2:5, 1:4], expected[3, 2:5, 1:4] = 1, 2
    write_seg(tmp_path / "reference/a.dcm", slices, expected)
    write_structures(tmp_path / "reference/b/rt.dcm", slices, {"Leber": square(2), "spleen": square(3)})
    labels = labeled_set(["Leber", "spleen", "kidney"])
    for name in "ab":
        write_labels(expected, grid, labels, tmp_path / "prediction" / f"{name}.nii.gz")
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", labels)
    for name in "ab":
        for organ in ("Leber", "spleen"):
            assert metrics["cases"][name][organ]["dice"] == 1
    shutil.rmtree(tmp_path / "prediction")
    write_structures(tmp_path / "prediction/a.dcm", slices, {"Leber": square(2)})
    write_structures(tmp_path / "prediction/b.dcm", slices, {"Leber": square(2)})
    with pytest.raises(DinomixError, match="no voxels of their own"):
        evaluate_folders(tmp_path / "prediction", tmp_path / "reference", labels)


def labeled_set(names: list[str]):
    from dinomix.labels import LabelSet

    return LabelSet.from_names(dict(enumerate(names, 1)))


def test_a_volume_beside_its_series(tmp_path: Path) -> None:
    slices = ct(tmp_path / "ct", 0)
    image = read_image(tmp_path / "ct")
    half = Volume(np.ascontiguousarray(image.array[:, ::2, ::2]), type(GRID)(
        (5, 4, 6), (1.5, 1.0, 3.0), image.geometry.origin, np.eye(3)
    ))  # fmt: skip
    write_image(half, tmp_path / "in/images/a.nii.gz")
    write_seg(tmp_path / "in/labels/a.dcm", slices, organs())
    (line,) = problems(tmp_path / "in")
    assert "does not lie on its image's voxels" in line


@dataclass
class Slice:
    """A slice's header that counts how often somebody asks where it lies."""

    file: Path
    tags: dict[str, str]
    asked: list[Path]

    @property
    def path(self) -> Path:
        self.asked.append(self.file)
        return self.file


def asked_of(root: Path, patients: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often that is asked in a tree of patients with two series of three slices each, half of them with a label."""
    tree, asked = DicomTree(root), list[Path]()
    for patient in (f"P{number:02}" for number in range(patients)):
        for series in ("t1", "t2"):
            (root / patient / series).mkdir(parents=True)
            files = [root / patient / series / f"{k}.dcm" for k in range(3)]
            tree.series[f"{patient}.{series}"] = [Slice(file, {}, asked) for file in files]
        if patient[-1] in "02468":
            tree.labels.append(DicomHeader(root / patient / "seg.dcm", {}, False))
    monkeypatch.setattr(
        dicom_trees, "drawn_on", lambda path: DrawnOn(frozenset({f"{path.parent.name}.t2"}), frozenset(), "")
    )
    found = Findings(channels=channels_of(names))
    cases = tree_cases(tree, "labeled", {}, found)
    assert len(cases) == patients // 2 == len(found.problems)
    assert {len(case.images) for case in cases} == {max(1, len(names))}
    return len(asked)


@pytest.mark.parametrize("names", [(), ("t1", "t2")])
def test_a_tree_of_twice_as_many_patients_takes_twice_as_long(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, twice = (asked_of(tmp_path / str(count), count, names, monkeypatch) for count in (20, 40))
    assert twice <= 2 * some
