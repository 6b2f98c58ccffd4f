"""NRRD and MetaImage as others write them: our readers against ITK's, which is the oracle here."""

import bz2
import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.files import sha256
from dinomix.images.file_sets import files_of, image_sha256
from dinomix.images.reading import read_geometry, read_image, read_label
from image_files import ARRAY, meta, nifti, nrrd, refused

NUMBERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
NRRD_TYPES = {
    "i1": "signed char", "u1": "uchar", "i2": "short", "u2": "uint16", "i4": "int", "u4": "unsigned int",
    "i8": "int64", "u8": "unsigned long long", "f4": "float", "f8": "double",
}  # fmt: skip
META_TYPES = {
    "i1": "MET_CHAR", "u1": "MET_UCHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "i4": "MET_INT", "u4": "MET_UINT",
    "i8": "MET_LONG_LONG", "u8": "MET_ULONG_LONG", "f4": "MET_FLOAT", "f8": "MET_DOUBLE",
}  # fmt: skip
NRRD_GRID = "space directions: (0.5,0,0) (0,0,-2) (0,3,0)\nspace origin: (-7,8.5,9)"


def as_itk_reads_it(path: Path) -> None:
    volume, image = read_image(path), sitk.ReadImage(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).astype(np.float32))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(volume.geometry.direction, direction, atol=1e-9)
    np.testing.assert_allclose(volume.geometry.spacing, image.GetSpacing())
    np.testing.assert_allclose(volume.geometry.origin, image.GetOrigin())
    assert read_geometry(path) == volume.geometry


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("number", NUMBERS)
def test_number_types_encodings_and_byte_orders(tmp_path: Path, number: str, order: str) -> None:
    array = (ARRAY * (4 if number[1] != "1" else 1) - (30 if number[0] != "u" else 0)).astype(order + number)
    raw, big = array.tobytes(), order == ">"
    text = " ".join(str(value) for value in array.ravel()).encode()
    stored = {"raw": raw, "gzip": gzip.compress(raw), "ascii": text, "hex": raw.hex().encode()}
    for encoding, data in stored.items():
        path = tmp_path / f"{encoding}.nrrd"
        nrrd(path, data, kind=NRRD_TYPES[number], encoding=encoding, endian="big" if big else "little")
        as_itk_reads_it(path)
    packed, kind = zlib.compress(raw), META_TYPES[number]
    as_itk_reads_it(meta(tmp_path / "raw.mha", raw, ElementType=kind, BinaryDataByteOrderMSB=str(big)))
    as_itk_reads_it(meta(tmp_path / "packed.mha", packed, ElementType=kind, ElementByteOrderMSB=str(big),
                         CompressedData="True", CompressedDataSize=str(len(packed))))  # fmt: skip
    text_file = meta(tmp_path / "text.mha", text, ElementType=kind, BinaryData="False")
    np.testing.assert_array_equal(read_image(text_file).array, array.astype(np.float32))


@pytest.mark.parametrize("space", ["LPS", "RAS", "left-anterior-superior", "scanner-xyz", "3D-right-handed"])
def test_the_spaces_of_nrrd(tmp_path: Path, space: str) -> None:
    stored = ARRAY.astype("<i2").tobytes()
    as_itk_reads_it(nrrd(tmp_path / "image.nrrd", stored, space=space, grid=NRRD_GRID))
    as_itk_reads_it(nrrd(tmp_path / "number.nrrd", stored, space_dimension="3", grid=NRRD_GRID))
    path = nrrd(tmp_path / "sizes.nrrd", stored, spacings="0.5 2 3", kinds="space domain ???", units='"mm" "mm" ""')
    as_itk_reads_it(path)
    assert any("1 mm is taken" in notice for notice in read_image(nrrd(tmp_path / "bare.nrrd", stored)).notices)


def test_the_grid_of_metaimage(tmp_path: Path) -> None:
    stored = ARRAY.astype("<i2").tobytes()
    grid = {"ElementSpacing": "0.5 2 3", "Offset": "-7 8.5 9", "TransformMatrix": "0 1 0 0 0 -1 1 0 0"}
    as_itk_reads_it(meta(tmp_path / "usual.mha", stored, **grid, CenterOfRotation="0 0 0", AnatomicalOrientation="RAI"))
    older = {"ElementSize": "0.5 2 3", "Position": "-7 8.5 9", "Rotation": "0 1 0 0 0 -1 1 0 0"}
    as_itk_reads_it(meta(tmp_path / "older.mha", stored, **older))
    assert any("1 mm is taken" in notice for notice in read_image(meta(tmp_path / "bare.mha", stored)).notices)


def test_voxels_in_files_beside_the_header(tmp_path: Path) -> None:
    array = ARRAY.astype("<i2")
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "all.raw").write_bytes(b"head" + array.tobytes())
    for number, plane in enumerate(array, start=1):
        (tmp_path / f"plane {2 * number:03}.raw").write_bytes(plane.tobytes())
        (tmp_path / f"plane_{2 * number:03}.raw").write_bytes(plane.tobytes())
    names = "\n".join(f"plane {2 * number:03}.raw" for number in (1, 2, 3))
    for path in (
        nrrd(tmp_path / "a.nhdr", b"", data_file="within/all.raw", byte_skip="4"),
        nrrd(tmp_path / "b.nhdr", b"", data_file="within/all.raw", byte_skip="-1"),
        nrrd(tmp_path / "c.nhdr", b"", data_file="plane_%03d.raw 2 6 2"),
        meta(tmp_path / "d.mhd", b"", "within/all.raw", HeaderSize="4"),
        meta(tmp_path / "e.mhd", b"", "within/all.raw", HeaderSize="-1"),
        meta(tmp_path / "f.mhd", b"", "plane_%03d.raw 2 6 2"),
        meta(tmp_path / "g.mhd", b"", f"LIST\n{names}"),
        meta(tmp_path / "h.mhd", b"", f"LIST 2\n{names}"),
    ):
        as_itk_reads_it(path)
    listed = tmp_path / "i.nhdr"
    listed.write_text(
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\ndata file: LIST\n{names}\n"
    )
    as_itk_reads_it(listed)
    packed = zlib.compress(array.tobytes())
    (tmp_path / "all.zraw").write_bytes(packed)
    for name, size in (("j.mhd", {}), ("k.mhd", {"CompressedDataSize": str(len(packed))})):
        as_itk_reads_it(meta(tmp_path / name, b"", "all.zraw", CompressedData="True", **size))


def test_all_files_of_an_image_are_known_and_hashed(tmp_path: Path) -> None:
    """Those of one file as that file alone, so that what was hashed before holds."""
    raw = ARRAY.astype("<i2").tobytes()
    alone = [nrrd(tmp_path / "a.nrrd", raw), meta(tmp_path / "b.mha", raw), nifti(tmp_path / "c.nii")]
    (tmp_path / "damaged.mhd").write_text("no header")
    lost = meta(tmp_path / "lost.mhd", b"", "lost.raw")
    for path in (*alone, tmp_path / "damaged.mhd", lost):
        assert files_of(path) == (path,) and image_sha256(path) == sha256(path)
    (tmp_path / "d.zraw").write_bytes(zlib.compress(raw))
    for number in (1, 2, 3):
        (tmp_path / f"plane{number}.raw").write_bytes(raw[: len(raw) // 3])
    listed = nrrd(tmp_path / "e.nhdr", b"", data_file="LIST\nplane2.raw\nplane1.raw\nplane3.raw")
    packed = meta(tmp_path / "d.mhd", b"", "d.zraw", CompressedData="True")
    for path, files in ((packed, ["d.mhd", "d.zraw"]), (listed, ["e.nhdr", "plane2.raw", "plane1.raw", "plane3.raw"])):
        assert read_image(path).array.shape == ARRAY.shape
        assert [file.name for file in files_of(path)] == files
        before = image_sha256(path)
        (tmp_path / files[-1]).write_bytes((tmp_path / files[-1]).read_bytes()[::-1])
        assert image_sha256(path) != before
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/f.raw").write_bytes(raw)
    meta(tmp_path / "folder/f.mhd", b"", "f.raw")
    assert image_sha256(tmp_path / "folder") == sha256(tmp_path / "folder")
    assert [file.name for file in files_of(tmp_path / "folder")] == ["f.mhd", "f.raw"]


def test_what_stands_before_the_voxels_is_skipped(tmp_path: Path) -> None:
    raw = ARRAY.astype("<i2").tobytes()
    as_itk_reads_it(nrrd(tmp_path / "lines.nrrd", b"one\ntwo\n" + raw, line_skip="2"))
    as_itk_reads_it(nrrd(tmp_path / "both.nrrd", b"one\n1234" + raw, line_skip="1", byte_skip="4"))
    as_itk_reads_it(nrrd(tmp_path / "packed.nrrd", gzip.compress(b"1234" + raw), byte_skip="4", encoding="gz"))
    as_itk_reads_it(nrrd(tmp_path / "lines of windows.nrrd", raw, content="äöü".encode().decode("latin-1")))
    refused(nrrd(tmp_path / "bz.nrrd", bz2.compress(raw), encoding="bzip2"), "bzip2", "gzip or raw")


@pytest.mark.parametrize("place", range(4))
def test_layers_of_a_segmentation_lie_along_any_axis(tmp_path: Path, place: int) -> None:
    layers = np.arange(120, dtype=np.uint8).reshape(3, 4, 5, 2)
    sizes, kinds, directions = ["5", "4", "3"], ["domain"] * 3, ["(1,0,0)", "(0,1,0)", "(0,0,1)"]
    for words, word in ((sizes, "2"), (kinds, "list"), (directions, "none")):
        words.insert(place, word)
    stored = np.moveaxis(layers, 3, 3 - place).tobytes()
    keys = "".join(f"Segment{n}_ID:=s{n}\nSegment{n}_LabelValue:={n + 1}\nSegment{n}_Layer:={n}\n" for n in (0, 1))
    path = nrrd(tmp_path / "case.seg.nrrd", stored, kind="uchar", dimension="4", sizes=" ".join(sizes), space="LPS",
                kinds=" ".join(kinds), grid=f"space directions: {' '.join(directions)}\n{keys}")  # fmt: skip
    expected = (layers[..., 0] == 1) + 2 * (layers[..., 1] == 2)
    np.testing.assert_array_equal(read_label(path)[0].array, expected)


def test_one_volume_of_several(tmp_path: Path) -> None:
    array = np.arange(120, dtype="<i2").reshape(2, 3, 4, 5)
    for path in (
        nrrd(tmp_path / "time.nrrd", array.tobytes(), dimension="4", sizes="5 4 3 2", kinds="space space space time"),
        meta(tmp_path / "time.mha", array.tobytes(), NDims="4", DimSize="5 4 3 2"),
    ):
        refused(path, "4D", "2 volumes")
        np.testing.assert_array_equal(read_image(path, frame=1).array, array[1])
    channels = np.ascontiguousarray(np.moveaxis(array, 0, 3))
    path = meta(tmp_path / "colors.mha", channels.tobytes(), ElementNumberOfChannels="2")
    refused(path, "2 numbers per voxel")
    np.testing.assert_array_equal(read_image(path, frame=1).array, array[1])
    first = nrrd(
        tmp_path / "first.nrrd", array.tobytes(), dimension="4", sizes="5 4 3 2", kinds="time space space space"
    )
    refused(first, "time as one of its first three axes")
