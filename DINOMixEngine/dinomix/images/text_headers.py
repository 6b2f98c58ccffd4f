"""What the headers of NRRD and MetaImage share: they are text, and their voxels may lie in files beside them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from dinomix.errors import DinomixError
from dinomix.images.header import LONGEST, damaged_header

MOST_AXES = 16
MOST_LINES = 20_000
"""A segmentation has about ten lines for each structure."""
MOST_FILES = 2**16
_PATTERN = re.compile(r"(?P<before>[^%]*)%(?P<width>0?\d?)d(?P<after>[^%]*)")


def header_lines(path: Path, last: str) -> tuple[list[str], int]:
    """The lines of a header in text, through the first one that matches ``last``, and the bytes up to its end.

    Bytes that are no UTF-8 are taken for Latin-1, as in older files. Without a line that matches, the header is the
    whole file.

    Raises:
        DinomixError: it is no text, or longer than any header.
        OSError: the file cannot be opened.
    """
    lines: list[str] = []
    size = 0
    with open(path, "rb") as file:
        while line := file.readline(LONGEST - size):
            size += len(line)
            if size >= LONGEST or len(lines) >= MOST_LINES:
                raise damaged_header(path, f"it is longer than {MOST_LINES:,} lines or {LONGEST >> 20} MB")
            if b"\0" in line:
                raise damaged_header(path, "it is no text")
            lines.append(_decoded(line.rstrip(b"\r\n")))
            if re.match(last, lines[-1]):
                break
    return lines, size


def whole_numbers(words: Sequence[str], what: str, path: Path, low: int = 1) -> tuple[int, ...]:
    """Words as whole numbers of at least ``low``. Raises DinomixError, which says that ``what`` is wrong."""
    if not all(re.fullmatch(r"-?\d{1,18}", word, re.ASCII) and int(word) >= low for word in words):
        raise damaged_header(path, f"{what} is {' '.join(words)[:80]}")
    return tuple(int(word) for word in words)


def numbers(words: Sequence[str], what: str, path: Path) -> tuple[float, ...]:
    """Words as finite numbers. Raises DinomixError, which says that ``what`` is wrong."""
    try:
        found = tuple(float(word) for word in words)
    except ValueError:
        found = (math.nan,)
    if not np.isfinite(found).all():
        raise damaged_header(path, f"{what} is {' '.join(words)[:80]}")
    return found


def files_beside(names: Sequence[str], path: Path) -> tuple[Path, ...]:
    """The files of these names in the folder of the header ``path``, or in a folder within it.

    A header that came from elsewhere must not choose which file of this computer is read: names that lead out of its
    folder are refused.

    Raises DinomixError: such a name, or no such file.
    """
    for name in names:
        flavors = PurePosixPath(name), PureWindowsPath(name)
        if not name or any(flavor.anchor or ".." in flavor.parts for flavor in flavors):
            raise DinomixError(
                f"{path} refers to a file outside of its folder ({name[:200]}).",
                "Put that file beside it, and write its name alone into the header.",
            )
    files = tuple(path.parent / name for name in names)
    for file in files:
        if not _is_file(file):
            raise DinomixError(f"{path} refers to {file.name[:200]}, which is not there.", "Keep both in one folder.")
    return files


def names_of_pattern(pattern: str, low: int, high: int, step: int, count: int, path: Path) -> list[str]:
    """The file names that a pattern with one ``%d`` gives for ``low``, ``low + step``, ... up to ``high``.

    Raises DinomixError: another pattern than with one plain ``%d`` (``%03d``), or not ``count`` names.
    """
    match = _PATTERN.fullmatch(pattern)
    if match is None or step == 0 or min(low, high) < 0 or max(low, high, abs(step)) > 10**9:
        raise damaged_header(path, f"the names of its data files are {pattern[:80]} from {low} to {high} by {step}")
    found = range(low, high + (1 if step > 0 else -1), step)
    if len(found) != count:
        raise damaged_header(path, f"it names {len(found)} data files where {count} are needed")
    return [f"{match['before']}{number:{match['width']}d}{match['after']}" for number in found]


def files_needed(sizes: Sequence[int], dimension: int, path: Path) -> int:
    """How many files hold the voxels when each holds ``dimension`` of the axes ``sizes``, the fastest first."""
    count = math.prod(sizes[dimension:])
    if not 1 <= dimension <= len(sizes) or count > MOST_FILES:
        raise damaged_header(path, f"data files of {dimension} dimensions for an image of {len(sizes)}")
    return count


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
