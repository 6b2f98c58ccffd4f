"""``dinomix check`` on labels that do not tell everything: structures not drawn, voxels and slices not labeled, none at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from cohort_folders import SHAPE, image_array, label_array, labeled_folder, write
from dinomix.cli import main
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort, LabeledSlices
from dinomix.cohort.labeled_slices import drawn_slices, found_slices, runs_of
from dinomix.cohort.open_notices import told_of
from dinomix.cohort.problems import CohortError
from dinomix.cohort.table import summary, table
from dinomix.errors import DinomixError
from dinomix.labels import LabelSet


def without(value: int) -> np.ndarray:
    label = label_array()
    label[label == value] = 0
    return label


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Cases a, b and c, of which c lacks the gallbladder."""
    found = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    (found / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "gallbladder": 2}}))
    write(found / "labels/c.nii.gz", without(2))
    return found


def checked(folder: Path, **options: object) -> tuple[dict, list[dict]]:
    """The cases by their names, and the events."""
    events: list[dict] = []
    cohort = check_cohort(
        [folder], [], [], emit=lambda kind, **fields: events.append({"kind": kind, **fields}), **options
    )  # type: ignore[arg-type]
    return {case.name: case for case in cohort.cases}, events


def notices(events: list[dict], code: str) -> list[dict]:
    return [event for event in events if event["kind"] == "notice" and event.get("code") == code]


def test_what_a_case_lacks_is_unknown_until_somebody_decides(folder: Path):
    cases, events = checked(folder)
    assert (cases["a"].drawn, cases["c"].drawn, cases["c"].undecided) == (None, (1,), (2,))
    (notice,) = notices(events, "partial")
    assert "gallbladder (c)" in notice["message"] and "--partial" in notice["remedy"] and "--absent" in notice["remedy"]
    told = next(event for event in events if event["kind"] == "case" and event["name"] == "c")
    assert (told["drawn"], told["absent"], told["not_drawn"], told["undecided"]) == (["liver"], [], [], ["gallbladder"])


def test_partial_says_that_it_was_not_drawn(folder: Path):
    cases, events = checked(folder, partial=True)
    assert (cases["c"].drawn, cases["c"].undecided) == ((1,), ()) and not notices(events, "partial")


@pytest.mark.parametrize("absent", ["all", "Gallbladder"])
def test_absent_says_that_the_patient_lacks_it(folder: Path, absent: str):
    cases, events = checked(folder, absent=[absent], partial=absent != "all")
    assert cases["c"].drawn is None and not notices(events, "partial")
    told = next(event for event in events if event["kind"] == "case" and event["name"] == "c")
    assert told["absent"] == ["gallbladder"]


@pytest.mark.parametrize(
    ("entry", "drawn", "state"),
    [
        ({"absent": ["gallbladder"]}, None, "absent"),
        ({"not_drawn": ["gallbladder"]}, (1,), "not_drawn"),
        ({"drawn": ["liver"]}, (1,), "not_drawn"),
        ({"drawn": ["gallbladder"]}, (2,), "absent"),
        ({"drawn": []}, (), "not_drawn"),
    ],
)
def test_the_list_of_cases_decides_for_one_case(folder: Path, tmp_path: Path, entry: dict, drawn: tuple, state: str):
    (tmp_path / "cases.json").write_text(json.dumps([{"name": "c", **entry}]))
    cases, _ = checked(folder, cases_file=tmp_path / "cases.json")
    assert (cases["c"].drawn, cases["c"].undecided) == (drawn, ())
    labels = Cohort.model_validate({"modality": "MR", "labels": {"structures": [
        {"id": 1, "name": "liver", "color": (0, 0, 0)}, {"id": 2, "name": "gallbladder", "color": (0, 0, 0)}]},
        "seed": 0, "cases": [cases["c"]]}).labels  # fmt: skip
    assert "gallbladder" in told_of(cases["c"], labels)[state]


def test_an_entry_with_an_image_says_it_too(folder: Path, tmp_path: Path):
    entry = {"image": str(folder / "images/c.nii.gz"), "label": str(folder / "labels/c.nii.gz"), "role": "labeled"}
    names = {"labels": {"liver": 1, "gallbladder": 2}}
    (tmp_path / "labels.json").write_text(json.dumps(names))
    (tmp_path / "cases.json").write_text(json.dumps([{**entry, "absent": ["gallbladder"]}]))
    cases, _ = checked(folder, cases_file=tmp_path / "cases.json", labels=tmp_path / "labels.json")
    assert cases["c"].drawn is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "c", "absent": ["pancreas"]}, "No structure is called pancreas"),
        ({"name": "d", "absent": ["gallbladder"]}, "Something is said of the case d"),
        ({"name": "a", "absent": ["gallbladder"]}, "shows gallbladder, said to be absent in a"),
        ({"name": "c", "labeled_slices": [1, 6]}, "c has no slice 6 along k"),
    ],
)
def test_what_cannot_be_is_told(folder: Path, tmp_path: Path, entry: dict, said: str):
    (tmp_path / "cases.json").write_text(json.dumps([entry]))
    with pytest.raises(CohortError) as caught:
        checked(folder, cases_file=tmp_path / "cases.json")
    assert said in caught.value.problem and len(caught.value.problems) == 1


def test_options_that_decide_nothing_are_told(folder: Path):
    with pytest.raises(CohortError, match="pancreas"):
        checked(folder, absent=["pancreas"])
    with pytest.raises(DinomixError, match="every tenth"):
        checked(folder, labeled_slices=["every tenth"])


def test_where_nothing_is_lacking_nothing_is_asked(folder: Path):
    write(folder / "labels/c.nii.gz", label_array())
    cases, events = checked(folder)
    assert all(case.is_whole and not case.undecided for case in cases.values())
    assert not notices(events, "partial") and "not drawn" not in table(summary(Cohort.model_validate({
        "modality": "MR", "labels": {"structures": [{"id": 1, "name": "liver", "color": (0, 0, 0)}]}, "seed": 0,
        "cases": list(cases.values())})))  # fmt: skip


def test_the_summary_says_what_is_open(folder: Path, tmp_path: Path):
    data = summary(check_cohort([folder], [], [], out=tmp_path / "cohort.json"))
    assert list(data["open_labels"]) == ["c"] and data["open_labels"]["c"]["undecided"] == ["gallbladder"]
    assert [c["not_drawn"] for c in data["classes"]] == [0, 1]
    assert "not drawn" in table(data)


def test_ignore_of_a_dataset_json_is_no_structure(folder: Path):
    (folder / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "gallbladder": 2, "ignore": 3}}))
    label = label_array()
    label[5] = 3
    write(folder / "labels/c.nii.gz", label)
    cases, _ = checked(folder)
    assert cases["c"].ignored == (3,) and cases["a"].ignored == () and set(cases["c"].voxels) == {1, 2}
    assert cases["c"].label_values == {1: 1, 2: 2} and cases["c"].drawn is None


def test_a_segment_called_ignore_is_no_structure(tmp_path: Path):
    label = label_array()
    label[5] = 7
    for name, seed in (("a", 0), ("b", 1)):
        write(tmp_path / "in" / f"{name}.nrrd", image_array(seed))
        write(tmp_path / "in" / f"{name}.seg.nrrd", label, names={1: "liver", 2: "spleen", 7: "Ignore"})
    cases, _ = checked(tmp_path / "in")
    assert cases["a"].ignored == (7,) and set(cases["a"].voxels) == {1, 2}


def every(step: int, size: int = 40, first: int = 5) -> np.ndarray:
    """A long structure (k, j, i), drawn on every so manieth slice."""
    label = np.zeros((size, 12, 10), np.uint8)
    label[first:-5:step, 2:8, 3:7] = 1
    return label


def test_every_tenth_slice_is_found_and_its_rhythm_goes_on():
    label = every(10)
    assert found_slices(runs_of(label > 0), label.shape[::-1]) == LabeledSlices(axis="k", numbers=(5, 15, 25, 35))
    label = every(10, first=12)
    assert found_slices(runs_of(label > 0), label.shape[::-1]) == LabeledSlices(axis="k", numbers=(2, 12, 22, 32))
    turned = label.transpose(2, 1, 0)
    assert found_slices(runs_of(turned > 0), turned.shape[::-1]) == LabeledSlices(axis="i", numbers=(2, 12, 22, 32))


@pytest.mark.parametrize(
    "slices", [range(5, 30), [5, 6, 20], [5, 20], [5, 7, 30], [5, 6, 7, 15, 16, 17, 25, 26, 27]], ids=str
)
def test_other_labels_are_taken_as_whole(slices):
    label = np.zeros((40, 12, 10), np.uint8)
    label[list(slices), 2:8, 3:7] = 1
    assert found_slices(runs_of(label > 0), label.shape[::-1]) is None


def test_slices_that_are_one_off_are_found():
    label = np.zeros((40, 12, 10), np.uint8)
    label[[3, 12, 22, 31], 2:8, 3:7] = 1
    assert found_slices(runs_of(label > 0), label.shape[::-1]).numbers == (3, 12, 22, 31)


def sliced_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        write(tmp_path / "in/images" / f"{name}.nii.gz", rng.integers(0, 500, (40, 12, 10)).astype(np.int16))
        write(tmp_path / "in/labels" / f"{name}.nii.gz", every(10) if name == "a" else every(1))
    return tmp_path / "in"


def test_labeled_slices_are_found_or_given(tmp_path: Path):
    folder = sliced_folder(tmp_path)
    cases, events = checked(folder)
    assert cases["a"].labeled_slices.numbers == (5, 15, 25, 35) and cases["b"].labeled_slices is None
    assert not cases["a"].thickness and cases["b"].thickness
    (notice,) = notices(events, "labeled-slices")
    assert "a (4 of 40)" in notice["message"] and "--labeled-slices all" in notice["remedy"]
    assert checked(folder, labeled_slices=["all"])[0]["a"].labeled_slices is None
    drawn = checked(folder, labeled_slices=["drawn"])[0]
    assert drawn["a"].labeled_slices.numbers == (5, 15, 25) and drawn["b"].labeled_slices is None
    given = checked(folder, labeled_slices=["b=i:3,5", "all"])[0]
    assert given["b"].labeled_slices == LabeledSlices(axis="i", numbers=(3, 5)) and given["a"].labeled_slices is None
    (tmp_path / "cases.json").write_text(json.dumps([{"name": "b", "labeled_slices": [8, 7], "slice_axis": "j"}]))
    listed = checked(folder, cases_file=tmp_path / "cases.json")[0]["b"].labeled_slices
    assert listed == LabeledSlices(axis="j", numbers=(7, 8))


def test_drawn_slices_are_those_that_show_something():
    label = every(10)
    label[6] = label[5]
    assert drawn_slices(runs_of(label > 0)).numbers == (5, 6, 15, 25)
    assert drawn_slices(runs_of(every(1) > 0)) is None and drawn_slices(runs_of(every(1) > 9)) is None


def test_a_case_without_any_structure_is_a_negative(folder: Path):
    write(folder / "labels/c.nii.gz", np.zeros(SHAPE, np.uint8))
    cases, events = checked(folder)
    assert cases["c"].is_whole and cases["c"].voxels == {1: 0, 2: 0} and cases["c"].foreground_intensity is None
    (notice,) = notices(events, "no-structure")
    assert notice["message"].endswith("none: c.") and "--unlabeled" in notice["remedy"]


TEMPLATE = {1: "liver", 2: "gallbladder", 3: "spleen", 4: "pancreas"}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Cases a, b and c of a template with four segments, of which liver and gallbladder were drawn; c has no gallbladder."""
    for seed, name in enumerate("abc"):
        write(tmp_path / "in" / f"{name}.nrrd", image_array(seed))
        write(tmp_path / "in" / f"{name}.seg.nrrd", without(2) if name == "c" else label_array(), names=TEMPLATE)
    return tmp_path / "in"


def structures(folder: Path, **options: object) -> tuple[tuple[str, ...], list[str]]:
    """The structures of the cohort, and the notices."""
    told: list[str] = []
    cohort = check_cohort(
        [folder], [], [], emit=lambda kind, **fields: told.append(fields.get("message", "")), **options
    )  # type: ignore[arg-type]
    return cohort.labels.names, told


def test_segments_that_are_empty_in_every_case_are_no_structures(template: Path):
    names, told = structures(template)
    assert names == ("liver", "gallbladder") and any(
        "the cohort does not have them: spleen, pancreas." in text for text in told
    )
    cases, _ = checked(template)
    assert cases["a"].is_whole and cases["a"].label_values == {1: 1, 2: 2}
    assert (cases["c"].drawn, cases["c"].undecided) == ((1,), (2,))


def test_names_of_a_dataset_json_that_no_label_shows_are_no_structures(folder: Path):
    (folder / "dataset.json").write_text(json.dumps({"labels": {name: id for id, name in TEMPLATE.items()}}))
    assert structures(folder)[0] == ("liver", "gallbladder")


def test_empty_segments_that_somebody_speaks_of_are_structures(template: Path, tmp_path: Path):
    assert structures(template, absent=["Spleen"])[0] == ("liver", "gallbladder", "spleen")
    assert structures(template, absent=["all"])[0] == ("liver", "gallbladder")
    (tmp_path / "cases.json").write_text(json.dumps([{"name": "a", "drawn": ["liver", "pancreas"]}]))
    assert structures(template, cases_file=tmp_path / "cases.json")[0] == ("liver", "gallbladder", "pancreas")
    (tmp_path / "cases.json").write_text(json.dumps([{"name": "a", "not_drawn": ["pancreas"]}]))
    assert structures(template, cases_file=tmp_path / "cases.json")[0] == ("liver", "gallbladder")
    labels = LabelSet.from_names(TEMPLATE)
    assert structures(template, labels=labels)[0] == labels.names


def test_a_structure_that_only_a_test_case_shows_is_one(template: Path, tmp_path: Path):
    label = label_array()
    label[0, 0, 0] = 4
    write(tmp_path / "test" / "d.nrrd", image_array(9))
    write(tmp_path / "test" / "d.seg.nrrd", label, names=TEMPLATE)
    assert check_cohort([template], [], [tmp_path / "test"]).labels.names == ("liver", "gallbladder", "pancreas")


def test_a_cohort_of_healthy_cases_is_refused(folder: Path):
    for name in "abc":
        write(folder / f"labels/{name}.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(CohortError, match="No labeled case shows a structure"):
        checked(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(DinomixError, match="No structure was found"):
        checked(folder)


def run(options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", *options])
    assert not ended.value.code


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "cohort.json"
    options = ["--labeled", str(folder), "--out", str(out), "--absent", "gallbladder", "--labeled-slices", "all"]
    run(options)
    assert Cohort.read(out).cases[2].drawn is None
    run([*options[:4], "--partial", "--overwrite"])
    assert Cohort.read(out).cases[2].drawn == (1,) and "not drawn" in capsys.readouterr().out
