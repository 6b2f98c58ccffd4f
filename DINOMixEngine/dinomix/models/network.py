"""Building the network that a plan names. A plan may come from a stranger: it can name nothing but known networks."""

from typing import Any

import torch

from dinomix.errors import DinomixError
from dinomix.planning.plan import Plan

PACKAGE = "monai.networks.nets."
NETWORKS = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "HighResNet", "MedNeXt", "SegResNet", "SegResNetDS",
    "SwinUNETR", "UNETR", "UNet", "VNet",
)  # fmt: skip
"""MONAI's 3D segmentation networks that fetch or unpickle nothing when they are built."""
RESIDUAL_ENCODER = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
"""nnU-Net's network, under the name that it has where MONAI runs a model folder; here it is ``residual_encoder``'s."""


def build_network(plan: Plan, channels: int) -> torch.nn.Module:
    """The network of ``plan``, with one input channel and ``channels`` output channels (background and structures).

    Only one of ``NETWORKS``, or ``RESIDUAL_ENCODER``, with plain arguments (numbers, texts, lists and tables of them) is
    instantiated. The numbers of channels, and MONAI's ``spatial_dims``, are set here.

    Raises:
        DinomixError: the target is anything else, an argument is an expression, or the network refuses the arguments.
    """
    arguments = dict(plan.network)
    target = arguments.pop("_target_", None)
    if target != RESIDUAL_ENCODER and target not in [PACKAGE + name for name in NETWORKS]:
        raise DinomixError(
            f"The plan's network {target!r} cannot be used.",
            f"Take one of {', '.join(NETWORKS)} of monai.networks.nets, or nnU-Net's {RESIDUAL_ENCODER}.",
        )
    if not is_plain(arguments):
        raise DinomixError(f"The plan's arguments of {target} hold an expression or a reference.", "Give plain values.")
    network_class = _network_class(target)
    decided = {"in_channels": 1, "out_channels": channels}
    if target != RESIDUAL_ENCODER:
        decided["spatial_dims"] = 3
    try:
        network: torch.nn.Module = network_class(**{**arguments, **decided})
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DinomixError(f"{target} refuses the plan's arguments ({reason}).", "Correct them in the plan.") from error
    return network


def _network_class(target: str) -> Any:
    if target == RESIDUAL_ENCODER:
        from dinomix.models.residual_encoder import ResidualEncoderUNet

        return ResidualEncoderUNet
    from monai.networks import nets

    network_class = getattr(nets, target.removeprefix(PACKAGE), None)
    if network_class is None:
        raise DinomixError(f"This MONAI has no network {target}.", "Update MONAI, or choose another network.")
    return network_class


def network_definition(network: dict[str, Any], channels: int) -> dict[str, Any]:
    """A plan's network in MONAI's configuration language, with what the label set and the data decide."""
    if network["_target_"] != RESIDUAL_ENCODER:
        return {**network, "spatial_dims": 3, "in_channels": 1, "out_channels": channels}
    return {
        **network,
        "n_stages": len(network["features_per_stage"]),
        "input_channels": 1,
        "num_classes": channels,
        # Always these, so that a plan need not name classes.
        "conv_op": "$torch.nn.Conv3d",
        "norm_op": "$torch.nn.InstanceNorm3d",
        "nonlin": "$torch.nn.LeakyReLU",
        "conv_bias": network.get("conv_bias", True),
        "deep_supervision": False,
    }


def is_plain(value: Any) -> bool:
    """Whether a value holds nothing that MONAI's configuration parser would evaluate or resolve."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and not key.startswith("_") and is_plain(v) for key, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, str):
        return not value.lstrip().startswith(("$", "@", "%")) and "@" not in value
    return value is None or isinstance(value, (bool, int, float))
