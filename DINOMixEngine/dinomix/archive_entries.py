"""The files in zip and tar archives, one after another, as the archives themselves say; nothing is written here."""

import gzip
import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dinomix.errors import DinomixError
from dinomix.files import sha256

ZIP, TAR = ".zip", (".tar.gz", ".tgz", ".tar")
CHUNK = 2**20
"""Bytes that are read at once. A tar's long names and further headers are read whole: what claims to be longer is refused."""
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
          ValueError, OverflowError)  # fmt: skip
"""What the libraries raise at damaged archives."""
_AGAIN = "Get the file again."
_END = bytes(tarfile.BLOCKSIZE)
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass(frozen=True)
class Entry:
    """A file in an archive.

    Attributes:
        size: bytes that it unpacks to.
        problem: why it cannot be unpacked, such as "is a link"; empty where it can.
    """

    name: str
    size: int
    problem: str


def is_archive(path: Path) -> bool:
    """Whether it is one by its ending."""
    return path.name.lower().endswith((ZIP, *TAR))


def without_ending(path: Path) -> str:
    """An archive's name without its ending."""
    lower = path.name.lower()
    return path.name[: -len(next(ending for ending in (ZIP, *TAR) if lower.endswith(ending)))]


def contents_sha256(path: Path) -> str:
    """A hash of what is in an archive: of a zip's table of names, sizes and checksums; a tar has none, and is read.

    Raises:
        DinomixError: it is no archive, or damaged.
    """
    if _is_tar(path):
        return sha256(path)
    with _zip(path) as archive:
        told = sorted((entry.filename, entry.file_size, entry.CRC) for entry in _files(archive))
    return hashlib.sha256(repr(told).encode()).hexdigest()


def entries_of(path: Path, most: int) -> list[Entry]:
    """The files in an archive; of one with more than ``most``, one more than that.

    Raises:
        DinomixError: it is no archive, is damaged, or was cut short.
    """
    if not _is_tar(path):
        with _zip(path) as archive:
            return [_of_zip(entry) for entry in _files(archive)[: most + 1]]
    entries: list[Entry] = []
    with _tar(path) as (tar, source):
        for entry in _files_of_tar(tar):
            entries.append(_of_tar(entry))
            if len(entries) > most:
                return entries
        # tarfile takes what is no header for the end.
        if source.last != _END:
            raise tarfile.ReadError("no end")
        while source.read(CHUNK):  # gzip compares its checksum at the end
            pass
    return entries


@contextmanager
def streams_of(path: Path) -> Iterator[Iterator[tuple[Entry, IO[bytes]]]]:
    """The files in an archive with what they hold; a stream is good until the next one is asked for.

    Raises:
        DinomixError: as ``entries_of``; what ``BROKEN`` names where a file is damaged.
    """
    if not _is_tar(path):
        with _zip(path) as archive:
            yield ((_of_zip(entry), archive.open(entry)) for entry in _files(archive))
        return
    with _tar(path) as (tar, _):
        streams = ((entry, tar.extractfile(entry)) for entry in _files_of_tar(tar))
        yield ((_of_tar(entry), stream) for entry, stream in streams if stream is not None)


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR)


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DinomixError(f"{path} is not a zip archive, or was cut short ({error}).", _AGAIN) from error
    with archive:
        yield archive


def _files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [entry for entry in archive.infolist() if not entry.filename.endswith("/")]


def _of_zip(entry: zipfile.ZipInfo) -> Entry:
    is_link, is_encrypted = stat.S_ISLNK(entry.external_attr >> 16), entry.flag_bits & 0x1
    return Entry(entry.filename, entry.file_size, "is a link" if is_link else "is encrypted" if is_encrypted else "")


class _Source:
    """The bytes of a tar, unpacked by gzip where it is; ``last`` are those of the last read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.last = file, b""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._file.read(size)
        return self.last


@contextmanager
def _tar(path: Path) -> Iterator[tuple[tarfile.TarFile, _Source]]:
    try:
        with open(path, "rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = _Source(gzip.GzipFile(fileobj=file) if is_packed else file)  # type: ignore[arg-type]
            with tarfile.open(fileobj=source, mode="r:") as archive:  # type: ignore[call-overload]
                yield archive, source
    except BROKEN as error:
        raise DinomixError(f"{path} is not a tar archive, is damaged or cut short ({error}).", _AGAIN) from error


def _files_of_tar(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for entry in archive:
        if entry.size < 0:
            raise tarfile.ReadError("a negative size")
        if not entry.isdir():
            yield entry


def _of_tar(entry: tarfile.TarInfo) -> Entry:
    is_plain = entry.type in _PLAIN and not entry.issparse()
    is_link = entry.issym() or entry.islnk()
    return Entry(entry.name, entry.size, "is a link" if is_link else "" if is_plain else "is no plain file")
