"""Cases as files: an image as ``.nrrd``, its label as ``.seg.nrrd`` on the image's own grid.

Nothing here touches the scene or Qt, so that it can run in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinomix.files import read_table, write_json
from dinomix.images.formats import SEGMENTATION
from dinomix.images.nrrd_writing import digest, nrrd_header, write_nrrd
from dinomix.images.segments import segment_keys

from .scene_cohort import CaseArrays, Layer

INDEX = "scene.json"
"""In the folder of the files: name of a file -> what it holds, its size and time, so that it is written only when it changes."""

CheckStop = Callable[[], None]


class Overlap(Exception):
    """Two segments, whose names are its arguments, share a voxel."""


class OtherImage(Exception):
    """A file that must stay holds another image."""


class NothingInside(Exception):
    """Something is drawn, and no voxel of it lies inside the image."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case; ``label`` is None without one, ``more`` are its further images."""

    name: str
    image: Path
    label: Path | None
    more: tuple[Path, ...] = ()


def filesOf(name: str, folder: Path, hasLabel: bool, images: int = 1) -> CaseFiles:
    """Where the files of a case of so many images lie, whether they are there or not."""
    more = tuple(folder / f"{name}.image{number}.nrrd" for number in range(2, images + 1))
    return CaseFiles(name, folder / f"{name}.nrrd", folder / f"{name}{SEGMENTATION}" if hasLabel else None, more)


def writeCase(case: CaseArrays, files: CaseFiles, checkStop: CheckStop) -> None:
    """Write the files of a case, unless they hold the same already.

    Raises:
        Overlap, NothingInside: as ``labelsOf``.
        OSError: a file cannot be written; those that were there are as they were.
    """
    if files.label is not None:
        labels = labelsOf(case, checkStop)
        keys = segment_keys(labels, case.segments, checkStop)
        _writeIfChanged(files.label, labels, nrrd_header(labels, case.affineRas, keys), checkStop)
    _writeIfChanged(files.image, case.image, nrrd_header(case.image, case.affineRas, {}), checkStop)
    for path, (image, affine) in zip(files.more, case.more, strict=True):
        _writeIfChanged(path, image, nrrd_header(image, affine, {}), checkStop)


def isAnotherImage(case: CaseArrays, files: CaseFiles, checkStop: CheckStop) -> bool:
    """Whether the image's file was written of another image, or of the same at another place."""
    entry = _index(files.image.parent).get(files.image.name)
    head = nrrd_header(case.image, case.affineRas, {})
    return isinstance(entry, dict) and entry.get("content") != digest(case.image, head, checkStop)


def areAsWritten(files: CaseFiles) -> bool:
    """Whether the files are there as ``writeCase`` has left them."""
    index = _index(files.image.parent)
    return all(_isAsWritten(path, index) for path in (files.image, files.label, *files.more) if path is not None)


def labelsOf(case: CaseArrays, checkStop: CheckStop) -> Any:
    """One label map (k, j, i) of the image's shape with the segments' ids, by nearest neighbor where a layer has another grid.

    Segments in which nothing is drawn are the label of a healthy patient.

    Raises:
        Overlap: two segments share a voxel.
        NothingInside: something is drawn, and no voxel of it lies inside the image.
    """
    labels = np.zeros(case.image.shape, np.uint8 if len(case.segments) < 256 else np.uint16)
    for layer in case.layers:
        _addLayer(labels, layer, case, checkStop)
    if not labels.any() and any(_table(layer)[layer.array].any() for layer in case.layers):
        raise NothingInside
    return labels


def _addLayer(labels: Any, layer: Layer, case: CaseArrays, checkStop: CheckStop) -> None:
    """Put a layer into ``labels``, slice by slice, where the two overlap."""
    table = _table(layer)
    first, last = _reach(layer, labels.shape)
    if (last < first).any():
        return
    i, j = np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1)
    matrix = layer.fromVolume
    # Index in the layer of each voxel (j, i) of slice 0; one slice further, a constant is added.
    inPlane = [matrix[axis, 0] * i[None, :] + matrix[axis, 1] * j[:, None] + matrix[axis, 3] for axis in range(3)]
    shape = layer.array.shape[::-1]
    for k in range(first[2], last[2] + 1):
        checkStop()
        index = [np.floor(inPlane[axis] + matrix[axis, 2] * k + 0.5).astype(np.intp) for axis in range(3)]
        inside = np.logical_and.reduce([(index[axis] >= 0) & (index[axis] < shape[axis]) for axis in range(3)])
        values = np.zeros(inside.shape, labels.dtype)
        values[inside] = table[layer.array[tuple(index[axis][inside] for axis in (2, 1, 0))]]
        here = labels[k, first[1] : last[1] + 1, first[0] : last[0] + 1]
        shared = (here != 0) & (values != 0)
        if shared.any():
            names = {segment.value: segment.name for segment in case.segments}
            raise Overlap(names[int(here[shared][0])], names[int(values[shared][0])])
        here[...] = np.where(values != 0, values, here)


def _table(layer: Layer) -> Any:
    """Value -> id, to be indexed by the layer's values; 0 for values that no segment has."""
    least, most = int(layer.array.min()), int(layer.array.max())
    # Negative values index from the end, where the table is longer than the largest value.
    table = np.zeros(most + 1 + max(0, -least), np.uint16)
    for value, id in layer.ids.items():
        if least <= value <= most:
            table[value] = id
    return table


def _reach(layer: Layer, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """First and last voxel (i, j, k) of the volume that the layer may touch."""
    size = layer.array.shape[::-1]
    corners = np.array([[i, j, k, 1] for i in (-0.5, size[0] - 0.5) for j in (-0.5, size[1] - 0.5)
                        for k in (-0.5, size[2] - 0.5)])  # fmt: skip
    inVolume = (np.linalg.inv(layer.fromVolume) @ corners.T)[:3]
    first = np.maximum(np.floor(inVolume.min(axis=1)), 0).astype(int)
    last = np.minimum(np.ceil(inVolume.max(axis=1)), np.array(shape[::-1]) - 1).astype(int)
    return first, last


def _writeIfChanged(path: Path, array: Any, head: bytes, checkStop: CheckStop) -> None:
    content = digest(array, head, checkStop)
    index = _index(path.parent)
    if not _isAsWritten(path, index) or index[path.name].get("content") != content:
        write_nrrd(path, array, head, checkStop)
        state = path.stat()
        entry = {"content": content, "bytes": state.st_size, "time": state.st_mtime_ns}
        write_json(path.with_name(INDEX), {**index, path.name: entry})


def _index(folder: Path) -> dict[str, Any]:
    """What the files of a folder hold; empty where that is not known."""
    try:
        return read_table(folder / INDEX)
    except (OSError, ValueError):
        return {}


def _isAsWritten(path: Path, index: dict[str, Any]) -> bool:
    """Whether a file has the size and the time that the index says."""
    entry = index.get(path.name)
    if not isinstance(entry, dict) or not path.is_file():
        return False
    state = path.stat()
    return (entry.get("bytes"), entry.get("time")) == (state.st_size, state.st_mtime_ns)
