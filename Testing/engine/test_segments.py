"""The keys of Slicer's ``.seg.nrrd``: written and read alike, and refused in one sentence where they make no sense."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.errors import DinomixError
from dinomix.images.nrrd_writing import nrrd_header, write_nrrd
from dinomix.images.reading import read_label
from dinomix.images.segments import Segment, flattened, segment_keys, segments_of

FILE = Path("case.seg.nrrd")
GOOD = {"Segment0_ID": "a", "Segment0_Name": "liver", "Segment0_LabelValue": "1", "Segment0_Layer": "0"}


def header(keys: dict[str, str], layers: int = 1) -> Any:
    return SimpleNamespace(size=(6, 5, 4), values=layers, metadata=keys)


def test_segments_are_read_as_they_were_written() -> None:
    labels = np.zeros((40, 5, 6), np.uint16)
    labels[1:30, 2:4, 5] = 300
    segments = (
        Segment("Größe 肝", 300, color=(1.0, 0.5, 0.25), terminology="context~SCT^1^A~SCT^2^B~^^~^^"),
        Segment("never seen", 7, color=(0.0, 0.0, 0.0)),
    )
    keys = segment_keys(labels, segments)
    assert segments_of(header(keys), FILE) == segments
    assert keys["Segment0_Extent"] == "5 5 2 3 1 29"
    assert keys["Segment1_Extent"] == "0 -1 0 -1 0 -1"


def test_extents_are_those_of_all_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((9, 5, 6), np.uint8)
    labels[1, 1, 1] = labels[7, 4, 0] = 3
    monkeypatch.setattr("dinomix.images.segments.SLAB_VOXELS", 60)
    assert segment_keys(labels, [Segment("a", 3)])["Segment0_Extent"] == "0 1 1 4 1 7"


@pytest.mark.parametrize(
    ("key", "text", "layers"),
    [
        ("LabelValue", "", 1),
        ("LabelValue", "one", 1),
        ("LabelValue", "1.5", 1),
        ("LabelValue", "-3", 1),
        ("LabelValue", "0", 1),
        ("LabelValue", "65536", 1),
        ("LabelValue", "9" * 5000, 1),
        ("LabelValue", "²", 1),
        ("Layer", "x", 2),
        ("Layer", "-1", 2),
        ("Layer", "2", 2),
        ("Layer", "1", 1),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(key: str, text: str, layers: int) -> None:
    with pytest.raises(DinomixError, match=f"{FILE}.*Segment0_{key}") as refusal:
        segments_of(header({**GOOD, f"Segment0_{key}": text}, layers), FILE)
    assert len(refusal.value.problem) < 150


@pytest.mark.parametrize("name", [" ", "\n"])
def test_a_segment_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(DinomixError, match="without a name, number 1"):
        segments_of(header({"Segment0_ID": name}), FILE)


@pytest.mark.parametrize("color", ["", "red", "1 0", "0,5 0,5 0,5"])
def test_a_color_that_makes_no_sense_is_none(color: str) -> None:
    """Colors are for the eye; no case is refused for one."""
    (segment,) = segments_of(header({**GOOD, "Segment0_Color": color}), FILE)
    assert segment.color is None


def test_ten_thousand_segments_take_no_time(tmp_path: Path) -> None:
    """Comparing each with all others, or all voxels with each, would take minutes."""
    count = 10_000
    keys = {}
    for number in range(count):
        keys.update({f"Segment{number}_ID": f"s{number}", f"Segment{number}_LabelValue": str(number % 5000 + 1)})
    layers = np.zeros((40, 50, 60, 2), np.uint16)
    layers[..., 0].flat[:5000] = layers[..., 1].flat[-5000:] = np.arange(1, 5001)
    keys.update({f"Segment{number}_Layer": str(number // 5000) for number in range(count)})
    segments = segments_of(header(keys, 2), FILE)
    labels, names, _, _ = flattened(layers, segments, FILE)
    assert len(names) == count and np.array_equal(np.unique(labels), np.arange(count + 1))
    with pytest.raises(DinomixError, match="several segments named s0"):
        segments_of(header({**keys, "Segment1_Name": "s0"}, 2), FILE)


def test_two_segments_of_one_value_overlap_where_it_is_there() -> None:
    twice = (Segment("a", 2), Segment("b", 2))
    voxels = np.zeros((3, 4, 5), np.uint8)
    assert flattened(voxels, twice, FILE)[1] == {1: "a", 2: "b"}
    voxels[0, 0, :3] = 2
    with pytest.raises(DinomixError, match=r"overlap: a and b \(3 voxels\)"):
        flattened(voxels, twice, FILE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_other_programs_read_what_is_written(tmp_path: Path, dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(dtype)
    affine = np.array([[-1.2, 0.1, 0, 3], [0.1, 0.9, 0.2, -4.5], [0, -0.2, 2.5, 1e-3], [0, 0, 0, 1]])
    keys = {"plain": "a: b", "two lines": "one\ntwo", "back\\slash": "C:\\new\\table", "empty": "", "Größe": "肝"}
    write_nrrd(tmp_path / "case.nrrd", array, nrrd_header(array, affine, keys), lambda: None)
    image = sitk.ReadImage(tmp_path / "case.nrrd")
    assert {key: image.GetMetaData(key) for key in keys} == keys
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    assert sitk.GetArrayFromImage(image).dtype == dtype
    corner = np.diag([-1, -1, 1, 1]) @ affine @ [5, 4, 3, 1]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((5, 4, 3)), corner[:3], atol=1e-9)


def test_a_damaged_file_is_refused_by_the_reader(tmp_path: Path) -> None:
    array = np.ones((4, 5, 6), np.uint8)
    keys = {**segment_keys(array, [Segment("liver", 1)]), "Segment0_LabelValue": "one"}
    affine = np.eye(4)
    write_nrrd(tmp_path / "case.seg.nrrd", array, nrrd_header(array, affine, keys), lambda: None)
    with pytest.raises(DinomixError, match="Segment0_LabelValue is 'one'"):
        read_label(tmp_path / "case.seg.nrrd")


def test_a_file_of_a_thousand_segments_is_read_and_one_of_ten_thousand_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.seg.nrrd"
    for count, refused in ((1000, False), (10_000, True)):
        array = (np.arange(24_000) % (count + 1)).astype(np.uint16).reshape(20, 30, 40)
        segments = [Segment(f"structure {value}", value, color=(0.5, 0.5, 0.5)) for value in range(1, count + 1)]
        write_nrrd(path, array, nrrd_header(array, np.eye(4), segment_keys(array, segments)), lambda: None)
        if refused:
            with pytest.raises(DinomixError, match="longer than"):
                read_label(path)
        else:
            labels, names = read_label(path)
            assert names == {segment.value: segment.name for segment in segments}
            np.testing.assert_array_equal(labels.array, array)
