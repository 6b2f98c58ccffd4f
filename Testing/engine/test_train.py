"""Training runs: what they write, that they repeat, and what they refuse."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.models.folder import load_model
from dinomix.models.manifest import read_manifest
from dinomix.models.network import build_network
from dinomix.planning import planning
from dinomix.training import loop
from dinomix.training.control import RunPaused
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import resume, train
from tiny_cohort import LABELS, basic_unet_plan, make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "models" / "model.safetensors")


@pytest.fixture(scope="module")
def dino_mix(cohort, cache, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "dino-mix"
    train(cohort, run, small_config(), make_plan(), cache=cache)
    return run


def test_a_run_leaves_a_model_and_its_record(dino_mix: Path):
    model = load_model(dino_mix / "model")
    assert model.labels == LABELS
    assert "random weights" in model.record["fkd_teacher"]
    assert not any("projector" in name for name in model.weights)
    assert model.record["validation"]["mean"] >= 0
    assert model.record["cohort_sha256"]
    assert (dino_mix / "model/preview.png").read_bytes().startswith(b"\x89PNG")
    assert "preview.png" in read_manifest(dino_mix / "model")


def test_the_events_tell_the_whole_run(dino_mix: Path):
    events = list(read_events(dino_mix / "events.jsonl"))
    losses = [event for event in events if event["kind"] == "loss"]
    assert [event["step"] for event in losses] == sorted({2, 3, 4, 6, 8, 9, 10, 12})
    assert all(event["fkd"] > 0 for event in losses)
    # Pseudo-labels count from a quarter of the steps on, with growing weight.
    assert [event["unsupervised"] is None for event in losses] == [event["step"] <= 3 for event in losses]
    weights = [event["lambda_u"] for event in losses]
    assert weights == sorted(weights) and weights[0] == 0 and weights[-1] > 0
    assert {event["step"] for event in events if event["kind"] == "validation"} == {6, 12}
    drawn = {event["subset"] for event in events if event["kind"] == "pic"}
    assert drawn == {"labeled", "unlabeled"}
    progress = [event for event in events if event["kind"] == "progress" and event["stage"] == "train"]
    assert progress[-1]["step"] == progress[-1]["total"] == 12 and progress[-1]["eta"] == 0


def test_the_probabilities_that_are_told_are_those_of_the_draws(cohort, cache, tmp_path: Path):
    settings = {"pic": True, "pic.start": 0.5, "pic.probability": 1.0, "steps": 6, "record_every": 1}
    train(cohort, tmp_path / "run", small_config("labeled-only", **settings), make_plan(), cache=cache)
    events = [event for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "pic"]
    told = {event["step"]: event["probabilities"] for event in events if event["subset"] == "labeled"}
    assert told[4] == {"liver": 0, "gallbladder": 1}, "the curriculum begins after half of the steps, with what is rare"
    assert told[4]["liver"] < told[5]["liver"] < told[6]["liver"] < told[6]["gallbladder"]


def test_a_prepared_case_that_is_gone_pauses_the_run(cohort, tmp_path: Path, monkeypatch):
    def gone(*arguments: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "cache/case/image.npy"))

    monkeypatch.setattr(loop, "training_step", gone)
    with pytest.raises(RunPaused, match=r"is gone \(.*image\.npy"):
        train(cohort, tmp_path / "run", small_config("labeled-only", steps=2), make_plan())
    assert list(read_events(tmp_path / "run/events.jsonl"))[-1]["kind"] == "paused"
    monkeypatch.undo()
    assert resume(tmp_path / "run").is_dir()


def test_the_same_seed_gives_the_same_weights(dino_mix: Path, cohort, cache, tmp_path: Path):
    train(cohort, tmp_path / "again", small_config(), make_plan(), cache=cache)
    train(cohort, tmp_path / "other", small_config(seed=1), make_plan(), cache=cache)
    again, other = weights_of(tmp_path / "again"), weights_of(tmp_path / "other")
    for name, tensor in weights_of(dino_mix).items():
        assert torch.equal(tensor, again[name])
    assert any(not torch.equal(tensor, other[name]) for name, tensor in again.items())


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("labeled-only", {}),
        ("labeled-only", {"pic": True, "fkd": "on-the-fly"}),
        ("mean-teacher", {}),
        ("mean-teacher", {"pic": True, "pic.across": True}),
        ("dino-mix", {"fkd": "cached"}),
        ("dino-mix", {"fkd": "off", "confidence": 0.9, "optimizer": "sgd", "augment": "off"}),
    ],
)
def test_every_method_trains(method, settings, cohort, cache, tmp_path: Path):
    train(cohort, tmp_path / "run", small_config(method, steps=6, **settings), make_plan(), cache=cache)
    losses = [event for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "loss"]
    assert (losses[-1]["unsupervised"] is None) == (method == "labeled-only")
    assert (losses[-1]["fkd"] is None) == ("fkd" not in settings or settings["fkd"] == "off")


def test_training_learns(cohort, cache, tmp_path: Path):
    config = small_config("labeled-only", steps=60, learning_rate=0.01, validate_every=60)
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    validation = [event for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "validation"]
    assert validation[-1]["dice"]["liver"] > 0.8


def test_unlabeled_cases_are_read_without_any_label(tmp_path: Path):
    cohort = make_cohort(tmp_path / "cases")
    for case in cohort.with_role("unlabeled"):
        assert case.label is None
        # A label file that would fail to load stands where a careless reader would look for one.
        case.image.with_name(case.image.name.replace("image", "label")).write_text("not for reading")
    train(cohort, tmp_path / "run", small_config("mean-teacher", steps=4), make_plan())


def test_a_second_writer_is_refused(cohort, cache, tmp_path: Path):
    config = small_config("labeled-only", steps=4)
    RunDirectory.create(tmp_path / "run", config, cohort, make_plan(), cache, None)
    with RunDirectory.open(tmp_path / "run").locked(), pytest.raises(DinomixError, match="Another process"):
        resume(tmp_path / "run")
    assert resume(tmp_path / "run").is_dir()


def test_a_run_is_not_overwritten(dino_mix: Path, cohort, cache):
    before = (dino_mix / "config.json").read_bytes()
    with pytest.raises(DinomixError, match="--resume"):
        train(cohort, dino_mix, small_config(), make_plan(), cache=cache)
    assert (dino_mix / "config.json").read_bytes() == before


def test_a_loss_that_explodes_is_stopped_and_named(cohort, cache, tmp_path: Path):
    config = small_config("labeled-only", steps=30, optimizer="sgd", learning_rate=1e30, clip=1e30, checkpoint_every=1)
    with pytest.raises(DinomixError, match="term: supervised"):
        train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    state = RunDirectory.open(tmp_path / "run").checkpoints.load()
    assert state is not None
    events = list(read_events(tmp_path / "run/events.jsonl"))
    assert events[-1]["kind"] == "error" and events[-1]["remedy"]


def test_missing_cases_are_said_before_anything_is_written(cohort, tmp_path: Path):
    only_labeled = cohort.model_copy(update={"cases": cohort.with_role("labeled")})
    with pytest.raises(DinomixError, match="no unlabeled case"):
        train(only_labeled, tmp_path / "run", small_config(), make_plan())
    only_unlabeled = cohort.model_copy(update={"cases": cohort.with_role("unlabeled")})
    with pytest.raises(DinomixError, match="no labeled case"):
        train(only_unlabeled, tmp_path / "run", small_config(), make_plan())
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_named(cohort, cache, tmp_path: Path):
    config = small_config("labeled-only", steps=3)
    RunDirectory.create(tmp_path / "run", config, cohort, make_plan(), cache, None)
    (tmp_path / "run/checkpoints").mkdir()
    (tmp_path / "run/checkpoints/last.pt").write_bytes(b"half a file")
    with pytest.raises(DinomixError, match=r"last\.pt is damaged"):
        resume(tmp_path / "run")


def test_the_run_directory_is_plain_data(dino_mix: Path):
    assert json.loads((dino_mix / "config.json").read_text())["train"]["method"] == "dino-mix"
    state = torch.load(dino_mix / "checkpoints/last.pt", weights_only=True)
    assert state["step"] == 12


def test_a_stage_is_distilled_by_its_name(cohort, cache, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", small_config(steps=2, record_every=1), basic_unet_plan(), cache=cache)
    losses = [event for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "loss"]
    assert len(losses) == 2 and all(event["fkd"] > 0 for event in losses)


def test_what_cannot_run_leaves_no_run_behind(cohort, tmp_path: Path):
    run, plan = tmp_path / "run", basic_unet_plan()
    with pytest.raises(DinomixError, match="no teacher file"):
        train(cohort, run, small_config(**{"fkd.teacher": "absent.pth"}), plan)
    with pytest.raises(DinomixError, match="no stage down_9"):
        train(cohort, run, small_config(), plan.model_copy(update={"fkd_stage": "down_9"}))
    with pytest.raises(DinomixError, match="patches of 16x16x16"):
        train(cohort, run, small_config("labeled-only"), plan.model_copy(update={"patch": (16, 16, 16)}))
    with pytest.raises(DinomixError, match="The plan is for MR"):
        train(cohort, run, small_config("labeled-only"), plan.model_copy(update={"modality": "MR"}))
    assert not run.exists()


def test_memory_that_runs_out_pauses_the_run(cohort, cache, tmp_path: Path, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("dinomix.training.loop.training_step", exhausted)
    with pytest.raises(DinomixError, match="too little memory"):
        train(cohort, tmp_path / "run", small_config("labeled-only"), make_plan(), cache=cache)
    assert list(read_events(tmp_path / "run/events.jsonl"))[-1]["kind"] == "paused"


def test_a_gradient_that_is_not_finite_is_never_applied(cohort, cache, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dinomix.training.methods.parts.loss_of_heads", lambda heads, *_: (0 * heads).sum().sqrt())
    config = small_config("labeled-only", checkpoint_every=1)
    with pytest.raises(DinomixError, match="gradient is not finite any more at step 1"):
        train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    assert RunDirectory.open(tmp_path / "run").checkpoints.load() is None


def test_of_equal_validations_the_later_one_is_released(cohort, cache, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dinomix.training.recording.validate", lambda *arguments: [0.0, 0.0])
    monkeypatch.setattr("dinomix.training.snapshot.Snapshots.begun", lambda *arguments: None)  # nothing is segmented
    config = small_config("labeled-only", steps=4, validate_every=2)
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    state = RunDirectory.open(tmp_path / "run").checkpoints.load()
    assert state is not None
    assert all(torch.equal(tensor, state["teacher"][name]) for name, tensor in weights_of(tmp_path / "run").items())
    assert load_model(tmp_path / "run/model").record["validation"]["step"] == 4


def test_a_run_takes_its_cache_along_when_it_moves(cohort, cache, tmp_path: Path):
    config = small_config("labeled-only")
    RunDirectory.create(tmp_path / "run", config, cohort, make_plan(), None, None)
    RunDirectory.create(tmp_path / "sharing", config, cohort, make_plan(), cache, None)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert RunDirectory.open(tmp_path / "moved").cache == tmp_path / "moved/cache"
    assert RunDirectory.open(tmp_path / "sharing").cache == cache


def test_a_line_that_was_cut_off_does_not_hide_the_other_events(tmp_path: Path):
    (tmp_path / "events.jsonl").write_text(
        '{"kind": "loss"}\n{"kind": "lo{"kind": "error"}\n{"kind": "finished"}\n{"ki'
    )
    assert [event["kind"] for event in read_events(tmp_path / "events.jsonl")] == ["loss", "finished"]


def test_a_network_with_deep_supervision_is_trained_and_released(cohort, tmp_path: Path):
    overrides = {
        "patch": [16, 16, 16], "network.filters": [4, 4, 8], "network.strides": [1, 2, 2], "network.kernel_size": [3, 3, 3],
        "network.upsample_kernel_size": [2, 2], "network.deep_supr_num": 1,
    }  # fmt: skip
    plan = planning.make_plan(cohort, device_kind="cpu", memory_bytes=2**30, batch=4, overrides=overrides)
    assert plan.network["deep_supervision"]
    model = load_model(train(cohort, tmp_path / "run", small_config("mean-teacher"), plan))
    network = build_network(model.plan, 3)
    network.load_state_dict(model.weights)
    assert network.train()(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 2, 3, 16, 16, 16)
    assert network.eval()(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)
