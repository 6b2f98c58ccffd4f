"""Processes of this computer: whether one is there or holds a file, and ending a tree of them; without psutil and filelock,
which Slicer's own Python may not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
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


def killTrees(roots: list[int]) -> None:
    """End processes and all their descendants, at once."""
    if sys.platform == "win32":
        for root in roots:
            command = ["taskkill", "/T", "/F", "/PID", str(root)]
            subprocess.run(command, check=False, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW)
        return
    doomed: list[int] = []
    waiting = list(roots)
    while waiting:
        # Stopped first, so that none starts another one after its children were listed.
        _signal(waiting, signal.SIGSTOP)
        doomed += waiting
        children = _childrenOfAll()
        waiting = [child for process in doomed for child in children[process] if child not in doomed]
    _signal(doomed, signal.SIGKILL)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def _childrenOfAll() -> dict[int, list[int]]:
    """Process number -> numbers of its children."""
    if Path("/proc/self/stat").exists():
        numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        pairs = [(number, int(fields[1])) for number in numbers if len(fields := _stat(number)) > 1]
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        pairs = [(int(process), int(parent)) for process, parent in (line.split() for line in listed.splitlines())]
    children: dict[int, list[int]] = defaultdict(list)
    for process, parent in pairs:
        children[parent].append(process)
    return children


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
    return _stat(process)[:1] in (["Z"], ["X"])


def _stat(process: int) -> list[str]:
    """State, parent and more of a process on Linux; empty without it."""
    try:
        # The name in parentheses may hold spaces and parentheses of its own.
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


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
