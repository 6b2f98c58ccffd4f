"""What lies on a disk that may fail: a shared folder then has nothing, where ``pathlib`` raises what its server says."""

from __future__ import annotations

from pathlib import Path


def isThere(path: Path) -> bool:
    """Whether there is a file or a folder."""
    return isFile(path) or isFolder(path)


def isFile(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def isFolder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def namesIn(folder: Path) -> set[str]:
    """What lies in a folder; nothing where it is not there."""
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()
