"""Unpacking archives of strangers: nothing is written outside, nothing swells beyond reason."""

import errno
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dinomix.archive_entries import BROKEN, CHUNK, Entry, entries_of, streams_of
from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import LONGEST_NAME

RATIO_COUNTS_FROM = 2**28
DEEPEST = 20


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
    """Unpack a zip or tar archive into a folder.

    Raises:
        DinomixError: not an archive, damaged or cut short; an entry that is absolute, climbs out, is a link or no plain file, is
            encrypted, or appears twice; or more files or bytes than the limits allow. In all of these cases but a damaged
            entry nothing was written.
        OSError: the disk is full.
    """
    entries = entries_of(archive_path, limits.files)
    _check(archive_path, entries, into, limits)
    progress, done = Progress(emit, "unpack", sum(entry.size for entry in entries)), 0
    for size in _written(archive_path, entries, into):
        done += size
        progress(done)


def _written(archive_path: Path, entries: Sequence[Entry], into: Path) -> Iterator[int]:
    """Write the files; yields how many bytes were written."""
    name = ""
    # Neither library gives more than an entry says that it holds; zipfile compares checksums at its end.
    try:
        with streams_of(archive_path) as streams:
            for expected, (entry, source) in zip(entries, streams, strict=True):
                if entry != expected:
                    raise ValueError("it is another archive by now")
                name = f"{entry.name} in "
                target = into.joinpath(*PurePosixPath(entry.name).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, open(target, "xb") as file:
                    while chunk := source.read(CHUNK):
                        file.write(chunk)
                        yield len(chunk)
    except BROKEN as error:
        raise _damaged(name, archive_path) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # that of an entry at an impossible place
            raise
        raise _damaged(name, archive_path) from error


def _damaged(name: str, archive_path: Path) -> DinomixError:
    return DinomixError(f"{name}{archive_path} is damaged or cut short.", "Get the file again.")


def _check(archive_path: Path, entries: list[Entry], into: Path, limits: Limits) -> None:
    again = "Do not use this archive; get it from its publisher again."
    seen: set[str] = set()
    for entry in entries:
        name, problem = entry.name, entry.problem
        path = PurePosixPath(name)
        parts, key = path.parts, str(path).casefold()
        if "\\" in name or ":" in name or name.startswith("/") or ".." in parts or not parts or "\0" in name:
            problem = "would be written outside of its folder"
        elif problem:
            pass
        elif key in seen:
            problem = "appears twice"
        elif any(str(folder).casefold() in seen for folder in path.parents):
            problem = "lies in a file"
        elif len(parts) > DEEPEST or not name.isprintable() or any(len(part.encode()) > LONGEST_NAME for part in parts):
            problem = "has a name that no disk takes"
        if problem:
            shown = name if len(name) <= 100 else name[:97] + "..."
            raise DinomixError(f"{archive_path} is refused: its entry {shown!r} {problem}.", again)
        seen.add(key)
    total = sum(entry.size for entry in entries)
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
