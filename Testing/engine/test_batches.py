"""Batches: the same whether they are prepared in the process that trains or beside it."""

from pathlib import Path

import pytest
import torch

from dinomix.planning.cache import cache_cases
from dinomix.training.batches import Batches, in_order
from dinomix.training.schedule import schedule_of_steps
from tiny_cohort import make_cohort, make_plan, small_config


def batches_of(tmp_path: Path, workers: int) -> Batches:
    cohort, plan = make_cohort(tmp_path / "cases"), make_plan()
    cached = cache_cases(cohort, plan, tmp_path / "cache", lambda *_, **__: None)
    config = small_config("dino-mix", fkd="off", pseudo_label_start=0, workers=workers)
    return Batches(cohort, cached, plan, config, schedule_of_steps(config, 12), rank=0, first_step=7, features=None)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_thread_or_processes_prepare_the_same_batches_in_the_same_order(workers: int, tmp_path: Path):
    batches = batches_of(tmp_path, workers)
    alone = [batches[batches.wanted(7 + index)] for index in range(len(batches))]
    beside = list(in_order(batches))
    assert len(alone) == len(beside) == 5
    for one, other in zip(alone, beside, strict=True):
        for name in ("labeled", "labels", "unlabeled"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.draws == other.draws
    assert not torch.equal(alone[0].labeled, alone[1].labeled)


def test_a_case_that_cannot_be_read_is_told_by_the_step_that_needs_it(tmp_path: Path, monkeypatch):
    def damaged(batches: Batches, index: int) -> None:
        raise OSError("damaged")

    batches = batches_of(tmp_path, 0)
    monkeypatch.setattr(Batches, "__getitem__", damaged)
    with pytest.raises(OSError, match="damaged"):
        next(iter(in_order(batches)))
