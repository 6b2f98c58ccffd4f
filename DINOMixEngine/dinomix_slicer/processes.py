"""Whether a process of this computer is there; without psutil, which Slicer's own Python may not have."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def isThere(process: int) -> bool:
    """Whether there is a process of that number which has not ended; one that only waits to be collected has."""
    if process <= 0:
        return False
    if sys.platform == "win32":
        return _isThereOnWindows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _isZombie(process)


def _isZombie(process: int) -> bool:
    try:
        # The name in parentheses may hold spaces and parentheses of its own.
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return bool(fields) and fields[0] in ("Z", "X")


def _isThereOnWindows(process: int) -> bool:
    """Signal 0 would be Ctrl-C there."""
    import ctypes

    SYNCHRONIZE, TIMEOUT, DENIED = 0x00100000, 0x00000102, 5
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(SYNCHRONIZE, False, process)
    if not handle:
        return bool(ctypes.get_last_error() == DENIED)  # type: ignore[attr-defined,unused-ignore]
    try:
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == TIMEOUT)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
