"""The V-Net of the published methods: its shape, and the expression by which MONAI runs a model folder with it."""

import monai
import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.models.network import build_network, network_definition, network_on_paper
from dinomix.planning.networks import relatives_vnet
from dinomix.training.fkd import tapped_stage
from random_models import small_plan

PLAN = small_plan(patch=(32, 48, 16)).model_copy(update={"network": relatives_vnet(4), "fkd_stage": 8})


def test_it_has_the_published_size():
    """37,778,126 parameters has the released class with 32 filters, batch normalization and 14 classes."""
    network = network_on_paper(PLAN.model_copy(update={"network": relatives_vnet(32)}), 14)
    assert sum(parameter.numel() for parameter in network.parameters()) == 37_778_126
    kernels = [module.kernel_size for module in network.modules() if isinstance(module, torch.nn.Conv3d)]
    assert kernels.count((3, 3, 3)) == 1 + 2 + 3 + 3 + 3 + 3 + 3 + 2 + 1 and kernels.count((2, 2, 2)) == 4


def test_the_way_up_adds_what_the_way_down_had():
    """With a silent lower part the first level's own features remain, and are not joined with others."""
    network = build_network(PLAN, 3).eval()
    first_level, skip, _ = network[0]
    for parameter in skip.parameters():
        parameter.data.zero_()
    features = first_level(torch.randn(1, 1, *PLAN.patch))
    assert features.shape[1] == 4 and torch.equal(skip(features), features)


def test_half_of_the_channels_are_left_out_in_training_only():
    network = build_network(PLAN, 3)
    before_output = []
    network[2].register_forward_pre_hook(lambda _, inputs: before_output.append(inputs[0].amax((2, 3, 4)) == 0))
    image = torch.randn(1, 1, *PLAN.patch).expand(40, -1, -1, -1, -1)
    with torch.no_grad():
        network(image)
        assert 0.3 < before_output[-1].float().mean() < 0.7
        assert torch.equal(network.eval()(image[:2]), network(image[:2]))


def test_fkd_taps_the_encoder_at_an_eighth():
    stage = tapped_stage(network_on_paper(PLAN, 3), PLAN, 3)
    assert (stage.width, stage.grid) == (32, (4, 6, 2))


def test_the_expression_is_the_same_network():
    network = build_network(PLAN, 3)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    definition = network_definition(PLAN, 3)
    assert isinstance(definition, str) and definition.startswith("$")
    other = eval(definition[1:], {"torch": torch, "monai": monai})
    other.load_state_dict(network.state_dict())
    image = torch.randn(2, 1, *PLAN.patch)
    for train in (False, True):
        torch.manual_seed(0)
        ours = network.train(train)(image)
        torch.manual_seed(0)
        assert torch.equal(ours, other.train(train)(image))


@pytest.mark.parametrize("wrong", [{"dropout": 2.0}, {"filters": -4}, {"kernel_size": 5}])
def test_impossible_arguments_are_refused(wrong: dict):
    with pytest.raises(DinomixError, match="refuses the plan's arguments"):
        build_network(PLAN.model_copy(update={"network": {**relatives_vnet(4), **wrong}}), 3)
