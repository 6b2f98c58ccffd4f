"""Segmenting cases of several images: which belong together, in which order, on which grid, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from channel_cases import SIZE, blobs, geometry, two_channel_model, two_channel_plan

from dinomix.cli import main
from dinomix.errors import DinomixError
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume
from dinomix.inference.any_grid import segment_array
from dinomix.inference.batch import segment_files
from dinomix.inference.channels import find_case_images
from dinomix.inference.options import Options
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model, load_model
from dinomix.planning.plan import InputChannel, PercentileWindow, Plan, RangeWindow
from dinomix.planning.preprocessing import preprocess
from image_files import write_image

FIRST, SECOND = blobs(1), blobs(2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return two_channel_model(tmp_path_factory.mktemp("two") / "model")


@pytest.fixture(scope="module")
def expected(model: Model) -> np.ndarray:
    array = segment_volume([FIRST, SECOND], model, device="cpu").array
    assert set(np.unique(array)) == {0, 3, 7}
    return array


def events_of(call, *args, **options) -> list[tuple[str, dict]]:
    seen: list[tuple[str, dict]] = []
    call(*args, emit=lambda kind, **fields: seen.append((kind, fields)), **options)
    return seen


def test_each_channel_is_scaled_by_its_own_window() -> None:
    plan = two_channel_plan(second=RangeWindow(low=100, high=500))
    tensor = preprocess([FIRST, SECOND], plan).tensor
    alone = [
        preprocess(volume, plan.model_copy(update={"window": window, "channel": "", "more_channels": ()})).tensor[0]
        for volume, window in zip((FIRST, SECOND), plan.windows, strict=True)
    ]
    assert tensor.shape[0] == 2 and all(np.array_equal(a, b) for a, b in zip(tensor, alone, strict=True))


def test_the_order_of_the_channels_counts(model: Model, expected: np.ndarray) -> None:
    assert (segment_volume([SECOND, FIRST], model, device="cpu").array != expected).mean() > 0.05


@pytest.mark.parametrize(("volumes", "said"), [([FIRST], "1 was given"), ([FIRST, SECOND, SECOND], "3 were given")])
def test_another_number_of_images_is_refused_by_the_channels_names(
    model: Model, volumes: list[Volume], said: str
) -> None:
    with pytest.raises(DinomixError, match=rf"takes 2 images of a case \(t1, t2\); {said}") as caught:
        segment_volume(volumes, model, device="cpu")
    assert caught.value.code == "channels"


def test_another_grid_is_resampled_onto_the_first_with_a_notice(model: Model, expected: np.ndarray) -> None:
    finer = geometry((40, 36, 28), (0.75, 0.7, 1.0))
    events = events_of(segment_volume, [FIRST, blobs(2, finer)], model, device="cpu")
    assert any("The image t2 was resampled onto the grid of t1." in fields.get("message", "") for _, fields in events)
    again = segment_volume([FIRST, blobs(2, finer)], model, device="cpu")
    assert again.geometry is FIRST.geometry and (again.array != expected).mean() < 0.03


def test_images_of_different_places_are_refused(model: Model) -> None:
    far = blobs(2, geometry(origin=(-20.0, 5.0, 900.0)))
    with pytest.raises(DinomixError, match="t1 and t2 do not show the same place"):
        segment_volume([FIRST, far], model, device="cpu")


def test_a_smaller_field_of_view_is_dark_outside_and_said(model: Model) -> None:
    part = geometry((20, 18, 7))
    events = events_of(segment_volume, [FIRST, blobs(2, part)], model, device="cpu")
    assert any("covers 50% of it" in fields.get("message", "") for _, fields in events)


def test_ct_in_the_place_of_pet_is_refused(tmp_path: Path) -> None:
    plan = two_channel_plan(
        RangeWindow(low=-200, high=300), modality="CT", channel="ct",
        more_channels=(InputChannel(name="pet", modality="PT", window=PercentileWindow()),),
    )  # fmt: skip
    model = two_channel_model(tmp_path / "model", plan)
    rng = np.random.default_rng(0)
    ct = Volume(rng.choice(np.float32([-1000, -90, 40, 60]), SIZE[::-1]), geometry())
    pet = Volume(rng.uniform(0, 9, SIZE[::-1]).astype(np.float32), geometry())
    segment_volume([ct, pet], model, device="cpu")
    with pytest.raises(DinomixError, match="that for ct holds no Hounsfield units, and that for pet does"):
        segment_volume([pet, ct], model, device="cpu")


def test_arrays_of_a_window_are_segmented_alike(model: Model, expected: np.ndarray) -> None:
    labels, _ = segment_array(
        FIRST.array, geometry().affine_ras, model, Options("cpu"), more=[(SECOND.array, geometry().affine_ras)]
    )
    assert np.array_equal(labels, expected)


def numbered(folder: Path) -> tuple[list[Path], str]:
    write_image(folder / "in/case_0000.nii.gz", FIRST)
    write_image(folder / "in/case_0001.nii.gz", SECOND)
    return [folder / "in"], "case"


def named_beside(folder: Path) -> tuple[list[Path], str]:
    write_image(folder / "in/sub 1_T1.nii.gz", FIRST)
    write_image(folder / "in/sub 1_T2.nii.gz", SECOND)
    return [folder / "in"], "sub 1"


def in_one_file(folder: Path) -> tuple[list[Path], str]:
    write_image(folder / "case.nii.gz", FIRST, SECOND)
    return [folder / "case.nii.gz"], "case"


def folder_with_a_file_each(folder: Path) -> tuple[list[Path], str]:
    write_image(folder / "patient 5/t1.nii.gz", FIRST)
    write_image(folder / "patient 5/t2.nii.gz", SECOND)
    return [folder / "patient 5"], "patient 5"


def folder_of_folders(folder: Path) -> tuple[list[Path], str]:
    return [folder_with_a_file_each(folder / "in")[0][0].parent], "patient 5"


def loose_files(folder: Path) -> tuple[list[Path], str]:
    folder_with_a_file_each(folder)
    return [folder / "patient 5/t2.nii.gz", folder / "patient 5/t1.nii.gz"], "patient 5"


LAYOUTS = (numbered, named_beside, in_one_file, folder_with_a_file_each, folder_of_folders, loose_files)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_labels(layout, model: Model, expected: np.ndarray, tmp_path: Path) -> None:
    given, name = layout(tmp_path)
    written = segment_files(model, given, tmp_path / "out", Options("cpu"))
    assert written == [tmp_path / "out" / f"{name}.nii.gz"]
    assert np.array_equal(read_label(written[0])[0].array, expected)
    assert segment_files(model, given, tmp_path / "out", Options("cpu")) == written  # which is kept


def test_a_table_and_a_picture_of_a_case_in_one_file(model: Model, expected: np.ndarray, tmp_path: Path) -> None:
    """Measured and drawn on the first of its volumes."""
    (image,), name = in_one_file(tmp_path)
    given = ["--model", str(model.path), "--device", "cpu", str(image), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["segment", *given, "--statistics", str(tmp_path / "table.csv"), "--preview"])
    assert np.array_equal(read_label(tmp_path / "out" / f"{name}.nii.gz")[0].array, expected)
    assert (tmp_path / "out/previews" / f"{name}.png").is_file()
    with (tmp_path / "table.csv").open(newline="") as file:
        means = [float(row["intensity_mean"]) for row in csv.DictReader(file)]
    assert means == pytest.approx([FIRST.array[expected == value].mean() for value in (3, 7)], rel=1e-3)


def test_a_result_from_another_second_channel_is_not_taken_for_this_one(model: Model, tmp_path: Path) -> None:
    given, _ = numbered(tmp_path)
    segment_files(model, given, tmp_path / "out", Options("cpu"))
    write_image(tmp_path / "in/case_0001.nii.gz", blobs(5))
    with pytest.raises(DinomixError, match="was made from another image"):
        segment_files(model, given, tmp_path / "out", Options("cpu"))


def test_the_command_takes_a_file_for_each_channel(
    model: Model, expected: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.nii.gz", FIRST)
    write_image(tmp_path / "b.nii.gz", SECOND)
    named = ("--channel", f"t2={tmp_path / 'b.nii.gz'}", "--channel", f"t1={tmp_path / 'a.nii.gz'}")
    command = ["segment", "--model", str(model.path), "--device", "cpu"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*command, *named, "--out", str(tmp_path / "labels.nii.gz")])
    assert np.array_equal(read_label(tmp_path / "labels.nii.gz")[0].array, expected)
    for given, said in ((named[:2], "No image was given for the channel t1."), ((), "No image was given.")):
        with pytest.raises(SystemExit):
            main([*command, *given, "--out", str(tmp_path / "other.nii.gz")])
        assert said in capsys.readouterr().err


def test_patterns_tell_files_whose_names_say_nothing(model: Model, expected: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "in/p1/MPRAGE.nii.gz", FIRST)
    write_image(tmp_path / "in/p1/TSE 2.nii.gz", SECOND)
    with pytest.raises(DinomixError, match="p1 lacks the channel t1 and t2"):
        segment_files(model, [tmp_path / "in"], tmp_path / "out", Options("cpu"))
    patterns = {"t1": "mprage*", "t2": "*tse*"}
    written = segment_files(model, [tmp_path / "in"], tmp_path / "out", Options("cpu"), channels=patterns)
    assert [path.name for path in written] == ["p1.nii.gz"]
    assert np.array_equal(read_label(written[0])[0].array, expected)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a_0000", "a_0001", "b_0000"], "case b lacks the channel t2"),
        (["a_0000", "a_0001", "a_0002"], "is the channel number 2 of a; there are 2 channels"),
        (["x/t1"], "case x lacks the channel t2"),
        (["x/t1", "x/t2", "x/t2 again"], "several images for the channel t2"),
        (["flair", "t1"], "fits none of the channels: t1, t2"),
    ],
)
def test_what_is_missing_or_unclear_is_refused_by_name(
    files: list[str], said: str, model: Model, tmp_path: Path
) -> None:
    for name in files:
        write_image(tmp_path / f"in/{name}.nii.gz", FIRST)
    with pytest.raises(DinomixError, match=said) as caught:
        segment_files(model, [tmp_path / "in"], tmp_path / "out", Options("cpu"))
    assert caught.value.code == "channels"


def test_a_file_of_three_volumes_is_refused(model: Model, tmp_path: Path) -> None:
    write_image(tmp_path / "c.nii.gz", FIRST, SECOND, SECOND)
    with pytest.raises(DinomixError, match="holds 3 volumes; there are 2 channels"):
        segment_files(model, [tmp_path / "c.nii.gz"], tmp_path / "out", Options("cpu"))


def test_one_image_is_not_taken_for_two_channels(tmp_path: Path) -> None:
    image = tmp_path / "a.nii.gz"
    write_image(image, FIRST)
    with pytest.raises(DinomixError, match=r"a\.nii\.gz was given for the channels t1 and t2") as raised:
        find_case_images([], ("t1", "t2"), {"t1": image, "t2": image})
    assert raised.value.code == "channels"


def test_a_channel_for_a_model_of_one_image_is_refused(tmp_path: Path) -> None:
    one = two_channel_plan().model_copy(update={"channel": "", "more_channels": ()})
    model = two_channel_model(tmp_path / "model", one, [FIRST])
    write_image(tmp_path / "a.nii.gz", FIRST)
    with pytest.raises(DinomixError, match="takes one image of a case, which has no name such as t1"):
        segment_files(model, [], tmp_path / "out", Options("cpu"), channels={"t1": tmp_path / "a.nii.gz"})
    with pytest.raises(DinomixError, match="takes one image of a case; 2 were given"):
        segment_volume([FIRST, SECOND], model, device="cpu")


def test_the_folder_of_such_a_model_is_for_readers_that_know_channels(model: Model, tmp_path: Path) -> None:
    assert json.loads((model.path / "manifest.json").read_text())["version"] == 3
    metadata = json.loads((model.path / "configs/metadata.json").read_text())
    inputs = metadata["network_data_format"]["inputs"]["image"]
    assert inputs["num_channels"] == 2 and inputs["channel_def"] == {"0": "t1", "1": "t2"}
    assert "Each case has 2 images, in this order: t1, t2." in (model.path / "README.md").read_text()
    one = two_channel_plan().model_copy(update={"channel": "", "more_channels": ()})
    two_channel_model(tmp_path / "one", one, [FIRST])
    assert json.loads((tmp_path / "one/manifest.json").read_text())["version"] == 1
    assert not {"channel", "more_channels"} & set(json.loads((tmp_path / "one/plan.json").read_text()))
    assert load_model(tmp_path / "one").plan.channels == ("",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channel": ""}, "the first has no name"),
        ({"channel": "T2"}, "two channels have the same name"),
        ({"channel": "a=b"}, "channel"),
        ({"channel": "$x"}, "channel"),
    ],
)
def test_channels_without_names_of_their_own_are_no_plan(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        two_channel_plan(**changes)


def test_a_plan_with_channels_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = two_channel_plan()
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


def test_volumes_of_one_file_are_read_at_once(tmp_path: Path) -> None:
    write_image(tmp_path / "c.nii.gz", FIRST, SECOND)
    with pytest.raises(DinomixError, match="is 4D: it holds 2 volumes"):
        read_image(tmp_path / "c.nii.gz")
