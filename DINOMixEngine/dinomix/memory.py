"""How much main memory there is, refusing what takes more before any of it is taken, and keeping what a training frees."""

import ctypes
import os
import sys

import psutil

from dinomix.errors import DinomixError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h: free bytes at the end of the heap, and bytes of one array, above which the system gets them back."""

_KEEPS: list[bool] = []
"""Not empty where this process keeps what it frees."""


def main_memory() -> int:
    """Bytes that this computer has in all."""
    return int(psutil.virtual_memory().total)


def gigabytes(size: float) -> str:
    return f"{size / 2**30:,.1f} GB"


def check_memory(size: int, what: str, remedy: str) -> None:
    """Raises DinomixError, with both figures, where ``what`` (with a verb: "A window takes") needs more than there is."""
    if size > (has := main_memory()):
        raise DinomixError(f"{what} about {gigabytes(size)} of memory; this computer has {gigabytes(has)}.", remedy)


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, in large pages, where it runs on Linux with the GNU C library 2.35 or later.

    For training, each step of which frees the tensors that the next one asks for: given back to the system, their pages come
    anew and are filled with zeros, which takes about a tenth of a step. To be called before PyTorch is loaded.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's, for large pages
    library = ctypes.CDLL(None)
    # Before 2.35 the library refused so large a value, and with the one that it takes it would keep less than by itself.
    if hasattr(library, "mallopt") and library.mallopt(M_MMAP_THRESHOLD, 2**31 - 1):
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        _KEEPS.append(True)


def give_back_freed_memory() -> None:
    """Let the system have what ``keep_freed_memory`` has kept by now, so that it counts as free."""
    if _KEEPS:
        ctypes.CDLL(None).malloc_trim(0)
