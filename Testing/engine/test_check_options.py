"""``dinomix check`` for a window: cases listed in a file, cases left out, structures renamed, and what it tells."""

import json
from pathlib import Path

import numpy as np
import pytest

from cohort_folders import image_array, label_array, labeled_folder, write
from dinomix.cli import main
from dinomix.cohort.cohort import Cohort
from dinomix.planning.cache import cache_cases
from dinomix.planning.planning import make_plan


def check(capsys: pytest.CaptureFixture, out: Path, *arguments: object) -> tuple[int, list[dict]]:
    with pytest.raises(SystemExit) as left:
        main(["check", "--out", str(out), "--json", *(str(argument) for argument in arguments)])
    return int(left.value.code or 0), [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def of_kind(events: list[dict], kind: str) -> list[dict]:
    return [event for event in events if event["kind"] == kind]


def named_label(path: Path, names: dict[int, str], array: np.ndarray | None = None) -> Path:
    return write(path, label_array() if array is None else array, names=names)


def listed(folder: Path, entries: list[dict]) -> Path:
    path = folder / "cases.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_cases_of_a_list_stand_beside_those_of_folders(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    for number, name in enumerate(["Müller", "v", "u", "t"], 10):
        write(tmp_path / "more" / f"{name}.nrrd", image_array(number))
        write(tmp_path / "more" / f"{name}-label.nrrd", label_array())
    entries = [
        {"image": "more/Müller.nrrd", "label": "more/Müller-label.nrrd", "role": "labeled", "patient": "M"},
        {
            "image": "more/v.nrrd",
            "label": str(tmp_path / "more/v-label.nrrd"),
            "role": "validation",
            "name": "Prüfling",
        },
        {"image": "more/u.nrrd", "label": None, "role": "unlabeled"},
        {"image": "more/t.nrrd", "label": "more/t-label.nrrd", "role": "test"},
    ]
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--cases", listed(tmp_path, entries))
    assert code == 0, events
    cases = {case.name: case for case in Cohort.read(tmp_path / "c.json").cases}
    roles = {name: case.role for name, case in cases.items()}
    assert roles == {
        "a": "labeled", "b": "labeled", "Müller": "labeled", "Prüfling": "validation", "u": "unlabeled", "t": "test",
    }  # fmt: skip
    assert cases["Müller"].patient == "M" and cases["Müller"].label.is_absolute() and cases["u"].label is None


def test_what_the_check_tells_of_each_case(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    write(tmp_path / "more" / "u.nii.gz", image_array(9))
    (folder / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "spleen": 2}}')
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--unlabeled", tmp_path / "more")
    assert code == 0
    told = {event["name"]: event for event in of_kind(events, "case")}
    assert set(told) == {"a", "b", "u"}
    assert told["a"]["voxels"] == {"liver": 48, "spleen": 8} and told["u"]["voxels"] == {}
    assert told["a"]["size"] == [10, 8, 6] and told["a"]["spacing"] == [1.0, 1.0, 2.0]
    assert told["a"]["orientation"] == "LPS" and told["a"]["patient"] == "a" and told["u"]["label"] is None
    assert of_kind(events, "names")[0]["names"] == [
        {"name": "liver", "cases": 2, "matched": "liver"},
        {"name": "spleen", "cases": 2, "matched": "spleen"},
    ]
    assert not of_kind(events, "problem")


def test_a_failed_check_still_tells_of_the_cases_it_could_read(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    (folder / "images" / "b.nii.gz").write_text("no image")
    (folder / "labels" / "c.nii.gz").unlink()
    write(folder / "labels" / "a.nii.gz", label_array()[:5])
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--labeled", tmp_path / "nowhere")
    assert code == 2
    problems = {(event["case"], Path(event["file"]).name): event for event in of_kind(events, "problem")}
    assert set(problems) == {("b", "b.nii.gz"), ("c", "c.nii.gz"), ("a", "a.nii.gz"), (None, "nowhere")}
    assert all(event["message"] and event["remedy"] for event in problems.values())
    assert Path(problems["a", "a.nii.gz"]["file"]).parent.name == "labels"
    assert [event["kind"] for event in events].count("error") == 1 and not (tmp_path / "c.json").exists()
    # Left out, the three no longer stand in the way of the others.
    write(folder / "images" / "d.nii.gz", image_array(7))
    write(folder / "labels" / "d.nii.gz", label_array())
    code, events = check(
        capsys, tmp_path / "c.json", "--labeled", folder, *("--exclude", "a", "--exclude", "b", "--exclude", "c")
    )
    assert code == 0, events
    assert [event["name"] for event in of_kind(events, "case")] == ["d"]


def test_the_labels_of_one_case_are_told_though_another_fails(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    (folder / "images" / "b.nii.gz").write_text("no image")
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder)
    assert code == 2
    assert [(event["name"], event["voxels"]) for event in of_kind(events, "case")] == [
        ("a", {"class_1": 48, "class_2": 8})
    ]
    assert of_kind(events, "names")[0]["names"][0] == {"name": "class_1", "cases": 1, "matched": "class_1"}


def test_who_is_not_there_cannot_be_left_out(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--exclude", "z", "--exclude", "b")
    assert code == 0
    assert any("no case z" in event["message"] for event in of_kind(events, "notice"))
    assert [case.name for case in Cohort.read(tmp_path / "c.json").cases] == ["a"]


def test_a_case_that_was_labeled_later_is_unlabeled_no_more(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    for number, name in enumerate(["p", "q"], 20):
        write(tmp_path / "unlabeled" / f"{name}.nii.gz", image_array(number))
    named_label(tmp_path / "corrected/p.seg.nrrd", {1: "class_1", 2: "class_2"})
    entries = [{"image": "unlabeled/p.nii.gz", "label": "corrected/p.seg.nrrd", "role": "labeled"}]
    folders = ["--labeled", folder, "--unlabeled", tmp_path / "unlabeled"]
    code, events = check(capsys, tmp_path / "c.json", *folders, "--cases", listed(tmp_path, entries))
    assert code == 0, events
    roles = {case.name: case.role for case in Cohort.read(tmp_path / "c.json").cases}
    assert roles == {"a": "labeled", "p": "labeled", "q": "unlabeled"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{", "is not a list of cases"),
        ('{"image": "a.nii.gz"}', "is not a list of cases"),
        ('[{"image": "a.nii.gz", "role": "teacher"}]', "is not a list of cases"),
        ('[{"image": "a.nii.gz", "role": "labeled"}]', "without a label"),
        ('[{"image": "a.nii.gz", "role": "unlabeled"}]', "There is no file or folder"),
    ],
)
def test_lists_that_cannot_be_used(text: str, words: str, tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["b"])
    (tmp_path / "cases.json").write_text(text)
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--cases", tmp_path / "cases.json")
    assert code == 2
    assert words in events[-1]["message"] and events[-1]["remedy"]


def three_structures(folder: Path) -> Path:
    """Two cases whose files name the same structures differently."""
    array = label_array()
    array[5, 7, 9] = 3
    for number, (name, names) in enumerate(
        {
            "a": {1: "Leber", 2: "left kidney", 3: "artifact"},
            "b": {2: "liver", 1: "Kidney Right", 3: "Artifact"},
        }.items()
    ):
        write(folder / "images" / f"{name}.nii.gz", image_array(number))
        named_label(folder / "labels" / f"{name}.seg.nrrd", names, array)
    return folder


def test_structures_are_renamed_merged_and_dropped(tmp_path: Path, capsys) -> None:
    folder = three_structures(tmp_path / "in")
    table = {"leber": "liver", "kidney_left": "kidney", "right kidney": "kidney", "ARTIFACT": None}
    (tmp_path / "names.json").write_text(json.dumps(table))
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--rename", tmp_path / "names.json")
    assert code == 0, events
    cohort = Cohort.read(tmp_path / "c.json")
    assert set(cohort.labels.names) == {"liver", "kidney"}
    voxels = {event["name"]: event["voxels"] for event in of_kind(events, "case")}
    assert voxels == {"a": {"liver": 48, "kidney": 8}, "b": {"kidney": 48, "liver": 8}}
    matched = {name["name"]: name["matched"] for name in of_kind(events, "names")[0]["names"]}
    assert matched == {
        "Leber": "liver", "left kidney": "kidney", "artifact": None, "liver": "liver", "Kidney Right": "kidney",
    }  # fmt: skip

    # What the check counted is what training will read.
    plan = make_plan(cohort, device_kind="cpu", memory_bytes=2**30, batch=4)
    cached = cache_cases(cohort, plan, tmp_path / "cache", lambda *a, **k: None)
    for case in cohort.cases:
        channels = np.asarray(cached[case.name].label)
        counted = {cohort.labels.ids[c - 1]: int((channels == c).sum()) for c in (1, 2)}
        assert counted == case.voxels and channels.max() == 2


def test_two_structures_of_one_case_become_one(tmp_path: Path, capsys) -> None:
    write(tmp_path / "in/images/a.nii.gz", image_array(0))
    named_label(tmp_path / "in/labels/a.seg.nrrd", {1: "left kidney", 2: "kidney"})
    (tmp_path / "names.json").write_text('{"left kidney": "kidney"}')
    code, _ = check(capsys, tmp_path / "c.json", "--labeled", tmp_path / "in", "--rename", tmp_path / "names.json")
    assert code == 0
    (case,) = Cohort.read(tmp_path / "c.json").cases
    assert list(case.voxels.values()) == [56]


def test_numbers_without_names_can_be_renamed(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    (tmp_path / "names.json").write_text('{"class_1": "spleen"}')
    rename = ["--labeled", folder, "--rename", tmp_path / "names.json"]
    assert check(capsys, tmp_path / "c.json", *rename)[0] == 0
    assert Cohort.read(tmp_path / "c.json").labels.names == ("spleen", "class_2")
    # Where a label set is given, the other numbers keep their meaning in it.
    (tmp_path / "labels.json").write_text('{"2": "liver", "9": "spleen"}')
    assert check(capsys, tmp_path / "d.json", *rename, "--labels", tmp_path / "labels.json")[0] == 0
    assert Cohort.read(tmp_path / "d.json").cases[0].label_values == {1: 9, 2: 2}


def test_names_to_rename_that_no_file_has_are_told(tmp_path: Path, capsys) -> None:
    folder = three_structures(tmp_path / "in")
    (tmp_path / "names.json").write_text('{"lebber": null, "Leber": "liver"}')
    rename = ["--rename", tmp_path / "names.json"]
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, *rename)
    notices = " ".join(event["message"] for event in of_kind(events, "notice"))
    assert code == 0 and "lebber" in notices and "class_1" not in notices and "liver" not in notices
    # Names that the given label set has alone are none of the files'.
    (tmp_path / "labels.json").write_text('{"1": "spleen", "2": "liver"}')
    (tmp_path / "names.json").write_text('{"spleen": null}')
    numbered = ["--labeled", labeled_folder(tmp_path / "numbers", ["a"]), "--labels", tmp_path / "labels.json"]
    code, events = check(capsys, tmp_path / "d.json", *numbered, *rename)
    assert code == 0 and any("class_1" in event["message"] for event in of_kind(events, "notice"))


def test_a_case_that_is_empty_after_renaming_is_told(tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    (tmp_path / "names.json").write_text('{"class_1": null, "class_2": null}')
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--rename", tmp_path / "names.json")
    assert code == 2
    assert "beside those that are left out" in of_kind(events, "problem")[0]["message"]


@pytest.mark.parametrize("text", ["[1]", '{"a": ""}', '{"a": 1}', '{"a b": "c", "B_A": "d"}', "{"])
def test_tables_of_names_that_cannot_be_used(text: str, tmp_path: Path, capsys) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    (tmp_path / "names.json").write_text(text)
    code, events = check(capsys, tmp_path / "c.json", "--labeled", folder, "--rename", tmp_path / "names.json")
    assert code == 2 and "names.json" in events[-1]["message"] and events[-1]["remedy"]
