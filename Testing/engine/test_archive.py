"""Models as zip files."""

import json
import zipfile
from pathlib import Path

import pytest

from dinomix.cli import main
from dinomix.errors import DinomixError
from dinomix.models.archive import export_model
from dinomix.models.folder import load_model
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from tiny_cohort import LABELS, make_plan


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "Lauf: 1" / "model"
    plan = make_plan()
    weights = build_network(plan, LABELS.channels).state_dict()
    write_model(path, plan=plan, labels=LABELS, weights=weights, record={}, preview=b"\x89PNG")
    return path


def left(*arguments: object) -> int:
    with pytest.raises(SystemExit) as code:
        main([str(argument) for argument in arguments])
    return int(code.value.code or 0)


def test_what_is_exported_is_a_whole_model_elsewhere(model: Path, tmp_path: Path, capsys):
    (model / "notes.txt").write_text("Patients' names, not for others.")
    out = tmp_path / "out" / "Modell.zip"
    assert left("models", "export", model, "--out", out, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"kind": "result", "archive": str(out)}
    progress = [line for line in lines if line["kind"] == "progress"]
    assert progress[-1]["step"] == progress[-1]["total"] > 0
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert not any("notes" in name for name in archive.namelist())
        archive.extractall(tmp_path / "there")
    (folder,) = (tmp_path / "there").iterdir()
    assert folder.name == "Lauf_ 1"
    assert load_model(folder).fingerprint == load_model(model).fingerprint


def test_equal_models_give_equal_files(model: Path, tmp_path: Path):
    for name in ("a", "b"):
        export_model(model, tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_cannot_be_exported_leaves_nothing(model: Path, tmp_path: Path):
    with pytest.raises(DinomixError, match="does not end in"):
        export_model(model, tmp_path / "model.tar")
    (tmp_path / "there.zip").write_text("mine")
    with pytest.raises(DinomixError, match="exists"):
        export_model(model, tmp_path / "there.zip")
    assert (tmp_path / "there.zip").read_text() == "mine"
    export_model(model, tmp_path / "there.zip", overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "there.zip")
    (model / "labels.json").write_text("{}")
    with pytest.raises(DinomixError, match="changed or cut short"):
        export_model(model, tmp_path / "new.zip")
    with pytest.raises(DinomixError, match="no model folder"):
        export_model(tmp_path / "nowhere", tmp_path / "new.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"Lauf: 1", "there.zip"}
