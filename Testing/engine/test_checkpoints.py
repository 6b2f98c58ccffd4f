"""The run's own files, damaged, edited or of something else: it goes on from what is whole, or says what is wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.training.checkpoints import Checkpoints
from dinomix.training.finish import finish
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import resume, train
from tiny_cohort import make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")

STEPS = 8


@pytest.fixture(scope="module")
def whole(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not disturbed; its checkpoints are of steps 8 and 6."""
    run = tmp_path_factory.mktemp("whole") / "run"
    config = small_config("mean-teacher", steps=STEPS, checkpoint_every=2, validate_every=4)
    train(cohort, run, config, make_plan(), cache=run.parent / "cache")
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def notices_of(run: Path) -> list[str]:
    return [event["message"] for event in read_events(run / "events.jsonl") if event["kind"] == "notice"]


def assert_same_model(run: Path, whole: Path) -> None:
    weights, again = (load_file(folder / "model/models/model.safetensors") for folder in (whole, run))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())
    records = [json.loads((folder / "model/record.json").read_text()) for folder in (whole, run)]
    assert records[0]["validation"] == records[1]["validation"] is not None


def flip_a_bit_of_the_weights(file: Path) -> None:
    """Where torch itself notices nothing: among the voxels of a tensor."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def something_else(file: Path) -> None:
    torch.save({"step": 3, "weights": torch.zeros(2)}, file)


@pytest.mark.parametrize("damage", [flip_a_bit_of_the_weights, cut, empty, something_else])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(run: Path, whole: Path, damage: Any) -> None:
    shutil.rmtree(run / "model")
    damage(run / "checkpoints/last.pt")
    resume(run)
    (notice,) = notices_of(run)
    assert "last.pt" in notice and notice.endswith("The one before it is taken, of step 6.")
    assert_same_model(run, whole)
    assert Checkpoints(run / "checkpoints").load()["step"] == STEPS


def test_a_kill_between_both_files_loses_nothing(run: Path, whole: Path) -> None:
    (run / "checkpoints/last.pt").replace(run / "checkpoints/before.pt")
    resume(run)
    assert not notices_of(run)
    assert_same_model(run, whole)


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one(run: Path) -> None:
    checkpoints = Checkpoints(run / "checkpoints")
    before, state = checkpoints.before.read_bytes(), checkpoints.load()
    cut(checkpoints.last)
    checkpoints.save(state)
    assert checkpoints.before.read_bytes() == before and checkpoints.load()["step"] == STEPS


EMPTY: dict[str, dict] = {part: {} for part in ("method", "schedule", "student", "teacher", "optimizer")}


@pytest.mark.parametrize(
    "state",
    [
        [], 5, {}, {"step": "many"},
        {"step": -1, "best": 0.5, **EMPTY},
        {"step": 1, "best": 0.5, **EMPTY, "student": {"a": "b"}},
        {"step": 1, "best": 0.5, **EMPTY},
        {"step": 1, "best": None, **EMPTY},
    ],
)  # fmt: skip
def test_what_loads_but_is_no_state_of_this_run_is_refused(run: Path, state: Any) -> None:
    torch.save(state, run / "checkpoints/last.pt")
    (run / "checkpoints/before.pt").unlink()
    with pytest.raises(DinomixError, match=r"last\.pt (is no checkpoint of a run|does not fit)") as caught:
        resume(run)
    assert caught.value.remedy and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["student", "teacher", "counts", "optimizer", "schedule"])
def test_a_state_of_another_network_is_refused(run: Path, part: str) -> None:
    path = run / "checkpoints/last.pt"
    state = torch.load(path, weights_only=True)
    if part == "optimizer":
        moments = state["optimizer"]["state"][0]
        moments["exp_avg"] = moments["exp_avg"][:1]
    elif part == "counts":
        state["method"]["sightings"]["counts"] = torch.zeros(7)
    elif part == "schedule":
        state["schedule"]["since"] = state["schedule"]["steps"] + 1
    else:
        state[part].popitem()
    torch.save(state, path)
    with pytest.raises(DinomixError, match="does not fit"):
        resume(run)


def test_two_damaged_checkpoints_are_said(run: Path) -> None:
    cut(run / "checkpoints/last.pt")
    cut(run / "checkpoints/before.pt")
    for end in (resume, finish):
        with pytest.raises(DinomixError, match=r"last\.pt is damaged"):
            end(run)


def test_a_plan_that_was_edited_is_noticed(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    plan["network"]["channels"][0] *= 2
    (run / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(DinomixError, match=r"does not fit the run's plan\.json"):
        resume(run)


@pytest.mark.parametrize("damage", [flip_a_bit_of_the_weights, cut, empty])
def test_damaged_best_weights_never_become_the_model(run: Path, damage: Any) -> None:
    shutil.rmtree(run / "model")
    damage(run / "checkpoints/best.safetensors")
    for end in (resume, finish):
        with pytest.raises(DinomixError, match=r"best\.safetensors is damaged"):
            end(run)
        assert not (run / "model").exists()
    assert len(notices_of(run)) == 1
    (run / "checkpoints/best.safetensors").unlink()
    resume(run)
    assert json.loads((run / "model/record.json").read_text())["validation"] is None


def test_best_weights_are_looked_for_anew_where_they_are_damaged(run: Path, whole: Path) -> None:
    for file in ("last.pt", "best.safetensors"):
        cut(run / "checkpoints" / file)
    resume(run)
    assert len(notices_of(run)) == 2
    validation = json.loads((run / "model/record.json").read_text())["validation"]
    assert validation["step"] == STEPS


@pytest.mark.parametrize("damage", [cut, empty, "another network"])
def test_damaged_start_weights_are_said(cohort: Cohort, whole: Path, tmp_path: Path, damage: Any) -> None:
    run, start = tmp_path / "run", load_file(whole / "checkpoints/best.safetensors")
    RunDirectory.create(run, small_config("labeled-only", steps=2), cohort, make_plan(), whole.parent / "cache", start)
    if damage == "another network":
        save_file({"weights": torch.zeros(3)}, run / "start.safetensors")
    else:
        damage(run / "start.safetensors")
    with pytest.raises(DinomixError, match=r"start\.safetensors does not fit") as caught:
        resume(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
def test_prepared_cases_that_are_cut_off_are_made_again(cohort: Cohort, tmp_path: Path, damage: Any) -> None:
    config, told = small_config("dino-mix", steps=1, fkd="cached", validate_every=5), []

    def weights_of(run: str) -> dict[str, torch.Tensor]:
        train(cohort, tmp_path / run, config, make_plan(), cache=tmp_path / "cache",
              emit=lambda kind, **fields: told.append(fields.get("message")))  # fmt: skip
        return load_file(tmp_path / run / "model/models/model.safetensors")

    first = weights_of("first")
    labeled = sorted((tmp_path / "cache").glob("*/label.npy"))
    files = [labeled[0], labeled[1].with_name("image.npy"), labeled[2].with_name("locations.npz")]
    files.append(max(set((tmp_path / "cache").glob("*/features-*.npy")) - {file.parent for file in files}))
    contents = [file.read_bytes() for file in files]
    for file in files:
        damage(file)
    second = weights_of("second")
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    assert [file.read_bytes() for file in files] == contents
    assert sum("is damaged; it is made again" in (message or "") for message in told) == 3


def test_events_that_are_damaged_are_passed_over(run: Path, whole: Path) -> None:
    shutil.rmtree(run / "model")
    lines = (run / "events.jsonl").read_bytes().splitlines(keepends=True)
    strange = [b"\xff\xfe\n", b"[1, 2]\n", b"7\n", b"[" * 100_000 + b"\n", b'{"kind": "loss", "step": "x"}\n', b"{}\n"]
    (run / "events.jsonl").write_bytes(b"".join([*lines[:3], *strange, *lines[3:]]))
    (run / "checkpoints/last.pt").unlink()
    resume(run)
    assert_same_model(run, whole)
    assert all("kind" in event for event in read_events(run / "events.jsonl"))
