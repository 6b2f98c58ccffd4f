"""Mirror images of each window beside the window itself, along axes that have no sides: left must never become right."""

from itertools import combinations

import torch

from dinomix.errors import DinomixError
from dinomix.models.averaged import Averaged
from dinomix.models.folder import Model
from dinomix.planning.plan import SpacingGrid

_AXES = "xyz"


def mirrored(network: torch.nn.Module, axes: tuple[int, ...]) -> torch.nn.Module:
    """A network that averages what it says of a window and of its mirror images along each choice of ``axes``.

    Args:
        axes: of (batch, channels, x, y, z); without any, the network itself is given back.
    """
    if not axes:
        return network
    flips = tuple(flip for count in range(len(axes) + 1) for flip in combinations(axes, count))
    return Averaged(network.networks if isinstance(network, Averaged) else [network], flips)


def axes_without_sides(model: Model) -> tuple[int, ...]:
    """The axes of (batch, channels, x, y, z) along which a model may see mirror images.

    They are those along which it was trained with such; and the axis from left to right for any model none of whose structures
    has a side. Where one has, never that axis.

    Raises:
        DinomixError: there is none.
    """
    trained, config = model.record.get("mirrored_axes", []), model.record.get("config", {})
    names = {*trained, *config.get("flips", ())}
    if isinstance(model.plan.grid, SpacingGrid):
        names = names - {"x"} if model.labels.has_sides else names | {"x"}
    elif model.labels.has_sides:
        names = set()  # which axis of the file is that from left to right is not known
    if not names & set(_AXES):
        raise DinomixError(
            "The model's structures have sides, and it was not trained with images that were mirrored along other axes.",
            "Segment without --mirror.",
            "mirror",
        )
    return tuple(2 + _AXES.index(name) for name in sorted(names & set(_AXES)))
