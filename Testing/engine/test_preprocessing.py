"""Preprocessing against MONAI's own transforms, which a model folder uses where this package is not installed."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Resize, ScaleIntensityRange, ScaleIntensityRangePercentiles, Spacing

from dinomix.images.volume import Geometry, Volume
from dinomix.planning.plan import PercentileWindow, RangeWindow, SizeGrid, SpacingGrid
from dinomix.planning.preprocessing import grid_size, labels_to_plan_grid, preprocess
from random_models import small_plan

SPACING = (1.40625, 1.125, 2.0)
GEOMETRY = Geometry((31, 26, 19), SPACING, (10.0, -20.0, 30.0), np.diag([-1.0, -1.0, 1.0]))  # RAS axes
VOLUME = Volume(np.random.default_rng(0).normal(0, 100, (19, 26, 31)).astype(np.float32), GEOMETRY)


@pytest.mark.parametrize(
    "spacing",
    [
        (1.3, 2.1, 0.9),
        (9.0, 9.0, 9.0),
        SPACING,
        (1.4004, 1.1, 2.0),
        (1.4, 1.1, 2.002),
        (1.4, 1.1011, 2.0),
        (50, 50, 50),
    ],
)
@pytest.mark.parametrize("window", [PercentileWindow(), RangeWindow(low=-100, high=150)])
def test_spacing_grid_as_monai_has_it(
    spacing: tuple[float, float, float], window: PercentileWindow | RangeWindow
) -> None:
    result = preprocess(VOLUME, small_plan(SpacingGrid(spacing=spacing), window))
    expected = Compose([_monai_window(window), Spacing(spacing, mode="bilinear", padding_mode="border")])(
        _monai_image()
    )
    assert result.tensor.shape == expected.shape
    assert (result.tensor - expected.as_tensor()).abs().max() < 1e-6
    assert np.allclose(result.affine[:3, :3], np.diag(np.diag(expected.affine.numpy())[:3]), rtol=1e-5)


def test_size_grid_as_monai_has_it() -> None:
    plan = small_plan(SizeGrid(size=(40, 16, 19)), RangeWindow(low=-100, high=150))
    resize = Resize((40, 16, 19), mode="trilinear", align_corners=False, dtype=torch.float64)
    expected = Compose([_monai_window(plan.window), resize])(_monai_image())
    assert (preprocess(VOLUME, plan).tensor - expected.as_tensor()).abs().max() < 1e-6


def test_rounding_in_a_header_does_not_change_the_size() -> None:
    # (82 - 1) * 0.5 / 1.0 + 1 = 41.5 voxels: the slightest change of the spacing would decide.
    sizes = set()
    for error in (-2e-7, 0.0, 2e-7):
        geometry = Geometry((82, 20, 20), (0.5 * (1 + error), 1.0, 1.0), (0.0, 0.0, 0.0), np.diag([-1.0, -1.0, 1.0]))
        sizes.add(grid_size(geometry, small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)))))
    assert len(sizes) == 1


def test_intensities_in_zero_to_one() -> None:
    tensor = preprocess(VOLUME, small_plan(window=RangeWindow(low=-100, high=100))).tensor
    assert tensor.dtype == torch.float32 and tensor.min() >= 0 and tensor.max() <= 1


def test_flat_image_stays_finite() -> None:
    flat = Volume(np.full((19, 26, 31), 7.0, np.float32), GEOMETRY)
    assert torch.isfinite(preprocess(flat, small_plan()).tensor).all()


def test_labels_stay_with_their_voxels() -> None:
    labels = np.random.default_rng(1).integers(0, 5, (19, 26, 31)).astype(np.uint8)
    same = labels_to_plan_grid(Volume(labels, GEOMETRY), small_plan(SpacingGrid(spacing=SPACING)))
    assert np.array_equal(same[0], labels.transpose(2, 1, 0))
    half = labels_to_plan_grid(Volume(labels, GEOMETRY), small_plan(SpacingGrid(spacing=(0.703125, 0.5625, 1.0))))
    assert np.array_equal(half[0, ::2, ::2, ::2], labels.transpose(2, 1, 0))


def _monai_image() -> MetaTensor:
    return MetaTensor(
        torch.from_numpy(VOLUME.array.transpose(2, 1, 0).copy())[None],
        affine=torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64)),
    )


def _monai_window(window: PercentileWindow | RangeWindow) -> object:
    if isinstance(window, RangeWindow):
        return ScaleIntensityRange(window.low, window.high, 0, 1, clip=True)
    return ScaleIntensityRangePercentiles(window.lower, window.upper, 0, 1, clip=True)
