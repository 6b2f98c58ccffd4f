"""The same place of the body in two cases, and patches that show it alike: what PIC mixes must fit together.

A box that is pasted at the same coordinates of another patch stays where it belongs only if both patches show the same part of
the body at the same coordinates. Cases lie differently in their volumes, so the place goes by where their structures are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dinomix.planning.cache import AnyCase
from dinomix.training.patches import Placement, center_range

Place = NDArray[np.integer] | NDArray[np.floating]


class Bodies:
    """Where the structures of labeled cases are."""

    def __init__(self, cases: Sequence[AnyCase]) -> None:
        self._cases = cases
        self._known: dict[int, dict[int, NDArray[np.float64]]] = {}

    def same_place(self, first: int, second: int, channel: int | None, voxel: Place) -> Place:
        """The place (x, y, z) of the second case, in voxels, that shows what ``voxel`` shows in the first.

        By where both have the structure ``channel``, else by all structures that both have; without any, at the same share of the
        volume.

        Args:
            first, second: numbers of the cases.
        """
        here, there = self._centers(first), self._centers(second)
        common = [channel] if channel in here and channel in there else sorted(set(here) & set(there))
        if not common:
            sizes = [np.array(self._cases[number].size) for number in (first, second)]
            return at_same_share(voxel, *sizes)
        return voxel + np.mean([there[each] - here[each] for each in common], 0)

    def _centers(self, number: int) -> dict[int, NDArray[np.float64]]:
        if number not in self._known:
            found = self._cases[number].locations()
            self._known[number] = {channel: voxels.mean(0) for channel, voxels in found.items()}
        return self._known[number]


def at_same_share(voxel: Place, size: Place, other: Place) -> Place:
    """The place (x, y, z) in a volume of ``other`` voxels that is at the same share of it as ``voxel`` is of ``size``."""
    return (voxel + 0.5) / size * other - 0.5


def aligned(placement: Placement, here: Place, there: Place, size: Sequence[int],
            patch: Sequence[int]) -> Placement:  # fmt: skip
    """A patch of another volume, turned and scaled alike, that shows ``there`` where ``placement`` shows ``here``.

    It is moved as far as needed to lie in the volume, but for the voxels by which ``placement`` may lie outside of its own.

    Args:
        here: a place (x, y, z) in the volume of ``placement``, in voxels.
        there: the same place of the body in the other volume.
        size, patch: voxels along (x, y, z), of the other volume and of both patches.
    """
    center = placement.center + there - here
    half = (np.array(patch) - 1) / 2
    if np.array_equal(np.abs(placement.matrix), np.eye(3)):
        center = np.round(center - half) + half  # on voxels, as ``random_placement`` has it
    inside = np.clip(center, *center_range(size, patch, placement.beyond))
    return Placement(inside, placement.matrix, placement.beyond)
