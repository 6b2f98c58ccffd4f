"""Training on GPUs: in half precision where they are made for it, with a scaler that leaves out steps that overflow."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs
from torch import nn

from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.planning.networks import relatives_vnet
from dinomix.training import state
from dinomix.training.config import TrainConfig
from dinomix.training.methods.parts import student_sees
from dinomix.training.mixing import agreement
from dinomix.training.recording import by_name
from dinomix.training.run import Run
from dinomix.training.run_directory import RunDirectory
from dinomix.training.state import choose_algorithms, fitting_precision, layout_of
from dinomix.training.train import resume, train
from tiny_cohort import LABELS, make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.mark.parametrize(
    ("capability", "name", "precision"),
    [
        ((9, 0), "NVIDIA H200", "bf16"),
        ((8, 0), "NVIDIA A100", "bf16"),
        ((7, 5), "Tesla T4", "fp16"),
        ((7, 0), "Tesla V100", "fp16"),
        ((7, 5), "NVIDIA GeForce GTX 1660 Ti", "fp32"),
        ((6, 1), "NVIDIA GeForce GTX 1080", "fp32"),
    ],
)
def test_a_gpu_computes_in_what_it_is_made_for(monkeypatch, capability, name: str, precision: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert fitting_precision(on_cpu=False) == precision
    assert fitting_precision(on_cpu=True) == "fp32"


def test_maps_lie_channels_last_but_for_instance_normalization_on_a_gpu():
    by_instance, by_batch = nn.Sequential(nn.InstanceNorm3d(2)), nn.Sequential(nn.BatchNorm3d(2))
    last, first = torch.channels_last_3d, torch.contiguous_format
    assert [layout_of(by_instance, torch.device(kind)) for kind in ("cpu", "cuda")] == [last, first]
    assert [layout_of(by_batch, torch.device(kind)) for kind in ("cpu", "cuda")] == [last, last]


class OnCpu(torch.Tensor):
    """What was brought there from a device."""


def test_what_is_told_of_pseudo_labels_is_no_float64_on_a_device(monkeypatch):
    """Apple's GPUs have none; PyTorch raises this TypeError there."""
    to_cpu, to_double = torch.Tensor.cpu, torch.Tensor.double

    def double(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, OnCpu):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return to_double(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: to_cpu(tensor).as_subclass(OnCpu))
    monkeypatch.setattr(torch.Tensor, "double", double)
    logits, labels = (
        torch.eye(3)[:, [0, 1, 1, 2]].reshape(1, 3, 4, 1, 1),
        torch.tensor([0, 1, 2, 2]).reshape(1, 4, 1, 1),
    )
    alone = SimpleNamespace(reduce=lambda counts, how: counts)
    agreed = agreement(logits, labels, alone)  # type: ignore[arg-type]
    cohort = SimpleNamespace(labels=LABELS)
    for told in (agreed, torch.tensor([2 / 3, 2 / 3])):
        assert by_name(cohort, told) == pytest.approx({"liver": 2 / 3, "gallbladder": 2 / 3})  # type: ignore[arg-type]


def test_cudnn_chooses_its_algorithms_in_half_precision_only(monkeypatch):
    for name in ("deterministic", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, False)
    chosen = []
    for precision in ("no", "fp16", "bf16"):
        choose_algorithms(SimpleNamespace(mixed_precision=precision))  # type: ignore[arg-type]
        chosen.append((torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark))
    assert chosen == [(True, False), (False, True), (False, True)]


def with_scaler(monkeypatch, *overflowing: int) -> None:
    """Runs have the scaler of a GPU before Ampere; in the steps named the network's input is infinite.

    Their numbers are those of float32: fp16 itself takes minutes on a CPU.
    """
    made = state.make_accelerator

    def make(config: TrainConfig) -> Accelerator:
        accelerator = made(config)
        accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
        accelerator.autocast_handler = AutocastKwargs(enabled=False)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)  # type: ignore[assignment]
        return accelerator

    def shown(run: Run, labeled: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
        images = student_sees(run, labeled, unlabeled)
        return images * torch.inf if run.state.step in overflowing else images

    monkeypatch.setattr("dinomix.training.train.make_accelerator", make)
    monkeypatch.setattr("dinomix.training.methods.labeled_only.student_sees", shown)


def losses_of(run: Path) -> list[dict]:
    return [event for event in read_events(run / "events.jsonl") if event["kind"] == "loss"]


def test_a_step_that_overflows_is_left_out_and_leaves_no_traces(tmp_path: Path, monkeypatch):
    """Not in running means either, which a forward changes."""
    with_scaler(monkeypatch, 2, 3)
    plan = make_plan().model_copy(update={"network": relatives_vnet(2), "fkd_stage": 8})
    config = small_config("labeled-only", steps=6, record_every=1, validate_every=6, checkpoint_every=6)
    train(make_cohort(tmp_path / "cases"), tmp_path / "run", config, plan, cache=tmp_path / "cache")
    assert [event["total"] is None for event in losses_of(tmp_path / "run")] == [False, False, True, True, False, False]
    saved = RunDirectory.open(tmp_path / "run").checkpoints.load()
    assert saved is not None and saved["scaler"]["scale"] == 2.0**14
    assert any("running_mean" in name for name in saved["teacher"])
    assert all(torch.isfinite(tensor).all() for part in ("student", "teacher") for tensor in saved[part].values())


def test_a_resumed_run_goes_on_with_its_scaler(tmp_path: Path, monkeypatch):
    with_scaler(monkeypatch, 1)
    cohort, cache = make_cohort(tmp_path / "cases"), tmp_path / "cache"
    config = small_config("labeled-only", steps=4, checkpoint_every=2, validate_every=4)
    train(cohort, tmp_path / "whole", config, make_plan(), cache=cache)

    def killed(run: Run) -> None:
        saved(run)
        raise KeyboardInterrupt

    saved = state.save_state
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dinomix.training.loop.save_state", killed)
        train(cohort, tmp_path / "parts", config, make_plan(), cache=cache)
    resume(tmp_path / "parts")
    whole, parts = (RunDirectory.open(tmp_path / name).checkpoints.load() for name in ("whole", "parts"))
    assert whole is not None and parts is not None
    assert whole["scaler"] == parts["scaler"] and whole["scaler"]["scale"] == 2.0**15
    assert all(torch.equal(tensor, parts["student"][name]) for name, tensor in whole["student"].items())


def test_a_network_that_always_overflows_ends_the_run_with_a_remedy(tmp_path: Path, monkeypatch):
    with_scaler(monkeypatch, *range(1, 20))
    monkeypatch.setattr("dinomix.training.step.MOST_SKIPPED", 3)
    config = small_config("labeled-only", steps=20, validate_every=20, checkpoint_every=20)
    with pytest.raises(DinomixError, match=r"not finite any more at step 5\..*precision=fp32"):
        train(make_cohort(tmp_path / "cases"), tmp_path / "run", config, make_plan(), cache=tmp_path / "cache")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device to train on")
@pytest.mark.parametrize("precision", ["fp16", "auto", "fp32"])
def test_a_gpu_trains(tmp_path: Path, precision: str):
    config = small_config("dino-mix", device="cuda", precision=precision, steps=12, record_every=1)
    train(make_cohort(tmp_path / "cases"), tmp_path / "run", config, make_plan(), cache=tmp_path / "cache")
    totals = [event["total"] for event in losses_of(tmp_path / "run")]
    assert len(totals) == 12 and totals[-1] < totals[0]
