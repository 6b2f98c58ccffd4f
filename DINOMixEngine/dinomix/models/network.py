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


def build_network(plan: Plan, channels: int) -> torch.nn.Module:
    """The network of ``plan``, with one input channel and ``channels`` output channels (background and structures).

    Only one of ``NETWORKS`` with plain arguments (numbers, texts, lists and tables of them) is instantiated.
    ``in_channels``, ``out_channels`` and ``spatial_dims`` are set here.

    Raises:
        DinomixError: the target is anything else, an argument is an expression, or MONAI refuses the arguments.
    """
    arguments = dict(plan.network)
    target = arguments.pop("_target_", None)
    if target not in [PACKAGE + name for name in NETWORKS]:
        raise DinomixError(
            f"The plan's network {target!r} cannot be used.",
            f"Take one of {', '.join(NETWORKS)} of monai.networks.nets.",
        )
    if not is_plain(arguments):
        raise DinomixError(f"The plan's arguments of {target} hold an expression or a reference.", "Give plain values.")

    from monai.networks import nets

    network_class = getattr(nets, target.removeprefix(PACKAGE), None)
    if network_class is None:
        raise DinomixError(f"This MONAI has no network {target}.", "Update MONAI, or choose another network.")
    try:
        network: torch.nn.Module = network_class(**network_arguments(arguments, channels))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DinomixError(f"{target} refuses the plan's arguments ({reason}).", "Correct them in the plan.") from error
    return network


def network_arguments(arguments: dict[str, Any], channels: int) -> dict[str, Any]:
    """``arguments`` with what the label set and the data decide."""
    return {**arguments, "spatial_dims": 3, "in_channels": 1, "out_channels": channels}


def is_plain(value: Any) -> bool:
    """Whether a value holds nothing that MONAI's configuration parser would evaluate or resolve."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and not key.startswith("_") and is_plain(v) for key, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, str):
        return not value.lstrip().startswith(("$", "@", "%")) and "@" not in value
    return value is None or isinstance(value, (bool, int, float))
