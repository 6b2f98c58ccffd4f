"""Files that are never half written: everything is written aside, then renamed over its place. And JSON, read strictly.

Needs nothing installed.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

ON_WINDOWS = os.name == "nt"
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds
LARGEST_JSON = 32 * 10**6
"""Bytes. Once read, JSON may take twenty times as much."""
LARGEST_COHORT = 10**9
"""Bytes of a cohort file; three thousand cases of a hundred structures have 20 MB."""
LONGEST_LINE = 2**24
DEEPEST_JSON = 64
LONGEST_NAME = 255
"""Bytes of a file's name; what all usual file systems take."""
PARTIAL = ".partial-"
OLD = "-old"
"""How the names of what is written aside begin, and how that of a folder ends in which another one waits to be replaced."""
LEFT_BEHIND = 24 * 3600
"""Seconds after which a file or folder that nobody touched can only be one that was left by a power cut or a kill."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; rename it to ``path`` when the block ends well, else remove it.

    The temporary name has nothing of ``path``'s own but the ending, in small letters, by which image writers choose the
    format: so it is never too long, and no writer stumbles over what is odd in a name.
    """
    if path.is_symlink() and not path.exists():
        raise FileExistsError(errno.EEXIST, "There is a link that leads nowhere", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=_ending(path.name), dir=path.parent)
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

    A folder that stood at ``path`` is removed only after the new one has taken its place; see ``clear_leftovers`` for a kill.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
    try:
        yield aside
        os.chmod(aside, 0o777 & ~_umask())
        if path.exists():
            _change_places(aside, path)
        else:
            replace(aside, path)
    except Exception as error:
        if system := _refused_by_disk(aside, error):
            raise system from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def clear_leftovers(folder: Path, age: float = 0) -> None:
    """Remove what processes that were killed were writing aside in a folder.

    A folder that was to be replaced, and whose place is empty still, goes back there.

    Args:
        age: seconds; what was touched later is not removed: where others may be writing at this moment.
    """
    for leftover in folder.glob(PARTIAL + "*"):
        with suppress(OSError):
            _put_back(leftover)
            if age and time.time() - leftover.stat().st_mtime < age:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def _change_places(aside: Path, path: Path) -> None:
    """Rename a folder over another one, which is then removed; where that fails, both are where they were."""
    # Within a folder, so that it keeps its name, however long: by that it is found after a kill.
    old = aside.with_name(aside.name + OLD)
    old.mkdir()
    try:
        replace(path, old / path.name)
        replace(aside, path)
    except BaseException:
        with suppress(OSError):
            _put_back(old)
            old.rmdir()
        raise
    # What a kill leaves of it from now on must not come back, should the new one be removed.
    with suppress(OSError):
        replace(old, aside)
    shutil.rmtree(old, ignore_errors=True)


def _put_back(old: Path) -> None:
    """Give what waits in a folder of ``OLD`` its place back, where nothing stands there by now."""
    if old.name.endswith(OLD) and old.is_dir():
        for waiting in old.iterdir():
            if not (old.parent / waiting.name).exists():
                replace(waiting, old.parent / waiting.name)


def check_replaceable(path: Path) -> None:
    """Raises OSError where nothing may be written beside ``path``, as ``folder_written_aside`` does, before hours are spent."""
    Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent)).rmdir()


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
    """Write a text with the ends of lines that it has, on Windows too: files are compared by their bytes, and move about."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, data: Any) -> None:
    write_text(path, json_text(data, indent=2) + "\n")


def write_rows(path: Path, data: dict[str, Any]) -> None:
    """Write JSON as ``write_json`` does, but with each table of a list in one line, so that a file of many stays small."""
    write_text(path, _rows_text(data) + "\n")


def json_text(data: Any, indent: int | None = None) -> str:
    """Data as JSON that every reader takes: NaN and infinity become null, halves of characters a question mark."""
    try:
        text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(data), parse_constant=lambda _: None)
        text = json.dumps(finite, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


def read_json(path: Path, largest: int = LARGEST_JSON) -> Any:
    """What a JSON file holds; see ``parse_json``.

    Args:
        largest: bytes.

    Raises:
        OSError: it cannot be opened, or is no file but a pipe, a device or a folder.
        ValueError: says in words what is wrong with it.
    """
    with open_file(path) as file:
        # By its size, since a reader that is told how much to read sets aside the memory for all of it.
        if os.fstat(file.fileno()).st_size > largest:
            raise ValueError(f"it is larger than {largest / 1e6:g} MB")
        text = file.read()
    return parse_json(text)


def read_table(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """What a JSON file of names and values holds. Raises as ``read_json``, and ValueError where it holds something else."""
    data = read_json(path, largest)
    if not isinstance(data, dict):
        raise ValueError("it is no table of names and values")
    return data


def parse_json(text: bytes) -> Any:
    """JSON as a careful reader takes it: UTF-8, each key once, numbers that are finite, whole characters, not nested deep.

    Raises:
        ValueError: says in words what is wrong.
    """
    try:
        data = json.loads(
            text.decode("utf-8-sig"),
            object_pairs_hook=_each_key_once,
            parse_float=_finite,
            parse_constant=_finite,
            parse_int=_whole,
        )
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} deep") from error
    _check_depth(data)
    if rb"\ud" in text.lower():
        _check_characters(data)
    return data


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their ends; one longer than ``LONGEST_LINE`` comes in pieces. Raises OSError as ``open_file``."""
    with open_file(path) as file:
        while line := file.readline(LONGEST_LINE):
            yield line


def open_file(path: Path) -> BinaryIO:
    """A file opened to be read.

    Raises:
        OSError: there is none; or it is a pipe, a device or a folder: reading one of these may never end.
    """
    # Opening a pipe would wait for whoever writes into it.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, and not a file", str(path))
    return os.fdopen(handle, "rb")


def path_from(folder: Path, written: Path) -> Path:
    """Where a path leads that a file in ``folder`` holds; on every system also one that Windows wrote, with backslashes."""
    path = folder / written
    if "\\" not in str(written) or written.is_absolute():
        return path
    if os.path.exists(path):  # noqa: PTH110 (Path.exists raises where a name is too long)
        return path
    return folder / str(written).replace("\\", "/")


def shortened_name(name: str, most: int = LONGEST_NAME) -> str:
    """A file's name of at most ``most`` bytes: a longer one loses its middle to a hash, so that two stay two."""
    if len(os.fsencode(name)) <= most:
        return name
    ending = _ending(name)
    mark = "-" + hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    start = os.fsencode(name)[: most - len(mark) - len(os.fsencode(ending))]
    return start.decode("utf-8", "ignore") + mark + ending


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


def _ending(name: str) -> str:
    """What tells a file's format, in small letters: ".nii.gz" and ".seg.nrrd" count as one ending."""
    lower = name.lower()
    ending = next((double for double in (".nii.gz", ".seg.nrrd") if lower.endswith(double)), Path(lower).suffix)
    return ending if ending.isascii() and len(ending) <= 16 else ""


def _rows_text(data: Any) -> str:
    """JSON with a line for each table of a list, and for each key of the tables that such lists lie in."""
    if not _holds_rows(data):
        return json_text(data)
    if isinstance(data, list):
        return "[\n" + ",\n".join(map(json_text, data)) + "\n]"
    return "{\n" + ",\n".join(f"{json_text(key)}: {_rows_text(value)}" for key, value in data.items()) + "\n}"


def _holds_rows(data: Any) -> bool:
    if isinstance(data, dict):
        return any(map(_holds_rows, data.values()))
    return isinstance(data, list) and bool(data) and all(isinstance(row, dict) for row in data)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} stands in it twice")
    return table


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text[:20]}, which is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"it holds {text[:20]}..., a number of {len(text)} digits")
    return int(text)


def _check_depth(data: Any) -> None:
    level = [data] if isinstance(data, (dict, list)) else []
    for _ in range(DEEPEST_JSON):
        tables = [value.values() if isinstance(value, dict) else value for value in level]
        level = [inner for table in tables for inner in table if isinstance(inner, (dict, list))]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")


def _check_characters(data: Any) -> None:
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a character (a lone surrogate)") from error


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
