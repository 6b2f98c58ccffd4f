"""Unpacking archives of strangers: nothing is written outside, nothing swells beyond reason."""

import errno
import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import LONGEST_NAME

RATIO_COUNTS_FROM = 2**28
DEEPEST = 20
_CHUNK = 2**20


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        largest: bytes.
        files: how many.
        ratio: to the bytes of the archive, where it unpacks to more than ``RATIO_COUNTS_FROM``.
        remedy: what else to do where the disk is too full.
    """

    largest: int
    files: int
    ratio: float
    remedy: str


def unpack(archive_path: Path, into: Path, limits: Limits, emit: Emit = silent) -> None:
    """Unpack a zip archive into a folder.

    Raises:
        DinomixError: not a zip, damaged or cut short; an entry that is absolute, climbs out, is a link, is encrypted, or
            appears twice; or more files or bytes than the limits allow. In all of these cases but a damaged entry nothing
            was written.
        OSError: the disk is full.
    """
    with _opened(archive_path) as archive:
        entries = _files(archive)
        _check(archive_path, entries, into, limits)
        total = sum(entry.file_size for entry in entries)
        progress, done = Progress(emit, "unpack", total), 0
        for entry in entries:
            target = into.joinpath(*PurePosixPath(entry.filename).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            for size in _copy(archive_path, archive, entry, target):
                done += size
                progress(done)


def contents_sha256(archive_path: Path) -> str:
    """A hash of the names, sizes and checksums in an archive's own table; unpacks nothing. Raises DinomixError as ``unpack``."""
    with _opened(archive_path) as archive:
        told = sorted((entry.filename, entry.file_size, entry.CRC) for entry in _files(archive))
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _opened(archive_path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive_path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DinomixError(
            f"{archive_path} is not a zip archive, or was cut short ({error}).", "Get the file again."
        ) from error


def _files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [entry for entry in archive.infolist() if not entry.filename.endswith("/")]


def _copy(archive_path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> Iterator[int]:
    # zipfile gives no more than the entry says that it holds, and compares checksums at its end.
    try:
        with archive.open(entry) as source, open(target, "xb") as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                yield len(chunk)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that of an entry at an impossible place
            raise
        raise DinomixError(
            f"{entry.filename} in {archive_path} is damaged or cut short.", "Get the file again."
        ) from error


def _check(archive_path: Path, entries: list[zipfile.ZipInfo], into: Path, limits: Limits) -> None:
    again = "Do not use this archive; get it from its publisher again."
    seen: set[str] = set()
    for entry in entries:
        name, problem = entry.filename, ""
        parts = PurePosixPath(name).parts
        if "\\" in name or ":" in name or name.startswith("/") or ".." in parts or not parts or "\0" in name:
            problem = "would be written outside of its folder"
        elif stat.S_ISLNK(entry.external_attr >> 16):
            problem = "is a link"
        elif entry.flag_bits & 0x1:
            problem = "is encrypted"
        elif name.casefold() in seen:
            problem = "appears twice"
        elif any(str(folder).casefold() in seen for folder in PurePosixPath(name).parents):
            problem = "lies in a file"
        elif len(parts) > DEEPEST or any(len(part.encode()) > LONGEST_NAME for part in parts) or not name.isprintable():
            problem = "has a name that no disk takes"
        if problem:
            shown = name if len(name) <= 100 else name[:97] + "..."
            raise DinomixError(f"{archive_path} is refused: its entry {shown!r} {problem}.", again)
        seen.add(name.casefold())
    total = sum(entry.file_size for entry in entries)
    packed = archive_path.stat().st_size
    swells = total > RATIO_COUNTS_FROM and total > limits.ratio * packed
    if len(entries) > limits.files or total > limits.largest or swells:
        raise DinomixError(
            f"{archive_path} is refused: it would unpack to {len(entries)} files of {total / 1e9:.1f} GB.", again
        )
    free = shutil.disk_usage(into).free
    if total > free:
        raise DinomixError(
            f"{archive_path} unpacks to {total / 1e6:.1f} MB, but {into.parent} has {free / 1e6:.1f} MB free.",
            f"Free some disk space, {limits.remedy}.",
        )
