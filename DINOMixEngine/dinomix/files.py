"""Files that are never half written: everything is written aside, then renamed over its place."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ON_WINDOWS = os.name == "nt"
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; rename it to ``path`` when the block ends well, else remove it.

    The temporary name ends like ``path``'s own, since image writers choose the format by the ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix="-" + path.name, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with open(aside, "r+b") as file:  # Windows refuses to flush what is open for reading
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())
        replace(aside, path)
    except Exception as error:
        if system := _refused_by_disk(aside, error):
            raise system from error
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it takes ``path``'s place when the block ends well, else it is removed.

    A folder that stood at ``path`` is removed only after the new one is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".partial-", suffix="-" + path.name, dir=path.parent))
    old = aside.with_name(aside.name + "-old")
    try:
        yield aside
        os.chmod(aside, 0o777 & ~_umask())
        if path.exists():
            replace(path, old)
        replace(aside, path)
    except Exception as error:
        if system := _refused_by_disk(aside, error):
            raise system from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def replace(aside: Path, path: Path) -> None:
    """Rename a file or folder over another one.

    Windows refuses that while another program reads either, such as Slicer or a virus scanner: it is tried again for three
    seconds there.
    """
    for pause in PAUSES if ON_WINDOWS else ():
        try:
            os.replace(aside, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(aside, path)


def write_text(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files (names and contents, sorted)."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file_path.relative_to(path)).encode())
        digest.update(sha256(file_path).encode())
    return digest.hexdigest()


def _refused_by_disk(aside: Path, error: Exception) -> OSError | None:
    """The system's own error where the disk took no more; torch, safetensors and numpy each say it otherwise."""
    if isinstance(error, OSError) and error.errno is not None:
        return None
    told = str(error).lower()
    if "file too large" in told:  # for the disk's format, or by the user's limit
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(aside.parent))
    full = "no space left" in told or shutil.disk_usage(aside.parent).free < 2**16
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(aside.parent)) if full else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
