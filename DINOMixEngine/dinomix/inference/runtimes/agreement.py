"""Whether two ways to compute a network give a piece of an image the same labels."""

from collections.abc import Mapping

from dinomix.arrays import Array, namespace
from dinomix.inference.noise import AGREEMENT
from dinomix.inference.options import Numbers

SAME: Mapping[Numbers, float] = {"float32": 0.999, "bfloat16": AGREEMENT}
"""Least share of the structures' voxels of the piece with the labels of float32. In bfloat16 each image is looked at again, see
``certainty``."""
ONE_VOXEL = 1
"""May differ in any piece, however small its structures are."""


def differing(logits: Array, exact: Array) -> tuple[int, int]:
    """How many voxels have other labels by one of two logits (channels, x, y, z); and how many are a structure's by either."""
    xp = namespace(logits)
    labels, expected = xp.argmax(logits, axis=0), xp.argmax(exact, axis=0)
    return int(xp.count_nonzero(labels != expected)), int(xp.count_nonzero((labels > 0) | (expected > 0)))


def is_same(other: int, structures: int, numbers: Numbers) -> bool:
    """Whether so few voxels differ that these numbers may be taken."""
    return other <= max(ONE_VOXEL, (1 - SAME[numbers]) * structures)
