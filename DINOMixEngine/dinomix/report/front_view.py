"""Structures from the front, as one who faces the patient sees them: drawn from a label map alone."""

import io

import numpy as np
from numpy.typing import NDArray

from dinomix.labels import LabelSet

WIDTH, HEIGHT, MARGIN = 260, 280, 10
OPACITY = 0.85
"""So that what lies behind can be guessed."""


def front_view(channels: NDArray[np.integer], spacing: tuple[float, float, float], labels: LabelSet) -> bytes | None:
    """Draw structures as one who faces the patient sees them, the patient's right on the left; PNG, transparent around.

    Args:
        channels: (x, y, z) in RAS axes; 0 background, k the k-th structure of ``labels``.
        spacing: mm along (x, y, z).

    Returns:
        None where there is no structure.
    """
    from matplotlib.image import imsave

    occupied = [np.flatnonzero((channels > 0).any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(occupied[0]):
        return None
    box = tuple(slice(where[0], where[-1] + 1) for where in occupied)
    # Rows from head to foot, columns from the patient's right to the left, depth from front to back.
    seen = np.asarray(channels[box])[::-1, ::-1, ::-1].transpose(2, 0, 1)
    row_mm, column_mm, depth_mm = spacing[2], spacing[0], spacing[1]
    layers = []
    for channel, structure in enumerate(labels.structures, 1):
        mask = seen == channel
        outline = mask.any(axis=2)
        if outline.any():
            depth = np.where(outline, mask.argmax(axis=2), mask.shape[2]) * depth_mm
            layers.append((float(depth[outline].mean()), outline, _shade(depth, row_mm, column_mm), structure.color))
    picture = np.zeros((HEIGHT, WIDTH, 4))  # colors times opacity, and opacity
    for _, outline, shade, color in sorted(layers, key=lambda layer: -layer[0]):
        opacity = OPACITY * np.clip(4 * _fitted(outline, row_mm, column_mm) - 1.5, 0, 1)
        shaded = _fitted(shade, row_mm, column_mm)[..., None] * np.array(color) / 255
        layer = np.concatenate([shaded.clip(0, 1), np.ones((HEIGHT, WIDTH, 1))], axis=2) * opacity[..., None]
        picture = layer + picture * (1 - opacity[..., None])
    picture[..., :3] /= np.maximum(picture[..., 3:], 1e-6)
    stream = io.BytesIO()
    imsave(stream, (picture.clip(0, 1) * 255).round().astype(np.uint8), format="png")
    return stream.getvalue()


def _shade(depth: NDArray[np.float64], row_mm: float, column_mm: float) -> NDArray[np.float64]:
    """How bright each pixel (row, column) is: surfaces that face the viewer are, and those that face up a little more."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.pad(depth, 1, mode="edge"), 1.0)
    down, right = (np.gradient(smooth, mm, axis=axis)[1:-1, 1:-1] for axis, mm in enumerate((row_mm, column_mm)))
    return (1.0 - 0.25 * down) / np.sqrt(1 + down**2 + right**2) * 0.5 + 0.5


def _fitted(layer: NDArray, row_mm: float, column_mm: float) -> NDArray[np.float64]:
    """A layer (row, column) scaled to fill the picture; linear interpolation, 0 around."""
    from scipy.ndimage import affine_transform

    rows, columns = layer.shape
    scale = min((HEIGHT - 2 * MARGIN) / (rows * row_mm), (WIDTH - 2 * MARGIN) / (columns * column_mm))
    step = np.array([1 / (scale * row_mm), 1 / (scale * column_mm)])
    middle = (np.array([rows, columns]) - 1) / 2
    offset = middle - (np.array([HEIGHT, WIDTH]) - 1) / 2 * step
    fitted: NDArray[np.float64] = affine_transform(
        layer.astype(np.float64), step, offset, output_shape=(HEIGHT, WIDTH), order=1, mode="grid-constant"
    )
    return fitted
