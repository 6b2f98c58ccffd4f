"""The list of models that a worker sends: no folder keeps the others from it, and it is never longer than a line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dinomix.files import write_json
from dinomix.models.folder import Model
from dinomix.models.manifest import write_manifest
from dinomix.planning.plan import RangeWindow, SpacingGrid
from dinomix.worker import listing
from dinomix.worker.listing import listed_models
from dinomix.worker.stream import Decoder, encode
from random_models import labels_with_ids, random_model, small_plan

Damage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    plan = small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)), RangeWindow(low=-600, high=600))
    return random_model(tmp_path_factory.mktemp("listing") / "good", plan, labels_with_ids(1, 2))


def signed(path: Path, name: str, content: str) -> None:
    """A file that was changed with its hash, so that only what it says is wrong."""
    (path / name).write_text(content, encoding="utf-8", errors="surrogatepass")
    write_manifest(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: signed(path, "record.json", "[]"),
        lambda path: signed(path, "record.json", '{"license": 1e999, "title": "x"}'),
        lambda path: signed(path, "record.json", "[" * 100_000),
        lambda path: signed(path, "record.json", "{"),
        lambda path: signed(path, "labels.json", "[3]"),
        lambda path: signed(path, "labels.json", "{}"),
        lambda path: signed(path, "plan.json", '{"patch": null}'),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "manifest.json").write_text('{"format": "dinomix-model", "version": 1, "files": [[1, 2, 3]]}'),
        lambda path: (path / "manifest.json").write_text("[" * 100_000),
        lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe"),
        lambda path: (path / "README.md").unlink(),
        lambda path: shutil.rmtree(path / "models"),
    ],
)  # fmt: skip
def test_a_damaged_folder_does_not_keep_the_others_from_the_list(model: Model, tmp_path: Path, damage: Damage) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(model.path, tmp_path / name)
    damage(tmp_path / "b")
    listed = {Path(entry["path"]).name: entry for entry in listed_models([tmp_path])}
    assert sorted(listed) == ["a", "b", "c"] and listed["a"]["problem"] is listed["c"]["problem"] is None
    problem = listed["b"]["problem"]
    assert problem is None or (problem.endswith(".") and "\n" not in problem and "Error" not in problem)
    encode({"type": "models", "models": list(listed.values())})


def test_folders_that_cannot_be_looked_into_are_told(model: Model, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    strange = [tmp_path / "absent", tmp_path / "loop", Path("a\0b"), Path("a" * 5000), Path("\ud800")]
    listed = listed_models([*strange, model.path.parent])
    assert listed[-1]["path"] == str(model.path.resolve()) and listed[-1]["problem"] is None
    assert all(entry["problem"] and "\n" not in entry["problem"] for entry in listed[:-1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", json.dumps({"config": ["x" * 1000] * 70_000})),
        ("record.json", json.dumps({"title": "x" * 70_000_000})),
        ("README.md", "x" * 70_000_000),
    ],
)
def test_a_model_that_says_too_much_is_listed_with_less(model: Model, tmp_path: Path, name: str, content: str) -> None:
    for folder in ("a", "b"):
        shutil.copytree(model.path, tmp_path / folder)
    signed(tmp_path / "a", name, content)
    long, good = listed_models([tmp_path])
    assert good["problem"] is None and good["card"] and good["structures"]
    line = encode({"type": "models", "models": [long, good]})
    assert len(line) < 2**20 and next(Decoder().feed(line)).fields["models"] == [long, good]
    assert long["problem"] or ("too long" in long["card"] and long["structures"] == good["structures"])


def test_more_models_than_a_line_holds_are_told(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        shutil.copytree(model.path, tmp_path / f"{number}")
    record = json.loads((model.path / "record.json").read_text())
    write_json(tmp_path / "2/record.json", {**record, "history": "x" * 3000})
    write_manifest(tmp_path / "2")
    whole = [listing._size(entry) for entry in listed_models([tmp_path])]
    assert len(whole) == 8 and whole[2] > whole[3] + 2000
    monkeypatch.setattr(listing, "LARGEST_LIST", sum(whole[:2]) + 2 * whole[3])
    listed = listed_models([tmp_path])
    *kept, told = listed
    assert 3 <= len(kept) < 8 and not any(entry["problem"] for entry in kept) and kept[2]["record"] == {}
    assert f"{8 - len(kept)} more models are there" in told["problem"]
