"""Structures that were drawn one by one become one label map; where two share voxels, the user's order decides.

Needs nothing installed but numpy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.names import listed, normalized_name

Box = tuple[slice, slice, slice]
OTHERS = "*"
"""In an order, stands for all structures that it does not name."""
Overlaps = tuple[tuple[str, str, int], ...]
"""Below, above, and the voxels that both were drawn in."""


class OverlapError(DinomixError):
    """Structures that share voxels, of which no order says which one lies on top.

    Attributes:
        pairs: two names -> voxels that they share.
        sizes: voxels of each of these structures.
    """

    def __init__(self, path: Path, pairs: Mapping[tuple[str, str], int], sizes: Mapping[str, int]) -> None:
        self.path, self.pairs, self.sizes = path, dict(pairs), dict(sizes)
        largest = sorted(pairs, key=lambda pair: -pairs[pair])
        told = listed([f"{one} and {other} ({pairs[one, other]} voxels)" for one, other in largest], 3)
        super().__init__(
            f"In {path} structures overlap: {told}; one voxel can be one structure only.",
            remedy_of([self]),
            "overlap",
        )


def remedy_of(errors: Sequence[OverlapError]) -> str:
    """An order of all structures that overlap, the largest first, so that what is small is not hidden."""
    sizes: Counter[str] = Counter()
    for error in errors:
        sizes.update(error.sizes)
    order = ",".join(sorted(sizes, key=lambda name: (-sizes[name], name)))
    return (
        f'Say which one lies on top, for example --order "{order}" (the later wins), or subtract one from the other, in '
        "3D Slicer's Segment Editor with Logical operators."
    )


class LabelMap:
    """A label map that structures are put into one after another."""

    def __init__(self, shape: tuple[int, ...], names: Mapping[int, str], order: Sequence[str], path: Path) -> None:
        """
        Args:
            shape: (k, j, i).
            names: value in the label map -> name of each structure that may come.
            order: names of structures; a later one lies over an earlier one, and each over what is not named; those before
                ``OTHERS`` lie below what is not named.
            path: the file or folder, for messages.
        """
        self.array: NDArray[np.unsignedinteger] = np.zeros(shape, np.uint8 if max(names) < 256 else np.uint16)
        self._names, self._path = names, path
        others = list(order).index(OTHERS) if OTHERS in order else -1
        places = {normalized_name(name): place - others for place, name in enumerate(order)}
        self._rank = np.zeros(max(names) + 1, np.int64)
        for value, name in names.items():
            self._rank[value] = places.get(normalized_name(name), 0)
        self._sizes: Counter[int] = Counter()
        self._settled: Counter[tuple[int, int]] = Counter()
        self._open: Counter[tuple[int, int]] = Counter()

    def add(self, value: int, mask: NDArray[np.bool_], box: Box | None = None) -> None:
        """Put a structure in.

        Args:
            mask: (k, j, i), of the box.
            box: where the mask lies; None for everywhere.
        """
        part = self.array if box is None else self.array[box]
        self._sizes[value] += int(np.count_nonzero(mask))
        there = part[mask]
        if not there.any():
            part[mask] = value
            return
        counts = np.bincount(there)
        for other in np.flatnonzero(counts[1:]) + 1:
            if other == value:
                continue
            decided = self._rank[other] != self._rank[value]
            # Frames of DICOM come slice by slice, so that either of two structures may come first.
            pair = min(int(other), value), max(int(other), value)
            (self._settled if decided else self._open)[pair] += int(counts[other])
        free = (there == 0) | (self._rank[there] < self._rank[value])
        part[mask] = np.where(free, value, there).astype(part.dtype)

    def settled(self) -> Overlaps:
        """What the order settled: the structure below, the one above, and the voxels that both were drawn in.

        Raises:
            OverlapError: structures share voxels, and the order does not say which one lies on top.
        """
        if self._open:
            values = {value for pair in self._open for value in pair}
            pairs = {(self._names[one], self._names[other]): count for (one, other), count in self._open.items()}
            raise OverlapError(self._path, pairs, {self._names[value]: self._sizes[value] for value in values})
        told = []
        for pair, count in self._settled.most_common():
            below, above = sorted(pair, key=lambda value: int(self._rank[value]))
            told.append((self._names[below], self._names[above], count))
        return tuple(told)

    def hidden(self) -> tuple[str, ...]:
        """Structures of which nothing is left, since others lie over all of them, but for those that lie below on purpose."""
        if not self._settled:
            return ()
        left = np.bincount(self.array.ravel(), minlength=len(self._rank))
        return tuple(
            self._names[value]
            for value, size in self._sizes.items()
            if size and not left[value] and self._rank[value] >= 0
        )

    def notices(self) -> tuple[str, ...]:
        if not (hidden := self.hidden()):
            return ()
        return (f"Nothing is left of {listed(hidden)}: by the order, others lie over all of it.",)
