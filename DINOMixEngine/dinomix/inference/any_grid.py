"""Segmenting an array that lies on any affine grid, a sheared one too: its labels lie on its own voxels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.images.shear import check_usable, geometry_of_affine, is_sheared, labels_at, resampled
from dinomix.images.volume import Volume
from dinomix.inference.options import DEFAULTS, Options
from dinomix.inference.several_models import Models, segment_by_all
from dinomix.inference.sureness import Sureness
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.networks import Network

THE_VOLUME = Path("The volume")
"""Stands in messages where a file's path would."""
Placed = tuple[NDArray[np.generic], NDArray[np.float64]]
"""An array (k, j, i) of image values, and its affine: 4x4, index (i, j, k, 1) -> RAS mm."""


def segment_array(
    array: NDArray[np.generic],
    affine_ras: NDArray[np.float64],
    models: Model | Models,
    options: Options = DEFAULTS,
    *,
    more: Sequence[Placed] = (),
    emit: Emit = silent,
    networks: Sequence[Network] | None = None,
    keep: LabelSet | None = None,
    sureness: Sureness | None = None,
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Segment an array of image values; a sheared grid is resampled for the network, and its labels are brought back.

    Args:
        array: (k, j, i), any real number type; HU for CT.
        affine_ras: 4x4, index (i, j, k, 1) -> RAS mm; of either handedness, oblique or sheared.
        more: the further images of the case, for a model that takes several, each on its own grid; in the order of
            ``models.channels[1:]``.
        options, emit, networks, keep, sureness: as ``segment_by_all`` takes them; a map of uncertainty lies on the resampled
            grid of a sheared array.

    Returns:
        Ids of ``models.labels``, (k, j, i) of the array's own shape, uint8 or uint16; and notices, full sentences.

    Raises:
        DinomixError: the array holds NaN or infinity, the affine is unusable, or as ``segment_volume``.
    """
    # Preprocessing makes the one copy in float32, so that a memory-mapped array is read from the disk as it is needed.
    first, affine = _rectangular(array, affine_ras)
    sheared = affine is not affine_ras
    notices: tuple[str, ...] = ()
    if sheared:
        notices = (
            "The volume lies on a sheared grid; it was resampled for the network, and its labels were brought back.",
        )
    images = [first, *(_rectangular(values, its_affine)[0] for values, its_affine in more)]
    several = Models.of(models) if isinstance(models, Model) else models
    labels = segment_by_all(
        images, 0, several, options, keep=keep, emit=emit, networks=networks, sureness=sureness
    ).array
    return (labels_at(labels, affine, affine_ras, array.shape) if sheared else labels), notices


def _rectangular(values: NDArray[np.generic], affine: NDArray[np.float64]) -> tuple[Volume, NDArray[np.float64]]:
    """An image on a rectangular grid, and the affine of that: the image's own where it lies on such a one."""
    _check_finite(values)
    check_usable(affine, THE_VOLUME)
    if is_sheared(affine, (values.shape[2], values.shape[1], values.shape[0])):
        values, affine = resampled(values.astype(np.float32), affine)
    geometry = geometry_of_affine(affine, (values.shape[2], values.shape[1], values.shape[0]), THE_VOLUME)
    return Volume(values, geometry), affine


def _check_finite(array: NDArray[np.generic]) -> None:
    if np.issubdtype(array.dtype, np.integer) or array.dtype == bool:
        return
    # In float32, as the network has them; a slice at a time, so that no copy of the whole stands in memory.
    with np.errstate(over="ignore"):
        if not all(np.isfinite(part.astype(np.float32)).all() for part in array):
            raise DinomixError("The volume holds NaN or infinite voxels.", "Export it again, or replace these voxels.")
