"""Fine-tuning: classes are matched by name, never by number."""

from pathlib import Path

import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model, write_model
from dinomix.models.network import build_network
from dinomix.training.finish import matched_weights
from tiny_cohort import make_plan


@pytest.fixture
def started(tmp_path: Path):
    plan = make_plan()
    labels = LabelSet.from_names({1: "spleen", 2: "Kidney, right", 4: "liver", 7: "gallbladder"})
    torch.manual_seed(5)
    write_model(tmp_path / "model", plan=plan, labels=labels, weights=build_network(plan, 5).state_dict(), record={})
    return load_model(tmp_path / "model")


def test_output_channels_follow_the_names(started):
    events = []
    wanted = LabelSet.from_names({1: "gallbladder", 2: "pancreas", 3: "liver"})
    weights = matched_weights(started, wanted, started.plan, 0, lambda kind, **fields: events.append(fields))
    name = list(weights)[-2]
    old, new = started.weights[name], weights[name]
    assert new.shape[0] == 4
    assert torch.equal(new[0], old[0]) and torch.equal(new[1], old[4]) and torch.equal(new[3], old[3])
    assert not any(torch.equal(new[2], channel) for channel in old)
    assert all(torch.equal(weights[n], started.weights[n]) for n in list(weights)[:-2])
    assert len(events) == 1 and "pancreas" in events[0]["message"]


def test_equal_names_at_other_numbers_are_permuted(started):
    wanted = LabelSet.from_names({1: "liver", 2: "gallbladder", 3: "spleen", 4: "Kidney, right"})
    weights = matched_weights(started, wanted, started.plan, 0, lambda kind, **fields: None)
    name = list(weights)[-1]
    assert weights[name].tolist() == [started.weights[name][i].item() for i in (0, 3, 4, 1, 2)]


def test_another_network_is_refused(started):
    plan = make_plan().model_copy(update={"network": {**make_plan().network, "features": [4, 4, 8, 8, 16, 4]}})
    with pytest.raises(DinomixError, match="has the shape"):
        matched_weights(started, started.labels, plan, 0, lambda kind, **fields: None)
