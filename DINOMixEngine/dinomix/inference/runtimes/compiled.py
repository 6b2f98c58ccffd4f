"""OpenVINO as a runtime: a network's graph, compiled for this processor and for windows of one size."""

import weakref
from collections import OrderedDict
from dataclasses import dataclass

import torch

from dinomix.inference.pieces import Forward
from dinomix.inference.runtimes.graphs import graph_of
from dinomix.inference.runtimes.runtime import Sides
from dinomix.models.averaged import Averaged
from dinomix.models.silence import core
from dinomix.planning.plan import Plan

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
KEPT = 3
"""Compiled graphs of a network that stay in memory: for windows, for the piece on which bfloat16 is tried, and once more for
windows in float32. Compiling takes from half a second to ten."""
LIBRARY_BYTES = 2**27
"""What the library takes in memory, once it has computed."""

_COMPILED = weakref.WeakKeyDictionary[torch.nn.Module, OrderedDict[tuple[Sides, torch.dtype, int], Forward]]()


@dataclass(frozen=True)
class OpenVino:
    """Computes on the CPU, windows of one size."""

    name: str = "openvino"
    title: str = "OpenVINO"

    def more_bytes(self, weights: int, window: int) -> int:
        """Each compiled graph has weights of its own, and more while it is made; what one computes in stays allocated."""
        return LIBRARY_BYTES + (KEPT + 3) * weights + window

    def ready(
        self, network: torch.nn.Module, plan: Plan, device: torch.device, dtype: torch.dtype, sides: Sides
    ) -> Forward:
        """The network's graph, compiled; kept as long as the network is. Of averaged networks, each one's."""
        if isinstance(network, Averaged):
            return network.with_each(lambda each: _AsModule(self.ready(each, plan, device, dtype, sides)))
        kept = _COMPILED.setdefault(network, OrderedDict())
        key = sides, dtype, torch.get_num_threads()
        kept[key] = kept.pop(key) if key in kept else _compiled(network, plan, *key)
        while len(kept) > KEPT:
            kept.popitem(last=False)
        return kept[key]


OPENVINO = OpenVino()


def is_compiled(network: torch.nn.Module) -> bool:
    """Whether a graph of the network is in memory already, or of each one of averaged networks."""
    if isinstance(network, Averaged):
        return all(map(is_compiled, network.networks))
    return bool(_COMPILED.get(network))


class _AsModule(torch.nn.Module):
    """What computes windows, as one of the networks that are averaged."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self._forward(windows)


def _compiled(network: torch.nn.Module, plan: Plan, sides: Sides, dtype: torch.dtype, threads: int) -> Forward:
    model = graph_of(network, plan)
    model.reshape([1, len(plan.channels), *sides])
    given = model.output(0).partial_shape
    if given.is_dynamic or tuple(given.to_shape())[2:] != sides:
        raise RuntimeError(f"for windows of {sides} it gives logits of {given}")
    compiled = core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": HINTS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Processes that share a batch out would be held on the same cores.
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = compiled.create_infer_request()

    def forward(windows: torch.Tensor) -> torch.Tensor:
        given = [window[None].contiguous().numpy() for window in windows]
        logits = [torch.from_numpy(request.infer([window], share_inputs=True)[0]) for window in given]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    return forward
