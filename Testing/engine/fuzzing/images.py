"""Image files of all kinds, right and broken, and what an independent reader makes of them: nibabel, and ITK."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from dinomix.images.reading import read_geometry, read_image, read_label
from fuzzing.mutations import Rng, broken_bytes, broken_field, broken_lines, pick
from fuzzing.promise import Act, WrongResult, command

Array = NDArray[Any]
NIFTI_TYPES = ("u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4", "i8", "u8")
NRRD_TYPES = {
    "u1": "unsigned char", "i1": "signed char", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint",
    "f4": "float", "f8": "double",
}  # fmt: skip
META_TYPES = {
    "u1": "MET_UCHAR", "i1": "MET_CHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "i4": "MET_INT", "u4": "MET_UINT",
    "f4": "MET_FLOAT", "f8": "MET_DOUBLE",
}  # fmt: skip
_STRUCT_TYPES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "i8": "q", "f4": "f", "f8": "d"}
SAME_PLACE, ASKEW_PLACE = 1e-3, 0.05
"""Parts of a voxel that two readers may differ by: rounding; and where axes are a little askew, since they are straightened."""


def nifti(rng: Rng, folder: Path, model: Path) -> Act:
    """A NIfTI-1 or -2 file, with up to three changes."""
    order, version = pick(rng, "<>"), pick(rng, (1, 1, 1, 2))
    array = _voxels(rng, pick(rng, NIFTI_TYPES)).T
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    image = kind(array, _affine(rng), header)
    image.header.set_xyzt_units("mm")
    for form in (image.set_qform, image.set_sform):
        form(image.affine, code=int(rng.integers(4)))
    is_scaled = bool(rng.random() < 0.3)
    if is_scaled:
        image.header.set_slope_inter(float(pick(rng, (1, 2, 0.5, -1))), float(pick(rng, (0, -1024, 0.25))))
    data = image.to_bytes()
    fields = {
        name: (offset, _STRUCT_TYPES[dtype.base.str[1:]], int(np.prod(dtype.shape)))
        for name, (dtype, offset) in image.header.structarr.dtype.fields.items()
        if dtype.base.kind in "iuf"
    }  # fmt: skip
    changes = int(rng.integers(4))
    zipped = bool(rng.random() < 0.4)
    for _ in range(changes):
        data = (
            broken_field(rng, data, fields, order)
            if rng.random() < 0.7
            else broken_bytes(rng, data, pick(rng, (352, None)))
        )
    if zipped:
        data = gzip.compress(data, 1)
        if changes and rng.random() < 0.3:
            data = broken_bytes(rng, data)
    path = folder / ("image.nii.gz" if zipped else "image.nii")
    path.write_bytes(data)
    return _act(rng, path, model, None if changes or is_scaled else array.T, _by_nibabel)


def nrrd(rng: Rng, folder: Path, model: Path) -> Act:
    """A NRRD file, a header with its voxels beside it, or a segmentation of Slicer's, with up to three changes."""
    array = _voxels(rng, pick(rng, sorted(NRRD_TYPES)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ _affine(rng)
    encoding, order = pick(rng, ("raw", "gzip", "ascii", "hex")), pick(rng, ("little", "big"))
    kind = pick(rng, ("nrrd", "nrrd", "nhdr", "seg.nrrd"))
    is_segmentation = kind == "seg.nrrd"
    if is_segmentation:
        array = (np.abs(np.nan_to_num(array)) % 3).astype("u1")
    lines = [
        f"type: {NRRD_TYPES[array.dtype.str[1:]]}", "dimension: 3", "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape[::-1]))}",
        "space directions: " + " ".join(f"({','.join(map(repr, map(float, affine[:3, axis])))})" for axis in range(3)),
        "kinds: domain domain domain", f"endian: {order}", f"encoding: {encoding}",
        f"space origin: ({','.join(map(repr, map(float, affine[:3, 3])))})",
    ]  # fmt: skip
    if is_segmentation:
        lines += ["Segmentation_SourceRepresentation:=Binary labelmap"]
        for number, name in enumerate(("liver", "spleen")):
            values = {
                "ID": f"Segment_{number + 1}",
                "Name": name,
                "LabelValue": number + 1,
                "Layer": 0,
                "Extent": "0 1 0 1 0 1",
            }
            lines += [f"Segment{number}_{key}:={value}" for key, value in values.items()]
    voxels = _encoded(array, encoding, order)
    if kind == "nhdr":
        lines.append("data file: image.raw")
    changes = int(rng.integers(4))
    for _ in range(changes):
        lines = broken_lines(rng, lines, pick(rng, (": ", ":=")))
    header = ("\n".join(["NRRD0005", *lines]) + "\n").encode("utf-8", "replace")
    if changes and rng.random() < 0.15:
        header = broken_bytes(rng, header)
    if changes and rng.random() < 0.2:
        voxels = broken_bytes(rng, voxels)
    path = folder / f"image.{kind}"
    if kind == "nhdr":
        (folder / "image.raw").write_bytes(voxels)
        path.write_bytes(header)
    else:
        path.write_bytes(header + b"\n" + voxels)
    return _act(rng, path, model, None if changes else array, _by_itk)


def metaimage(rng: Rng, folder: Path, model: Path) -> Act:
    """A MetaImage file, or a header with its voxels beside it, with up to three changes."""
    array = _voxels(rng, pick(rng, sorted(META_TYPES)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ _affine(rng)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    is_compressed, big = bool(rng.random() < 0.5), bool(rng.random() < 0.3)
    voxels = array.astype(array.dtype.newbyteorder(">" if big else "<")).tobytes()
    if is_compressed:
        voxels = zlib.compress(voxels, 1)
    kind = pick(rng, ("mha", "mha", "mhd"))
    lines = [
        "ObjectType = Image", "NDims = 3", "BinaryData = True", f"BinaryDataByteOrderMSB = {big}",
        f"CompressedData = {is_compressed}", *([f"CompressedDataSize = {len(voxels)}"] if is_compressed else []),
        f"TransformMatrix = {' '.join(map(repr, map(float, (affine[:3, :3] / spacing).T.ravel())))}",
        f"Offset = {' '.join(map(repr, map(float, affine[:3, 3])))}", "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {' '.join(map(repr, map(float, spacing)))}",
        f"DimSize = {' '.join(map(str, array.shape[::-1]))}", f"ElementType = {META_TYPES[array.dtype.str[1:]]}",
        f"ElementDataFile = {'LOCAL' if kind == 'mha' else 'image.raw'}",
    ]  # fmt: skip
    changes = int(rng.integers(4))
    for _ in range(changes):
        lines = broken_lines(rng, lines, " = ")
    header = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    if changes and rng.random() < 0.15:
        header = broken_bytes(rng, header)
    if changes and rng.random() < 0.2:
        voxels = broken_bytes(rng, voxels)
    path = folder / f"image.{kind}"
    if kind == "mhd":
        (folder / "image.raw").write_bytes(voxels)
    path.write_bytes(header + (voxels if kind == "mha" else b""))
    return _act(rng, path, model, None if changes else array, _by_itk)


def _voxels(rng: Rng, dtype: str) -> Array:
    """(k, j, i) of a few voxels, with the ends of small types."""
    shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    kind = np.dtype(dtype).kind
    low = 0 if kind == "u" else -100
    array = rng.integers(low, 120, shape).astype(dtype)
    return array + np.array(0.25, dtype) if kind == "f" else array


def _affine(rng: Rng) -> NDArray[np.float64]:
    """4x4, index -> RAS mm: turned, flipped, of unequal voxels."""
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if rng.random() < 0.5:
        matrix = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = matrix * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def _encoded(array: Array, encoding: str, order: str) -> bytes:
    raw = array.astype(array.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
    if encoding == "gzip":
        return gzip.compress(raw, 1)
    if encoding == "hex":
        return raw.hex().encode()
    return " ".join(map(str, array.ravel().tolist())).encode() if encoding == "ascii" else raw


def _act(rng: Rng, path: Path, model: Path, expected: Array | None, oracle: Any) -> Act:
    """Read it, as an image mostly; now and then through the command line, to a label file."""
    way = rng.random()
    if way < 0.05:
        return lambda out: _segment(path, model, out)
    if way < 0.25:
        return lambda out: _check_label(path, expected)
    return lambda out: _check_image(path, expected, oracle)


def _check_image(path: Path, expected: Array | None, oracle: Any) -> None:
    volume = read_image(path)
    if read_geometry(path).difference(volume.geometry):
        raise WrongResult("the header alone gives another grid than the whole file")
    if not (np.isfinite(volume.array).all() and np.isfinite(volume.geometry.affine_ras).all()):
        raise WrongResult("numbers that are none")
    array, affine = oracle(path)
    if expected is not None and not np.array_equal(array, expected):
        raise WrongResult("the independent reader itself reads something else than was written")
    if volume.array.shape != array.shape:
        raise WrongResult(f"shape {volume.array.shape}, and {array.shape} by an independent reader")
    with np.errstate(over="ignore"):
        same = np.allclose(volume.array, array.astype(np.float32), rtol=1e-5, atol=0)
    if not same:
        raise WrongResult("other voxels than by an independent reader")
    smallest = min(volume.geometry.spacing)
    corners = np.array([[i, j, k, 1] for k in (0, 1) for j in (0, 1) for i in (0, 1)]) * [
        *(np.array(array.shape[::-1]) - 1),
        1,
    ]
    off = np.abs(corners @ (volume.geometry.affine_ras - affine).T).max()
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    is_askew = np.abs(axes.T @ axes - np.eye(3)).max() > 1e-5
    if off > (ASKEW_PLACE if is_askew else SAME_PLACE) * smallest + 1e-6 * np.abs(affine).max():
        raise WrongResult(f"voxels lie {off:.3g} mm from where an independent reader puts them")


def _check_label(path: Path, expected: Array | None) -> None:
    label, _ = read_label(path)
    if expected is not None and not np.array_equal(label.array, expected):
        raise WrongResult("other labels than were written")


def _segment(path: Path, model: Path, out: Path) -> None:
    target = out / "labels.nii.gz"
    command("segment", "--model", model, path, "--out", target, "--device", "cpu")
    if [file.name for file in out.iterdir()] != [target.name]:
        raise WrongResult("something else was written than the labels")
    if read_label(target)[0].geometry.difference(read_image(path, resample_sheared=True).geometry):
        raise WrongResult("labels on another grid than the image")


def _by_nibabel(path: Path) -> tuple[Array, Array]:
    try:
        image: Any = nibabel.load(path, mmap=False)
        array = np.asanyarray(image.dataobj).T
    except Exception as error:
        raise WrongResult(f"read, though nibabel cannot ({type(error).__name__}: {error})") from error
    if not (image.header["sform_code"] or image.header["qform_code"]):
        # The standard's method 1; nibabel turns and centers such an image, as SPM did.
        return array, np.diag([*image.header["pixdim"][1:4], 1.0])
    return array, image.affine


def _by_itk(path: Path) -> tuple[Array, Array]:
    import SimpleITK as sitk

    usual = path.with_name(f"usual-{path.name}")
    usual.write_bytes(_in_usual_order(path.read_bytes(), path.name.endswith(("nrrd", "nhdr"))))
    try:
        image = sitk.ReadImage(str(usual))
    except RuntimeError as error:
        raise WrongResult(f"read, though ITK cannot ({' '.join(str(error).split())[-300:]})") from error
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _in_usual_order(data: bytes, is_nrrd: bool) -> bytes:
    """A file whose first fields are those that ITK wants to know before the others; the standards say so of few."""
    if is_nrrd:
        header, end, voxels = data.partition(b"\n\n")
        magic, *lines = header.split(b"\n")
        first, colon = (b"type", b"dimension", b"space", b"sizes"), b":"
    else:
        header, end, voxels = data.partition(b"\nElementDataFile")
        magic, *lines = b"", *header.split(b"\n")
        first, colon = (b"objecttype", b"ndims"), b"="
    lines.sort(
        key=lambda line: next((n for n, name in enumerate(first) if line.split(colon)[0].strip().lower() == name), 9)
    )
    return b"\n".join([*([magic] if magic else []), *lines]) + end + voxels
