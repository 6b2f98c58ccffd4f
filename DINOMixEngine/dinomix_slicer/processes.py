"""Whether a process of this computer is there, or holds a file; without psutil and filelock, which Slicer's own Python may
not have."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO


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


def isHeld(lock: Path) -> bool:
    """Whether a process of this computer holds a lock of ``filelock.FileLock``, which goes with its process."""
    try:
        with open(lock, "rb") as file:
            return not _couldHold(file)
    except OSError:
        return False


def _couldHold(file: IO[bytes]) -> bool:
    """Take the lock for a moment, and give it back."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except OSError:
        return False
    return True


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
