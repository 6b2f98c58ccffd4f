"""Pieces of an image on which two ways to compute a network are compared before one of them computes the whole."""

from collections.abc import Callable, Iterator
from itertools import product

import torch
import torch.nn.functional as F

from dinomix.planning.plan import Plan, sides_of_a_piece, takes_windows_only

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Logits (batch, channels, x, y, z) of windows (batch, inputs, x, y, z), both float32 and on the same device."""
ENOUGH_BORDER, LEAST_BORDER = 100, 20
"""Voxels of borders with which a piece is the one that is tried; and without which the noise along them says nothing."""


def piece_with_borders(
    forward: Forward, tensor: torch.Tensor, plan: Plan, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The window of the first piece with enough of borders, else of that with the most, and its logits; None without any."""
    most, found = LEAST_BORDER - 1, None
    for piece in pieces_of(tensor, plan):
        window = piece[None].to(device)
        logits = forward(window)[0]
        border = int(borders(logits.argmax(0)).sum())
        if border > most:
            most, found = border, (window, logits)
        if most >= ENOUGH_BORDER:
            break
    return found


def borders(labels: torch.Tensor) -> torch.Tensor:
    """The voxels (x, y, z) that have a neighbor of another label along one of the axes."""
    border = torch.zeros_like(labels, dtype=torch.bool)
    for axis, side in enumerate(labels.shape):
        differ = labels.narrow(axis, 1, side - 1) != labels.narrow(axis, 0, side - 1)
        border.narrow(axis, 1, side - 1).logical_or_(differ)
        border.narrow(axis, 0, side - 1).logical_or_(differ)
    return border


def pieces_of(tensor: torch.Tensor, plan: Plan) -> Iterator[torch.Tensor]:
    """The middle of an image, and then those around it, padded where the image is smaller."""
    sides = sides_of_a_piece(plan)
    gaps = [max(have - side, 0) for side, have in zip(sides, tensor.shape[1:], strict=True)]
    places = [tuple(gap // 2 for gap in gaps)]
    if not takes_windows_only(plan):  # which would take as long as a part of the image
        places += product(*[(gap // 4, 3 * gap // 4) for gap in gaps])
    for starts in dict.fromkeys(places):
        piece = tensor
        for axis, (start, side) in enumerate(zip(starts, sides, strict=True), 1):
            piece = piece.narrow(axis, start, min(side, piece.shape[axis]))
        padding = [gap for side, have in zip(sides, piece.shape[1:], strict=True) for gap in (side - have, 0)][::-1]
        yield F.pad(piece, padding)
