"""Arrays of either kind: NumPy's, and PyTorch's tensors where PyTorch is installed.

What segments is written once, for both, by the array API standard: ``xp = namespace(x)`` has the standard's functions for the
kind that ``x`` is of, and what the standard has is used alone (https://data-apis.org/array-api).
"""

import importlib.util
from functools import cache
from typing import Any, TypeAlias

from array_api_compat import array_namespace
from numpy.typing import NDArray

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
    return array_namespace(*arrays)


def usual(array: NDArray[Any]) -> Array:
    """An array as the kind that computes where it is: a tensor, for all cores and GPUs, where PyTorch is; shares its memory."""
    if not has_torch():
        return array
    import torch

    return torch.from_numpy(array)
