"""One volume stored in twelve axis orders, six of them left-handed."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from dinomix.images.reading import read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.segment import segment_volume
from dinomix.planning.plan import SpacingGrid
from dinomix.planning.preprocessing import labels_to_plan_grid, nearest_to_ras, preprocess
from random_models import labels_with_ids, random_model, small_plan

PLAN = small_plan(SpacingGrid(spacing=(5.1, 4.3, 6.7)))


@pytest.fixture(scope="module")
def heads(test_data: Path) -> dict[str, Volume]:
    return {path.name.split(".")[0]: read_image(path) for path in sorted((test_data / "orientations").glob("*.nii.gz"))}


def test_all_orders_give_the_same_labels(heads: dict[str, Volume], test_data: Path, tmp_path: Path) -> None:
    assert len(heads) == 12
    model = random_model(tmp_path / "model", PLAN, labels_with_ids(1, 4), test_data / "orientations/RAS.nii.gz")
    network = model.network()
    reoriented = {}
    for name, head in heads.items():
        result = segment_volume(head, model, device="cpu", network=network)
        assert not result.geometry.difference(head.geometry)
        assert "".join(nibabel.aff2axcodes(head.geometry.affine_ras)) == name
        image = nibabel.Nifti1Image(result.array.transpose(2, 1, 0), head.geometry.affine_ras)
        reoriented[name] = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    assert set(np.unique(reoriented["RAS"])) == {0, 1, 4}
    differing = [name for name, labels in reoriented.items() if not np.array_equal(labels, reoriented["RAS"])]
    assert not differing


def test_all_orders_give_the_network_the_same_input_at_the_same_place(heads: dict[str, Volume]) -> None:
    reference = preprocess(heads["RAS"], PLAN)
    for head in heads.values():
        preprocessed = preprocess(head, PLAN)
        assert torch.equal(preprocessed.tensor, reference.tensor)
        assert np.allclose(preprocessed.affine, reference.affine, atol=1e-3)


def test_labels_come_to_the_same_grid_in_all_orders(heads: dict[str, Volume]) -> None:
    def bright(head: Volume) -> Volume:
        return replace(head, array=(head.array > np.median(heads["RAS"].array)).astype(np.uint8))

    reference = labels_to_plan_grid(bright(heads["RAS"]), PLAN)
    assert reference.shape == preprocess(heads["RAS"], PLAN).tensor.shape[1:] and reference.any()
    for head in heads.values():
        assert np.array_equal(labels_to_plan_grid(bright(head), PLAN), reference)


def test_reorientation_agrees_with_nibabel_on_oblique_grids() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        geometry = Geometry((4, 5, 6), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), direction)
        array = rng.normal(size=(4, 5, 6))
        ours = nearest_to_ras(geometry)
        theirs = nibabel.orientations.apply_orientation(array, nibabel.io_orientation(geometry.affine_ras))
        assert np.array_equal(ours.forward(array), theirs)
        assert np.array_equal(ours.backward(ours.forward(array)), array)


def test_position_and_rotation_leave_no_trace(heads: dict[str, Volume]) -> None:
    head = heads["RAS"]
    angle = np.deg2rad(20)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = replace(head.geometry, origin=(123.4, -56.7, 8.9), direction=rotation @ head.geometry.direction)
    assert torch.equal(preprocess(Volume(head.array, moved), PLAN).tensor, preprocess(head, PLAN).tensor)


def test_grid_lies_where_its_affine_says() -> None:
    # An image that holds its own world position: each voxel of the grid must hold the position that its affine gives.
    rng = np.random.default_rng(2)
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    geometry = Geometry((20, 24, 30), (1.5, 0.8, 2.0), (5.0, -7.0, 11.0), direction)
    index = np.stack([*np.meshgrid(*map(np.arange, geometry.size), indexing="ij"), np.ones(geometry.size)])
    world = np.einsum("ab,bijk->aijk", geometry.affine_ras, index)
    low, high = world[:3].min(), world[:3].max()
    for grid in (SpacingGrid(spacing=(1.1, 2.3, 1.7)), SpacingGrid(spacing=(4.0, 4.0, 4.0))):
        plan = small_plan(grid).model_copy(update={"window": _window(low, high)})
        for axis in range(3):
            volume = Volume(world[axis].astype(np.float32).transpose(2, 1, 0), geometry)
            result = preprocess(volume, plan)
            tensor = result.tensor[0].numpy() * (high - low) + low
            at = np.stack([*np.meshgrid(*map(np.arange, tensor.shape), indexing="ij"), np.ones(tensor.shape)])
            expected = np.einsum("b,bxyz->xyz", result.affine[axis], at)
            # The last voxel may lie beyond the image's last center, where the border goes on.
            inside = (slice(0, -1),) * 3
            assert np.abs(tensor - expected)[inside].max() < 1e-3


def _window(low: float, high: float) -> object:
    from dinomix.planning.plan import RangeWindow

    return RangeWindow(low=low, high=high)


@pytest.mark.parametrize("turn", [(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)])
def test_half_a_turn_is_one_though_its_quaternion_is_rounded(turn: tuple[float, float, float], tmp_path: Path) -> None:
    """What is left of a quaternion's first number by float32 would tilt the image by a twenty-fifth of a degree."""
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    image.set_sform(None, code=0)
    image.header["qform_code"] = 1
    image.header["xyzt_units"] = 2
    for name, part in zip("bcd", turn, strict=True):
        image.header[f"quatern_{name}"] = np.float32(np.sqrt(part))
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    affine = read_image(tmp_path / "a.nii").geometry.affine_ras
    np.testing.assert_allclose(np.abs(affine[:3, :3]).max(axis=0), 1, atol=1e-6)
    assert np.count_nonzero(np.abs(affine[:3, :3]) > 1e-6) == 3
