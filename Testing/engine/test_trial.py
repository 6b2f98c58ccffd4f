"""A network is tried out on shapes before a run begins."""

import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.models.network import build_network, network_on_paper
from dinomix.training.trial import Stage, find_stage, try_network
from tiny_cohort import basic_unet_plan


def network(**changes: object) -> torch.nn.Module:
    return build_network(basic_unet_plan().model_copy(update={"network": {**basic_unet_plan().network, **changes}}), 3)


def test_the_shape_of_a_stage_is_told_and_the_network_left_as_it_was():
    tried = network(norm="batch")
    before = {name: tensor.clone() for name, tensor in tried.state_dict().items()}
    outputs = try_network(tried, (32, 48, 64), 3)
    assert dict(outputs)["down_3"] == (2, 8, 4, 6, 8)
    assert find_stage(outputs, (32, 48, 64), "down_3") == Stage("down_3", 8, (4, 6, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tried.state_dict().items())
    assert all(not module._forward_hooks for module in tried.modules())


def test_patches_too_small_for_the_network_are_refused():
    with pytest.raises(DinomixError, match="cannot take patches of 16x16x16"):
        try_network(network(), (16, 16, 16), 3)


def test_networks_with_several_outputs_are_refused():
    supervised = {
        "_target_": "monai.networks.nets.SegResNetDS",
        "init_filters": 8,
        "blocks_down": [1, 1, 1],
        "dsdepth": 2,
    }
    tried = build_network(basic_unet_plan().model_copy(update={"network": supervised}), 3)
    with pytest.raises(DinomixError, match="does not give one map"):
        try_network(tried, (32, 32, 32), 3)


# Name -> arguments, and its stage at an eighth of the patch.
STAGES = {
    "AttentionUnet": ({"channels": [8, 16, 32, 64], "strides": [2, 2, 2]}, "model.1.submodule.1.submodule.1.submodule"),
    "BasicUNet": ({"features": [8, 8, 16, 32, 64, 8]}, "down_3"),
    "DynUNet": ({"kernel_size": [3] * 5, "strides": [1, 2, 2, 2, 2], "upsample_kernel_size": [2] * 4, "norm_name": "instance"},
                "downsamples.2"),
    "MedNeXt": ({"init_filters": 8}, "enc_stages.3"),
    "SegResNet": ({"init_filters": 8}, "down_layers.3"),
    "SegResNetDS": ({"init_filters": 8, "dsdepth": 1}, "encoder.layers.3.downsample"),
    "SwinUNETR": ({"feature_size": 12}, "swinViT.layers2.0"),
    "UNet": ({"channels": [8, 16, 32, 64], "strides": [2, 2, 2]}, "model.1.submodule.1.submodule.1.submodule"),
    "VNet": ({}, "down_tr128"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_found_by_its_place_in_every_network(name: str):
    arguments, stage = STAGES[name]
    plan = basic_unet_plan().model_copy(update={"network": {"_target_": f"monai.networks.nets.{name}", **arguments}})
    found = find_stage(try_network(network_on_paper(plan, 3), (64, 64, 64), 3), (64, 64, 64), 8)
    assert found.name == stage and found.grid == (8, 8, 8)
    one = find_stage(try_network(network_on_paper(plan, 3), (64, 64, 64), 3), (64, 64, 64), 4)
    assert one.grid == (16, 16, 16) and one.name != stage


def test_a_network_without_such_a_stage_gives_the_next_finer_one():
    plan = basic_unet_plan().model_copy(
        update={"network": {"_target_": "monai.networks.nets.UNet", "channels": [8, 16, 32], "strides": [2, 2]}}
    )
    outputs = try_network(network_on_paper(plan, 3), (32, 32, 32), 3)
    assert find_stage(outputs, (32, 32, 32), 8) == Stage("model.1.submodule.1.submodule", 32, (8, 8, 8))
    flat = plan.model_copy(update={"network": {"_target_": "monai.networks.nets.HighResNet"}})
    assert find_stage(try_network(network_on_paper(flat, 3), (16, 16, 16), 3), (16, 16, 16), 8).grid == (16, 16, 16)


def test_the_plane_decides_where_slices_stay_apart():
    flat = {
        "_target_": "monai.networks.nets.DynUNet", "kernel_size": [[3, 3, 1]] * 4, "strides": [1, *[[2, 2, 1]] * 3],
        "upsample_kernel_size": [[2, 2, 1]] * 3, "norm_name": "instance",
    }  # fmt: skip
    outputs = try_network(network_on_paper(basic_unet_plan().model_copy(update={"network": flat}), 3), (64, 64, 10), 3)
    assert find_stage(outputs, (64, 64, 10), 8).grid == (8, 8, 10)


def test_a_stage_without_a_map_is_refused_with_those_that_have_one():
    with pytest.raises(DinomixError, match="no stage down_9 that gives a map") as caught:
        find_stage(try_network(network(), (32, 32, 32), 3), (32, 32, 32), "down_9")
    assert "down_3" in str(caught.value.remedy)
