"""A network tried out on shapes alone: what would fail at the first step is said before anything is done."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dinomix.errors import DinomixError


def try_network(network: nn.Module, patch: Sequence[int], channels: int, stage: str | None) -> tuple[int, ...]:
    """Pass a batch of two patches through a copy of the network that has shapes but no values.

    Args:
        patch: voxels along (x, y, z).
        channels: the network's output channels.
        stage: dotted name of the module that is distilled, or None.

    Returns:
        The shape of the stage's output, (2, width, x, y, z); of the network's where ``stage`` is None.

    Raises:
        DinomixError: the network does not take such patches, does not give one map per channel, or has no such stage.
    """
    trial = copy.deepcopy(network).to("meta").train()
    kept: list[object] = []
    if stage is not None:
        try:
            module = trial.get_submodule(stage)
        except AttributeError as error:
            stages = ", ".join(name for name, _ in network.named_children())
            raise DinomixError(
                f"The network has no stage {stage}.", f"Set fkd_stage in the plan to one of {stages}."
            ) from error
        module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    kind, size = type(network).__name__, "x".join(map(str, patch))
    try:
        with torch.no_grad():
            output = trial(torch.empty(2, 1, *patch, device="meta"))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DinomixError(
            f"{kind} cannot take patches of {size} voxels ({reason}).", "Change the plan's patch or network."
        ) from error
    if isinstance(output, Tensor) and output.ndim == 6:
        output = output[:, 0]  # of the heads of deep supervision the network's result
    if not isinstance(output, Tensor) or output.shape != (2, channels, *patch):
        raise DinomixError(f"{kind} does not give one map of {size} voxels per class.", "Change the plan's network.")
    tapped = kept[-1] if kept else output
    if not isinstance(tapped, Tensor) or tapped.ndim != 5:
        raise DinomixError(f"The stage {stage} of {kind} gives no map of features.", "Change the plan's fkd_stage.")
    return tuple(tapped.shape)
