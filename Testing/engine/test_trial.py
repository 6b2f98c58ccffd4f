"""A network is tried out on shapes before a run begins."""

import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.models.network import build_network
from dinomix.training.trial import try_network
from tiny_cohort import make_plan


def network(**changes: object) -> torch.nn.Module:
    return build_network(make_plan().model_copy(update={"network": {**make_plan().network, **changes}}), 3)


def test_the_shape_of_a_stage_is_told_and_the_network_left_as_it_was():
    tried = network(norm="batch")
    before = {name: tensor.clone() for name, tensor in tried.state_dict().items()}
    assert try_network(tried, (32, 48, 64), 3, "down_3") == (2, 8, 4, 6, 8)
    assert try_network(tried, (32, 48, 64), 3, None) == (2, 3, 32, 48, 64)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tried.state_dict().items())
    assert all(not module._forward_hooks for module in tried.modules())


def test_patches_too_small_for_the_network_are_refused():
    with pytest.raises(DinomixError, match="cannot take patches of 16x16x16"):
        try_network(network(), (16, 16, 16), 3, None)


def test_networks_with_several_outputs_are_refused():
    supervised = {
        "_target_": "monai.networks.nets.SegResNetDS",
        "init_filters": 8,
        "blocks_down": [1, 1, 1],
        "dsdepth": 2,
    }
    tried = build_network(make_plan().model_copy(update={"network": supervised}), 3)
    with pytest.raises(DinomixError, match="does not give one map"):
        try_network(tried, (32, 32, 32), 3, None)
