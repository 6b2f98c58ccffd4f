"""OpenVINO as a runtime: a network's graph, compiled for this processor, or for Intel graphics, and for windows of one size."""

import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinomix.arrays import Array, as_numpy, like, namespace
from dinomix.inference.devices import Device, threads
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import Forward
from dinomix.inference.runtimes.graphs import graph_of
from dinomix.inference.runtimes.runtime import PYTORCH, Runtime, Sides
from dinomix.models.averaged import Averaged
from dinomix.models.networks import GraphNetwork, Network, each_of, is_graph
from dinomix.models.silence import core
from dinomix.planning.plan import Plan

HINTS: dict[Numbers, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""For what is not of 8 bits in a graph of those, too: bfloat16 would save nothing there."""
HINTS_OF_GRAPHICS: dict[Numbers, str] = {"float32": "f32", "bfloat16": "f16"}
"""Graphics have half precision in bfloat16's place; it is judged for each image alike."""
KEPT = 4
"""Compiled graphs of a network that stay in memory: for windows and for the piece on which fewer bits are tried, with either
numbers. Compiling takes from half a second to ten."""
LIBRARY_BYTES = 2**27
"""What the library takes in memory, once it has computed."""

_COMPILED = weakref.WeakKeyDictionary[Any, OrderedDict[tuple[Sides, Numbers, int, str], Forward]]()


@dataclass(frozen=True)
class OpenVino:
    """Computes windows of one size; they come from the main memory and go there.

    Attributes:
        place: what OpenVINO calls the processor that computes.
    """

    name: str = "openvino"
    title: str = "OpenVINO"
    place: str = "CPU"

    def more_bytes(self, weights: int, window: int) -> int:
        """Each compiled graph has weights of its own, and more while it is made; what one computes in stays allocated."""
        return LIBRARY_BYTES + (KEPT + 2) * weights + window

    def ready(self, network: Network, plan: Plan, device: Device, numbers: Numbers, sides: Sides) -> Forward:
        """The network's graph, compiled; kept as long as the network is. Of averaged networks, each one's."""
        if isinstance(network, Averaged):
            return network.with_each(lambda each: self.ready(each, plan, device, numbers, sides))
        kept = _COMPILED.setdefault(network, OrderedDict())
        key = sides, numbers, threads(), self.place
        kept[key] = kept.pop(key) if key in kept else _compiled(network, plan, *key)
        while len(kept) > KEPT:
            kept.popitem(last=False)
        return kept[key]


OPENVINO = OpenVino()


def usual_runtime(network: Network) -> Runtime:
    """What computes a network where nothing was tried: PyTorch, for a graph OpenVINO."""
    return OPENVINO if is_graph(network) else PYTORCH


def is_compiled(network: Network, place: str = OPENVINO.place) -> bool:
    """Whether a graph of the network for a processor is in memory already, or of each one of averaged networks."""
    return all(any(key[-1] == place for key in _COMPILED.get(each, ())) for each in each_of(network))


def drop(network: Network, place: str) -> None:
    """Forget the graphs of a network for a processor that shall not compute it."""
    for each in each_of(network):
        kept = _COMPILED.get(each, OrderedDict())
        for key in [key for key in kept if key[-1] == place]:
            del kept[key]


def _compiled(network: Any, plan: Plan, sides: Sides, numbers: Numbers, threads: int, place: str) -> Forward:
    model = graph_of(network, plan, numbers)
    model.reshape([1, len(plan.channels), *sides])
    given = model.output(0).partial_shape
    if given.is_dynamic or tuple(given.to_shape())[2:] != sides:
        raise RuntimeError(f"for windows of {sides} it gives logits of {given}")
    if isinstance(network, GraphNetwork) and given.to_shape()[1] != network.channels:
        raise RuntimeError(f"it gives {given.to_shape()[1]} channels instead of {network.channels}")
    request = (
        compiled_request(model, numbers, threads) if place == OPENVINO.place else _request_of(model, numbers, place)
    )

    def forward(windows: Array) -> Array:
        given = np.ascontiguousarray(as_numpy(windows))
        logits = [like(request.infer([window[None]], share_inputs=True)[0], windows) for window in given]
        return logits[0] if len(logits) == 1 else namespace(windows).concat(logits)

    return forward


def compiled_request(model: Any, numbers: Numbers, threads: int) -> Any:
    """What computes OpenVINO's model on the CPU, one input after the other."""
    compiled = core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": HINTS[numbers],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Processes that share a batch out would be held on the same cores.
            "ENABLE_CPU_PINNING": False,
        },
    )
    return compiled.create_infer_request()


def _request_of(model: Any, numbers: Numbers, place: str) -> Any:
    """The same on graphics, which know none of the CPU's settings."""
    settings = {"INFERENCE_PRECISION_HINT": HINTS_OF_GRAPHICS[numbers], "NUM_STREAMS": 1}
    return core().compile_model(model, place, settings).create_infer_request()
