"""A DICOM series read into one volume, after checking that its slices make one: ITK takes any heap of slices."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.dicom_header import DicomHeader, is_dicom_file, read_dicom_header
from dinomix.images.dicom_pixels import read_pixels
from dinomix.images.shear import TO_LPS, geometry_of_affine, tilted_geometry
from dinomix.images.stored import DAMAGED, check_memory
from dinomix.images.volume import Geometry

# Positions in headers are rounded; a slice may lie this part of a step off the even grid.
UNEVEN = 0.1
# Directions in headers are rounded too: this angle between them (radians) is still one direction.
SAME_DIRECTION = 1e-3
# Rows and columns are perpendicular, and their directions of length 1, up to this.
NO_ROTATION = 1e-2


@dataclass(frozen=True)
class _Slice:
    """What a slice's header says: position and directions in LPS, ``spacing`` in mm along (i, j), ``size`` (i, j)."""

    path: Path
    position: NDArray[np.float64]
    along_i: NDArray[np.float64]
    along_j: NDArray[np.float64]
    spacing: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.along_i, self.along_j)

    @property
    def depth(self) -> float:
        """mm along the normal."""
        return float(self.position @ self.normal)


def read_series(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a folder with one DICOM series, or the series that one file belongs to.

    Returns:
        Array (k, j, i), rescaled as each slice says (HU for CT); affine, 4x4, index -> RAS mm. A tilted gantry gives a
        sheared affine.

    Raises:
        DinomixError: no DICOM or several series; slices that differ in direction or size, share a place, are missing
            or are not evenly spaced; fewer than three slices; color; several frames in one file.
    """
    slices = _slices_of(path)
    affine = _affine(slices)
    size = slices[0].size
    check_memory(4 * size[0] * size[1] * len(slices), path)
    return read_pixels([s.path for s in slices], size, path), affine


def series_geometry(path: Path) -> Geometry:
    """The grid of a series, from the headers alone. Raises DinomixError as ``read_series``, and for a sheared grid."""
    slices = _slices_of(path)
    return geometry_of_affine(_affine(slices), (*slices[0].size, len(slices)), path)


def series_in_place(path: Path) -> tuple[list[Path], Geometry]:
    """The files of a series in the order of k, and the grid of its own voxels, which may be sheared: see ``tilted_geometry``.

    Raises DinomixError as ``read_series``.
    """
    slices = _slices_of(path)
    return [s.path for s in slices], tilted_geometry(_affine(slices), (*slices[0].size, len(slices)))


def _slices_of(path: Path) -> list[_Slice]:
    """The slices of the one series, sorted along their normal; they make a regular grid, up to a tilt."""
    slices = [_slice(header, path) for header in series_headers(path)]
    first = slices[0]
    turned = [s for s in slices if not _same_direction(s, first)]
    if turned:
        raise DinomixError(
            f"{path} is not one volume: {len(slices) - len(turned)} of its slices lie in one direction, "
            f"{len(turned)} in others.",
            "Put the slices of each direction in a folder of their own.",
        )
    for s in slices:
        if s.size != first.size or not np.allclose(s.spacing, first.spacing, rtol=1e-3):
            raise DinomixError(
                f"{path} is not one volume: {first.path.name} has {first.size} pixels of {first.spacing} mm, "
                f"{s.path.name} has {s.size} of {s.spacing} mm.",
                "Put the slices of each size in a folder of their own.",
            )
    if len(slices) < 3:
        count = "only one slice" if len(slices) == 1 else f"only {len(slices)} slices"
        raise DinomixError(f"{path} is not a volume: it has {count}.", "Give a series with at least three slices.")
    slices.sort(key=lambda s: s.depth)
    _check_even(slices, path)
    return slices


def series_headers(path: Path) -> list[DicomHeader]:
    """The headers of the one series in a folder, or of the one that a file belongs to, by name.

    Raises DinomixError where there is none, or several.
    """
    folder = path if path.is_dir() else path.parent
    series: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in _headers_in(folder):
        series[header.tags.get("0020|000e", "")].append(header)
    found = [headers for headers in series.values() if path.is_dir() or path in [header.path for header in headers]]
    if not found:
        inside = sorted(p.name for p in folder.iterdir() if p.is_dir()) if path.is_dir() else []
        remedy = (
            f"Give one of the folders in it ({', '.join(inside[:5])})." if inside else "Give a folder of DICOM slices."
        )
        raise DinomixError(f"{path} holds no DICOM images.", remedy)
    if len(found) > 1:
        listed = "; ".join(
            f"{describe_series(headers[0])}, {len(headers)} files, e.g. {headers[0].path.name}" for headers in found
        )
        raise DinomixError(
            f"{path} holds {len(found)} DICOM series ({listed}).",
            "Give one file of the series that you mean, or move each series to a folder of its own.",
        )
    return found[0]


def _headers_in(folder: Path) -> list[DicomHeader]:
    """The headers of all images in a folder, by name.

    Raises DinomixError when a file that is named like a slice is none: nobody could tell that the volume lacks it.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    headers, others = [], []
    for file in files:
        if is_dicom_file(file):
            headers.append(read_dicom_header(file))
        elif file.suffix.lower() in (".dcm", ".ima") or (file.suffix[1:].isdigit() or not file.suffix):
            others.append(file)
    images = [header for header in headers if header.is_image]
    damaged = [file for file in others if file.suffix or any(letter.isdigit() for letter in file.name)]
    if images and damaged:
        what = "is empty" if damaged[0].stat().st_size == 0 else "is no DICOM file"
        raise DinomixError(
            f"{folder} may lack a slice: {damaged[0].name} {what}.", f"{DAMAGED[:-1]}, or take that file out."
        )
    return images


def describe_series(header: DicomHeader) -> str:
    """Modality and description of a series, in words."""
    tags = header.tags
    words = [tags.get("0008|0060", ""), f'"{tags["0008|103e"]}"' if tags.get("0008|103e") else ""]
    return " ".join(word for word in words if word) or "without a description"


def _slice(header: DicomHeader, folder: Path) -> _Slice:
    file, tags = header.path, header.tags
    if int(tags.get("0028|0002", 1)) > 1:
        raise DinomixError(
            f"{folder} holds color images ({file.name}).", "Give a series with a single number per pixel."
        )
    if int(tags.get("0028|0008") or 1) > 1 or "MOSAIC" in tags.get("0008|0008", ""):
        raise DinomixError(
            f"{folder} holds several slices in one DICOM file ({file.name}).",
            "Convert it to NIfTI, for example with dcm2niix.",
        )
    position, orientation = _numbers(tags, "0020|0032", 3), _numbers(tags, "0020|0037", 6)
    if position is None or orientation is None:
        raise DinomixError(
            f"{folder} is not a volume: {file.name} does not say where it lies in the patient.",
            "Give a series of CT or MR slices, no scanned or secondary images.",
        )
    along_i, along_j = orientation[:3], orientation[3:]
    if np.abs([along_i @ along_i - 1, along_j @ along_j - 1, along_i @ along_j]).max() > NO_ROTATION:
        raise DinomixError(f"{file} says nothing usable about the directions of its rows and columns.", DAMAGED)
    rows = _numbers(tags, "0028|0030", 2)
    if rows is None or rows.min() <= 0:
        raise DinomixError(
            f"{file} does not say how large its pixels are.", "Export the series again from the archive."
        )
    for key in ("0028|1052", "0028|1053"):
        scale = _numbers(tags, key, 1)
        if tags.get(key) and (scale is None or (key == "0028|1053" and scale[0] == 0)):
            raise DinomixError(f"{file} scales its pixels by what is no number (({key}) is {tags[key][:40]}).", DAMAGED)
    return _Slice(
        path=file,
        position=position,
        along_i=along_i,
        along_j=along_j,
        # DICOM gives the distance of rows, which is along j, first.
        spacing=(float(rows[1]), float(rows[0])),
        size=(int(tags["0028|0011"]), int(tags["0028|0010"])),
    )


def _numbers(tags: dict[str, str], key: str, count: int) -> NDArray[np.float64] | None:
    try:
        values = np.array([float(word) for word in tags.get(key, "").split("\\")])
    except ValueError:
        return None
    return values if values.size == count and np.isfinite(values).all() else None


def _same_direction(a: _Slice, b: _Slice) -> bool:
    return bool(max(np.abs(a.along_i - b.along_i).max(), np.abs(a.along_j - b.along_j).max()) < SAME_DIRECTION)


def _check_even(slices: list[_Slice], path: Path) -> None:
    """Raises DinomixError when sorted slices are not one at each step of an even grid."""
    depths = np.array([s.depth for s in slices])
    gaps = np.diff(depths)
    step = float(np.median(gaps))
    if gaps.min() < 1e-3:
        at = int(gaps.argmin())
        raise DinomixError(
            f"{path} is not one volume: several slices lie at one place, for example {slices[at].path.name} and "
            f"{slices[at + 1].path.name}.",
            "Put each time point, echo or reconstruction in a folder of its own.",
        )
    even = depths[0] + np.arange(len(depths)) * (depths[-1] - depths[0]) / (len(depths) - 1)
    if np.abs(depths - even).max() <= UNEVEN * step and np.abs(gaps - step).max() <= 2 * UNEVEN * step:
        return
    at = int(np.abs(gaps - step).argmax())
    between = f"between {slices[at].path.name} and {slices[at + 1].path.name}"
    missing = np.abs(gaps / step - np.rint(gaps / step)).max() < UNEVEN
    if missing and gaps.min() > 0.5 * step:
        problem = f"{path} lacks slices {between}: the gap there is {gaps[at]:.4g} mm, elsewhere {step:.4g} mm."
        raise DinomixError(problem, "Export the whole series again from the archive.")
    problem = f"{path} has uneven slices: the distance {between} is {gaps[at]:.4g} mm, elsewhere mostly {step:.4g} mm."
    raise DinomixError(
        problem, "Put slices of equal distance in a folder of their own, or have the series reconstructed evenly."
    )


def _affine(slices: list[_Slice]) -> NDArray[np.float64]:
    """4x4, index (i, j, k) -> RAS mm. The third axis goes from the first slice's corner to the last one's."""
    first, last = slices[0], slices[-1]
    affine = np.eye(4)
    affine[:3, 0] = first.along_i * first.spacing[0]
    affine[:3, 1] = first.along_j * first.spacing[1]
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return np.asarray(TO_LPS @ affine)
