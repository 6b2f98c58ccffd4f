"""What a network takes, found by a run on shapes alone: the numbers in a stranger's plan must not fill the memory.

Nor must they take forever: a network is given up once it has more layers than any that is known.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dinomix.models.remembered import remembered

MOST_LAYERS = 10_000
"""Modules in modules; the largest of MONAI's networks have a few hundred."""
WINDOW_FACTOR, WINDOW_EXTRA = 1.5, 2**26
"""Convolutions take workspace beside their inputs and outputs; measured on DynUNet, SegResNet, UNet and VNet."""


@dataclass(frozen=True)
class Footprint:
    """Attributes:
    shapes: of the tensors in the network's state.
    weights: bytes of these.
    window: bytes of main memory for one window, beside the weights.
    """

    shapes: dict[str, tuple[int, ...]]
    weights: int
    window: int


def footprint_of(network: nn.Module, patch: tuple[int, int, int], inputs: int, definition: str) -> Footprint:
    """The footprint of a network of so many input channels, built ``on_paper``; raises what it raises for such a patch.

    Args:
        definition: what the network was built from; the memory of a window is remembered by it.
    """
    live = remembered("window", network, [definition, patch, inputs], lambda: _live_bytes(network, patch, inputs))
    return Footprint(
        shapes={name: tuple(tensor.shape) for name, tensor in network.state_dict().items()},
        weights=sum(tensor.nbytes for tensor in network.parameters()),
        window=int(live * WINDOW_FACTOR) + WINDOW_EXTRA,
    )


def _live_bytes(network: nn.Module, patch: tuple[int, int, int], inputs: int) -> int:
    """Of a window's tensors that are alive at the same time, at most."""
    with on_paper(), torch.inference_mode(), _LiveBytes() as live:
        network.eval()(torch.empty(1, inputs, *patch))
    return live.peak


@contextmanager
def on_paper() -> Iterator[None]:
    """Networks that are built within have shapes and no values. Raises ValueError where one has too many layers."""
    layers, thread = 0, threading.get_ident()

    def count(*registered: object) -> None:
        nonlocal layers
        layers += threading.get_ident() == thread
        if layers > MOST_LAYERS:
            raise ValueError(f"it has more than {MOST_LAYERS:,} layers")

    counting = register_module_module_registration_hook(count)
    try:
        with torch.device("meta"), _OnPaper():
            yield
    finally:
        counting.remove()


class _OnPaper(TorchFunctionMode):
    """SwinUNETR turns a range of numbers into Python's while it is built, so ranges have values; nothing is drawn at random.

    For tensors without values, PyTorch would load its compiler to draw: more than a second of each start.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs = {"device": "cpu", **kwargs}
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_) and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


class _LiveBytes(TorchDispatchMode):
    """Adds up the tensors that are alive at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self.seen:
            self.seen.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size
