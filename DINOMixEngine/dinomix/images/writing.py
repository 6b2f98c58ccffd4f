"""Volumes written to files, exactly on the grid they were computed on, and never half."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dinomix.files import written_aside
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet


def write_labels(array: NDArray[np.unsignedinteger], geometry: Geometry, labels: LabelSet, path: Path) -> None:
    _write(_image(array.astype(np.uint8 if max(labels.ids) < 256 else np.uint16), geometry), path)


def write_image(volume: Volume, path: Path) -> None:
    _write(_image(volume.array, volume.geometry), path)


def _image(array: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection([float(v) for v in geometry.direction.ravel()])
    return image


def _write(image: sitk.Image, path: Path) -> None:
    with written_aside(path) as aside:
        sitk.WriteImage(image, str(aside), useCompression=True)
