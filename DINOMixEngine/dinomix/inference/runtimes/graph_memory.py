"""The memory that a window takes where OpenVINO alone computes: read off the graph, without a network."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError, reason_of
from dinomix.inference.devices import INSTALL
from dinomix.models.graph import read_graph

WINDOW_FACTOR, WINDOW_EXTRA = 1.75, 2**26
"""OpenVINO pads channels and keeps workspace: a window took 0.5 to 1.9 times what ``most_alive`` says, the more the smaller it
is; measured on nine kinds of networks."""


def window_of_graph(weights: Path, inputs: int, patch: tuple[int, int, int]) -> int:
    """Bytes of main memory for one window of so many channels, beside the weights.

    Args:
        weights: the file beside which the graph lies.

    Raises:
        DinomixError: there is no graph that OpenVINO can read, or it takes no such windows.
    """
    return int(_live_bytes(weights, weights.stat().st_mtime_ns, inputs, patch) * WINDOW_FACTOR) + WINDOW_EXTRA


@lru_cache(maxsize=16)
def _live_bytes(weights: Path, _changed: int, inputs: int, patch: tuple[int, int, int]) -> int:
    try:
        graph = read_graph(weights)
        graph.reshape([1, inputs, *patch])
        return most_alive(graph)
    except DinomixError:
        raise
    except Exception as error:  # of many kinds: what a library says of a graph that it does not know
        raise DinomixError(
            f"OpenVINO cannot compute the graph in {weights.parent.parent} ({reason_of(error)}).",
            INSTALL,
            "pytorch",
        ) from error


def most_alive(graph: Any) -> int:
    """Bytes of a graph's tensors that are alive at the same time, at most; constants are not among them.

    A tensor is alive from the layer that makes it to the last one that takes it, in the order in which they are computed.
    """
    layers = [layer for layer in graph.get_ordered_ops() if layer.get_type_name() != "Constant"]
    last = {_key(given.get_source_output()): number for number, layer in enumerate(layers) for given in layer.inputs()}
    ends: dict[int, int] = {}
    alive = most = 0
    for number, layer in enumerate(layers):
        for made in layer.outputs():
            size = math.prod(made.get_shape()) * made.get_element_type().size
            alive += size
            end = last.get(_key(made), number)
            ends[end] = ends.get(end, 0) + size
        most = max(most, alive)
        alive -= ends.pop(number, 0)
    return most


def _key(output: Any) -> tuple[str, int]:
    return output.get_node().get_name(), output.get_index()
