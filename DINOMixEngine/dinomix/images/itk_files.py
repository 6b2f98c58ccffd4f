"""NRRD and MetaImage files, read by ITK."""

import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.header import DAMAGED, Header, flat_image
from dinomix.images.quiet import itk_reading, readable
from dinomix.images.shear import TO_LPS


def read_itk_header(path: Path) -> Header:
    """Read the header of a ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    Raises:
        DinomixError: another format, a damaged header, 2D, complex numbers.
        OSError: the file cannot be opened.
    """
    with open(path, "rb"):
        pass  # What keeps a file from being opened is the system's to say, not ITK's.
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with itk_reading(path):
        reader.ReadImageInformation()
    size, dimension = reader.GetSize(), reader.GetDimension()
    if dimension < 3:
        raise flat_image(path, size)
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise DinomixError(f"{path} is an image of complex numbers.", "Export one with a single number per voxel.")
    affine = np.eye(4)
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine[:3, :3] = direction * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    return Header(
        size=(size[0], size[1], size[2]),
        frames=math.prod(size[3:]),
        values=reader.GetNumberOfComponents(),
        affine=TO_LPS @ affine,
        metadata={key: readable(reader.GetMetaData(key)) for key in reader.GetMetaDataKeys()},
    )


def read_itk_voxels(path: Path, header: Header) -> NDArray[np.generic]:
    """The voxels, axis order (frame, k, j, i, value); the first and the last axis are there where there are several.

    Raises DinomixError when the voxels are cut off or damaged.
    """
    if path.name.lower().endswith((".mha", ".mhd")):
        _check_whole_metaimage(path, header)
    with itk_reading(path):
        array: NDArray[np.generic] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    frames = (header.frames,) if header.frames > 1 else ()
    values = (header.values,) if header.values > 1 else ()
    return array.reshape((*frames, *header.size[::-1], *values))


def _check_whole_metaimage(path: Path, header: Header) -> None:
    """ITK goes on with whatever memory held when the compressed voxels of a MetaImage are damaged."""
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    end = start.find(b"\n", start.find(b"ElementDataFile")) + 1
    lines = [line.split("=", 1) for line in start[:end].decode("utf-8", "replace").splitlines() if "=" in line]
    fields = {key.strip(): value.strip() for key, value in lines}
    place = fields.get("ElementDataFile", "LOCAL")
    if place.startswith("LIST") or "%" in place:
        return  # One file a slice, which ITK misses when one is not there.
    voxels, end = (path, end) if place == "LOCAL" else (path.parent / place, 0)
    if not voxels.is_file():
        raise DinomixError(f"{path} refers to {voxels.name}, which is not there.", "Keep both files in one folder.")
    if fields.get("CompressedData", "").lower() == "true":
        _check_whole_zlib(voxels, end, path)
        return
    width = _METAIMAGE_BYTES.get(fields.get("ElementType", "").removeprefix("MET_").removeprefix("U"), 0)
    expected = math.prod(header.size) * header.frames * header.values * width
    there = voxels.stat().st_size - end
    if there < expected:
        raise DinomixError(f"{path} is cut off: {there} of {expected} bytes of voxels are there.", DAMAGED)


_METAIMAGE_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "FLOAT": 4, "DOUBLE": 8}


def _check_whole_zlib(voxels: Path, start: int, path: Path) -> None:
    unpacker = zlib.decompressobj()
    try:
        with open(voxels, "rb") as file:
            file.seek(start)
            while not unpacker.eof and (block := file.read(1 << 20)):
                unpacker.decompress(block)
    except zlib.error as error:
        raise DinomixError(f"{path} is damaged ({error}).", DAMAGED) from error
    if not unpacker.eof:
        raise DinomixError(f"{path} is cut off.", DAMAGED)
