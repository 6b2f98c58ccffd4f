"""The private folder of this process for files that pass through it; it goes with the process, however that ends."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from dinomix.files import LEFT_BEHIND

PREFIX = "dinomix-worker-"

_root: Path | None = None


def new_folder() -> Path:
    """A new folder that only this user can read."""
    global _root
    if _root is None or not _root.is_dir():
        _root = Path(tempfile.mkdtemp(prefix=PREFIX))
    return Path(tempfile.mkdtemp(dir=_root))


def remove_all() -> None:
    """Remove what this process has put there."""
    for _ in range(3):  # another thread may be writing at this moment
        if _root is not None and _root.exists():
            shutil.rmtree(_root, ignore_errors=True)


def remove_left_behind() -> None:
    """Remove what earlier processes of this user could not: scans must not stay on a disk."""
    remove_old(Path(tempfile.gettempdir()).glob(PREFIX + "*"))


def remove_old(folders: Iterable[Path]) -> None:
    """Remove those of the folders in which nothing was made for a day."""
    for folder in folders:
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_BEHIND:
                shutil.rmtree(folder, ignore_errors=True)
