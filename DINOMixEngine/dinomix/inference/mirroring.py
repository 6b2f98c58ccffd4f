"""Mirror images of each window beside the window itself, along axes that have no sides: left must never become right."""

from itertools import combinations

from dinomix.errors import DinomixError
from dinomix.models.averaged import Averaged
from dinomix.models.folder import Model
from dinomix.models.mirror_axes import mirror_axes
from dinomix.models.networks import Network, each_of


def mirrored(network: Network, axes: tuple[int, ...]) -> Network:
    """A network that averages what it says of a window and of its mirror images along each choice of ``axes``.

    Args:
        axes: of (batch, channels, x, y, z); without any, the network itself is given back.
    """
    if not axes:
        return network
    flips = tuple(flip for count in range(len(axes) + 1) for flip in combinations(axes, count))
    return Averaged(each_of(network), flips)


def axes_without_sides(model: Model) -> tuple[int, ...]:
    """The axes of (batch, channels, x, y, z) along which a model may see mirror images, see ``models.mirror_axes``.

    Raises:
        DinomixError: there is none.
    """
    axes = mirror_axes(model.record, model.plan, model.labels)
    if not axes:
        raise DinomixError(
            "The model was not trained with mirror images along an axis without sides, and would lose by them.",
            "Segment without --mirror, or train with --set mirror=true where no structure has a side.",
            "mirror",
        )
    return tuple(2 + "xyz".index(axis) for axis in axes)
