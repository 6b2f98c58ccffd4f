"""Unpacking archives of strangers: nothing is written outside, nothing swells beyond reason."""

import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import LONGEST_NAME

LARGEST = 24 * 2**30
"""Bytes; the largest of the published models unpack to less than 2 GB."""
LARGEST_RATIO, RATIO_COUNTS_FROM = 30, 2**28
"""Weights hardly compress: what is larger than the second and compressed more than the first is no model."""
MOST_FILES, DEEPEST = 20_000, 20
_CHUNK = 2**20


def unpack(archive_path: Path, into: Path, emit: Emit = silent) -> None:
    """Unpack a zip archive into a folder.

    Raises:
        DinomixError: not a zip, damaged or cut short; an entry that is absolute, climbs out, is a link, is encrypted, or
            appears twice; or more files or bytes than a model has. In all of these cases but a damaged entry nothing was
            written.
        OSError: the disk is full.
    """
    try:
        archive = zipfile.ZipFile(archive_path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DinomixError(
            f"{archive_path} is not a zip archive, or was cut short ({error}).", "Get the file again."
        ) from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        _check(archive_path, entries, into)
        total = sum(entry.file_size for entry in entries)
        progress, done = Progress(emit, "unpack", total), 0
        for entry in entries:
            target = into.joinpath(*PurePosixPath(entry.filename).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            for size in _copy(archive_path, archive, entry, target):
                done += size
                progress(done)


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


def _check(archive_path: Path, entries: list[zipfile.ZipInfo], into: Path) -> None:
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
    if len(entries) > MOST_FILES or total > LARGEST or (total > RATIO_COUNTS_FROM and total > LARGEST_RATIO * packed):
        raise DinomixError(
            f"{archive_path} is refused: it would unpack to {len(entries)} files of {total / 1e9:.1f} GB.", again
        )
    free = shutil.disk_usage(into).free
    if total > free:
        raise DinomixError(
            f"{archive_path} unpacks to {total / 1e6:.1f} MB, but {into.parent} has {free / 1e6:.1f} MB free.",
            "Free some disk space, or choose another models folder (DINOMIX_MODELS).",
        )


@contextmanager
def opened(source: Path, near: Path, emit: Emit = silent) -> Iterator[Path]:
    """A folder with the source's files: itself, or a zip unpacked beside where the model will lie, and removed after.

    Raises:
        DinomixError: there is no such file, or the archive is refused.
    """
    if not source.exists():
        raise DinomixError(f"There is no file or folder {source}.", "Check the path.")
    if not source.is_dir() and not source.is_file():
        raise DinomixError(f"{source} is neither a file nor a folder.", "Give the file or the folder of a model.")
    if source.is_dir() or source.suffix.lower() != ".zip":
        yield source
        return
    near.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".partial-", suffix="-unpacked", dir=near))
    try:
        unpack(source, folder, emit)
        yield folder
    except DinomixError as error:
        # The folder will be gone when the message is read.
        raise DinomixError(error.problem.replace(str(folder), str(source)), error.remedy, error.code) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
