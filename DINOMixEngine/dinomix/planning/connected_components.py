"""Pieces of structures: which are stray, what a network calls a structure far from where it is, and which are too small.

An organ is one piece. Where all labeled cases show a structure as one piece, a smaller second piece in a prediction is nearly
always a mistake: something elsewhere in the body that looks alike. Pieces are connected components, 26 neighbors to a voxel.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.planning.plan import OnePiece
from dinomix.planning.runs import Runs
from dinomix.planning.whereabouts import FAR, Nearness

WHOLE = 0.95
"""A structure is one piece where its largest holds at least this share of it in each labeled case; the rest is a slip of the
pen, or what resampling broke off."""
STRAY = 0.5
"""A piece smaller than this share of the largest is stray. A smaller share leaves more mistakes, a larger one takes away the half
of a structure that a prediction has broken in two; see docs/results.md."""
ENOUGH = 0.25
"""Where structures lie together: one whose piece in the largest group is smaller than this share of its largest piece has only
crumbs there, and is elsewhere; see docs/results.md."""


def measured(
    labels: Iterable[NDArray[Any]], channels: int, not_drawn: Iterable[Set[int]] = repeat(frozenset())
) -> OnePiece:
    """Which structures are one piece in all of ``labels``.

    Args:
        labels: (x, y, z) channel numbers of the labeled cases.
        channels: with the background.
        not_drawn: of each case, the channels that are not drawn completely, of which it says nothing.

    Returns:
        Those of the channels that occur and are one piece, and whether all structures together are one in each case.
    """
    shares: dict[int, float] = {}
    together, most = True, 0
    for label, unknown in zip(labels, not_drawn, strict=False):
        runs = Runs.of(label)
        _, sizes, values = pieces_of(runs)
        present = np.unique(values[1:]).tolist()
        for channel in present:
            if channel in unknown:
                continue
            own = sizes[values == channel]
            shares[channel] = min(shares.get(channel, 1.0), float(own.max() / own.sum()))
        # What is not drawn may be what holds the others together.
        together = together and not unknown and (not present or runs.pieces(of_any_label=True).max() == 1)
        most = max(most, len(present))
    whole = tuple(channel for channel in range(1, channels) if shares.get(channel, 0.0) >= WHOLE)
    return OnePiece(channels=whole, together=together and most > 1)


def remove_stray_pieces(
    labels: NDArray[Any],
    rule: OnePiece,
    values: NDArray[Any] | None = None,
    every: int = 1,
    nearness: Nearness | None = None,
) -> set[int]:
    """Set the voxels of stray pieces to 0, in place.

    Where the structures lie together, first what lies apart from the largest group of them, however large it is: something
    elsewhere that looks like a structure may be larger than the true one, but has not all the others beside it. A structure that
    is not in that group keeps its largest piece, since a prediction may have left a gap. With ``nearness``, a voxel counts for a
    piece's size by it. Then those of each structure that is one piece.

    Args:
        labels: three axes, in any order.
        values: what each channel of ``rule`` is called in ``labels``; None: as it is.
        every: pieces are found on every so manieth voxel of each axis, to get by with less memory.
        nearness: of the voxels of ``labels``; None where it is not known.

    Returns:
        The channels of which something was removed.
    """
    single = {channel if values is None else int(values[channel]) for channel in rule.channels}

    def remove(seen: NDArray[Any]) -> set[int]:
        apart = _remove_apart(seen, nearness.every(every) if nearness is not None else None) if rule.together else set()
        return apart | _remove_pieces(seen, single, lambda value, sizes: _stray(sizes))

    removed = _removed(labels, every, remove)
    return removed if values is None else set(np.flatnonzero(np.isin(values, list(removed))).tolist())


Rules = Mapping[int, float | None]
"""Label -> the least size of its pieces, ml; None for the largest piece alone."""


def clean_up(labels: NDArray[Any], rules: Rules, voxel: float, every: int = 1) -> set[int]:
    """Set the voxels of pieces that are too small to 0, in place.

    Args:
        labels: three axes, in any order.
        voxel: ml of a voxel.
        every: as ``remove_stray_pieces`` takes it.

    Returns:
        The labels of which something was removed.
    """

    def small(value: int, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        return too_small(sizes, rules[value], voxel * every**3)

    return _removed(labels, every, lambda seen: _remove_pieces(seen, set(rules), small))


def too_small(sizes: NDArray[np.int64], smallest: float | None, voxel: float) -> NDArray[np.bool_]:
    """Which pieces go, of ``sizes`` in voxels as ``pieces_of`` gives them; never number 0, which none has."""
    if smallest is None:
        return (sizes > 0) & (np.arange(len(sizes)) != sizes.argmax())
    return (sizes > 0) & (sizes * voxel < smallest)


def _removed(labels: NDArray[Any], every: int, remove: Callable[[NDArray[Any]], set[int]]) -> set[int]:
    """What ``remove`` changes on every so manieth voxel of each axis is changed around these voxels, too."""
    seen = labels if every == 1 else labels[::every, ::every, ::every].copy()
    before = seen.copy() if every > 1 else seen
    removed = remove(seen)
    if every > 1:
        _remove_between(labels, before, before != seen, every)
    return removed


def _remove_pieces(
    labels: NDArray[Any], values: set[int], going: Callable[[int, NDArray[np.int64]], NDArray[np.bool_]]
) -> set[int]:
    """The pieces of each label of ``values`` that go, by the label and the pieces' sizes; returns those that had any."""
    runs = Runs.of(labels)
    numbers, sizes, of_label = pieces_of(runs)
    gone = np.zeros(len(sizes), bool)
    for value in values & set(of_label.tolist()):
        own = np.flatnonzero(of_label == value)
        gone[own] = going(value, sizes[own])
    runs.only(gone[numbers]).clear(labels)
    return set(of_label[gone].tolist())


def remove_far(labels: NDArray[Any], nearness: Nearness) -> None:
    """Set to 0, in place, the groups of structures of which no voxel lies where any is expected."""
    runs = Runs.of(labels)
    groups = runs.pieces(of_any_label=True)
    highest = np.zeros(groups.max(initial=0) + 1)
    np.maximum.at(highest, groups, runs.reduced(np.maximum, nearness.at))
    runs.only(highest[groups] < FAR).clear(labels)


def _remove_apart(labels: NDArray[Any], nearness: Nearness | None) -> set[int]:
    """What lies apart from the largest group, but for the largest piece of a structure not in it; returns their labels."""
    runs = Runs.of(labels)
    groups = runs.pieces(of_any_label=True)
    if groups.max(initial=0) < 2:
        return set()
    counted = runs.sizes if nearness is None else runs.reduced(np.add, nearness.at)
    numbers, _, of_label = pieces_of(runs)
    in_largest = np.zeros(len(of_label), bool)  # which pieces are
    in_largest[numbers] = groups == np.bincount(groups, counted).argmax()
    counts = np.bincount(numbers, counted)
    apart = ~in_largest
    for value in np.unique(of_label[1:]):
        own = np.flatnonzero(of_label == value)
        if counts[own[in_largest[own]]].max(initial=0) < ENOUGH * counts[own].max():
            apart[own[counts[own].argmax()]] = False
    runs.only(apart[numbers]).clear(labels)
    return set(of_label[1:][apart[1:]].tolist())


def pieces_of(runs: Runs) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """The number of the piece of each run; the voxels of each piece, and its label, both 0 for number 0, which none has."""
    numbers = runs.pieces()
    sizes = np.bincount(numbers, runs.sizes, minlength=1).astype(np.int64)
    of_label = np.zeros(len(sizes), runs.value.dtype)
    of_label[numbers] = runs.value
    return numbers, sizes, of_label


def _remove_between(labels: NDArray[Any], coarse: NDArray[Any], removed: NDArray[np.bool_], every: int) -> None:
    """Remove around each voxel of a coarse grid that was ``removed`` what has its label."""

    def spread(plane: NDArray[Any]) -> NDArray[Any]:
        return plane.repeat(every, 0)[: labels.shape[1]].repeat(every, 1)[:, : labels.shape[2]]

    for number in np.flatnonzero(removed.any((1, 2))):
        slab = labels[number * every : (number + 1) * every]
        slab[spread(removed[number]) & (slab == spread(coarse[number]))] = 0


def _stray(sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pieces of a structure are stray."""
    return sizes < STRAY * sizes.max()
