"""Labels beside their image's grid: what differs, whether it can be put right without changing a label, and how.

A label that was turned, cropped or padded has each of its voxels on a voxel of the image, and is put back exactly. What its
header does not say, or says wrongly, is taken from the image only when the user asks for it: it might be another image's label,
or lie flipped.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import drawn_file
from dinomix.images.formats import is_segmentation
from dinomix.images.lattice import SAME_PLACE, Lattice, lattice, on_lattice, turned
from dinomix.images.reading import read_codes, read_geometry, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet
from dinomix.names import listed, normalized_name
from dinomix.terminology import terminology_of

AGAIN = "Export it again with the image as reference, or resample it with nearest neighbor."
_AXES = "ijk"
_NEAREST = 0.45
"""Parts of a voxel; what lies farther off could as well belong to the next voxel."""
_LOST = (np.eye(3), np.diag([-1.0, -1.0, 1.0]))
"""Directions of headers that say nothing, in LPS: of ITK's and of NIfTI's identity."""


@dataclass(frozen=True)
class Mismatch:
    """How a label's grid differs from its image's.

    Attributes:
        text: a part of a sentence that begins with "it" or "its".
        way: how it lies on the image by its own header, where it can be put there without losing a label; else None.
        axes: of the image, along which the label's own run where the label has the image's size, as ``--axes`` says it; else "".
        is_exact: whether ``way`` puts each voxel where the header says; else it gives up a part of a voxel.
    """

    text: str
    way: Lattice | None
    axes: str
    is_exact: bool = True


class AlreadyThere(DinomixError):
    """A label that needs no mending."""


def mismatch(label: Volume, image: Geometry) -> Mismatch | None:
    """What is wrong with a label's grid; None where it is the image's."""
    own = label.geometry
    difference = image.difference(own)
    if not difference:
        return None
    axes = _fitting_axes(own, image)
    if _says_nothing(own) and not _says_nothing(image):
        return Mismatch("its header says nothing of its place (voxels of 1 mm, the first one at 0)", None, axes)
    header = lattice(own, image)
    if header is None:
        return Mismatch(f"{difference} (image against label)", None, axes)
    way = _nearest(header, image)
    beside = np.subtract(header.start, np.rint(header.start) if way is None else way.start)
    text = _described(way or header, image)
    if np.abs(beside).max() > SAME_PLACE:
        text = ", and ".join(
            filter(None, [text, f"its voxels lie {_row(beside * image.spacing)} mm beside the image's"])
        )
    if way is None:
        return Mismatch(text, None, axes)
    if lost := on_lattice(label.array, way, image.size)[1]:
        return Mismatch(f"{text}, so that {lost} of its labeled voxels lie outside of the image", None, axes)
    return Mismatch(text, way, axes, is_exact=header.coincides)


def not_on_grid(found: Mismatch, image: Path, label: Path) -> DinomixError:
    """The error for a label that does not lie on its image's grid, with the command that puts it right where there is one."""
    command = f"dinomix mend --image {_quoted(image)} --label {_quoted(label)} --out {_quoted(_proposed(label))}"
    wrong_header = "its voxels are the image's, one by one, and only its header is wrong"
    if found.way is not None:
        remedy = f"Put it right into a new file, which then takes its place: {command}"
        if found.axes == "i,j,k" and not found.way.is_turned and found.is_exact:
            remedy += f" (with --axes i,j,k if {wrong_header})"
    elif found.axes:
        remedy = (
            f"If {wrong_header}, write it with the image's: {command} --axes {found.axes} and look at it over the image, since "
            f"it may be turned or flipped. Otherwise: {AGAIN[0].lower()}{AGAIN[1:-1]}"
        )
    else:
        remedy = AGAIN[:-1]
    return DinomixError(f"{label} is not on the grid of its image {image}: {found.text}.", f"{remedy}.", "grid")


def mend(image: Path, label: Path, out: Path, axes: str | None = None, order: Sequence[str] = ()) -> tuple[str, ...]:
    """Write a label map onto its image's grid, into a new file.

    Args:
        image: the image, of which only the header is read.
        label: a label file with voxels; of DICOM, everything is put in place when it is read.
        out: the new file; ``.seg.nrrd`` keeps names.
        axes: what the header does not say, or says wrongly: the image's axes along which the label's own i, j and k run, such as
            "i,j,k", or "k,-j,i" where its j runs the other way. The label has the image's size then; its header is not asked.
        order: names of structures; where the label has several in one voxel, the later one wins.

    Returns:
        Full sentences about what was done.

    Raises:
        AlreadyThere: the label lies on the grid already.
        DinomixError: a file cannot be read; the label cannot be put on the grid without a guess or without losing voxels.
        OSError: the file cannot be written.
    """
    if drawn_file(label) is not None:
        raise DinomixError(
            f"{label} is DICOM, which is put on its image's grid when it is read.", "Give it as a label as it is."
        )
    grid = read_geometry(image)
    labels, names = read_label(label, order=order)
    if axes is None:
        found = mismatch(labels, grid)
        if found is None:
            raise AlreadyThere(f"{label} lies on the grid of {image} already.", "Use it as it is.")
        if found.way is None:
            raise not_on_grid(found, image, label)
        way, told = found.way, [f"By its header, {found.text}."]
        if not found.is_exact:
            told.append("Each voxel was taken for the image's nearest, so the place of its header is given up.")
    else:
        way = _said(axes, labels.geometry.size, grid.size, label)
        told = [f"Its axes were taken for the image's {axes}, whatever its header says: look at it over the image."]
    array, lost = on_lattice(labels.array, way, grid.size)
    assert not lost
    if is_segmentation(out):
        values = [int(value) for value in np.unique(array) if value]
        names = names or {value: f"class_{value}" for value in values}
        codes = {normalized_name(name): terminology_of(entry) for name, entry in read_codes(label).items()}
        known = {name: code for name, code in codes.items() if code is not None}
        write_labels(array, grid, LabelSet.from_names(names).with_codes(known), out)
    else:
        write_image(Volume(array, grid), out)
        if names:
            told.append(f"The file has no place for the names: {listed([f'{v} {name}' for v, name in names.items()])}.")
    told.append(f"All {np.count_nonzero(array)} labeled voxels were kept.")
    return tuple(told)


def _says_nothing(grid: Geometry) -> bool:
    return (
        grid.spacing == (1.0, 1.0, 1.0)
        and grid.origin == (0.0, 0.0, 0.0)
        and any(np.array_equal(grid.direction, direction) for direction in _LOST)
    )


def _fitting_axes(own: Geometry, image: Geometry) -> str:
    """The order of axes in which a label has the image's size: as they are, reversed (as numpy has it), or another; else ""."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)):
        if turned(own.size, order, (1, 1, 1)).size == image.size:
            return ",".join(_AXES[axis] for axis in order)
    return ""


def _nearest(way: Lattice, image: Geometry) -> Lattice | None:
    """The place in whole voxels that is meant; None where it is not clear.

    A label of the image's size may lie half a voxel beside it, as programs write it that give corners instead of centers.
    """
    start = np.rint(way.start)
    if way.size == image.size and np.abs(way.start).max() <= 0.5 + SAME_PLACE:
        start = np.zeros(3)
    elif np.abs(way.start - start).max() > _NEAREST:
        return None
    x, y, z = start.tolist()
    return replace(way, start=(x, y, z))


def _described(way: Lattice, image: Geometry) -> str:
    """How a label lies on an image, to whole voxels."""
    parts = []
    if way.axes != (0, 1, 2):
        parts.append(f"its axes i, j, k are the image's {', '.join(_AXES[axis] for axis in way.axes)}")
    if flipped := [_AXES[axis] for axis in range(3) if way.signs[way.axes.index(axis)] < 0]:
        parts.append(f"it is flipped along the image's {' and '.join(flipped)}")
    start = np.rint(way.start).astype(int)
    inside = (start >= 0).all() and (start + way.size <= image.size).all()
    if way.size != image.size:
        what = "a crop of the image:" if inside else "larger than the image or beside it:"
        parts.append(f"it is {what} {_row(way.size)} of {_row(image.size)} voxels, from voxel {_row(start)} on")
    elif start.any():
        parts.append(f"it is shifted by {_row(start)} voxels, {_row(start * image.spacing)} mm")
    return ", and ".join(parts)


def _row(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{round(float(value), 3) + 0.0:.6g}" for value in values) + ")"


def _said(axes: str, size: tuple[int, int, int], image: tuple[int, int, int], label: Path) -> Lattice:
    """The way that ``--axes`` says. Raises DinomixError when it says none, or the sizes do not fit."""
    words = [word.strip() for word in axes.split(",")]
    places = [_AXES.find(word.removeprefix("-")) for word in words]
    if sorted(places) != [0, 1, 2] or not all(len(word.removeprefix("-")) == 1 for word in words):
        raise DinomixError(
            f"--axes {axes} names no axes.", "Name the image's i, j and k, such as i,j,k or k,-j,i.", "grid"
        )
    way = turned(size, places, [-1 if word.startswith("-") else 1 for word in words])
    if way.size != image:
        raise DinomixError(
            f"{label} has {_row(size)} voxels; along the axes {axes} of the image there are "
            f"{_row([image[place] for place in places])}.",
            "Name other axes, or export the label again with the image as reference.",
        )
    return way


def _proposed(label: Path) -> Path:
    return label.parent.with_name(f"{label.parent.name}_mended") / label.name


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
