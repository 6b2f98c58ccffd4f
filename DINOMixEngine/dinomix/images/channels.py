"""The images of one case that a network sees together: read, checked, and brought onto the grid of the first."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.dicom_header import PATIENT_ID, first_dicom_header
from dinomix.images.reading import read_frames, read_image
from dinomix.images.volume import Geometry, Volume

SAME_PATIENT = "Give images of one patient, that show the same part of the body."


def read_channels(
    paths: Sequence[Path], *, resample_sheared: bool = False, keep_integers: bool = False
) -> list[Volume]:
    """The images of one case, each on its own grid; where all paths are one file, its volumes, one for each path.

    Raises:
        DinomixError: as ``read_image``; a file has another number of volumes; DICOM headers name several patients.
    """
    if in_one_file(paths):
        return read_frames(paths[0], len(paths), resample_sheared=resample_sheared, keep_integers=keep_integers)
    if len(paths) > 1:
        _check_patients(paths)
    return [read_image(path, resample_sheared=resample_sheared, keep_integers=keep_integers) for path in paths]


def in_one_file(paths: Sequence[Path]) -> bool:
    """Whether a case's channels are the volumes of one 4D file."""
    return len(paths) > 1 and len({os.path.realpath(path) for path in paths}) == 1


def on_first_grid(volumes: Sequence[Volume], names: Sequence[str]) -> tuple[list[Volume], list[str]]:
    """The images of one case, all on the grid of the first, and what was done for that, full sentences.

    Those on another grid are interpolated linearly at its voxels, by their places in the patient's space. Where they do not
    reach, they are as dark as their darkest voxel.

    Raises:
        DinomixError: an image shows no part of what the first one shows.
    """
    grid, notices = volumes[0].geometry, []
    aligned = [volumes[0]]
    for volume, name in zip(volumes[1:], names[1:], strict=True):
        if grid.difference(volume.geometry):
            covered = covered_share(grid, volume.geometry)
            if covered == 0:
                raise DinomixError(
                    f"The images {names[0]} and {name} do not show the same place: their boxes in the patient's space do not "
                    "meet.",
                    SAME_PATIENT, "channels",
                )  # fmt: skip
            part = f"; it covers {100 * covered:.0f}% of it" if covered < 0.995 else ""
            notices.append(f"The image {name} was resampled onto the grid of {names[0]}{part}.")
            volume = Volume(interpolated(volume, grid), grid, volume.notices)
        aligned.append(volume)
    return aligned, notices


def interpolated(volume: Volume, grid: Geometry) -> NDArray[np.float32]:
    """(k, j, i) float32 at the voxels of another grid; outside of the image its minimum."""
    from scipy.ndimage import affine_transform

    back = np.linalg.inv(volume.geometry.affine_ras) @ grid.affine_ras
    values = np.asarray(volume.array, np.float32)
    # affine_transform maps output to input indices in array order, which is (k, j, i). "grid-constant" mixes the outside into
    # half a voxel of the border, so what lies there is taken from the border itself.
    inside = affine_transform(
        values, back[:3, :3][::-1, ::-1], back[:3, 3][::-1], output_shape=grid.size[::-1], order=1, mode="nearest"
    )
    for k in range(grid.size[2]):
        inside[k][~_within(back, grid, volume.geometry, k)] = values.min()
    return np.asarray(inside, np.float32)


def covered_share(grid: Geometry, other: Geometry) -> float:
    """The share of a grid's voxels, of about a hundred thousand, that lie within another grid."""
    back = np.linalg.inv(other.affine_ras) @ grid.affine_ras
    steps = [max(1, size // 48) for size in grid.size]
    index = np.stack(
        np.meshgrid(*(np.arange(0, size, step) for size, step in zip(grid.size, steps, strict=True)), indexing="ij"), -1
    )
    at = index @ back[:3, :3].T + back[:3, 3]
    return float(_contains(at, other).mean())


def _within(back: NDArray[np.float64], grid: Geometry, other: Geometry, k: int) -> NDArray[np.bool_]:
    """(j, i): which voxels of a plane of a grid lie within another one."""
    i, j = np.arange(grid.size[0]), np.arange(grid.size[1])[:, None]
    at = back[:3, 0] * i[None, :, None] + back[:3, 1] * j[..., None] + (back[:3, 2] * k + back[:3, 3])
    return _contains(at, other)


def _contains(at: NDArray[np.float64], grid: Geometry) -> NDArray[np.bool_]:
    """Whether indices (..., 3) lie within a grid's voxels, whose middles have whole numbers."""
    inside = (at >= -0.5 - 1e-6) & (at <= np.array(grid.size) - 0.5 + 1e-6)
    return np.asarray(inside.all(-1), bool)


def _check_patients(paths: Sequence[Path]) -> None:
    """Raises DinomixError where the DICOM headers of a case's images name several patients."""
    headers = {path: header for path in paths if (header := first_dicom_header(path))}
    known = {path: patient for path, header in headers.items() if (patient := header.tags.get(PATIENT_ID))}
    if len(set(known.values())) > 1:
        first, other = next((a, b) for a in known for b in known if known[a] != known[b])
        raise DinomixError(
            f"{first} and {other} are of different patients by their DICOM headers.", SAME_PATIENT, "channels"
        )
