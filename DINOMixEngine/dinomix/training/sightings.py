"""Sightings: where the EMA teacher has lately seen each structure in the unlabeled cases, and how much of each.

Batches are prepared ahead of the steps that take them, by a thread or by processes. So that the same batch comes out however
far ahead, and in a run that was resumed, the batch of step t goes by what the steps before t - ``LAG`` saw, and by no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.training.patches import Placement

LAG = 16
"""Steps that a batch can be prepared ahead of its own."""

Voxels = NDArray[np.int32]
"""(n, 4): channel and voxel (x, y, z) of a case, the oldest first."""


@dataclass(frozen=True)
class Sighting:
    """What the teacher saw in one unlabeled patch: some voxels of each structure, in coordinates of the volume."""

    case: int
    placement: Placement
    patch: tuple[int, ...]
    voxels: Voxels

    def covers(self, voxels: Voxels) -> NDArray[np.bool_]:
        """Which voxels of its case lie in the patch, (n,)."""
        half = (np.array(self.patch) - 1) / 2
        inside = np.linalg.solve(self.placement.matrix, (voxels[:, 1:] - self.placement.center).T).T
        covered: NDArray[np.bool_] = (np.abs(inside) <= half + 0.5).all(1)
        return covered


def sighting(labels: NDArray[np.integer], case: int, placement: Placement, size: Sequence[int], most: int,
             rng: np.random.Generator) -> Sighting:  # fmt: skip
    """What pseudo-labels say of a patch.

    Args:
        labels: (x, y, z) channel numbers.
        size: voxels of the case along (x, y, z).
        most: voxels of each structure that are kept, drawn at random.
    """
    flat = labels.reshape(-1)
    foreground = np.flatnonzero(flat)
    channels = flat[foreground]
    chosen = []
    for channel in np.unique(channels):
        among = foreground[channels == channel]
        chosen.append(np.unique(among[rng.integers(len(among), size=most)]) if len(among) > most else among)
    index = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
    offsets = np.stack(np.unravel_index(index, labels.shape), -1) - (np.array(labels.shape) - 1) / 2
    voxels = np.rint(placement.center + offsets @ placement.matrix.T).astype(np.int32)
    inside = ((voxels >= 0) & (voxels < np.array(size))).all(1)
    rows = np.column_stack([flat[index].astype(np.int32), voxels])[inside]
    return Sighting(case, placement, labels.shape, rows)


@dataclass(frozen=True)
class Seen:
    """All that is known at some step.

    Attributes:
        counts: (C,) running mean of the voxels of each structure that a step saw [relatives: DHC].
        voxels: number of the case -> voxels of its structures.
    """

    counts: NDArray[np.float64]
    voxels: Mapping[int, Voxels]

    def cases_with(self, channel: int) -> list[int]:
        """The cases in which a structure was seen, in order."""
        return sorted(case for case, voxels in self.voxels.items() if (voxels[:, 0] == channel).any())

    def places(self, case: int, channel: int) -> NDArray[np.int32]:
        """(n, 3) voxels of a structure in a case."""
        voxels = self.voxels[case]
        places: NDArray[np.int32] = voxels[voxels[:, 0] == channel, 1:]
        return places


@dataclass(frozen=True)
class _Step:
    step: int
    counts: NDArray[np.float64]
    sightings: tuple[Sighting, ...]


class Sightings:
    """What the steps saw, taken up ``LAG`` steps later."""

    def __init__(self, classes: int, decay: float, most: int) -> None:
        """Args: decay: of the running mean. most: voxels that are kept per case and structure."""
        self.decay, self.most = decay, most
        self._seen = Seen(np.zeros(classes), {})
        self._waiting: tuple[_Step, ...] = ()

    def add(self, step: int, counts: NDArray[np.float64], sightings: Sequence[Sighting]) -> None:
        """What ``step`` saw, over all processes and in the same order in each.

        Args:
            counts: (C,) voxels of each structure.
        """
        self._waiting = (*self._waiting, _Step(step, counts, tuple(sightings)))
        self._seen = self.at(step + 1)
        self._waiting = tuple(each for each in self._waiting if each.step > step - LAG)

    def at(self, step: int) -> Seen:
        """What the batch of ``step`` may know; ``step`` lies at most ``LAG`` after the first step that is not added yet."""
        seen = self._seen
        for each in self._waiting:
            if each.step < step - LAG:
                seen = self._after(seen, each)
        return seen

    def _after(self, seen: Seen, new: _Step) -> Seen:
        counts = self.decay * seen.counts + (1 - self.decay) * new.counts if seen.counts.any() else new.counts
        voxels = dict(seen.voxels)
        for each in new.sightings:
            before = voxels.get(each.case, np.empty((0, 4), np.int32))
            # Where the teacher has looked again, only what it says now counts.
            rows = np.concatenate([before[~each.covers(before)], each.voxels])
            newest_first = rows[::-1]
            order = np.argsort(newest_first[:, 0], kind="stable")
            first = np.unique(newest_first[order, 0], return_index=True)[1]
            rank = np.arange(len(rows)) - np.repeat(first, np.diff([*first, len(rows)]))
            kept = np.sort(len(rows) - 1 - order[rank < self.most])
            voxels[each.case] = rows[kept]
        return Seen(counts, voxels)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: tensors and plain Python."""
        return {
            "counts": torch.from_numpy(self._seen.counts.copy()),
            "voxels": {case: torch.from_numpy(voxels) for case, voxels in self._seen.voxels.items()},
            "waiting": [(each.step, torch.from_numpy(each.counts), [_packed(one) for one in each.sightings])
                        for each in self._waiting],
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Raises ValueError, KeyError or TypeError where it is that of other structures, or damaged."""
        counts = state["counts"].numpy()
        if counts.shape != self._seen.counts.shape:
            raise ValueError(f"counts of {len(counts)} structures")
        self._seen = Seen(counts, {case: voxels.numpy() for case, voxels in state["voxels"].items()})
        self._waiting = tuple(
            _Step(step, counts.numpy(), tuple(_unpacked(*one) for one in sightings))
            for step, counts, sightings in state["waiting"]
        )


def _packed(sighting: Sighting) -> tuple[Any, ...]:
    placement = sighting.placement
    arrays = (torch.from_numpy(array) for array in (placement.center, placement.matrix, sighting.voxels))
    return sighting.case, tuple(sighting.patch), *arrays


def _unpacked(
    case: int, patch: tuple[int, ...], center: torch.Tensor, matrix: torch.Tensor, voxels: torch.Tensor
) -> Sighting:
    return Sighting(case, Placement(center.numpy(), matrix.numpy()), tuple(patch), voxels.numpy())
