"""The model folder as a MONAI bundle, run by MONAI in a process that cannot import dinomix."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from channel_cases import blobs, two_channel_model, two_channel_plan
from monai_alone import assert_same_labels

from dinomix.inference.segment import segment_volume
from dinomix.planning.networks import relatives_vnet
from dinomix.planning.plan import (
    MinMax,
    RangeWindow,
    Sigmoid,
    SizeGrid,
    SpacingGrid,
    StepsWindow,
    Tanh,
    ToRange,
    ZScore,
)
from image_files import write_image
from random_models import labels_with_ids, random_model, small_plan


def test_mr_bundle_segments_a_folder_of_images_the_same(
    test_data: Path, tmp_path: Path, run_bundle: Callable[..., None]
) -> None:
    images = tmp_path / "Bilder 画像"
    images.mkdir()
    hippocampus = min((test_data / "hippocampus/images").glob("*.nii.gz"))
    for source in (
        hippocampus,
        test_data / "geometry/anisotropic_lefthanded_t2s.nii.gz",
        test_data / "geometry/oblique_sag_5_15_30.nii.gz",
    ):
        shutil.copy(source, images)
    plan = small_plan(SpacingGrid(spacing=(2.2, 1.9, 3.5)))
    model = random_model(tmp_path / "model", plan, labels_with_ids(1, 2), hippocampus)
    run_bundle(model, tmp_path, "--dataset_dir", str(images))
    for image in images.iterdir():
        assert_same_labels(model, image, tmp_path / "out" / image.name.replace(".nii.gz", "_seg.nii.gz"))


def test_ct_bundle_writes_structure_ids_that_are_not_channel_numbers(
    test_data: Path, tmp_path: Path, run_bundle: Callable[..., None]
) -> None:
    image = test_data / "ct_spleen/ct.nii.gz"
    window = RangeWindow(low=-150, high=250)
    plan = small_plan(SpacingGrid(spacing=(1.5, 1.5, 3.0)), window, patch=(64, 64, 32))
    model = random_model(tmp_path / "model", plan, labels_with_ids(2, 5, 300), image)
    run_bundle(model, tmp_path, "--image", str(image))
    assert_same_labels(model, image, tmp_path / "out/ct_seg.nii.gz")


def test_bundle_of_a_benchmark_as_published(test_data: Path, tmp_path: Path, run_bundle: Callable[..., None]) -> None:
    """On a grid of fixed size, with a network that MONAI does not have."""
    image = test_data / "ct_spleen/ct.nii.gz"
    plan = small_plan(SizeGrid(size=(80, 90, 32)), RangeWindow(low=-150, high=250), patch=(64, 64, 32))
    plan = plan.model_copy(update={"network": relatives_vnet(4)})
    model = random_model(tmp_path / "model", plan, labels_with_ids(1, 2), image, preview=b"a picture")
    run_bundle(model, tmp_path, "--image", str(image))
    assert_same_labels(model, image, tmp_path / "out/ct_seg.nii.gz")


@pytest.mark.parametrize(
    ("orientation", "window"),
    [
        ("LPS", StepsWindow(on="grid", steps=(ToRange(low=-150, high=250, to=(-1, 1), clip=False), Sigmoid()))),
        ("RAI", StepsWindow(on="grid", steps=(ZScore(nonzero=True), MinMax(to=(-1, 1))))),
        ("LAS", StepsWindow(on="file", steps=(ZScore(), Tanh()))),
    ],
)
def test_bundle_of_a_model_from_elsewhere(
    test_data: Path, tmp_path: Path, run_bundle: Callable[..., None], orientation: str, window: StepsWindow
) -> None:
    image = test_data / "ct_spleen/ct.nii.gz"
    grid = SpacingGrid(spacing=(1.5, 1.5, 3.0), orientation=orientation)
    model = random_model(tmp_path / "model", small_plan(grid, window, patch=(64, 64, 24)), labels_with_ids(1, 2), image)
    run_bundle(model, tmp_path, "--image", str(image))
    assert_same_labels(model, image, tmp_path / "out/ct_seg.nii.gz")


def test_a_bundle_of_two_channels_segments_the_same(tmp_path: Path, run_bundle: Callable[..., None]) -> None:
    plan = two_channel_plan(second=RangeWindow(low=150, high=450))
    first, second = blobs(1), blobs(2)
    model = two_channel_model(tmp_path / "model", plan, [first, second])
    for name, volume in (("a_0000", first), ("a_0001", second), ("b_0000", second), ("b_0001", first)):
        write_image(tmp_path / f"in/{name}.nii.gz", volume)
    run_bundle(model, tmp_path, "--dataset_dir", str(tmp_path / "in"))
    for name, volumes in (("a", [first, second]), ("b", [second, first])):
        ours = segment_volume(volumes, model, device="cpu", precision="float32", runtime="pytorch").array.transpose(
            2, 1, 0
        )
        theirs = nibabel.load(tmp_path / f"out/{name}_0000_seg.nii.gz")
        assert np.array_equal(np.asarray(theirs.dataobj), ours)
        assert np.allclose(theirs.affine, first.geometry.affine_ras, atol=1e-4)
        assert set(np.unique(ours)) == {0, *model.labels.ids}
