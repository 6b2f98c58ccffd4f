"""Protocol dhc-compat: each quirk of the released code against a case worked out by hand."""

import numpy as np
import pytest
import torch

from dinomix.evaluation.benchmark import protocol_plan
from dinomix.evaluation.dhc_compat import SIZE, case_metrics, resized, summary
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet, Structure
from dinomix.planning.preprocessing import labels_to_plan_grid

LABELS = LabelSet(
    structures=(Structure(id=1, name="liver", color=(1, 2, 3)), Structure(id=2, name="spleen", color=(3, 2, 1)))
)
SMALL = (8, 6, 4)


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    size = array.shape[::-1]
    return Volume(array, Geometry(size, spacing, (0.0, 0.0, 0.0), np.eye(3)))  # type: ignore[arg-type]


def empty() -> np.ndarray:
    return np.zeros(SMALL[::-1], np.uint8)


def liver(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    values = case_metrics(volume(prediction), volume(reference), LABELS, SMALL)["liver"]
    return values["dice"], values["asd"]


def test_the_grid_is_160_160_80() -> None:
    assert resized(np.ones((3, 4, 5), np.uint8)).shape == SIZE[::-1] == (80, 160, 160)


def test_both_empty_is_one_of_a_hundred() -> None:
    assert liver(empty(), empty()) == (1.0, 0.0)


def test_exactly_one_empty_is_0_and_128() -> None:
    some = empty()
    some[1, 1, 1] = 1
    assert liver(some, empty()) == (0.0, 128.0)
    assert liver(empty(), some) == (0.0, 128.0)


def test_dice_is_in_percent() -> None:
    prediction, reference = empty(), empty()
    prediction[0, 0, :2] = 1
    reference[0, 0, 1:5] = 1
    assert liver(prediction, reference)[0] == pytest.approx(100 * 2 * 1 / 6)


def test_asd_runs_from_the_prediction_to_the_reference_only() -> None:
    part, whole = empty(), empty()
    part[0, 0, 0] = 1
    whole[0, 0, 0] = whole[0, 0, 4] = 1
    assert liver(part, whole)[1] == 0.0
    assert liver(whole, part)[1] == pytest.approx((0 + 4) / 2)


def test_asd_is_in_voxels_whatever_the_spacing() -> None:
    here, there = empty(), empty()
    here[0, 0, 0] = there[3, 0, 0] = 1
    thick = (0.7, 0.7, 5.0)
    values = case_metrics(volume(here, thick), volume(there, thick), LABELS, SMALL)["liver"]
    assert values["asd"] == 3.0


def test_the_border_of_the_volume_is_a_surface() -> None:
    full, center = np.ones((3, 5, 5), np.uint8), np.zeros((3, 5, 5), np.uint8)
    center[1, 2, 2] = 1
    # Only the three inner voxels of the middle slice (3 x 3, less the rim) are inside: 75 - 9 surface voxels.
    z, y, x = np.meshgrid(*(np.arange(n) for n in full.shape), indexing="ij")
    surface = ~((z == 1) & (y > 0) & (y < 4) & (x > 0) & (x < 4))
    expected = np.sqrt((z - 1) ** 2 + (y - 2) ** 2 + (x - 2) ** 2)[surface].mean()
    values = case_metrics(volume(full), volume(center), LABELS, (5, 5, 3))["liver"]
    assert values["asd"] == pytest.approx(expected)


def test_labels_are_resized_by_the_floor_of_the_index() -> None:
    labels = np.arange(1, 6, dtype=np.uint8).reshape(1, 1, 5)
    # 5 -> 8: floor(index * 5 / 8); rounding instead would give 1 2 2 3 4 4 5 5.
    assert resized(labels, (8, 1, 1)).ravel().tolist() == [1, 1, 2, 2, 3, 4, 4, 5]
    # 5 -> 3: floor(index * 5 / 3).
    assert resized(labels, (3, 1, 1)).ravel().tolist() == [1, 2, 4]


def test_that_index_is_rounded_as_pytorch_rounds_it() -> None:
    for old in (7, 43, 81, 147, 512):
        line = np.arange(old, dtype=np.uint16).reshape(1, 1, old)
        for new in range(1, 200):
            nearest = torch.nn.functional.interpolate(torch.arange(old)[None, None].float(), size=new, mode="nearest")
            assert np.array_equal(resized(line, (new, 1, 1)).ravel(), nearest.flatten())


def test_training_and_evaluation_resize_labels_alike() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (7, 45, 50)).astype(np.uint8)
    plan = protocol_plan({"grid.size": (32, 32, 16), "patch": (16, 16, 16)})
    trained_on = labels_to_plan_grid(volume(labels), plan).transpose(2, 1, 0)
    assert np.array_equal(trained_on, resized(labels, (32, 32, 16)))


def test_native_labels_are_resized_and_resized_ones_left_alone() -> None:
    native = np.zeros((2, 3, 4), np.uint8)
    native[1] = 1
    on_grid = np.repeat(np.repeat(np.repeat(native, 2, 0), 2, 1), 2, 2)
    values = case_metrics(volume(on_grid), volume(native, (2.0, 2.0, 2.0)), LABELS, SMALL)["liver"]
    assert (values["dice"], values["asd"]) == (100.0, 0.0)


def test_every_case_counts_then_every_class() -> None:
    perfect, other = empty(), empty()
    perfect[1, 1, 1] = 1
    other[2, 2, 2] = 2
    cases = {
        "a": case_metrics(volume(perfect), volume(perfect), LABELS, SMALL),  # liver 100, spleen both empty: 1
        "b": case_metrics(volume(empty()), volume(other), LABELS, SMALL),  # liver both empty: 1, spleen missed: 0, 128
    }
    result = summary(cases, LABELS)
    assert result["classes"]["liver"]["dice"] == pytest.approx((100 + 1) / 2)
    assert result["classes"]["spleen"]["dice"] == pytest.approx((1 + 0) / 2)
    assert result["classes"]["spleen"]["asd"] == pytest.approx((0 + 128) / 2)
    assert result["mean"]["dice"] == pytest.approx((50.5 + 0.5) / 2)
    assert result["mean"]["asd"] == pytest.approx((0 + 64) / 2)
    assert result["classes"]["liver"]["n"] == 2
