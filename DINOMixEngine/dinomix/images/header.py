"""What the header of an image file says, whatever its format."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError

DAMAGED = "Copy or export it again."


@dataclass(frozen=True)
class Header:
    """How the voxels of a file are laid out.

    Attributes:
        size: voxels along (i, j, k).
        frames: volumes one after another in the file (4D).
        values: numbers per voxel (colors, vectors, layers of a segmentation).
        affine: 4x4, index (i, j, k, 1) -> RAS mm; may be sheared.
        metadata: the file's own keys and texts, where its format has such.
        notices: full sentences for the user.
    """

    size: tuple[int, int, int]
    frames: int
    values: int
    affine: NDArray[np.float64]
    metadata: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def flat_image(path: Path, size: tuple[int, ...]) -> DinomixError:
    return DinomixError(f"{path} is not a volume but a 2D image of {size} pixels.", "Give a 3D image.")
