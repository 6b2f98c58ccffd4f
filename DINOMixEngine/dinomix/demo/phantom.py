"""Phantom abdomens: the 13 Synapse organs in a trunk with fat, muscle, bones and bowel, as contrast-enhanced CT shows them.

Every case has its own build, posture, organ sizes, contrast phase and noise. The imbalance is real: the liver has about
200 times the voxels of an adrenal gland. Imports only what Slicer brings: a module makes them where nothing was installed yet.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dinomix.demo.anatomy import HEPATIC_VESSELS, SYNAPSE_ORGANS, Body, Organ, organs
from dinomix.demo.shapes import Distances, Points, rotation_matrix
from dinomix.demo.smooth_fields import smooth_displacement, smooth_field
from dinomix.demo.tissue import AIR, Canvas, paint_surroundings
from dinomix.images.volume import Geometry, Volume

EXTENT = (360.0, 260.0, 260.0)
"""mm along x, y, z that a phantom covers."""
LOWEST = -118.0
"""z of the lowest slice, mm."""
SCALES = ((130.0, 8.0), (55.0, 2.5))
"""Distance between knots and standard deviation of the deformation, mm."""

# HU without contrast agent, in the arterial, the portal venous and the late phase.
PHASES = {
    "liver": (57, 72, 112, 95),
    "spleen": (48, 135, 122, 98),
    "cortex": (33, 205, 185, 150),
    "medulla": (31, 75, 150, 155),
    "gallbladder": (8, 8, 9, 12),
    "esophagus": (38, 62, 66, 58),
    "stomach": (38, 75, 74, 60),
    "aorta": (42, 320, 158, 118),
    "inferior_vena_cava": (40, 75, 128, 115),
    "portal_vein_and_splenic_vein": (42, 110, 172, 122),
    "pancreas": (38, 112, 98, 76),
    "adrenal_gland": (28, 85, 88, 66),
    "heart": (42, 230, 150, 115),
}


def phantom_case(seed: int | tuple[int, ...], spacing: float = 4.5) -> tuple[Volume, Volume]:
    """One phantom abdomen.

    Args:
        seed: the same seed gives the same case.
        spacing: mm between voxels along all axes; 4.5 gives 80 x 58 x 58 voxels.

    Returns:
        Image (HU, float32) and label map (uint8, ids of ``SYNAPSE_ORGANS``), both (k, j, i) on one grid whose axes
        run to the patient's left, back and head.
    """
    rng = np.random.default_rng(seed)
    geometry = _geometry(spacing)
    body = Body(rng.uniform(148, 162), rng.uniform(106, 118), rng.uniform(0.04, 0.14), rng.uniform(0.085, 0.11))
    points = _points_of_the_body(geometry, rng)
    listed = organs(body, rng)
    shape = geometry.size[::-1]
    lumps = smooth_field(shape, geometry.spacing[::-1], 20.0, rng).ravel()
    texture = smooth_field(shape, geometry.spacing[::-1], 13.0, rng).ravel()

    contrast = _Contrast(rng)
    canvas = Canvas(points, spacing)
    paint_surroundings(canvas, body, contrast, rng)
    labels = np.zeros(len(points), np.uint8)
    for organ in listed:
        distances = organ.shape(points) + organ.lumps * lumps
        _paint_organ(canvas, organ, distances, contrast, texture, rng)
        labels[distances < 0] = organ.id
    image = _as_scanned(canvas.image.reshape(shape), spacing, rng)
    return Volume(image, geometry), Volume(labels.reshape(shape), geometry)


class _Contrast:
    """HU of a tissue in the contrast phase of one case; most are portal venous, as in abdominal routine."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.phase = rng.dirichlet([0.15, 0.4, 2.0, 0.8])
        self.gain = {tissue: rng.normal(1, 0.05) for tissue in PHASES}

    def __call__(self, tissue: str) -> float:
        return float(self.phase @ PHASES[tissue] * self.gain[tissue])


def _geometry(spacing: float) -> Geometry:
    nx, ny, nz = (round(extent / spacing) for extent in EXTENT)
    origin = (-(nx - 1) / 2 * spacing, -(ny - 1) / 2 * spacing, LOWEST)
    return Geometry((nx, ny, nz), (spacing, spacing, spacing), origin, np.eye(3))


def _points_of_the_body(geometry: Geometry, rng: np.random.Generator) -> Points:
    """Where in the standard body each voxel of this case lies, (N, 3)."""
    shape, spacing = geometry.size[::-1], geometry.spacing[::-1]
    axes = [start + np.arange(n) * mm for start, n, mm in zip(geometry.origin[::-1], shape, spacing, strict=True)]
    bend = smooth_displacement(shape, spacing, SCALES, rng)
    z, y, x = (grid + shift for grid, shift in zip(np.meshgrid(*axes, indexing="ij"), bend, strict=True))
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    turn = rotation_matrix(rng.normal(0, 2.5, 3))
    return ((points - rng.normal(0, 4, 3)) @ turn / rng.uniform(0.94, 1.08, 3)).astype(np.float32)


def _paint_organ(canvas: Canvas, organ: Organ, distances: Distances, contrast: _Contrast, texture: NDArray[np.float32],
                 rng: np.random.Generator) -> None:  # fmt: skip
    name = SYNAPSE_ORGANS[organ.id]
    if name.startswith("kidney"):
        canvas.paint(distances, contrast("cortex"))
        canvas.paint(np.maximum(distances + 7, 6 * (0.1 - texture)), contrast("medulla"))
    elif name == "stomach":
        level = rng.uniform(-55, -20)
        canvas.paint(distances, contrast("stomach"))
        canvas.paint(distances + 5, rng.choice([12.0, 35.0, 150.0], p=[0.6, 0.25, 0.15]))
        canvas.paint(np.maximum(distances + 5, canvas.points[:, 1] - level), AIR)
    elif name == "esophagus":
        canvas.paint(distances, contrast("esophagus"))
        canvas.paint(distances + 7, rng.choice([-400.0, 40.0]))
    elif name == "liver":
        canvas.paint(distances, contrast("liver") + 4 * texture)
        veins = (contrast("inferior_vena_cava") + contrast("portal_vein_and_splenic_vein")) / 2
        for vein in HEPATIC_VESSELS:
            canvas.paint(np.maximum(vein(canvas.points), distances + 4), veins)
    else:
        tissue = "adrenal_gland" if name.startswith("adrenal") else name
        canvas.paint(distances, contrast(tissue) + 4 * texture)


def _as_scanned(image: NDArray[np.float32], spacing: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The blur of the reconstruction and its grainy noise; HU, (k, j, i)."""
    blurred = ndimage.gaussian_filter(image, rng.uniform(1.2, 2.4) / spacing)
    noise = rng.standard_normal(image.shape).astype(np.float32)
    grain = 0.8 * noise + 1.2 * ndimage.gaussian_filter(noise, 0.7)
    return np.maximum(blurred + np.float32(rng.uniform(7, 18)) * grain, -1024).astype(np.float32)
