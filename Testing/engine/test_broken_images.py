"""Image files that are cut off, contradict themselves or were made to do harm: one line each, and nothing else happens.

The same kinds of faults were found by a campaign of damaged files; those that it kept are in the folder ``broken`` of the
test data.
"""

import gzip
import os
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cohort_folders import labeled_folder
from dinomix.cli import main
from dinomix.images.reading import read_geometry, read_image, read_label
from image_files import ARRAY, meta, nifti, nrrd, refused
from random_models import labels_with_ids, random_model, small_plan

RAW = ARRAY.astype("<i2").tobytes()
NAN, INFINITE = float("nan"), float("inf")

# What is put into a NIfTI header (byte, kind, number), and words of the line that it gives.
NIFTI = {
    "voxels within the header": ([(108, "f", 0)], "begin at byte 0"),
    "voxels within what follows the header": ([(108, "f", 348)], "begin at byte 348"),
    "voxels before the file": ([(108, "f", -1)], "begin at byte -1"),
    "voxels at no place": ([(108, "f", NAN)], "begin at byte nan"),
    "voxels endlessly far": ([(108, "f", INFINITE)], "begin at byte inf"),
    "voxels between two bytes": ([(108, "f", 352.5)], "begin at byte 352.5"),
    "voxels a little late": ([(108, "f", 354)], "is cut off: 118 of 120 bytes"),
    "no dimensions": ([(40, "h", 0)], "dimensions"),
    "eight dimensions": ([(40, "h", 8)], "dimensions"),
    "a side of 0": ([(42, "h", 0)], "dimensions"),
    "a negative side": ([(44, "h", -4)], "dimensions"),
    "sides of 32767": ([(42, "h", 32767), (44, "h", 32767), (46, "h", 32767)], "is cut off: 120 of 70362301923326 bytes"),
    "seven sides of 32767": ([(40 + 2 * n, "h", 32767 if n else 7) for n in range(8)], "is cut off"),
    "a side too small": ([(42, "h", 4)], "holds more than the 96 bytes"),
    "another number type": ([(70, "h", 16), (72, "h", 32)], "is cut off: 120 of 240"),
    "an unknown number type": ([(70, "h", 3)], "number type is 3"),
    "bits of another type": ([(72, "h", 32)], "are said to have 32"),
    "colors": ([(70, "h", 128)], "color"),
    "an infinite slope": ([(112, "f", INFINITE)], "scaled by inf"),
    "an intercept that is no number": ([(112, "f", 2), (116, "f", NAN)], "moved by nan"),
    "a slope beyond all numbers": ([(112, "f", 3e38), (116, "f", 3e38)], "NaN or infinite"),
    "micrometers": ([(123, "B", 3)], "in micrometers, not in millimeters"),
    "meters": ([(123, "B", 1)], "in meters, not in millimeters"),
    "an unknown unit": ([(123, "B", 5)], "unit of length"),
    "a quaternion of 2": ([(252, "h", 1), (254, "h", 0), (256, "f", 2)], "no rotation"),
    "a quaternion of NaN": ([(252, "h", 1), (254, "h", 0), (260, "f", NAN)], "no rotation"),
    "a code of no coordinates": ([(254, "h", 77)], "sform_code 77"),
    "a negative code": ([(252, "h", -1)], "qform_code -1"),
    "voxels of a kilometer": ([(280, "f", 1e6)], "1e+06 x 3 x 3 mm, which no scanner makes"),
    "voxels of an atom": ([(300, "f", 1e-7)], "3 x 1e-07 x 3 mm, which no scanner makes"),
    "voxels of nothing": ([(280, "f", 0)], "voxel sizes and directions"),
    "a matrix of NaN": ([(284, "f", NAN)], "voxel sizes and directions"),
    "a place beyond the world": ([(292, "f", 1e30)], "voxel sizes and directions"),
    "negative voxel sizes": ([(254, "h", 0), (252, "h", 0), (80, "f", -3)], "voxels of -3 x 3 x 3 mm"),
    "voxel sizes of 1e-30": ([(254, "h", 0), (252, "h", 0), (80, "f", 1e-30)], "no scanner makes"),
    "another mark": ([(345, "B", 0)], "none"),
    "sform and qform both empty": ([(252, "h", 1), *((280 + 4 * n, "f", 0) for n in range(12))], "voxel sizes and directions"),
}  # fmt: skip
NRRD = {
    "a size of 2000": ({"sizes": "2000 2000 2000"}, "is cut off: 120 of 16000000000 bytes"),
    "a size of 0": ({"sizes": "5 4 0"}, "sizes is 5 4 0"),
    "a negative size": ({"sizes": "5 -4 3"}, "sizes is 5 -4 3"),
    "a size beyond all numbers": ({"sizes": "5 4 " + "9" * 30}, "sizes is 5 4 999"),
    "a size that is none": ({"sizes": "5 4 nan"}, "sizes is 5 4 nan"),
    "two sizes": ({"sizes": "5 4"}, "but dimension is 3"),
    "a side too small": ({"sizes": "5 4 2"}, "holds more than the 80 bytes"),
    "a dimension of -3": ({"dimension": "-3"}, "dimension is -3"),
    "a dimension of 99999999999": ({"dimension": "99999999999"}, "dimension is 99999999999"),
    "two dimensions": ({"dimension": "2", "sizes": "5 12"}, "2D"),
    "an unknown type": ({"type": "block"}, "type is block"),
    "a field that is half a key": ({"key": ":=7"}, 'a line is "key: :=7"'),
    "another type": ({"type": "float"}, "is cut off: 120 of 240"),
    "no byte order": ({"endian": "middle"}, "endian is middle"),
    "an unknown encoding": ({"encoding": "zip"}, "encoded as zip"),
    "text that is none": ({"encoding": "ascii"}, "a word that is no number"),
    "gzip that is none": ({"encoding": "gzip"}, "is damaged or cut off"),
    "hexadecimals that are none": ({"encoding": "hex"}, "is damaged or cut off"),
    "a skip beyond the file": ({"byte_skip": "1000000000"}, "is cut off: 0 of 120"),
    "a negative skip": ({"byte_skip": "-5"}, "byte skip is -5"),
    "lines beyond the file": ({"line_skip": "1000000000"}, "line skip is 1000000000"),
    "an unknown space": ({"space": "space"}, "space is space"),
    "a space of two dimensions": ({"space_dimension": "2"}, "3 axes in a space of 2"),
    "directions without a space": ({"space_directions": "(1,0,0) (0,1,0) (0,0,1)"}, "the space that they are in"),
    "no direction": ({"space": "LPS", "space_directions": "none (0,1,0) (0,0,1)"}, "space directions is none"),
    "a direction of NaN": ({"space": "LPS", "space_directions": "(1,0,0) (0,nan,0) (0,0,1)"}, "space directions is 0 nan 0"),
    "an infinite direction": ({"space": "LPS", "space_directions": "(1,0,0) (0,inf,0) (0,0,1)"}, "space directions is 0 inf 0"),
    "two directions": ({"space": "LPS", "space_directions": "(1,0,0) (0,1,0)"}, "space directions is (1,0,0) (0,1,0)"),
    "a direction of two numbers": ({"space": "LPS", "space_directions": "(1,0,0) (0,1) (0,0,1)"}, "space directions is"),
    "directions in a plane": ({"space": "LPS", "space_directions": "(1,0,0) (0,1,0) (1,1,0)"}, "voxel sizes and directions"),
    "voxels of a kilometer": ({"space": "LPS", "space_directions": "(1,0,0) (0,1e6,0) (0,0,1)"}, "no scanner makes"),
    "an origin that is none": ({"space": "LPS", "space_directions": "(1,0,0) (0,1,0) (0,0,1)", "space_origin": "(0,0"},
                               "space origin is (0,0"),
    "spacings of 0": ({"spacings": "1 0 1"}, "spacings is 1 0 1"),
    "half of the spacings": ({"spacings": "1 nan 1"}, "spacings is 1 nan 1"),
    "micrometers": ({"space": "LPS", "space_units": '"um" "um" "um"'}, "in um, not in millimeters"),
    "two kinds of values": ({"kinds": "vector list domain"}, "kinds is vector list domain"),
    "an unknown kind": ({"kinds": "domain domain doman"}, "kinds is"),
    "complex numbers": ({"dimension": "4", "sizes": "2 5 4 3", "kinds": "complex domain domain domain"}, "complex"),
}  # fmt: skip
META = {
    "dimensions of -3": ({"NDims": "-3"}, "NDims is -3"),
    "99999999999 dimensions": ({"NDims": "99999999999"}, "NDims is 99999999999"),
    "dimensions that are none": ({"NDims": "three"}, "NDims is three"),
    "two dimensions": ({"NDims": "2", "DimSize": "5 12"}, "2D"),
    "a size of 0": ({"DimSize": "5 0 3"}, "DimSize is 5 0 3"),
    "sizes of 0": ({"DimSize": "0"}, "DimSize has 1 numbers where 3 are needed"),
    "a size of 32767": ({"DimSize": "32767 32767 32767"}, "is cut off: 120 of 70362301923326 bytes"),
    "a side too small": ({"DimSize": "5 4 2"}, "holds more than the 80 bytes"),
    "an unknown type": ({"ElementType": "MET_OTHER"}, "ElementType is MET_OTHER"),
    "no channels": ({"ElementNumberOfChannels": "0"}, "ElementNumberOfChannels is 0"),
    "2147483648 channels": ({"ElementNumberOfChannels": "2147483648"}, "is cut off"),
    "voxels within the header": ({"HeaderSize": "10"}, "begin within it"),
    "voxels beyond the file": ({"HeaderSize": "1000000"}, "is cut off: 0 of 120"),
    "voxels before the file": ({"HeaderSize": "-2"}, "HeaderSize is -2"),
    "a spacing of 0": ({"ElementSpacing": "1 0 1"}, "ElementSpacing is 1 0 1"),
    "a negative spacing": ({"ElementSpacing": "1 -1 1"}, "ElementSpacing is 1 -1 1"),
    "a spacing of NaN": ({"ElementSpacing": "1 nan 1"}, "ElementSpacing is 1 nan 1"),
    "voxels of a kilometer": ({"ElementSpacing": "1 1e6 1"}, "no scanner makes"),
    "a center that is none": ({"CenterOfRotation": ".. 0 0"}, "CenterOfRotation is"),
    "a matrix of NaN": ({"TransformMatrix": "1 0 0 0 nan 0 0 0 1"}, "TransformMatrix is"),
    "a matrix of one plane": ({"TransformMatrix": "1 0 0 0 1 0 1 1 0"}, "voxel sizes and directions"),
    "half a matrix": ({"TransformMatrix": "1 0 0 0 1"}, "TransformMatrix has 5 numbers where 9 are needed"),
    "micrometers": ({"DistanceUnits": "um"}, "in um, not in millimeters"),
    "a scale": ({"ElementToIntensityFunctionSlope": "2"}, "scales its voxels"),
    "a surface": ({"ObjectType": "Surface"}, "no image but a Surface"),
    "a flag that is none": ({"BinaryData": "perhaps"}, "BinaryData is perhaps"),
    "text that is none": ({"BinaryData": "False"}, "a word that is no number"),
    "a stream that is none": ({"CompressedData": "True", "CompressedDataSize": "120"}, "is damaged or cut off"),
    "a stream of no length": ({"CompressedData": "True"}, "CompressedDataSize is missing"),
}  # fmt: skip


def refused_by_all(path: Path, *words: str) -> None:
    for read in (read_image, lambda p: read_label(p)):
        refused(path, *words, read=read)


@pytest.mark.parametrize("fault", NIFTI)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, fault: str, ending: str) -> None:
    changes, words = NIFTI[fault]
    path = nifti(tmp_path / "image.nii", *changes)
    if ending == ".nii.gz":
        path = tmp_path / "image.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "image.nii").read_bytes()))
        words = "cut off" if "is cut off" in words else words
    refused_by_all(path, words)


def test_nifti_2_beyond_all_numbers(tmp_path: Path) -> None:
    for side in (2**62, 2**63 - 1, -1):
        refused_by_all(nifti(tmp_path / "side.nii", (24, "q", side), (32, "q", side), version=2))
    refused_by_all(nifti(tmp_path / "place.nii", (168, "q", 2**62), version=2), "begin at byte")


def test_nifti_2_that_was_sent_as_text(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", version=2)
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\n\x1a\n\0" + data[12:])
    refused(path, "sent as text")


def test_an_extension_of_nifti_that_runs_into_the_voxels(tmp_path: Path) -> None:
    extension = (32).to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(24)
    whole = nifti(tmp_path / "whole.nii", (348, "B", 1), (108, "f", 384), stored=extension + RAW)
    np.testing.assert_array_equal(read_image(whole).array, ARRAY)
    for size in (48, -16, 0, 2**31 - 1):
        path = nifti(tmp_path / "long.nii", (348, "B", 1), (108, "f", 384), (352, "i", size), stored=extension + RAW)
        refused_by_all(path, "extension")


@pytest.mark.parametrize("fault", NRRD)
def test_nrrd(tmp_path: Path, fault: str) -> None:
    fields, words = NRRD[fault]
    refused_by_all(nrrd(tmp_path / "image.nrrd", RAW, **fields), words)


def test_headers_of_nrrd_that_are_none(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "image.nrrd", RAW)
    whole = path.read_bytes()
    for data, words in (
        (whole.replace(b"NRRD0004", b"NRRD9999"), "none"),
        (whole.replace(b"sizes: 5 4 3\n", b""), "sizes is missing"),
        (whole.replace(b"sizes: 5 4 3\n", b"sizes: 5 4 3\nsizes: 5 4 3\n"), "sizes stands there twice"),
        (whole.replace(b"endian", b"endain"), 'a line is "endain: little"'),
        (whole.replace(b"endian", b"en\0ian"), "it is no text"),
        (whole[: whole.index(b"\n\n") + 1], "names no data file"),
        (whole.replace(b"endian", b"".join(b"k%d:=v\n" % n for n in range(50_000)) + b"endian"), "longer than 20,000 lines"),
        (whole[:-RAW.__len__()] + RAW + b"\n", "holds more than"),
        (whole[:-1], "is cut off: 119 of 120"),
    ):  # fmt: skip
        path.write_bytes(data)
        refused_by_all(path, words)


@pytest.mark.parametrize("fault", META)
def test_metaimage(tmp_path: Path, fault: str) -> None:
    fields, words = META[fault]
    refused_by_all(meta(tmp_path / "image.mha", RAW, **fields), words)


def test_compressed_voxels_are_counted(tmp_path: Path) -> None:
    """ITK goes on with whatever memory held where a stream is missing, wrong or too short."""
    packed = zlib.compress(RAW)

    def image(stream: bytes, size: int) -> Path:
        return meta(tmp_path / "image.mha", stream, CompressedData="True", CompressedDataSize=str(size))

    np.testing.assert_array_equal(read_image(image(packed, len(packed))).array, ARRAY)
    refused_by_all(image(packed, len(packed) - 1), "CompressedDataSize is")
    refused_by_all(image(packed, len(packed) + 1), "is cut off")
    short, long = zlib.compress(RAW[:-2]), zlib.compress(RAW + b"xx")
    refused_by_all(image(short, len(short)), "is cut off: 118 of 120")
    refused_by_all(image(long, len(long)), "holds more than the 120 bytes")
    refused_by_all(image(packed[:-1], len(packed) - 1), "ends too early")
    for stream, words in ((gzip.compress(RAW[:-2]), "118 of 120"), (gzip.compress(RAW + b"xx"), "holds more than")):
        refused_by_all(nrrd(tmp_path / "image.nrrd", stream, encoding="gzip"), words)
        path = nifti(tmp_path / "image.nii")
        (tmp_path / "image.nii.gz").write_bytes(gzip.compress(path.read_bytes()[:-120] + gzip.decompress(stream)))
        refused_by_all(tmp_path / "image.nii.gz", words)


@pytest.mark.parametrize(
    "place",
    ["%n%n%s 1 10 1", "%d 1 10 0", "%999999999d.raw 1 10 1", "%d.raw 1 999999999 1", "%s.raw 1 3 1", "%d%d 1 3 1",
     "%d.raw 3 1 1", "%d.raw", "%", "LIST 99", "LIST 0", "LIST", "missing.raw", "", "folder", "a\0b", "x" * 300],
)  # fmt: skip
def test_odd_names_of_data_files(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    refused_by_all(meta(tmp_path / "image.mhd", b"", place))
    refused_by_all(nrrd(tmp_path / "image.nhdr", b"", data_file=place))


@pytest.mark.parametrize("place", [
    "/etc/hostname", "../secret.raw", "within/../../secret.raw", r"..\secret.raw", "C:secret.raw", r"C:\secret.raw",
    r"\\server\secret.raw", "../secret%d.raw 1 3 1", "LIST\n../secret.raw\na.raw\nb.raw",
])  # fmt: skip
def test_a_header_chooses_no_file_outside_of_its_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret.raw").write_bytes(RAW)
    (tmp_path / "sent" / "within").mkdir(parents=True)
    for read in (read_image, read_label, read_geometry):
        refused(meta(tmp_path / "sent" / "image.mhd", b"", place), "outside of its folder", read=read)
        refused(nrrd(tmp_path / "sent" / "image.nhdr", b"", data_file=place), "outside of its folder", read=read)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes and devices among its files")
def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm", ""):
        os.mkfifo(tmp_path / f"pipe{ending}")
        (tmp_path / f"zeros{ending}").symlink_to("/dev/zero")
        for name in ("pipe", "zeros"):
            refused_by_all(tmp_path / f"{name}{ending}", "no file but a pipe or a device")
    refused_by_all(meta(tmp_path / "image.mhd", b"", "pipe.nrrd"), "not there")
    refused_by_all(nrrd(tmp_path / "image.nhdr", b"", data_file="zeros.nrrd"), "not there")
    refused(tmp_path, "no DICOM images")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process had")
def test_a_header_alone_takes_no_memory(tmp_path: Path) -> None:
    """As much as a compressed file of this size could hold is claimed; what is there is far less."""
    noise = np.random.default_rng(0).bytes(2**21)
    for name in ("claim.nii.gz", "claim.nrrd"):
        nifti(tmp_path / "claim.nii", (42, "h", 1000), (44, "h", 1000), (46, "h", 1000), stored=noise)
        nrrd(tmp_path / "claim.nrrd", gzip.compress(noise), sizes="1000 1000 1000", encoding="gzip")
        (tmp_path / "claim.nii.gz").write_bytes(gzip.compress((tmp_path / "claim.nii").read_bytes()))
        code = (
            "import sys; from dinomix.errors import DinomixError; from dinomix.images.reading import read_image\n"
            "try: read_image(sys.argv[1])\n"
            "except DinomixError as error: assert 'is cut off: 2097152 of 2000000000' in str(error), error\n"
            "else: raise AssertionError\n"
            "most = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]\n"
            "assert int(most) < 500_000, most"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)


def test_more_than_the_computer_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nifti(tmp_path / "image.nii")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=300))
    refused(path, "Reading", "GB of memory; this computer has")


def test_a_file_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nifti(tmp_path / "image.nii")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", denied)
    refused(path, "cannot be opened (Permission denied)")


def broken_files() -> list[Path]:
    folder = os.environ.get("DINOMIX_TEST_DATA")
    return sorted((Path(folder) / "broken").iterdir()) if folder else [Path("DINOMIX_TEST_DATA")]


@pytest.mark.parametrize("broken", broken_files(), ids=lambda path: path.name)
def test_files_of_the_campaign(broken: Path, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """``dinomix segment`` and ``dinomix check`` give one line that names the file, exit with 2, and write nothing."""
    model = random_model(tmp_path / "model", small_plan(), labels_with_ids(1, 2))
    cases = labeled_folder(tmp_path / "cases", ["a", "b"])
    (cases / "images" / broken.name).write_bytes(broken.read_bytes())
    (cases / "labels" / broken.name).write_bytes(broken.read_bytes())
    commands = (
        ["segment", "--device", "cpu", "--model", model.path, broken, "--out", tmp_path / "out" / "labels.nii.gz"],
        ["check", "--labeled", cases, "--out", tmp_path / "out" / "cohort.json"],
    )
    for command in commands:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in command])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error:")]
        assert left.value.code == 2
        assert len(lines) == 1, lines
        assert broken.name in lines[0]
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written <= {".cohort.json.facts"}  # what was read of the good cases


def test_a_broken_header_is_told_before_pytorch_is_loaded(tmp_path: Path) -> None:
    path = nifti(tmp_path / "image.nii", (42, "h", 32767))
    code = (
        "import sys; from dinomix.cli import main\n"
        "try: main(['segment', '--model', 'none', sys.argv[1], '--out', 'out.nii.gz'])\n"
        "except SystemExit as left: assert left.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert str(path) in done.stderr
    assert "is cut off" in done.stderr
