"""Connected voxels found by runs: neighbors of one label along the last axis are taken as one, so that a few numbers say where
a structure of many voxels is, and what lies around it costs nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES_PER_RUN = 200
"""What finding the runs of a volume, and which of them are connected, takes at most."""
Index = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Runs:
    """The voxels of a label map that have a label above 0, in the order in which they lie there.

    Positions are those of an array with a voxel more in front of each row and a row more behind each plane, which keep apart what
    does not touch.

    Attributes:
        start, stop: (runs,) position of the first voxel and behind the last one, ascending.
        value: (runs,) the label.
        shape: of the label map.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    value: NDArray[Any]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, labels: NDArray[Any]) -> "Runs":
        """Of a label map or a mask with three axes."""
        found = [(before + start, before + stop, value) for before, start, stop, value in _by_plane(labels)]
        start, stop, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return cls(start, stop, value, labels.shape)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(runs,), voxels of each."""
        return self.stop - self.start

    def only(self, wanted: NDArray[np.bool_]) -> "Runs":
        """Some of them."""
        return Runs(self.start[wanted], self.stop[wanted], self.value[wanted], self.shape)

    def pieces(self, of_any_label: bool = False) -> NDArray[np.int64]:
        """(runs,), the number of the piece that each is of, counted from 1 in the order of the pieces' first voxels.

        Pieces are connected components of one label, or of all labels together; a voxel has 26 neighbors.
        """
        row, plane = _row_and_plane(self.shape)
        root = np.arange(len(self))  # a run of the same piece, finally the first one
        for further in (0, row, plane - row, plane, plane + row):
            one, other = self._touching(further)
            if not of_any_label:
                alike = self.value[one] == self.value[other]
                one, other = one[alike], other[alike]
            root = _joined(root, one, other)
        # The first run of a piece is its own root.
        return (root == np.arange(len(root))).cumsum()[root]

    def _touching(self, further: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of runs of which the second touches the first one, were that so many positions further on."""
        first = np.searchsorted(self.stop, self.start + further)
        counts = np.searchsorted(self.start, self.stop + further, side="right") - first
        one = np.repeat(np.arange(len(self)), counts)
        return one, np.arange(len(one)) + np.repeat(first - (counts.cumsum() - counts), counts)

    def voxels(self) -> Iterator[tuple[slice, NDArray[np.int64], Index]]:
        """Plane by plane: which runs are in it, where those begin among its voxels, and the voxels' indices."""
        row, plane = _row_and_plane(self.shape)
        ends = np.searchsorted(self.start, plane * np.arange(self.shape[0] + 1)).tolist()
        for number, (first, behind) in enumerate(pairwise(ends)):
            if first == behind:
                continue
            there = slice(first, behind)
            sizes = self.sizes[there]
            begins = sizes.cumsum() - sizes
            in_plane = np.arange(sizes.sum()) + np.repeat(self.start[there] - number * plane - begins, sizes)
            yield there, begins, (np.full(len(in_plane), number), in_plane // row, in_plane % row - 1)

    def reduced(self, reduce: np.ufunc, values: Callable[[Index], NDArray[np.float64]]) -> NDArray[np.float64]:
        """(runs,), the values of each run's voxels together: their sum by ``np.add``, the highest by ``np.maximum``."""
        result = np.empty(len(self))
        for there, begins, index in self.voxels():
            result[there] = reduce.reduceat(values(index), begins)
        return result

    def clear(self, labels: NDArray[Any]) -> None:
        """Set the labels of all their voxels to 0."""
        for _, _, index in self.voxels():
            labels[index] = 0


def count_runs(labels: NDArray[Any]) -> int:
    """How many runs a label map has."""
    return sum(len(start) for _, start, _, _ in _by_plane(labels))


def _row_and_plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Positions from a row to the next one, and from a plane."""
    row = shape[2] + 1
    return row, (shape[1] + 1) * row


def _by_plane(labels: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
    """Of each plane, the positions before it, and where its runs start and stop beyond these, and their labels."""
    row, plane = _row_and_plane(labels.shape)
    apart = np.zeros(labels.shape[1] * row + 1, labels.dtype)
    inside = apart[:-1].reshape(-1, row)[:, 1:]
    for number, voxels in enumerate(labels):
        inside[...] = voxels
        last = np.flatnonzero(apart[1:] != apart[:-1])  # voxels behind which another label begins
        start = last[apart[last + 1] > 0] + 1
        yield number * plane, start, last[apart[last] > 0] + 1, apart[start]


def _joined(root: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lowest of each that is connected by ``root`` or by pairs of ``one`` and ``other``."""
    while len(one):
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        np.minimum.at(root, high, low)
        while not np.array_equal(root, further := root[root]):
            root = further
        apart = root[one] != root[other]
        one, other = one[apart], other[apart]
    return root
