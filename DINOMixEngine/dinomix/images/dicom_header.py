"""The header of a DICOM file, walked by ourselves through to the end of its pixels, before a library believes it.

Every length in the file is held against the file's size, and the pixels against rows, columns and bits. What is compressed
is counted only; decoding it is ``dicom_pixels``.
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dinomix.errors import DinomixError
from dinomix.images.stored import DAMAGED

_IMPLICIT, _BIG, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_NATIVE = (_IMPLICIT, "1.2.840.10008.1.2.1", _BIG, _DEFLATED)
_PIXELS = (0x7FE0, 0x0010)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_LENGTHS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_NUMBERS = {"0028|0002", "0028|0010", "0028|0011", "0028|0100"}
"""Samples per pixel, rows, columns, bits: stored as uint16; all others here are text."""
MODALITY, SERIES_DESCRIPTION, PATIENT_ID = "0008|0060", "0008|103e", "0010|0020"
_TEXTS = {
    PATIENT_ID,
    "0002|0010", "0008|0008", "0008|0016", "0008|0018", "0008|0060", "0008|103e", "0020|000d", "0020|000e", "0020|0052",
    "0020|0032", "0020|0037", "0028|0008", "0028|0030", "0028|1052", "0028|1053",
}  # fmt: skip
_LONGEST_VALUE = 2**14
_DEEPEST = 32
_MOST_DEFLATED = 2**28
_BITS = (1, 8, 12, 16, 24, 32, 64)
# JPEG 2000 makes next to nothing of an empty slice; beyond this, the header claims what the data cannot hold.
_MOST_UNPACKED, _ALLOWANCE = 1000, 2**22
_NO_IMAGES = ("SR", "PR", "KO", "DOC", "REG", "FID", "RTSTRUCT", "RTPLAN", "RTRECORD", "RWV", "PLAN", "ECG", "AU")
_DIRECTORY = "1.2.840.10008.1.3.10"
SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_NOT_OF_A_SCANNER = (SEGMENTATION, LABEL_MAP, "1.2.840.10008.5.1.4.1.1.481.2")
"""Classes of files (0008,0016) that hold pixels, but no image: segmentations and doses of radiotherapy."""


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file says of itself.

    Attributes:
        tags: (group|element) -> text, numbers too; what the file lacks is not in it.
        is_image: whether it holds pixels of a scanner, and not a segmentation, a dose, a report, a plan or a list of files.
    """

    path: Path
    tags: dict[str, str]
    is_image: bool

    @property
    def is_label(self) -> bool:
        """Whether it holds structures that were drawn: a DICOM segmentation or an RT structure set."""
        return self.tags.get("0008|0016") in (SEGMENTATION, LABEL_MAP, STRUCTURE_SET)


@dataclass
class _Bytes:
    """A file that is read from front to back; raises EOFError where a length leads out of it."""

    file: BinaryIO
    size: int
    explicit: bool = True
    order: str = "<"
    place: int = 0

    def take(self, count: int) -> bytes:
        self.skip(count)
        self.file.seek(self.place - count)
        return self.file.read(count)

    def skip(self, count: int) -> None:
        if self.place + count > self.size:
            raise EOFError
        self.place += count

    def numbers(self, what: str) -> tuple[int, ...]:
        return struct.unpack(self.order + what, self.take(struct.calcsize("<" + what)))

    def element(self) -> tuple[int, int, int]:
        """Group, element and length of the next element; the place is then at its value."""
        group, element = self.numbers("HH")
        size = "I"
        if self.explicit and group != 0xFFFE:
            kind = self.take(2)
            if kind in _LONG_LENGTHS:
                self.skip(2)
            elif kind.isalpha() and kind.isupper():
                size = "H"
            else:
                self.place -= 2  # some writers put elements without a kind among those with one
        return group, element, self.numbers(size)[0]


class _Damaged(Exception):
    """What is wrong, as part of a sentence."""


def is_dicom_file(path: Path) -> bool:
    """Whether a file carries DICOM's mark, the letters DICM at byte 128."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def first_dicom_header(path: Path) -> DicomHeader | None:
    """The header of a DICOM file, or of the first image in a folder of such; None where there is none that can be read."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        headers = (read_dicom_header(file) for file in files if file.is_file() and is_dicom_file(file))
        return next((header for header in headers if header.is_image), None)
    except (DinomixError, OSError):
        return None  # reading the voxels will say why


def is_dicom_image(path: Path) -> bool:
    """Whether a file is DICOM and holds an image of a scanner, as far as can be told: also a damaged one."""
    if not is_dicom_file(path):
        return False
    try:
        return read_dicom_header(path).is_image
    except DinomixError:
        return True  # reading it will say what is wrong


def dicom_modality(path: Path) -> str | None:
    """What a DICOM file or folder says of the kind of its images, such as "CT"; None for other files."""
    header = first_dicom_header(path)
    return header.tags.get("0008|0060") if header is not None else None


def read_dicom_header(path: Path) -> DicomHeader:
    """Walk through a file that ``is_dicom_file``.

    Raises:
        DinomixError: it is cut off or damaged, or holds another number of pixels than its header says.
        OSError: it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            source = _Bytes(file, path.stat().st_size)
            source.skip(132)
            tags = _file_tags(source)
            syntax = tags.get("0002|0010", _IMPLICIT)
            if syntax == _DEFLATED:
                source = _inflated(source)
            source.explicit, source.order = syntax != _IMPLICIT, ">" if syntax == _BIG else "<"
            stored = _walk(source, tags, syntax in _NATIVE)
    except EOFError as error:
        raise DinomixError(f"{path} is cut off.", DAMAGED) from error
    except _Damaged as error:
        raise DinomixError(f"{path} is a damaged DICOM file ({error}).", DAMAGED) from error
    has_pixels = stored is not None or not _holds_no_image(tags)
    if has_pixels:
        _check_pixels(path, tags, stored, syntax in _NATIVE)
    return DicomHeader(path, tags, has_pixels and tags.get("0008|0016") not in _NOT_OF_A_SCANNER)


def _file_tags(source: _Bytes) -> dict[str, str]:
    """The tags of the file's own group, 0002, which is always written in the same way."""
    tags: dict[str, str] = {}
    while source.place + 8 <= source.size:
        before = source.place
        group, element, length = source.element()
        if group != 2:
            source.place = before
            break
        _keep(source, group, element, length, tags)
    return tags


def _inflated(source: _Bytes) -> _Bytes:
    try:
        data = zlib.decompressobj(-15).decompress(source.take(source.size - source.place), _MOST_DEFLATED)
    except zlib.error as error:
        raise _Damaged(str(error)) from error
    return _Bytes(io.BytesIO(data), len(data))


def _walk(source: _Bytes, tags: dict[str, str], native: bool) -> int | None:
    """Read on through the pixels; the bytes that they take, or None where there are none."""
    while source.place + 8 <= source.size:
        group, element, length = source.element()
        if (group, element) == _PIXELS:
            if native == (length == _UNDEFINED):
                raise _Damaged("its pixels are not stored as its transfer syntax says")
            if native:
                source.skip(length)
                return length
            return _fragments(source)
        if group == 0xFFFE:
            raise _Damaged("an item outside of a sequence")
        if length == _UNDEFINED:
            _skip_sequence(source, 0)
        else:
            _keep(source, group, element, length, tags)
    return None


def _keep(source: _Bytes, group: int, element: int, length: int, tags: dict[str, str]) -> None:
    """Go past a value, and keep it where it is one of those that count."""
    key = f"{group:04x}|{element:04x}"
    if key in _NUMBERS:
        if length != 2:
            raise _Damaged(f"({key}) has {length} bytes")
        tags[key] = str(source.numbers("H")[0])
    elif key in _TEXTS and length <= _LONGEST_VALUE:
        tags[key] = _text(source.take(length))
    else:
        source.skip(length)


def _text(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.strip(" \0")


def _skip_sequence(source: _Bytes, depth: int) -> None:
    """Go past the items of a sequence that is ended by a mark."""
    if depth > _DEEPEST:
        raise _Damaged("sequences within sequences without end")
    while True:
        group, element, length = source.element()
        if (group, element) == (0xFFFE, _SEQUENCE_END):
            return
        if (group, element) != (0xFFFE, _ITEM):
            raise _Damaged("something else than an item in a sequence")
        if length != _UNDEFINED:
            source.skip(length)
            continue
        while True:
            group, element, length = source.element()
            if (group, element) == (0xFFFE, _ITEM_END):
                break
            if length == _UNDEFINED:
                _skip_sequence(source, depth + 1)
            else:
                source.skip(length)


def _fragments(source: _Bytes) -> int:
    """Go past the parts of compressed pixels; the bytes of all."""
    total = 0
    while True:
        group, element, length = source.element()
        if (group, element) == (0xFFFE, _SEQUENCE_END):
            return total
        if (group, element) != (0xFFFE, _ITEM) or length == _UNDEFINED:
            raise _Damaged("something else than a part of the pixels among them")
        source.skip(length)
        total += length


def _holds_no_image(tags: dict[str, str]) -> bool:
    return "0028|0010" not in tags and (
        tags.get("0008|0016") == _DIRECTORY or tags.get("0008|0060", "").upper() in _NO_IMAGES
    )


def _check_pixels(path: Path, tags: dict[str, str], stored: int | None, native: bool) -> None:
    """Raises DinomixError when the pixels are not those that the header promises."""
    if missing := sorted({"0028|0010", "0028|0011", "0028|0100"} - set(tags)):
        raise DinomixError(f"{path} is a damaged DICOM file (({missing[0]}) is missing).", DAMAGED)
    if stored is None:
        raise DinomixError(f"{path} holds no pixels.", DAMAGED)
    rows, columns, bits = (int(tags[key]) for key in ("0028|0010", "0028|0011", "0028|0100"))
    samples, frames = int(tags.get("0028|0002", "1")), tags.get("0028|0008") or "1"
    if not re.fullmatch(r"0*[1-9]\d{0,8}", frames, re.ASCII) or bits not in _BITS or not rows * columns * samples:
        raise DinomixError(
            f"{path} is a damaged DICOM file ({frames} frames of {columns} x {rows} pixels of {bits} bits).", DAMAGED
        )
    if bits == 1:  # frames of single bits follow one another without a gap
        expected = (rows * columns * samples * int(frames) + 7) // 8
    else:
        expected = (rows * columns * bits + 7) // 8 * samples * int(frames)
    if native:
        # Some writers fill up; a row too few or too many is a header of another image.
        if not expected <= stored < expected + max(2, columns * samples * bits // 8):
            raise DinomixError(
                f"{path} is damaged or cut off: it holds {stored} bytes of pixels, its header says {expected}.", DAMAGED
            )
    elif expected > stored * _MOST_UNPACKED + _ALLOWANCE:
        raise DinomixError(
            f"{path} is damaged or cut off: {stored} bytes cannot hold {expected} bytes of pixels.", DAMAGED
        )
