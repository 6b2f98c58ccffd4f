"""Image files written byte by byte, so that any part of them can be wrong."""

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dinomix.errors import DinomixError
from dinomix.images.reading import read_image
from dinomix.images.volume import Volume

ARRAY = np.arange(60).reshape(3, 4, 5)
"""(k, j, i)."""


def refused(path: Path, *words: str, read=read_image) -> None:
    """Reading fails with one line that names the file, says each of ``words`` and what to do."""
    with pytest.raises(DinomixError) as caught:
        read(path)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    assert caught.value.remedy
    for word in words:
        assert word in line


def nrrd(path: Path, stored: bytes, *, kind: str = "short", **fields: str) -> Path:
    """A NRRD file of ``ARRAY``'s size; ``fields`` are further ones, or take the place of these."""
    known = {"type": kind, "dimension": "3", "sizes": "5 4 3", "endian": "little", "encoding": "raw"}
    lines = [f"{key.replace('_', ' ')}: {text}" for key, text in (known | fields).items() if key != "grid"]
    text = "\n".join(["NRRD0004", "# a comment", *lines, *fields.get("grid", "").split("\n")]).strip("\n")
    path.write_bytes(text.encode() + b"\n\n" + stored)
    return path


def meta(path: Path, stored: bytes, file: str = "LOCAL", **fields: str) -> Path:
    """A MetaImage file of ``ARRAY``'s size; ``fields`` are further ones, or take the place of these."""
    known = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "DimSize": "5 4 3", "ElementType": "MET_SHORT"}
    lines = [f"{key} = {text}" for key, text in (known | fields | {"ElementDataFile": file}).items()]
    path.write_bytes("\n".join(lines).encode() + b"\n" + stored)
    return path


def nifti(path: Path, *changes: tuple[int, str, float], stored: bytes | None = None, version: int = 1) -> Path:
    """A NIfTI file of ``ARRAY``, int16, voxels of 3 mm, with an sform.

    Args:
        changes: (byte, letter of the module struct, number) to put into the header.
        stored: other bytes behind the header.
    """
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(ARRAY.T.astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    data = bytearray(image.to_bytes())
    if stored is not None:
        data[352 if version == 1 else 544 :] = stored
    for place, letter, number in changes:
        struct.pack_into("<" + letter, data, place, number)
    path.write_bytes(data)
    return path


def write_image(path: Path, *volumes: Volume) -> Path:
    """A NIfTI file of a volume's float32 voxels, or of several on one grid, as the frames of a 4D file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [np.asarray(volume.array, np.float32).transpose(2, 1, 0) for volume in volumes]
    image = nibabel.Nifti1Image(arrays[0] if len(arrays) == 1 else np.stack(arrays, -1), volumes[0].geometry.affine_ras)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path
