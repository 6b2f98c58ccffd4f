"""A cohort made from one labeled scan: strong random deformation and changes of intensity.

A stand-in for a real cohort where only one scan is at hand. Every case shows the same person's organs bent into another
shape, so what a model reaches here says how methods compare, not how they do on other people.

Run ``python -m dinomix.demo.deformed --help``.
"""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dinomix.demo.cohort_folders import write_cohort
from dinomix.demo.smooth_fields import smooth_displacement, smooth_field
from dinomix.errors import DinomixError
from dinomix.events import Emit, TerminalEvents, silent
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume, cropped
from dinomix.labels import LabelSet

SCALES = ((110.0, 11.0), (45.0, 4.0))
"""Distance between knots and standard deviation of the smooth displacement, mm: postures and builds, then organs."""
AIR = -1024.0
"""HU outside of the scan."""


def deformed_case(image: Volume, labels: Volume, seed: int | tuple[int, ...]) -> tuple[Volume, Volume]:
    """The scan bent, turned and scaled at random, with another contrast and noise.

    Args:
        image: CT, HU, float32 (k, j, i).
        labels: structures of ``image``, on its grid.
        seed: the same seed gives the same case.

    Returns:
        The image and its label map on the grid of ``image``. Both went through one deformation, the image by linear
        interpolation, the labels by the nearest voxel, which keeps the volume of structures one voxel thin.

    Raises:
        DinomixError: image and labels are on different grids.
    """
    if difference := image.geometry.difference(labels.geometry):
        raise DinomixError(f"The image and its labels lie on different grids: {difference}.", "Give a matching pair.")
    rng = np.random.default_rng(seed)
    where = _source_positions(image, rng)
    bent_labels = ndimage.map_coordinates(labels.array, where, order=0, mode="constant", cval=0)
    bent = ndimage.map_coordinates(image.array.astype(np.float32), where, order=1, mode="constant", cval=AIR)
    changed = _with_other_intensities(bent, bent_labels, image.geometry.spacing[::-1], rng)
    return Volume(changed, image.geometry), Volume(bent_labels.astype(labels.array.dtype), labels.geometry)


def field_of_view(image: Volume, labels: Volume, margin: float) -> tuple[Volume, Volume]:
    """The part of a scan within ``margin`` mm of its structures, as a scan of the abdomen shows less than one of the trunk."""
    box = []
    for axis, spacing in enumerate(image.geometry.spacing[::-1]):
        inside = np.flatnonzero(labels.array.any(axis=tuple(other for other in range(3) if other != axis)))
        far = round(margin / spacing)
        box.append(slice(max(int(inside[0]) - far, 0), int(inside[-1]) + 1 + far))
    within = box[0], box[1], box[2]
    return cropped(image, within), cropped(labels, within)


def write_deformed_cohort(image_path: Path, labels_path: Path, out: Path, *, names: LabelSet, labeled: int, unlabeled: int,
                          test: int, seed: int = 0, margin: float | None = None, emit: Emit = silent) -> None:  # fmt: skip
    """Write a cohort of deformed cases of one scan; see ``cohort_folders.write_cohort`` for its layout.

    Args:
        names: what the values of the label map are called.
        seed: case n of a cohort is ``deformed_case(image, labels, (seed, n))``.
        margin: mm around the structures that a case shows; None for the whole scan.
    """
    image = read_image(image_path)
    labels, _ = read_label(labels_path, like=image.geometry)

    def make_case(number: int) -> tuple[Volume, Volume]:
        case = deformed_case(image, labels, (seed, number))
        return case if margin is None else field_of_view(*case, margin)

    write_cohort(out, make_case, names, labeled=labeled, unlabeled=unlabeled, test=test, emit=emit)


def _source_positions(image: Volume, rng: np.random.Generator) -> NDArray[np.float32]:
    """For each voxel of the new case, the index position in the scan that it shows; (3, k, j, i)."""
    shape, spacing = image.array.shape, np.array(image.geometry.spacing[::-1])
    grid = np.stack(np.meshgrid(*(np.arange(n) * mm for n, mm in zip(shape, spacing, strict=True)), indexing="ij"))
    center = (np.array(shape) - 1) * spacing / 2
    turn = _rotation(rng.uniform(-12, 12, size=3))
    scale = rng.uniform(0.88, 1.14) * rng.uniform(0.94, 1.06, size=3)
    shift = rng.normal(0, 9, size=3)
    linear = turn @ np.diag(1 / scale)
    bent = grid + smooth_displacement(shape, spacing.tolist(), SCALES, rng)
    positions = np.einsum("ab,bkji->akji", linear, bent - center[:, None, None, None])
    positions += (center + shift)[:, None, None, None]
    return (positions / spacing[:, None, None, None]).astype(np.float32)


def _rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = np.deg2rad(degrees)
    first = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    second = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    third = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return first @ second @ third


def _with_other_intensities(
    image: NDArray[np.float32], labels: NDArray, spacing: tuple[float, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Another contrast phase (each structure brighter or darker), another tube voltage, blur and noise; HU."""
    phase = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    phase[1:] = rng.normal(0, 18, size=len(phase) - 1)
    changed = image + ndimage.gaussian_filter(phase[labels], 0.6)
    soft = np.clip(changed / 300, -1, 1)
    changed = changed + np.float32(rng.normal(0, 25)) * soft + np.float32(rng.normal(0, 12)) * (changed > -900)
    changed += 12 * smooth_field(image.shape, spacing, 120.0, rng)
    changed = ndimage.gaussian_filter(changed, rng.uniform(0, 0.6))
    noise = rng.standard_normal(image.shape).astype(np.float32)
    grain = noise + 0.7 * ndimage.gaussian_filter(noise, 0.8)
    changed += np.float32(rng.uniform(6, 28)) * grain
    return np.maximum(np.round(changed), AIR).astype(np.float32)


@click.command()
@click.option("--image", type=click.Path(path_type=Path), required=True, help="The scan.")
@click.option("--labels", type=click.Path(path_type=Path), required=True, help="Its label map.")
@click.option("--names", type=click.Path(path_type=Path), required=True, help='Its label set, {"1": "liver", ...}.')
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--labeled", default=4, show_default=True, help="Labeled cases.")
@click.option("--unlabeled", default=16, show_default=True, help="Cases without labels.")
@click.option("--test", default=8, show_default=True, help="Labeled cases held out.")
@click.option("--seed", default=0, show_default=True)
@click.option("--margin", type=float, help="Show only so many mm around the structures.  [default: the whole scan]")
def command(
    image: Path,
    labels: Path,
    names: Path,
    out: Path,
    labeled: int,
    unlabeled: int,
    test: int,
    seed: int,
    margin: float | None,
) -> None:
    """Write a cohort of deformed cases of one labeled scan."""
    emit = TerminalEvents()
    present = np.unique(read_label(labels)[0].array)
    wanted = LabelSet.read(names)
    kept = wanted.only(present.tolist())
    write_deformed_cohort(
        image,
        labels,
        out,
        names=kept,
        labeled=labeled,
        unlabeled=unlabeled,
        test=test,
        seed=seed,
        margin=margin,
        emit=emit,
    )
    emit.close()


if __name__ == "__main__":
    command()
