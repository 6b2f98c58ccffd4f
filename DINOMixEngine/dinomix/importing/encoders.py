"""Encoders that were trained without labels, as a start: their weights go into a network whose decoder is learned anew.

Two layouts are read, as they were published:

- nnssl's checkpoints (OpenMind's ResEnc-L and others of its ResidualEncoderUNets): ``network_weights``, and in
  ``nnssl_adaptation_plan`` the architecture and where encoder and stem are. Axes as nnU-Net has them, z-scored volumes.
- CT-FM's SegResNet encoder: ``conv_init`` and ``layers`` of MONAI's SegResEncoder, alone, within a SegResNetDS
  (``encoder.``) or a training (``model.backbone.``). Trained on SPL axes and on -1024 to 2048 HU as [0, 1].
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit
from dinomix.importing.nnunet_networks import Triple, read_architecture
from dinomix.importing.weights import ENDINGS, read_checkpoint, state_dict_of
from dinomix.models.folder import misfit_of
from dinomix.models.network import PACKAGE, build_network
from dinomix.planning.plan import Plan, RangeWindow, SpacingGrid, StepsWindow, ZScore, patch_multiple

PREFIX = "encoder."
"""Of the encoder's tensors in both networks."""
_KINDS = (
    "Give a model folder, nnssl's checkpoint of a residual encoder such as OpenMind's ResEnc-L, or CT-FM's SegResNet."
)
_ADAPTATION = "nnssl_adaptation_plan"
_UNET = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
_RES_ENC_L: dict[str, Any] = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1], *[[2, 2, 2]] * 5],
    "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1] * 5,
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
"""What nnssl means by the name ResEncL. Its variant without skips has the same encoder."""
_FIRST_OF_SEGRESNET = "conv_init.weight"
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.conv1\.weight")


@dataclass(frozen=True)
class Encoder:
    """An encoder that was read.

    Attributes:
        path: the file.
        title: what it is, for messages.
        network: in the terms of a plan, the network that has this encoder.
        weights: tensors under that network's names, with axes in the order (x, y, z).
        window: the intensities that it was trained on.
        orientation: the axes that it was trained on.
        modality: the only one that ``window`` is for; None for any.
    """

    path: Path
    title: str
    network: dict[str, Any]
    weights: dict[str, Tensor]
    window: RangeWindow | StepsWindow
    orientation: str
    modality: str | None = None


def read_encoder(path: Path) -> Encoder:
    """Read a file of encoder weights; nothing in it is executed.

    Raises:
        DinomixError: it is neither of the two layouts, is damaged, or takes several images at once.
    """
    if path.suffix not in ENDINGS:
        raise DinomixError(f"{path} is neither a model folder nor a file of weights.", _KINDS, "start-model")
    checkpoint = read_checkpoint(path)
    try:
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(_ADAPTATION), dict):
            return _read_nnssl(checkpoint, path)
        weights = state_dict_of(checkpoint, path)
        firsts = [name for name in weights if f".{name}".endswith(f".{_FIRST_OF_SEGRESNET}")]
        if firsts:
            return _read_segresnet(weights, min(firsts, key=len), path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DinomixError(
            f"{path} is not as its format demands ({reason_of(error)}).", "Get the file again.", "start-model"
        ) from error
    raise DinomixError(f"{path} holds weights, but no encoder that can be a start.", _KINDS, "start-model")


def encoder_weights(encoder: Encoder, plan: Plan, channels: int, seed: int) -> dict[str, Tensor]:
    """Weights of the plan's network: the encoder's own, and a decoder from the seed.

    Raises:
        DinomixError: the plan's network has another encoder.
    """
    torch.manual_seed(seed)
    # Clones, since some networks hold a tensor under two names.
    weights = {name: tensor.clone() for name, tensor in build_network(plan, channels).state_dict().items()}
    own = {name: tuple(tensor.shape) for name, tensor in weights.items() if name.startswith(PREFIX)}
    known = {name: _for_channels(tensor, own.get(name, ())) for name, tensor in encoder.weights.items()}
    if misfit := misfit_of(known, own):
        kind = str(plan.network["_target_"]).rpartition(".")[2]
        raise DinomixError(
            f"{encoder.path}, {encoder.title}, does not fit the plan's network, a {kind} ({misfit}).",
            "Leave out --plan and --set plan.network, so that the encoder's own network is taken, or start from scratch.",
            "start-model",
        )
    return weights | known


def _for_channels(weights: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """Weights of an encoder of one channel for several: each channel gets its share of them, as if it were the mean of all."""
    if weights.ndim != 5 or len(wanted) != 5 or weights.shape[1] != 1 or wanted[1] == 1:
        return weights
    return weights.expand(-1, wanted[1], -1, -1, -1) / wanted[1]


def plan_around(encoder: Encoder, modality: Modality) -> Plan:
    """A plan with the encoder's network, for ``planning.make_plan`` to start from."""
    x, y, z = (max(2 * factor, 32 // factor * factor) for factor in patch_multiple(encoder.network))
    grid = SpacingGrid(spacing=(1.0, 1.0, 1.0))
    return Plan(modality=modality, grid=grid, window=encoder.window, patch=(x, y, z), network=encoder.network)


def as_it_was_trained(plan: Plan, encoder: Encoder, fixed: Collection[str], emit: Emit) -> Plan:
    """A cohort's plan with the encoder's intensities and axes, as far as the user has not fixed others.

    Args:
        fixed: fields of the plan, dotted, that the user has given.
    """
    emit("notice", message=f"The run starts from {encoder.path}, {encoder.title}; its decoder is learned anew.")
    reasons, changes = dict(plan.reasons), dict[str, Any]()
    if encoder.modality not in (None, plan.modality):
        emit("notice", message=f"It was trained on {encoder.modality}, the cohort is {plan.modality}: the cohort's own "
                               "intensities are kept.")  # fmt: skip
    elif not any(field.startswith("window") for field in fixed):
        changes["window"] = encoder.window
        changes["more_channels"] = tuple(
            channel.model_copy(update={"window": encoder.window})
            if encoder.modality in (None, channel.modality)
            else channel
            for channel in plan.more_channels
        )
        reasons["window"] = "that of the encoder it starts from"
    if isinstance(plan.grid, SpacingGrid) and "grid" not in fixed:
        changes["grid"] = plan.grid.model_copy(update={"orientation": encoder.orientation})
    return plan.model_copy(update={**changes, "reasons": reasons})


def _read_nnssl(checkpoint: dict[str, Any], path: Path) -> Encoder:
    adaptation = checkpoint[_ADAPTATION]
    kind = str(adaptation["architecture_plans"]["arch_class_name"])
    if kind in ("ResEncL", "NoSkipResEncL"):
        arguments = _RES_ENC_L
    elif kind == "ResidualEncoderUNet":
        arguments = adaptation["architecture_plans"]["arch_kwargs"]
    else:
        raise DinomixError(
            f"{path} holds an encoder of the kind {kind}, which cannot be used.",
            "Choose a ResEnc-L of nnssl's, or another residual encoder.",
            "start-model",
        )
    if adaptation["pretrain_num_input_channels"] != 1:
        raise _several_images(path, int(adaptation["pretrain_num_input_channels"]))
    named = {"architecture": {"network_class_name": _UNET, "arch_kwargs": arguments}}
    architecture = read_architecture(named, path, _axis_order(adaptation))
    places = {adaptation["key_to_stem"]: f"{PREFIX}stem", adaptation["key_to_encoder"]: f"{PREFIX}stages"}
    given = state_dict_of({"network_weights": checkpoint["network_weights"]}, path)
    found = {
        f"{ours}{name.removeprefix(theirs)}": tensor
        for theirs, ours in places.items()
        for name, tensor in given.items()
        if name.startswith(f"{theirs}.")
    }
    title = f"nnssl's {kind} ({checkpoint.get('trainer_name') or 'trainer unknown'})"
    window = StepsWindow(on="file", steps=(ZScore(),))
    return Encoder(path, title, architecture.network(), architecture.weights(found, path), window, "RAS")


def _several_images(path: Path, channels: int) -> DinomixError:
    return DinomixError(
        f"{path} takes {channels} images of a patient at once; encoders of one image can be a start.",
        "Choose an encoder with one input channel, or start from scratch.",
        "start-model",
    )


def _axis_order(adaptation: dict[str, Any]) -> Triple:
    """nnssl's axis that is x, y and z: files are read as (z, y, x), then transposed."""
    forward = (adaptation.get("pretrain_plan") or {}).get("transpose_forward") or [0, 1, 2]
    return forward.index(2), forward.index(1), forward.index(0)


def _read_segresnet(weights: dict[str, Tensor], first: str, path: Path) -> Encoder:
    prefix = first.removesuffix(_FIRST_OF_SEGRESNET)
    places = (f"{prefix}conv_init.", f"{prefix}layers.")
    given = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(places)}
    filters, channels = given[_FIRST_OF_SEGRESNET].shape[:2]
    if channels != 1:
        raise _several_images(path, channels)
    blocks: dict[int, int] = {}
    for level, number in (map(int, found.groups()) for name in given if (found := _BLOCK.fullmatch(name))):
        blocks[level] = max(blocks.get(level, 0), number + 1)
    network = {
        "_target_": f"{PACKAGE}SegResNetDS",
        "init_filters": filters,
        "blocks_down": [blocks[level] for level in range(len(blocks))],
        "norm": "batch" if any(name.endswith("running_mean") for name in given) else "instance",
        "dsdepth": 1,
    }
    # S, P and L of the kernels become z, y and x.
    turned = {
        PREFIX + name: tensor.permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor
        for name, tensor in given.items()
    }
    window = RangeWindow(low=-1024, high=2048)
    return Encoder(path, "a SegResNet encoder as CT-FM's", network, turned, window, "LPS", "CT")
