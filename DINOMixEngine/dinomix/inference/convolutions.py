"""Which of PyTorch's 3D convolutions computes a window on the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

Sides = int | Sequence[int]


class OneDnnConvolutions(TorchFunctionMode):
    """Within it, convolutions of float32 on the CPU are oneDNN's.

    PyTorch leaves those of a single window with few channels or planes to a slower one of its own: the first and the deepest
    layers of most networks, and all of a small window's.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv3d and torch.backends.mkldnn.is_available():
            return _convolution(*args, **kwargs)
        return func(*args, **kwargs)


def _convolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sides = 1,
    padding: Sides | str = 0,
    dilation: Sides = 1,
    groups: int = 1,
) -> torch.Tensor:
    if input.device.type != "cpu" or input.dtype != torch.float32 or input.dim() != 5 or isinstance(padding, str):
        return torch.conv3d(input, weight, bias, stride, padding, dilation, groups)
    sides = [[side] * 3 if isinstance(side, int) else list(side) for side in (padding, stride, dilation)]
    return torch.ops.aten.mkldnn_convolution(input, weight, bias, *sides, groups)
