"""``dinomix check`` as a person and as a program call it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cohort_folders import labeled_folder
from dinomix.cli import main
from dinomix.cohort.cohort import Cohort


def check(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["check", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_a_cohort_in_folders_of_any_script(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = labeled_folder(tmp_path / "Prüfung 测试 mit Raum", ["Müller 1", "患者 2", "c"])
    out = tmp_path / "Köln 北京" / "cohort.json"
    code, shown, _ = check(capsys, "--labeled", folder, "--validation", 1, "--seed", 3, "--out", out)
    assert code == 0
    assert "2 labeled, 1 validation (3 cases, 3 patients)" in shown
    assert "class_1" in shown
    assert {case.name for case in Cohort.read(out).cases} == {"Müller 1", "患者 2", "c"}


def test_one_problem_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    (folder / "images" / "b.nii.gz").write_text("no image")
    code, shown, told = check(capsys, "--labeled", folder, "--out", tmp_path / "cohort.json")
    assert code == 2
    assert shown == ""
    lines = [line for line in told.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1
    assert "b.nii.gz" in lines[0]
    assert not (tmp_path / "cohort.json").exists()


def test_several_problems_are_a_list(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    (folder / "images" / "b.nii.gz").write_text("no image")
    (folder / "labels" / "c.nii.gz").unlink()
    code, _, told = check(capsys, "--labeled", folder, "--out", tmp_path / "cohort.json")
    assert code == 2
    listed = [line.strip() for line in told.splitlines() if line.strip().startswith(("1.", "2."))]
    assert len(listed) == 2
    assert "Error: 2 problems were found" in told
    assert not (tmp_path / "cohort.json").exists()


def test_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    code, shown, _ = check(capsys, "--labeled", folder, "--out", tmp_path / "cohort.json", "--json")
    lines = [json.loads(line) for line in shown.splitlines()]
    assert code == 0
    assert lines[-1]["kind"] == "cohort"
    assert lines[-1]["cases"] == {"labeled": 2, "unlabeled": 0, "validation": 0, "test": 0}
    assert any(line["kind"] == "progress" and line["step"] == line["total"] == 2 for line in lines)
    for file in ("a", "b"):
        (folder / "images" / f"{file}.nii.gz").write_text("no image")
    code, shown, _ = check(capsys, "--labeled", folder, "--out", tmp_path / "other.json", "--json")
    told = [json.loads(line) for line in shown.splitlines()]
    problems = [line for line in told if line["kind"] == "problem"]
    assert code == 2
    assert len(problems) == 2 and [line["kind"] for line in told].count("error") == 1
    assert all(error["message"] and error["remedy"] for error in problems)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--validation", "1.5"], "--validation 1.5 is not possible"),
        (["--validation", "2"], "No labeled case is left"),
        (["--labeled-count", "3"], "--labeled-count 3"),
        (["--split", "nowhere.json"], "nowhere.json"),
        (["--split", "nowhere.json", "--validation", "1"], "Give either --split"),
        (["--labels", "nowhere.json"], "nowhere.json"),
        (["--test", "nowhere"], "nowhere does not exist"),
        (["--modality", "PET"], "PET"),
    ],
)
def test_options_that_cannot_be_met(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], says: str
) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    code, _, told = check(capsys, "--labeled", folder, "--out", tmp_path / "cohort.json", *options)
    assert code == 2
    assert says in told
    assert not (tmp_path / "cohort.json").exists()


def test_no_folder_at_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, _, told = check(capsys, "--out", tmp_path / "cohort.json")
    assert code == 2
    assert "--labeled" in told


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from dinomix.cli import main\n"
        "try: main(['check', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'monai', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Example:" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
