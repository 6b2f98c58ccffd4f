"""A network tried out on shapes alone: what would fail at the first step is said before anything is done."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from monai.networks.layers import SkipConnection
from torch import Tensor, nn

from dinomix.errors import DinomixError

Outputs = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Stage:
    """A place in a network whose features are distilled.

    Attributes:
        name: dotted name of the module whose output they are.
        width: their channels.
        grid: their voxels along (x, y, z) for the patch that was tried.
    """

    name: str
    width: int
    grid: tuple[int, int, int]


def try_network(network: nn.Module, patch: Sequence[int], channels: int, inputs: int = 1) -> Outputs:
    """Pass a batch of two patches through a copy of the network that has shapes but no values.

    Args:
        patch: voxels along (x, y, z).
        channels: the network's output channels.
        inputs: the network's input channels.

    Returns:
        Name and shape of each module's output that is a map (2, width, x, y, z), in the order in which they are computed;
        without modules that are computed more than once.

    Raises:
        DinomixError: the network does not take such patches, or does not give one map per channel.
    """
    trial = copy.deepcopy(network).to("meta").train()
    outputs: Outputs = []
    for name, module in trial.named_modules():
        if name and not isinstance(module, SkipConnection):  # that only lays two maps side by side
            module.register_forward_hook(_notes(outputs, name))
    kind, size = type(network).__name__, "x".join(map(str, patch))
    try:
        with torch.no_grad():
            output = trial(torch.empty(2, inputs, *patch, device="meta"))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DinomixError(
            f"{kind} cannot take patches of {size} voxels ({reason}).", "Change the plan's patch or network."
        ) from error
    if isinstance(output, Tensor) and output.ndim == 6:
        output = output[:, 0]  # of the heads of deep supervision the network's result
    if not isinstance(output, Tensor) or output.shape != (2, channels, *patch):
        raise DinomixError(f"{kind} does not give one map of {size} voxels per class.", "Change the plan's network.")
    names = [name for name, _ in outputs]
    return [(name, shape) for name, shape in outputs if names.count(name) == 1]


def _notes(outputs: Outputs, name: str) -> Callable[[nn.Module, object, object], None]:
    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 5 and output.shape[0] == 2:
            outputs.append((name, tuple(output.shape)))

    return note


def find_stage(outputs: Outputs, patch: Sequence[int], wanted: int | str) -> Stage:
    """The stage of a network that FKD taps, by its place or its name.

    Args:
        outputs: what ``try_network`` returns for ``patch``.
        wanted: by how much the stage's grid is coarser in the plane (x, y) than the patch; where the encoder has no such stage,
            the coarsest is taken that is finer. Or a module's dotted name.

    Raises:
        DinomixError: no module of this name gives a map of features.
    """
    if isinstance(wanted, str):
        shapes = dict(outputs)
        if wanted not in shapes:
            stages = ", ".join(name for name in shapes if "." not in name)
            raise DinomixError(
                f"The network has no stage {wanted} that gives a map of features.",
                f"Set the plan's fkd_stage to a number, such as 8 for an eighth of the plane, or to one of {stages}.",
            )
        return _stage(wanted, shapes[wanted])
    way_down: list[tuple[float, str, tuple[int, ...]]] = []
    for name, shape in outputs:
        reduction = max(patch[0] / shape[2], patch[1] / shape[3])
        if way_down and not way_down[-1][0] <= reduction <= wanted:
            break
        if reduction <= wanted:  # a network may begin coarser than that, with tokens
            way_down.append((reduction, name, shape))
    deepest = {name: shape for reduction, name, shape in way_down if reduction == way_down[-1][0]}
    # Whole blocks, since within them features may be widened for a moment.
    whole = {name: shape for name, shape in deepest.items() if not any(name.startswith(f"{n}.") for n in deepest)}
    # The decoder begins by narrowing what it gets, so that the widest are the encoder's.
    widest = max(shape[1] for shape in whole.values())
    return [_stage(name, shape) for name, shape in whole.items() if shape[1] == widest][-1]


def _stage(name: str, shape: tuple[int, ...]) -> Stage:
    return Stage(name, shape[1], (shape[2], shape[3], shape[4]))
