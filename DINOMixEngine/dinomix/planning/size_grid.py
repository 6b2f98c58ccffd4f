"""Labels on a grid of fixed size, as the released code that protocol `dhc-compat` follows makes them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def resized_by_floor(labels: NDArray[Any], size: tuple[int, int, int]) -> torch.Tensor:
    """Labels on a grid of another size along the same axes, by PyTorch's "nearest": voxel floor(index * old / new).

    Up to half a voxel off what nearest to the voxel's center would be, so that only labels resized alike compare.

    Returns:
        int32, of shape ``size``.
    """
    batch = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(batch, size=size, mode="nearest")[0, 0].int()
