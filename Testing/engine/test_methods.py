"""The seam of the methods, and cross pseudo supervision, the one with a second student."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.planning import planning
from dinomix.planning.plan import OnePiece
from dinomix.training.arranging import arrange
from dinomix.training.batches import Batch
from dinomix.training.disk import bytes_of_weights
from dinomix.training.losses import segmentation_loss
from dinomix.training.methods import MethodName, cps, method_class
from dinomix.training.methods.method import Method
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import schedule_of_steps
from dinomix.training.step import training_step
from dinomix.training.train import resume, train
from tiny_cohort import make_plan, small_config


@pytest.mark.parametrize("name", get_args(MethodName))
def test_each_name_has_its_class(name: MethodName) -> None:
    assert issubclass(method_class(name), Method) and method_class(name).losses is not Method.losses


def stopped_at(step: int):
    def stopped(run, batch):
        if run.state.step == step:
            raise KeyboardInterrupt
        return training_step(run, batch)

    return stopped


@pytest.mark.parametrize("settings", [{}, {"fkd": "on-the-fly", "pic": True, "optimizer": "sgd"}])
def test_cps_goes_on_bit_for_bit(settings: dict[str, Any], cohort, cache, tmp_path: Path, monkeypatch) -> None:
    config = small_config("cps", steps=9, checkpoint_every=3, validate_every=9, **settings)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(cohort, whole, config, make_plan(), cache=cache)
    monkeypatch.setattr("dinomix.training.loop.training_step", stopped_at(7))
    with pytest.raises(KeyboardInterrupt):
        train(cohort, stopped, config, make_plan(), cache=cache)
    monkeypatch.undo()
    resume(stopped)
    first, second = (RunDirectory.open(run).checkpoints.load() for run in (whole, stopped))
    assert first is not None and second is not None
    for part in ("student", "teacher"):
        assert all(torch.equal(tensor, second[part][name]) for name, tensor in first[part].items())


def test_cps_trains_two_students_and_releases_the_first(cohort, cache, tmp_path: Path) -> None:
    config = small_config("cps", steps=40, learning_rate=0.01, validate_every=40, checkpoint_every=40)
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    saved = RunDirectory.open(tmp_path / "run").checkpoints.load()
    assert saved is not None
    one, other = ({name.removeprefix(prefix): tensor for name, tensor in saved["student"].items()
                   if name.startswith(prefix)} for prefix in ("network.", "second."))  # fmt: skip
    assert one.keys() == other.keys() == saved["teacher"].keys()
    released = load_file(tmp_path / "run/model/models/model.safetensors")

    def distance(weights: dict[str, torch.Tensor]) -> float:
        return sum(float((weights[name] - tensor).square().sum()) for name, tensor in released.items())

    assert 0 < 10 * distance(one) < distance(other)
    events = list(read_events(tmp_path / "run/events.jsonl"))
    losses = [event["supervised"] for event in events if event["kind"] == "loss"]
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])
    told = [event for event in events if event["kind"] == "pseudo_label"]
    assert (
        told[0]["step"] > 10 and told[-1]["agreement"]["liver"] > 0.5
    )  # two that began differently have come to agree


def run_at(
    step: int, heads: list[torch.Tensor], cohort: Cohort, candidates: torch.Tensor | None = None
) -> SimpleNamespace:
    """A run of 12 steps whose two students say ``heads``."""
    config = small_config("cps", augment="off")
    return SimpleNamespace(
        candidates=candidates, keeping=None, one_piece=OnePiece(),
        config=config, cohort=cohort, plan=make_plan(), foundation=None, emit=lambda *_, **__: None,
        batches=SimpleNamespace(thick=None), schedule=schedule_of_steps(config, 12),
        state=SimpleNamespace(step=step, student=lambda images: (heads[0], None, heads[1])),
        accelerator=SimpleNamespace(process_index=0, autocast=torch.no_grad, reduce=lambda value, how: value),
    )  # fmt: skip


def test_each_student_learns_the_hard_labels_of_the_other(cohort) -> None:
    """Fixed logits in place of two networks: values and gradients as the formula has them."""
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(4, 3, 4, 4, 4, generator=generator, requires_grad=True) for _ in range(2)]
    heads = [each[:, None] for each in logits]
    labels = torch.randint(3, (2, 4, 4, 4), generator=generator)
    images = torch.zeros(2, 1, 4, 4, 4)
    run: Any = run_at(8, heads, cohort)
    losses = cps.CrossPseudoSupervision(run.config, cohort).losses(run, Batch(images, labels, images))
    by_first, by_second = (each[2:].detach().argmax(1) for each in logits)
    wanted = segmentation_loss(logits[0][2:], by_second) + segmentation_loss(logits[1][2:], by_first)
    torch.testing.assert_close(losses["unsupervised"].value, wanted)
    supervised = sum(segmentation_loss(each[:2], labels) for each in logits)
    torch.testing.assert_close(losses["supervised"].value, supervised)
    (gradient,) = torch.autograd.grad(losses["unsupervised"].value, logits[0], retain_graph=True)
    (alone,) = torch.autograd.grad(segmentation_loss(logits[0][2:], by_second), logits[0])
    torch.testing.assert_close(gradient, alone)


def test_each_student_learns_what_the_other_says_of_voxels_that_a_label_leaves_open(cohort) -> None:
    """Label 3: background or the second structure, which the other student takes where it is the likelier of the two."""
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 3, 4, 4, 4, generator=generator, requires_grad=True) for _ in range(2)]
    heads = [each[:, None] for each in logits]
    labels = torch.randint(4, (2, 4, 4, 4), generator=generator)
    candidates = torch.cat([torch.eye(3), torch.tensor([[1, 0, 1]])]).bool()
    images = torch.zeros(2, 1, 4, 4, 4)
    run: Any = run_at(8, heads, cohort, candidates=candidates)
    losses = cps.CrossPseudoSupervision(run.config, cohort).losses(run, Batch(images, labels, images[:0]))
    is_open = labels == 3
    wanted = torch.zeros(())
    for own, other in ((0, 1), (1, 0)):
        likelier = torch.where(logits[other][:, 2] > logits[other][:, 0], 2, 0)
        said = torch.where(is_open, likelier, labels)
        wanted = wanted + segmentation_loss(logits[own], said, is_open.float())
    assert is_open.any() and run.config.confidence == 0
    torch.testing.assert_close(losses["unsupervised"].value, wanted)


def test_before_pseudo_labels_count_cps_learns_from_labels_alone(cohort, cache, tmp_path: Path) -> None:
    config = small_config("cps", steps=4, pseudo_label_start=0.9, record_every=1, validate_every=4)
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    losses = [event for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "loss"]
    assert [event["unsupervised"] for event in losses] == [None] * 4


def test_two_students_are_reckoned_with(cohort, tmp_path: Path, monkeypatch) -> None:
    cohort.write(tmp_path / "cohort.json")
    patches = []

    def planned(*arguments, batch: int, **named):
        patches.append(batch)
        return planning.make_plan(*arguments, batch=batch, **named)

    monkeypatch.setattr("dinomix.training.arranging.make_plan", planned)
    for method in ("mean-teacher", "cps"):
        arrange(tmp_path / "cohort.json", method=method, fkd="off", device="cpu")
    assert patches == [4, 8]  # of which each keeps its activations
    network = torch.nn.Linear(100, 100)
    one, two = (bytes_of_weights(network, small_config(method)) for method in ("mean-teacher", "cps"))
    weights = 4 * (100 * 100 + 100)
    assert (one, two) == (10 * weights, 16 * weights)


def test_labeled_boxes_in_unlabeled_patches_are_refused_with_cps() -> None:
    with pytest.raises(DinomixError, match="not with cps"):
        small_config("cps", pic=True, **{"pic.across": True})
