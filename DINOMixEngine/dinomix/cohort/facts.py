"""What one case's files say, read once; the voxels are let go again, so that memory does not grow with the cohort."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.labeled_slices import Runs, runs_of
from dinomix.cohort.renaming import Renames
from dinomix.cohort.thickness import thicknesses
from dinomix.errors import DinomixError
from dinomix.images.channels import on_first_grid, read_channels
from dinomix.images.dicom_drawn import check_drawn_on
from dinomix.images.dicom_header import dicom_modality
from dinomix.images.file_sets import image_sha256
from dinomix.images.image_headers import is_dicom
from dinomix.images.mending import mismatch, not_on_grid
from dinomix.images.overlaps import Overlaps
from dinomix.images.reading import is_placed, read_codes, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import stands_for_unlabeled

_CODES = ("LR", "PA", "IS")
Percentiles = tuple[float, float, float]


@dataclass(frozen=True)
class ChannelFacts:
    """What ``CaseFacts`` says of one of several images of a case, on the grid of the first."""

    image_sha256: str
    intensity: Percentiles
    foreground_intensity: Percentiles | None = None
    dicom_modality: str | None = None

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "ChannelFacts":
        """From the fields as JSON has them."""
        foreground = data["foreground_intensity"]
        tuples = {
            "intensity": tuple(data["intensity"]),
            "foreground_intensity": tuple(foreground) if foreground else None,
        }
        return cls(**{**data, **tuples})


@dataclass(frozen=True)
class CaseFacts:
    """Statistics of an image and of its label, if it has one.

    Attributes:
        pixels_sha256: of the voxels in RAS axis order; equal for one image in two formats, names or axis orders.
        intensity, foreground_intensity: percentiles 0.5, 50 and 99.5; foreground is every voxel that is not 0 and not dropped.
        counts: voxels of each value in the label file but 0 and the ``ignored``.
        thickness: mm, of each of these; see ``thickness.thickness``.
        ignored: values that stand for voxels that nobody labeled.
        runs: of the slices along (i, j, k) that show something; see ``labeled_slices``.
        names: value -> name, where the label file itself carries names.
        codes: name -> terminology entry as Slicer has it, where the label file itself carries codes.
        overlaps: what an order settled in the label; see ``Volume``.
        dicom_modality: the tag (0008,0060) of a DICOM series.
        more: of the further channels; all else is of the first.
    """

    geometry: Geometry
    orientation: str
    pixels_sha256: str
    image_sha256: str
    intensity: tuple[float, float, float]
    label_sha256: str | None = None
    foreground_intensity: tuple[float, float, float] | None = None
    counts: dict[int, int] = field(default_factory=dict)
    thickness: dict[int, float] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    runs: tuple[Runs, Runs, Runs] = ((), (), ())
    names: dict[int, str] | None = None
    codes: dict[str, str] = field(default_factory=dict)
    overlaps: Overlaps = ()
    dicom_modality: str | None = None
    notices: tuple[str, ...] = ()
    more: tuple[ChannelFacts, ...] = ()

    @property
    def channels(self) -> tuple[ChannelFacts, ...]:
        """Of all channels."""
        first = ChannelFacts(self.image_sha256, self.intensity, self.foreground_intensity, self.dicom_modality)
        return first, *self.more


def read_facts(
    image: Path,
    label: Path | None,
    folder_names: dict[int, str] | None = None,
    renames: Renames | None = None,
    order: Sequence[str] = (),
    more_images: Sequence[Path] = (),
    channels: Sequence[str] = (),
) -> CaseFacts:
    """Read a case's images and, where there is one, its label.

    Args:
        folder_names: value -> name in the label, where the label file says nothing.
        renames: which structures are dropped.
        order: names of structures; where some overlap, the later one wins.
        more_images: of the further channels.
        channels: the names of all channels, where there are several.

    Raises:
        DinomixError: a file cannot be used; images show different places or patients, or are one and the same; an image holds
            one value only; the label lies on another grid than the first image or holds only structures that are left out.
        OSError: a file cannot be opened.
    """
    images = (image, *more_images)
    volumes = read_channels(images)
    for path, its_volume in zip(images, volumes, strict=True):
        if its_volume.array.min() == its_volume.array.max():
            raise DinomixError(
                f"{path} is empty: all its voxels are {its_volume.array.flat[0]:g}.", "Take it out, or export it again."
            )
    notices = tuple(dict.fromkeys(notice for v in volumes for notice in v.notices))
    if more_images:
        volumes, of_grids = on_first_grid(volumes, channels)
        notices += tuple(of_grids)
        _refuse_one_image_twice(volumes, channels, images)
    volume, hashes = volumes[0], {path: image_sha256(path) for path in images}
    facts = CaseFacts(
        geometry=volume.geometry,
        orientation=orientation(volume.geometry),
        pixels_sha256=_pixels_sha256(volume),
        image_sha256=hashes[image],
        intensity=_percentiles(volume.array),
        dicom_modality=dicom_modality(image),
        notices=notices,
        more=tuple(
            ChannelFacts(hashes[path], _percentiles(more.array), None, dicom_modality(path))
            for path, more in zip(more_images, volumes[1:], strict=True)
        ),
    )
    if label is None:
        return facts
    return _with_label(facts, volumes, images, label, folder_names or {}, renames or Renames(), order)


def orientation(geometry: Geometry) -> str:
    """The axis code of (i, j, k) as nibabel writes it: "RAS" where i runs to the right, j forward and k up."""
    axes, signs = _world_axes(geometry)
    return "".join(_CODES[axis][int(sign > 0)] for axis, sign in zip(axes, signs, strict=True))


def _refuse_one_image_twice(volumes: Sequence[Volume], channels: Sequence[str], images: Sequence[Path]) -> None:
    for second in range(1, len(volumes)):
        for first in range(second):
            if np.array_equal(volumes[first].array, volumes[second].array):
                raise DinomixError(
                    f"The channels {channels[first]} and {channels[second]} of {images[first]} are the same image.",
                    "Give each channel its own image.",
                    "channels",
                )


def _with_label(facts: CaseFacts, volumes: Sequence[Volume], images: Sequence[Path], label: Path, folder_names: dict[int, str],
                renames: Renames, order: Sequence[str]) -> CaseFacts:  # fmt: skip
    volume, image = volumes[0], images[0]
    check_drawn_on(label, [path for path in images if is_dicom(path)])
    labels, names = read_label(label, like=volume.geometry if is_placed(label) else None, order=order)
    if found := mismatch(labels, volume.geometry):
        raise not_on_grid(found, image, label)
    called = names or folder_names
    values, counts = np.unique(labels.array, return_counts=True)
    ignored = tuple(int(value) for value in values if stands_for_unlabeled(called.get(int(value), "")))
    shown = labels.array
    if ignored:
        shown = np.where(np.isin(shown, ignored), 0, shown)
    present = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v != 0 and v not in ignored}
    dropped = [value for value in present if renames.drops(called.get(value, f"class_{value}"))]
    if dropped and len(dropped) == len(present):
        raise DinomixError(
            f"{label} holds no structure beside those that are left out.", "Take the case out, or keep one of them."
        )
    inside = ~np.isin(shown, [0, *dropped])
    return CaseFacts(
        geometry=facts.geometry,
        orientation=facts.orientation,
        pixels_sha256=facts.pixels_sha256,
        image_sha256=facts.image_sha256,
        intensity=facts.intensity,
        label_sha256=image_sha256(label),
        foreground_intensity=_percentiles(volume.array[inside]) if inside.any() else None,
        counts=present,
        thickness=thicknesses(shown, labels.geometry.spacing[::-1]),
        ignored=ignored,
        runs=runs_of(shown != 0),
        names=names,
        codes=read_codes(label),
        overlaps=labels.overlaps,
        dicom_modality=facts.dicom_modality,
        notices=tuple(dict.fromkeys((*facts.notices, *labels.notices))),
        more=tuple(
            replace(channel, foreground_intensity=_percentiles(more.array[inside]) if inside.any() else None)
            for channel, more in zip(facts.more, volumes[1:], strict=True)
        ),
    )


def _world_axes(geometry: Geometry) -> tuple[list[int], list[int]]:
    """For each of (i, j, k) the nearest axis of RAS (0, 1, 2), each taken once, and the sign along it."""
    direction = np.diag([-1.0, -1.0, 1.0]) @ geometry.direction
    left = np.abs(direction)
    axes, signs = [0, 0, 0], [1, 1, 1]
    for _ in range(3):
        world, index = np.unravel_index(left.argmax(), left.shape)
        axes[index], signs[index] = int(world), 1 if direction[world, index] > 0 else -1
        left[world, :] = left[:, index] = -1
    return axes, signs


def _pixels_sha256(volume: Volume) -> str:
    axes, signs = _world_axes(volume.geometry)
    array = volume.array.transpose(2, 1, 0)[tuple(slice(None, None, sign) for sign in signs)]
    array = np.ascontiguousarray(array.transpose(np.argsort(axes)))
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(array.data)
    return digest.hexdigest()


def _percentiles(array: NDArray[Any]) -> tuple[float, float, float]:
    low, middle, high = (float(value) for value in np.percentile(array, [0.5, 50, 99.5]))
    return low, middle, high
