"""Which numbers the network computes with: bfloat16 where the processor is made for it and the labels stay the same."""

import copy
from typing import Literal

import torch
import torch.nn.functional as F

from dinomix.events import Emit
from dinomix.planning.plan import Plan, patch_multiple, takes_one_size

Precision = Literal["auto", "float32", "bfloat16"]
AGREEMENT = 0.98
"""Least share of the structures' voxels that must get the same label in both; trained networks are above it."""
TRIED_SIDE = 48
"""Side of the piece that both are tried on: a quarter of a second's work at most, beside seconds for the volume."""


def choose_dtype(
    precision: Precision, network: torch.nn.Module, tensor: torch.Tensor, plan: Plan, device: torch.device, emit: Emit
) -> torch.dtype:
    """What ``precision`` means for this network, image and device.

    "auto" is bfloat16 where the device has instructions for it and a piece from the middle of the image gets the same
    labels as in float32, else float32.

    Args:
        network: on the CPU.
        tensor: (1, x, y, z) float32.
        emit: gets a ``warning`` where the labels differ.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if not has_bfloat16(device):
        return torch.float32
    share = agreement(network, _piece(tensor, plan), plan, device)
    if share >= AGREEMENT:
        return torch.bfloat16
    emit(
        "warning",
        message=f"Of the structures' voxels tried, bfloat16 labels only {share:.0%} as float32 does, so float32 is used, "
        "which is slower.",
    )
    return torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(bool(getattr(torch.cpu, test, lambda: False)()) for test in tests)


def in_bfloat16(network: torch.nn.Module, plan: Plan, device: torch.device) -> torch.nn.Module:
    """A copy of a network that computes in bfloat16, but for its last layer: logits with 8 bits would blur borders.

    On a CPU it works channels last, for which the processor's instructions are made.
    """
    fast = copy.deepcopy(network).to(device, torch.bfloat16)
    if device.type == "cpu":
        fast = fast.to(memory_format=torch.channels_last_3d)
    name = last_layer(network, plan)
    if name is not None:
        layer = fast.get_submodule(name).float()
        layer.load_state_dict(network.get_submodule(name).state_dict())
        layer.register_forward_pre_hook(lambda _, inputs: tuple(value.float() for value in inputs))
    return fast


def last_layer(network: torch.nn.Module, plan: Plan) -> str | None:
    """The name of the convolution whose output is the network's, found by a run without data; None where there is none."""
    outputs: dict[str, torch.Tensor] = {}
    empty = copy.deepcopy(network).to("meta")
    for name, module in empty.named_modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    with torch.inference_mode():
        result = empty(torch.empty((1, 1, *plan.patch), device="meta"))
    return next((name for name, output in outputs.items() if output is result), None)


def agreement(network: torch.nn.Module, piece: torch.Tensor, plan: Plan, device: torch.device) -> float:
    """The share of the voxels of structures, of either, to which float32 and bfloat16 give the same label.

    Args:
        piece: (x, y, z) float32. Where no structure is found in it, its background's voxels are taken.
    """
    window = piece[None, None].to(device)
    home, training = home_of(network), network.training
    network.eval()
    try:
        with torch.inference_mode():
            fast = in_bfloat16(network, plan, device)(window.bfloat16()).argmax(1)
            slow = network.to(device)(window).argmax(1)
    finally:
        network.to(home).train(training)
    found = (fast > 0) | (slow > 0)
    same = fast == slow
    return float((same[found] if found.any() else same).float().mean())


def home_of(network: torch.nn.Module) -> torch.device:
    """Where a network's weights are; the CPU where it has none."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _piece(tensor: torch.Tensor, plan: Plan) -> torch.Tensor:
    """The middle of an image, padded where it is smaller; a window's whole size where the network takes no other."""
    fixed = takes_one_size(plan.network)
    factors = patch_multiple(plan.network)
    sides = [
        patch if fixed or patch <= TRIED_SIDE else max(TRIED_SIDE // factor, 1) * factor
        for patch, factor in zip(plan.patch, factors, strict=True)
    ]
    piece = tensor[0]
    for axis, side in enumerate(sides):
        length = min(side, piece.shape[axis])
        piece = piece.narrow(axis, (piece.shape[axis] - length) // 2, length)
    padding = [gap for side, have in zip(sides, piece.shape, strict=True) for gap in (side - have, 0)][::-1]
    return F.pad(piece, padding)
