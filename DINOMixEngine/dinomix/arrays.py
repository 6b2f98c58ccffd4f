"""Arrays of either kind: NumPy's, and PyTorch's tensors where PyTorch is installed.

What segments is written once, for both, by the array API standard: ``xp = namespace(x)`` has the standard's functions for the
kind that ``x`` is of, and what the standard has is used alone (https://data-apis.org/array-api).
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Given = ParamSpec("Given")
Result = TypeVar("Result")

Array: TypeAlias = Any
"""NumPy's ndarray or PyTorch's Tensor; all arrays that a function takes at once are of the same kind. Not a union, since
operators of one kind do not take the other."""


@cache
def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported to find out."""
    try:
        return importlib.util.find_spec("torch") is not None
    except (ImportError, ValueError):  # of one that is kept from being imported
        return False


def namespace(*arrays: Array) -> Any:
    """The functions of the array API standard for arrays of one kind. Raises TypeError where they are of two."""
    # NumPy's own from 2.1 on: the other's copy of them imports all of NumPy, f2py and its tests included.
    if hasattr(np, "__array_api_version__") and all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        return np
    return array_api_compat.array_namespace(*arrays)


def place_of(array: Array) -> Any:
    """The device on which PyTorch has a tensor; "cpu" for arrays of NumPy's."""
    return array_api_compat.device(array)


def usual(array: NDArray[Any]) -> Array:
    """An array as the kind that computes where it is: a tensor, for all cores and GPUs, where PyTorch is; shares its memory."""
    if not has_torch():
        return array
    import torch

    return torch.from_numpy(array)


def as_numpy(array: Array) -> NDArray[Any]:
    """An array of either kind as NumPy's; without a copy where it is in main memory already."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()  # type: ignore[no-any-return]


def like(array: NDArray[Any], other: Array) -> Array:
    """An array of NumPy's in the kind and at the place of another one; without a copy where that is in main memory."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(other.device)


def moved(array: Array, device: Any) -> Array:
    """An array where a device computes, see ``inference.devices``; those of NumPy are in main memory always."""
    return array if isinstance(array, np.ndarray) else array.to(device)


def padded(array: Array, sides: Sequence[tuple[int, int]]) -> Array:
    """An array (channels, x, y, z) with zeros around it: as many in front and behind along each of (x, y, z)."""
    if not any(map(any, sides)):
        return array
    xp = namespace(array)
    shape = [before + size + behind for size, (before, behind) in zip(array.shape[1:], sides, strict=True)]
    result = xp.zeros((len(array), *shape), dtype=array.dtype, device=place_of(array))
    inside = (slice(before, before + size) for size, (before, _) in zip(array.shape[1:], sides, strict=True))
    result[:, *inside] = array
    return result


def without_gradients(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function within which PyTorch, where it is used, keeps nothing for gradients."""

    @wraps(function)
    def called(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if (torch := sys.modules.get("torch")) is None:
            return function(*args, **kwargs)
        with torch.inference_mode():
            return function(*args, **kwargs)

    return called
