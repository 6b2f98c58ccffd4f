"""What the header of an image file says, whatever its format."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.stored import DAMAGED, Stored

LONGEST = 2**24
"""Bytes that are read of a header in text. A segmentation of a thousand structures has about one million."""


@dataclass(frozen=True)
class Header:
    """How the voxels of a file are laid out.

    Attributes:
        size: voxels along (i, j, k).
        frames: volumes one after another in the file (4D).
        values: numbers per voxel (colors, vectors, layers of a segmentation).
        affine: 4x4, index (i, j, k, 1) -> RAS mm; may be sheared.
        stored: where the numbers are.
        order: the axes of the numbers, the slowest first: f(rame), k, j, i and v(alue).
        scale: (slope, intercept); a voxel's value is ``slope * number + intercept``.
        metadata: the file's own keys and texts, where its format has such.
        notices: full sentences for the user.
    """

    size: tuple[int, int, int]
    frames: int
    values: int
    affine: NDArray[np.float64]
    stored: Stored
    order: str = "fkjiv"
    scale: tuple[float, float] = (1.0, 0.0)
    metadata: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def flat_image(path: Path, size: tuple[int, ...]) -> DinomixError:
    return DinomixError(f"{path} is not a volume but a 2D image of {size} pixels.", "Give a 3D image.")


def complex_image(path: Path) -> DinomixError:
    return DinomixError(f"{path} is an image of complex numbers.", "Export one with a single number per voxel.")


def damaged_header(path: Path, what: str) -> DinomixError:
    """The error for a header that contradicts itself or the rules of its format; ``what`` is put in brackets."""
    return DinomixError(f"{path} has a damaged header ({what}).", DAMAGED)


def not_in_millimeters(path: Path, unit: str) -> DinomixError:
    """Some programs convert such files and others do not, so a label would fit its image in some of them only."""
    return DinomixError(
        f"{path} gives the size of its voxels in {unit}, not in millimeters.", "Save it again in millimeters."
    )
