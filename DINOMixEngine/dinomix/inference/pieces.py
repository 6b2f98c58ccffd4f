"""Pieces of an image on which two ways to compute a network are compared before one of them computes the whole."""

from collections.abc import Callable, Iterator
from itertools import product

from dinomix.arrays import Array, moved, namespace, padded
from dinomix.inference.devices import Device
from dinomix.planning.plan import Plan, sides_of_a_piece, takes_windows_only

Forward = Callable[[Array], Array]
"""Logits (batch, channels, x, y, z) of windows (batch, inputs, x, y, z), both float32, of one kind and on the same device."""
ENOUGH_BORDER, LEAST_BORDER = 100, 20
"""Voxels of borders with which a piece is the one that is tried; and without which the noise along them says nothing."""


def piece_with_borders(forward: Forward, tensor: Array, plan: Plan, device: Device) -> tuple[Array, Array] | None:
    """The window of the first piece with enough of borders, else of that with the most, and its logits; None without any."""
    xp = namespace(tensor)
    most, found = LEAST_BORDER - 1, None
    for piece in pieces_of(tensor, plan):
        window = moved(piece[None], device)
        logits = forward(window)[0]
        border = int(xp.count_nonzero(borders(xp.argmax(logits, axis=0))))
        if border > most:
            most, found = border, (window, logits)
        if most >= ENOUGH_BORDER:
            break
    return found


def borders(labels: Array) -> Array:
    """The voxels (x, y, z) that have a neighbor of another label along one of the axes."""
    xp = namespace(labels)
    border = xp.zeros_like(labels, dtype=xp.bool)
    for axis in range(labels.ndim):
        upper, lower = ((slice(None),) * axis + (side,) for side in (slice(1, None), slice(None, -1)))
        differ = labels[upper] != labels[lower]
        border[upper] |= differ
        border[lower] |= differ
    return border


def pieces_of(tensor: Array, plan: Plan) -> Iterator[Array]:
    """The middle of an image, and then those around it, padded where the image is smaller."""
    sides = sides_of_a_piece(plan)
    gaps = [max(have - side, 0) for side, have in zip(sides, tensor.shape[1:], strict=True)]
    places = [tuple(gap // 2 for gap in gaps)]
    if not takes_windows_only(plan):  # which would take as long as a part of the image
        places += product(*[(gap // 4, 3 * gap // 4) for gap in gaps])
    for starts in dict.fromkeys(places):
        inside = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        piece = tensor[:, *inside]
        yield padded(piece, [(0, side - have) for side, have in zip(sides, piece.shape[1:], strict=True)])
