"""The networks that plans name by default, as MONAI's bundle configurations write them."""

from typing import Any

from dinomix.planning.topology import Topology

MOST_WIDER = 10
"""A level has at most so many times the channels of the first, as nnU-Net has it (320 of 32)."""

MOST_HEADS = 2
"""Coarser levels that learn the labels too; each costs the loss of a whole patch."""


def planned_network(levels: Topology, channels: int) -> dict[str, Any]:
    """MONAI's DynUNet with the strides and kernels of ``levels``."""
    return {
        "_target_": "monai.networks.nets.DynUNet",
        "kernel_size": [list(kernel) for kernel in levels.kernels],
        "strides": [list(stride) for stride in levels.strides],
        "upsample_kernel_size": [list(stride) for stride in levels.strides[1:]],
        "filters": [min(channels * 2**level, MOST_WIDER * channels) for level in range(len(levels.strides))],
        # Against batch normalization: clearly better on trunk CT, level elsewhere (docs/results.md).
        "norm_name": ["INSTANCE", {"affine": True}],
        "res_block": False,
        "deep_supervision": True,
        "deep_supr_num": min(MOST_HEADS, len(levels.strides) - 2),
    }


def basic_unet(channels: int) -> dict[str, Any]:
    """MONAI's BasicUNet of 5 levels (encoder, as in the V-Net family, by doubling channels), instance normalization."""
    features = [channels, channels, 2 * channels, 4 * channels, 8 * channels, channels]
    return {"_target_": "monai.networks.nets.BasicUNet", "features": features}


def relatives_vnet(filters: int) -> dict[str, Any]:
    """The V-Net of the published methods (``models/relatives_vnet.py``)."""
    return {"_target_": "dinomix.models.relatives_vnet.relatives_vnet", "filters": filters, "dropout": 0.5}
