"""Processes of this computer: whether one is there or holds a file, since when, and ending a tree of them; without psutil and
filelock, which Slicer's own Python may not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

START_TICKS = 19
"""Where ``_stat`` has the time of a process's creation, in ticks since the computer was started."""


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


def createdAt(process: int) -> float | None:
    """When a process was created, by ``time.time``, give or take a second; None where there is none, or that cannot be told.

    By this a process is told from a later one that was given the same number.
    """
    if sys.platform == "win32":
        return _createdAtOnWindows(process)
    if _hasProc():
        fields = _stat(process)
        if len(fields) <= START_TICKS:
            return None
        sinceBoot = int(fields[START_TICKS]) / os.sysconf("SC_CLK_TCK")
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)  # type: ignore[attr-defined,unused-ignore]
        return float(boot + sinceBoot)
    age = subprocess.run(["ps", "-o", "etime=", "-p", str(process)], capture_output=True, text=True, check=False).stdout
    return time.time() - _secondsOf(age.strip()) if age.strip() else None


def killTrees(roots: list[int]) -> None:
    """End processes and all their descendants, at once; but never this one or what it descends from."""
    spared = _ownLine() if roots else set()
    waiting = [root for root in roots if root not in spared]
    if sys.platform == "win32":
        for root in waiting:
            command = ["taskkill", "/T", "/F", "/PID", str(root)]
            subprocess.run(command, check=False, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW)
        return
    doomed: list[int] = []
    while waiting:
        # Stopped first, so that none starts another one after its children were listed.
        _signal(waiting, signal.SIGSTOP)
        doomed += waiting
        waiting = [child for child, parent in _parents().items() if parent in doomed and child not in doomed]
    _signal(doomed, signal.SIGKILL)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            continue


def _ownLine() -> set[int]:
    """This process and what it descends from, on Windows its parent alone; and 1, which is nobody's to end."""
    if sys.platform == "win32":
        return {os.getpid(), os.getppid()}
    parents, line, process = _parents(), {1}, os.getpid()
    while process and process not in line:
        line.add(process)
        process = parents.get(process, 0)
    return line


def _parents() -> dict[int, int]:
    """Process number -> number of its parent."""
    if _hasProc():
        numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        return {number: int(fields[1]) for number in numbers if len(fields := _stat(number)) > 1}
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    return {int(process): int(parent) for process, parent in (line.split() for line in listed.splitlines())}


def _secondsOf(age: str) -> int:
    """Of an age as ps writes it, [[days-]hours:]minutes:seconds."""
    days, _minus, clock = age.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return 86400 * int(days or 0) + seconds


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


def _hasProc() -> bool:
    return Path("/proc/self/stat").exists()


def _stat(process: int) -> list[str]:
    """State, parent and more of a process on Linux; empty without it."""
    try:
        # The name in parentheses may hold spaces and parentheses of its own.
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _createdAtOnWindows(process: int) -> float | None:
    import ctypes

    QUERY, TICKS, EPOCH = 0x1000, 1e7, 11644473600  # a second's ticks, and the seconds from 1601 to 1970
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(QUERY, False, process)
    if not handle:
        return None
    try:
        times = [ctypes.c_uint64() for _time in range(4)]  # of creation, exit, and what was computed
        isTold = kernel.GetProcessTimes(ctypes.c_void_p(handle), *map(ctypes.byref, times))
        return times[0].value / TICKS - EPOCH if isTold else None
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))


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
