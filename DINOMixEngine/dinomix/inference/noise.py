"""How far a network's labels in bfloat16 may be from those in float32, found by computing a piece of the image with both."""

from typing import Any

import numpy as np

from dinomix.arrays import Array, like, namespace, without_gradients
from dinomix.inference.cells import two_highest
from dinomix.inference.devices import Device
from dinomix.inference.pieces import Forward, borders, piece_with_borders
from dinomix.inference.runtimes.compiled import OPENVINO, usual_runtime
from dinomix.inference.runtimes.runtime import Runtime
from dinomix.models.networks import Network, evaluating, is_graph
from dinomix.planning.plan import Plan, sides_of_a_piece

AGREEMENT = 0.98
"""Least share of the structures' voxels of a piece that must get the same label in both; trained networks are above it."""


@without_gradients
def border_noise(
    network: Network, tensor: Array, plan: Plan, device: Device, runtime: Runtime | None = None
) -> float | None:
    """How far bfloat16 changes the lead of the highest logit over the second one, along borders: root mean square.

    Both compute one piece of the image, the first of a few that has enough of borders.

    Args:
        network: on the CPU.
        tensor: (channels, x, y, z) float32.
        runtime: what computes in bfloat16; None for ``usual_runtime``.

    Returns:
        In the logits' unit; None where no piece has borders or the labels plainly differ.
    """
    fast = runtime or usual_runtime(network)
    with evaluating(network):
        found = piece_with_borders(
            fast.ready(network, plan, device, "bfloat16", sides_of_a_piece(plan)), tensor, plan, device
        )
        if found is None:
            return None
        window, logits = found
        return _noise(logits, _exact(network, plan, device)(window)[0])


def _exact(network: Any, plan: Plan, device: Device) -> Forward:
    """What computes pieces of an image in float32: PyTorch, for a graph OpenVINO."""
    if is_graph(network):
        return OPENVINO.ready(network, plan, device, "float32", sides_of_a_piece(plan))
    from dinomix.inference.precision import exactly

    return exactly(network, device)


def _noise(fast: Array, slow: Array) -> float | None:
    """Of the logits (channels, x, y, z) of one piece; see ``border_noise``."""
    xp = namespace(slow)
    best, second, winner = two_highest(fast)
    slow_winner = xp.argmax(slow, axis=0)
    found = (winner > 0) | (slow_winner > 0)
    agreeing = int(xp.count_nonzero((winner == slow_winner) & found))
    if agreeing < AGREEMENT * int(xp.count_nonzero(found)):
        return None
    is_winner = winner[None] == like(np.arange(len(slow), dtype=np.int16), slow)[:, None, None, None]
    own, others = xp.asarray(slow, copy=True), xp.asarray(slow, copy=True)
    own[~is_winner], others[is_winner] = -xp.inf, -xp.inf
    lead = xp.max(own, axis=0) - xp.max(others, axis=0)
    off = (lead - (best - second))[borders(winner)]
    return float(xp.sqrt(xp.mean(off * off)))
