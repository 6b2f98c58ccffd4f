"""Building the network that a plan names. A plan may come from a stranger: it can name nothing but known networks."""

import json
from functools import lru_cache
from typing import Any

import torch

from dinomix.errors import DinomixError, reason_of
from dinomix.memory import check_memory
from dinomix.models.footprint import Footprint, footprint_of, on_paper
from dinomix.planning.plan import Plan

PACKAGE = "monai.networks.nets."
NETWORKS = (
    "AttentionUnet", "BasicUNet", "DynUNet", "HighResNet", "MedNeXt", "SegResNet", "SegResNetDS", "SwinUNETR", "UNETR", "UNet",
    "VNet",
)  # fmt: skip
"""MONAI's 3D segmentation networks that give one map per class and fetch or unpickle nothing when they are built."""
RESIDUAL_ENCODER = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
"""nnU-Net's network, under the name that it has where MONAI runs a model folder; here it is ``residual_encoder``'s."""
RELATIVES_VNET = "dinomix.models.relatives_vnet.relatives_vnet"
"""The V-Net of the published methods; a model folder has it as an expression of PyTorch's and MONAI's layers."""
MOST_VALUES, LARGEST_NUMBER = 1000, 100_000
"""How many arguments a network may have, lists counted by what is in them, and what a number may be: far more than any has."""


def build_network(plan: Plan, channels: int) -> torch.nn.Module:
    """The network of ``plan``, with its input channels and ``channels`` output channels (background and structures).

    Only one of ``NETWORKS``, ``RESIDUAL_ENCODER`` or ``RELATIVES_VNET``, with plain arguments (numbers, texts, lists and tables
    of them) is instantiated. The numbers of channels, and MONAI's ``spatial_dims``, are set here.

    Raises:
        DinomixError: the target is anything else, an argument is an expression, the network refuses the arguments, or it
            takes more memory than there is.
    """
    takes = footprint(plan, channels)
    size = " x ".join(map(str, plan.patch))
    check_memory(
        takes.weights + takes.window,
        f"The plan's network, {plan.network['_target_'].rpartition('.')[2]} with windows of {size} voxels, takes",
        "Choose a smaller patch or network.",
    )
    return _instantiated(plan.network, len(plan.channels), channels)


def network_on_paper(plan: Plan, channels: int) -> torch.nn.Module:
    """``build_network``'s network with shapes and no values, whatever it would take."""
    with on_paper():
        return _instantiated(plan.network, len(plan.channels), channels)


def footprint(plan: Plan, channels: int) -> Footprint:
    """What ``build_network``'s network takes, the first of an ensemble. Raises DinomixError as it does, and where the network
    refuses the patch."""
    _check_plain(plan.network)
    return _footprint(json.dumps(plan.network), plan.patch, len(plan.channels), channels)


@lru_cache(maxsize=16)
def _footprint(network_json: str, patch: tuple[int, int, int], inputs: int, channels: int) -> Footprint:
    with on_paper():
        network = _instantiated(json.loads(network_json), inputs, channels)
    try:
        return footprint_of(network, patch, inputs, network_json)
    except Exception as error:
        size = "x".join(map(str, patch))
        raise DinomixError(
            f"{type(network).__name__} cannot take patches of {size} voxels ({reason_of(error)}).",
            "Change the plan's patch or network.",
        ) from error


def _check_plain(network: dict[str, Any]) -> None:
    arguments = dict(network)
    target = arguments.pop("_target_", None)
    if target not in (RESIDUAL_ENCODER, RELATIVES_VNET, *(PACKAGE + name for name in NETWORKS)):
        raise DinomixError(
            f"The plan's network {target!r} cannot be used.",
            f"Take one of {', '.join(NETWORKS)} of monai.networks.nets, nnU-Net's {RESIDUAL_ENCODER}, or {RELATIVES_VNET}.",
        )
    if what := not_plain(arguments):
        raise DinomixError(f"The plan's arguments of {target} hold {what}.", "Give plain values.")


def _instantiated(network: dict[str, Any], inputs: int, channels: int) -> torch.nn.Module:
    _check_plain(network)
    arguments = dict(network)
    target = arguments.pop("_target_")
    network_class = _network_class(target)
    decided = {"in_channels": inputs, "out_channels": channels}
    if target.startswith(PACKAGE):
        decided["spatial_dims"] = 3
    try:
        built: torch.nn.Module = network_class(**{**arguments, **decided})
    except Exception as error:
        raise DinomixError(
            # Python's words, since they name the argument.
            f"{target} refuses the plan's arguments ({' '.join(str(error).split())[:200]}).",
            "Correct them in the plan.",
        ) from error
    return built


def _network_class(target: str) -> Any:
    if target == RESIDUAL_ENCODER:
        from dinomix.models.residual_encoder import ResidualEncoderUNet

        return ResidualEncoderUNet
    if target == RELATIVES_VNET:
        from dinomix.models.relatives_vnet import relatives_vnet

        return relatives_vnet
    from monai.networks import nets

    network_class = getattr(nets, target.removeprefix(PACKAGE), None)
    if network_class is None:
        raise DinomixError(f"This MONAI has no network {target}.", "Update MONAI, or choose another network.")
    return network_class


def network_definition(plan: Plan, channels: int) -> dict[str, Any] | str:
    """A plan's network in MONAI's configuration language, with what the label set and the data decide."""
    network, inputs = plan.network, len(plan.channels)
    if network["_target_"] == RELATIVES_VNET:
        from dinomix.models.relatives_vnet import as_expression

        with on_paper():
            return f"${as_expression(_instantiated(network, inputs, channels))}"
    if network["_target_"] != RESIDUAL_ENCODER:
        return {**network, "spatial_dims": 3, "in_channels": inputs, "out_channels": channels}
    return {
        **network,
        "n_stages": len(network["features_per_stage"]),
        "input_channels": inputs,
        "num_classes": channels,
        # Always these, so that a plan need not name classes.
        "conv_op": "$torch.nn.Conv3d",
        "norm_op": "$torch.nn.InstanceNorm3d",
        "nonlin": "$torch.nn.LeakyReLU",
        "conv_bias": network.get("conv_bias", True),
        "deep_supervision": False,
    }


def not_plain(arguments: dict[str, Any]) -> str:
    """What keeps a network's arguments from being used, in words.

    Empty where they are few numbers, texts, and lists and tables of them, and hold nothing that MONAI's configuration
    parser would evaluate or resolve.
    """
    left: list[Any] = [arguments]
    for _ in range(MOST_VALUES):
        if not left:
            return ""
        value = left.pop()
        if isinstance(value, (dict, list, tuple)) and len(value) > MOST_VALUES:
            break
        if isinstance(value, dict):
            if any(not isinstance(key, str) or key.startswith("_") for key in value):
                return "an expression or a reference"
            left.extend(value.values())
        elif isinstance(value, (list, tuple)):
            left.extend(value)
        elif isinstance(value, str):
            if value.lstrip().startswith(("$", "%")) or "@" in value or len(value) > MOST_VALUES:
                return "an expression or a reference"
        elif isinstance(value, (int, float)) and not abs(value) <= LARGEST_NUMBER:
            return f"the number {value}" if abs(value) < 10**18 else "a number beyond all measure"
        elif value is not None and not isinstance(value, (bool, int, float)):
            return "what is neither a number nor a text"
    return f"more than {MOST_VALUES} values" if left else ""
