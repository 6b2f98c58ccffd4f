"""Whether an image may be computed with 8 bits, by a graph that the model's validation cases have allowed.

Those cases say nothing of an image that is unlike them: what is brighter than all that the graph was made with is cut off. So
each image is asked: a piece of it is computed with 8 bits and in float32.
"""

from dinomix.arrays import Array, without_gradients
from dinomix.inference.devices import Device, cpu, is_x86_64
from dinomix.inference.memory import MemoryUse
from dinomix.inference.options import RuntimeName
from dinomix.inference.pieces import piece_with_borders
from dinomix.inference.runtimes.agreement import differing
from dinomix.inference.runtimes.compiled import OPENVINO, is_compiled
from dinomix.inference.runtimes.graphs import carries_eight_bits
from dinomix.inference.windows import Layout
from dinomix.models.networks import Network, bytes_of_network
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan, sides_of_a_piece

FEWEST_WINDOWS = 4
"""Of an image, below which asking costs more than 8 bits save."""
AGREEMENT = 0.85
"""Least share of the structures' voxels of the piece with the same label in both. Cases that lose no Dice have 0.90 to 0.99;
of a CT with half of its intensities, which is unlike all that the graph was made with, 0.79: see docs/performance.md."""


def may_take_eight_bits(
    network: Network, size: tuple[int, int, int], plan: Plan, device: Device, runtime: RuntimeName, use: MemoryUse
) -> bool:
    """Whether it is worth asking an image of ``size`` (x, y, z) voxels on the plan's grid."""
    return (
        runtime in ("auto", "openvino")
        and device == cpu()
        and is_installed()
        and is_x86_64()
        and len(Layout.of(size, plan)) >= FEWEST_WINDOWS
        and carries_eight_bits(network)
        # Of the image before, graphs may be in memory already.
        and (is_compiled(network) or OPENVINO.more_bytes(bytes_of_network(network), use.window) <= use.spare)
    )


def computes_eight_bits(network: Network, plan: Plan, device: Device) -> bool:
    """Whether this processor can compute the graph; it stays compiled."""
    try:
        OPENVINO.ready(network, plan, device, "int8", plan.patch)
    except Exception:  # of many kinds: what a library says of layers that it has no instructions for
        return False
    return True


@without_gradients
def agrees_in_eight_bits(network: Network, tensor: Array, plan: Plan, device: Device) -> bool | None:
    """Whether a piece of an image has nearly the labels of float32.

    Args:
        tensor: (channels, x, y, z) float32.

    Returns:
        None where that cannot be told: no piece has borders, or this processor cannot compute the graph.
    """
    sides = sides_of_a_piece(plan)
    try:
        found = piece_with_borders(OPENVINO.ready(network, plan, device, "int8", sides), tensor, plan, device)
        exact = OPENVINO.ready(network, plan, device, "float32", sides)
    except Exception:  # of many kinds: what a library says of layers that it has no instructions for
        return None
    if found is None:
        return None
    window, logits = found
    other, structures = differing(logits, exact(window)[0])
    return structures - other >= AGREEMENT * structures
