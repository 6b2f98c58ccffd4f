"""What is found in the folders of models, and what is told of each before it is used."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dinomix.cli import main
from dinomix.models.folder import load_model
from dinomix.models.installed import describe_model, find_models, model_folders
from dinomix.models.manifest import FILES, MANIFEST, PREVIEW, WEIGHTS
from dinomix.models.writing import write_model
from random_models import labels_with_ids, random_weights, small_plan

PICTURE = b"\x89PNG\r\n\x1a\n not looked at"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("installed") / "liver run" / "model"
    plan, labels = small_plan(), labels_with_ids(3, 7)
    record = {"license": "CC-BY-4.0", "author": "A. Author", "validation": {"mean": float("nan")}}
    write_model(path, plan=plan, labels=labels, weights=random_weights(plan, labels), record=record, preview=PICTURE)
    return path


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "copied")
    return tmp_path / "copied"


def test_models_are_found_beside_runs_and_in_them(model: Path, tmp_path: Path) -> None:
    for place in ("models/one", "models/run/model", "models/.partial-x/model", "models/a/b/too deep"):
        shutil.copytree(model, tmp_path / place)
    (tmp_path / "models/file").write_text("")
    found = find_models([tmp_path / "models", tmp_path / "models/one", tmp_path / "not there"])
    assert found == [tmp_path / "models/one", tmp_path / "models/run/model"]
    assert find_models([tmp_path / "models/one"]) == [tmp_path / "models/one"]


def test_where_models_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DINOMIX_MODELS", os.pathsep.join([str(tmp_path / "a b"), "", "~/models"]))
    assert model_folders() == [tmp_path / "a b", Path.home() / "models"]
    monkeypatch.delenv("DINOMIX_MODELS")
    assert model_folders() == [Path.home() / ".dinomix/models"]


def test_a_whole_model_is_described(model: Path) -> None:
    described = describe_model(model)
    json.dumps(described, allow_nan=False)
    assert described["problem"] is None and described["title"] == "liver run"
    assert (described["license"], described["author"], described["data_source"]) == ("CC-BY-4.0", "A. Author", "")
    assert described["fingerprint"] == load_model(model).fingerprint and described["modality"] == "MR"
    assert base64.b64decode(described["preview"]) == PICTURE
    assert described["record"]["validation"] == {"mean": None}
    assert "| 3 | structure 3 |" in described["card"]
    assert described["bytes"] == sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    assert [s["id"] for s in described["structures"]] == [3, 7]


@pytest.mark.parametrize("name", [*FILES, MANIFEST, PREVIEW])
def test_a_folder_that_was_copied_in_part_is_listed_with_its_problem(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert find_models([copy.parent]) == [copy]
    described = describe_model(copy)
    assert described["problem"] and name in described["problem"] and described["path"] == str(copy)


@pytest.mark.parametrize("name", [name for name in (*FILES, PREVIEW) if name != WEIGHTS])
def test_a_changed_file_is_a_problem(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    assert "was changed or cut short" in describe_model(copy)["problem"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"files": 3}', b"\xff", b'{"format": "dinomix-model", "version": 9, "files": {}}']
)
def test_a_manifest_that_makes_no_sense_is_a_problem(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    assert describe_model(copy)["problem"].endswith(".")


def test_models_are_described_without_torch(model: Path) -> None:
    script = (
        "import sys, pathlib; from dinomix.models.installed import describe_model;"
        f"assert describe_model(pathlib.Path({str(model)!r}))['problem'] is None;"
        "assert not {'torch', 'monai', 'SimpleITK'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_info_says_what_a_model_is_for_and_refuses_a_damaged_one(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert info(copy) == 0
    told = capsys.readouterr().out
    assert "structure 3, structure 7" in told and "CC-BY-4.0" in told and "MR" in told and "A patch is" in told
    assert info(copy, "--json") == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == load_model(copy).fingerprint
    (copy / "labels.json").write_text("{}")
    assert info(copy) == 2 and "labels.json" in capsys.readouterr().err
    assert info("no-such-model") == 2


def info(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["models", "info", *map(str, arguments)])
    return int(left.value.code or 0)
