"""Every JSON that is read, damaged in every way: one sentence that names the file, or a file that counts for nothing."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from foreign_models import change_json

from cohort_folders import labeled_folder
from dinomix import cli
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.listing import read_cases
from dinomix.cohort.renaming import Renames
from dinomix.cohort.splitting import read_split
from dinomix.errors import DinomixError
from dinomix.events import EventFile, read_events
from dinomix.importing.bundle_values import BundleConfig
from dinomix.importing.hints import Hints
from dinomix.importing.monai_bundle import read_bundle
from dinomix.importing.nnunet import read_nnunet
from dinomix.importing.places import own_model
from dinomix.labels import LabelSet, names_by_id
from dinomix.models.installed import describe_model
from dinomix.models.manifest import read_manifest, read_record
from dinomix.planning.plan import Plan
from dinomix.report.comparing import _read as read_comparison
from dinomix.report.run_files import read_metrics, read_run
from dinomix.training.control import Control, Wish
from dinomix.training.run_directory import RunDirectory

DEEP = b"[" * 100_000
NO_JSON = {
    "deep lists": DEEP,
    "deep tables": b'{"labels":' * 100_000,
    "deep and closed": b'{"structures":' * 500 + b"1" + b"}" * 500,
    "nothing": b"",
    "NaN": b'{"seed": NaN}',
    "a key twice": b'{"labels": {"1": "liver", "1": "spleen"}}',
    "half a character": rb'{"labels": {"1": "\ud800"}}',
    "other bytes": b'{"labels": "\xff\xfe"}',
    "many digits": b'{"version": ' + b"9" * 5000 + b"}",
    "cut off": b'{"version": 1, "cases": [',
}
OTHER_JSON = {
    "a list": b"[]",
    "a number": b"5",
    "a text": b'"labels"',
    "null": b"null",
    "lists in lists": b"[[1, 2], [3]]",
}
READERS: dict[str, Callable[[Path], Any]] = {
    "cohort.json": Cohort.read,
    "plan.json": Plan.read,
    "labels.json": LabelSet.read,
    "split.json": lambda path: read_split(str(path)),
    "cases.json": lambda path: read_cases(path, []),
    "renames.json": Renames.read,
    "metrics.json": read_metrics,
    "manifest.json": lambda path: read_manifest(path.parent),
    "record.json": lambda path: read_record(path.parent),
    "config.json": lambda path: RunDirectory.open(path.parent),
    "inference.json": BundleConfig,
}


def refused(read: Callable[[Path], Any], path: Path) -> str:
    """The one line in which a file is refused."""
    with pytest.raises(DinomixError) as caught:
        read(path)
    told = str(caught.value)
    assert str(path.parent) in told and "\n" not in told and len(told) < 600
    for python in ("object has no attribute", "NoneType", "Errno", "not subscriptable", "Traceback", "indices must be"):
        assert python not in told
    return told


@pytest.mark.parametrize("damage", NO_JSON)
@pytest.mark.parametrize("name", READERS)
def test_a_document_that_is_no_json(name: str, damage: str, tmp_path: Path):
    (tmp_path / name).write_bytes(NO_JSON[damage])
    refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize("content", OTHER_JSON)
@pytest.mark.parametrize("name", READERS)
def test_a_document_that_is_another_json(name: str, content: str, tmp_path: Path):
    (tmp_path / name).write_bytes(OTHER_JSON[content])
    if name == "cases.json" and content == "a list":
        assert read_cases(tmp_path / name, []) == ([], {})
        return
    refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_a_document_that_is_a_pipe_a_link_to_itself_or_not_there(name: str, tmp_path: Path):
    refused(READERS[name], tmp_path / name)
    os.mkfifo(tmp_path / name)
    refused(READERS[name], tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / name)
    refused(READERS[name], tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    refused(READERS[name], tmp_path / name)


@pytest.mark.parametrize("damage", [*NO_JSON, *OTHER_JSON])
def test_documents_that_may_be_missing_count_for_nothing(damage: str, tmp_path: Path):
    content = (NO_JSON | OTHER_JSON)[damage]
    for name in ("request.json", "manifest.json", "comparison/comparison.json", "config.json", "metrics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    told: list[str] = []
    assert Control(tmp_path).wish(lambda kind, **fields: told.append(kind)) == Wish.GO and not told
    assert own_model(tmp_path) is None
    assert read_comparison(tmp_path) is None
    assert describe_model(tmp_path)["problem"].startswith(f"{tmp_path}")
    run = read_run(tmp_path)
    assert run.config == {} and run.metrics is None and len(run.missing) == 5


@pytest.mark.parametrize("damage", [*NO_JSON, *OTHER_JSON])
def test_damaged_lines_of_events_are_passed_over(damage: str, tmp_path: Path):
    path = tmp_path / "events.jsonl"
    events = EventFile(path)
    events("loss", step=1, total=float("nan"))
    with open(path, "ab") as file:
        file.write((NO_JSON | OTHER_JSON)[damage] + b"\n" + b'{"kind": 5}\n{"step": 3}\n')
    EventFile(path)("loss", step=2, total=0.5)
    assert [(event["step"], event["total"]) for event in read_events(path)] == [(1, None), (2, 0.5)]
    assert run_events(tmp_path) == [1, 2]


def run_events(run: Path) -> list[int]:
    return [event["step"] for event in read_run(run).events["loss"]]


@pytest.mark.parametrize("file", ["plans.json", "dataset.json", "configs/inference.json", "configs/metadata.json"])
@pytest.mark.parametrize("damage", [*NO_JSON, *OTHER_JSON])
def test_a_damaged_configuration_of_a_model_of_elsewhere(file: str, damage: str, tmp_path: Path):
    (tmp_path / "configs").mkdir()
    for name in ("plans.json", "dataset.json", "configs/inference.json", "configs/metadata.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / file).write_bytes((NO_JSON | OTHER_JSON)[damage])
    read = partial(read_bundle, hints=Hints()) if "configs" in file else read_nnunet
    if file == "configs/metadata.json":
        assert refused(read, tmp_path)  # the configuration comes first
        return
    assert file in refused(lambda path: read(path.parent), tmp_path / file)


LABELS = [
    ({"labels": {"1": ""}}, "the structure of the number 1 has no name"),
    ({"labels": {"  ": 1}}, "the structure of the number 1 has no name"),
    ({"labels": {"liver": 70_000}}, 'the number of "liver" is 70000; 1 to 65535 are possible'),
    ({"labels": {"liver": -1}}, 'the number of "liver" is -1'),
    ({"labels": {"liver": 1.5}}, 'the number of "liver" is 1.5'),
    ({"labels": {"liver": True}}, 'the number of "liver" is True'),
    ({"labels": {"liver": None}}, 'the number of "liver" is None'),
    (
        {"labels": {"whole": [1, 1], "core": 2}},
        'the region "whole" has a number twice',
    ),
    ({"labels": {"liver": 1, "spleen": 1}}, '"liver" and "spleen" have the same number 1'),
    ({"labels": {"1": "liver", "2": ["a"]}}, "the structure of the number 2 has no name|no name"),
    ({"labels": ["liver", "spleen"]}, "its labels are no table of names and numbers"),
    ({"labels": "liver"}, "its labels are no table of names and numbers"),
    ({"labels": {"liver": 1, "a\nb": 2}}, "holds characters that are no text"),
    ({"labels": {"liver": 1, "x" * 300: 2}}, "a name of 1 to 200 characters"),
    ({"structures": [{"id": 1, "name": "", "color": [0, 0, 0]}]}, "a name of 1 to 200 characters"),
    ({"structures": [{"id": 70_000, "name": "a", "color": [0, 0, 0]}]}, "less than or equal to 65535"),
    ({"structures": "liver"}, "structures: "),
]


@pytest.mark.parametrize(("data", "reason"), LABELS)
def test_labels_that_cannot_be_used(data: dict, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "study" / "dataset.json"
    labeled_folder(path.parent, ["a", "b"])
    path.write_text(json.dumps(data))
    with pytest.raises(DinomixError, match=reason):
        LabelSet.read(path)
    arguments = ["check", "--labeled", str(path.parent), "--out", str(tmp_path / "cohort.json")]
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    told = capsys.readouterr().err
    assert left.value.code == 2 and "Traceback" not in told and not (tmp_path / "cohort.json").exists()
    assert "Error: " in told
    with pytest.raises(SystemExit) as left:
        cli.main([*arguments, "--labels", str(path)])
    assert left.value.code == 2 and "is not a label set" in capsys.readouterr().err


def test_labels_that_can_be_used():
    assert names_by_id({"background": 0, "liver": "1", "spleen": 2}) == {1: "liver", 2: "spleen"}
    assert names_by_id({"0": "background", "1": "liver"}) == {1: "liver"}


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("cases", 0, "name"), "../outside", "cannot be a case's name"),
        (("cases", 0, "name"), "..", "cannot be a case's name"),
        (("cases", 0, "name"), "a/b", "cannot be a case's name"),
        (("cases", 0, "name"), "", "cannot be a case's name"),
        (("cases", 0, "name"), "b", "two cases are called b"),
        (("cases", 0, "label"), None, "the labeled case a has no label"),
        (("cases", 0, "size"), [-1, 2, 3], "greater than 0"),
        (("cases", 0, "spacing"), [0, 1, 1], "greater than 0"),
        (("cases", 0, "orientation"), "RRS", "has the orientation RRS"),
        (("cases", 0, "label_values"), {"1": 70_000}, "less than or equal to 65535"),
        (("cases",), [], "at least 1 item"),
        (("version",), 2, "version"),
    ],
)
def test_a_cohort_file_that_was_edited(place: tuple, value: Any, reason: str, tmp_path: Path):
    labeled_folder(tmp_path / "study", ["a", "b"])
    path = tmp_path / "cohort.json"
    with pytest.raises(SystemExit) as left:
        cli.main(["check", "--labeled", str(tmp_path / "study"), "--out", str(path)])
    assert left.value.code == 0
    change_json(path, place, value)
    assert reason in refused(Cohort.read, path)


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", "a\0b"])
def test_a_listed_case_whose_name_leads_elsewhere(name: str, tmp_path: Path):
    (tmp_path / "cases.json").write_text(json.dumps([{"image": "a.nii.gz", "role": "unlabeled", "name": name}]))
    assert "cannot be a case's name" in refused(READERS["cases.json"], tmp_path / "cases.json")


def test_remembered_facts_that_were_edited_are_read_anew(tmp_path: Path):
    labeled_folder(tmp_path / "study", ["a", "b"])
    arguments = ["check", "--labeled", str(tmp_path / "study"), "--out", str(tmp_path / "cohort.json")]
    with pytest.raises(SystemExit):
        cli.main(arguments)
    written = (tmp_path / "cohort.json").read_bytes()
    facts = tmp_path / ".cohort.json.facts"
    text = facts.read_text()
    assert text.count("\n") == 2
    for edited in (
        text.replace('"size": [10', '"size": ["x"'),
        DEEP.decode() + "\n" + text,
        text.replace("[2,", "[1,"),
    ):
        facts.write_text(edited)
        (tmp_path / "cohort.json").unlink()
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        assert left.value.code == 0 and (tmp_path / "cohort.json").read_bytes() == written
        assert sorted(facts.read_text().splitlines()) == sorted(text.splitlines())


@pytest.mark.parametrize(
    "options", [["--seed", "-1"], ["--validation", "nan"], ["--validation", "inf"], ["--test-fraction", "-inf"]]
)
def test_numbers_that_no_draw_can_have(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labeled_folder(tmp_path / "study", ["a", "b"])
    with pytest.raises(SystemExit) as left:
        cli.main(["check", "--labeled", str(tmp_path / "study"), "--out", str(tmp_path / "cohort.json"), *options])
    assert left.value.code == 2 and options[0] in capsys.readouterr().err
