"""Preprocessing against MONAI's own transforms, which a model folder uses where this package is not installed."""

import numpy as np
import pytest
import torch
from monai import transforms
from monai.data import MetaTensor
from monai.transforms import Compose, Resize, ScaleIntensityRange, ScaleIntensityRangePercentiles, Spacing

from dinomix import arrays
from dinomix.cohort.cohort import LabeledSlices
from dinomix.images.volume import Geometry, Volume
from dinomix.planning.intensities import limits, monai_steps, scaled
from dinomix.planning.plan import (
    MinMax,
    PercentileWindow,
    RangeWindow,
    Sigmoid,
    SizeGrid,
    SpacingGrid,
    StepsWindow,
    Tanh,
    ToRange,
    ZScore,
)
from dinomix.planning.preprocessing import grid_size, labels_to_plan_grid, preprocess
from dinomix.planning.resampling import Line, interpolate_slab, resample
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


@pytest.mark.parametrize("on", ["file", "grid"])
@pytest.mark.parametrize(
    ("steps", "formula"),
    [
        ((ZScore(),), lambda v: (v - v.mean()) / v.std()),
        ((ToRange(low=-50, high=80, to=(-1, 1), clip=False), Sigmoid()),
         lambda v: 1 / (1 + np.exp(1 - 2 * (v + 50) / 130))),
        ((ToRange(low=-50, high=80, to=(-1.5, 2.5)),), lambda v: np.clip(v, -50, 80) * 4 / 130 - 1.5 + 200 / 130),
        ((ZScore(), Tanh(limit=3)), lambda v: 3 * np.tanh((v - v.mean()) / v.std() / 3)),
        ((MinMax(to=(-1, 1)),), lambda v: 2 * (v - v.min()) / (v.max() - v.min()) - 1),
    ],
)  # fmt: skip
def test_steps_by_their_formulas_before_or_after_resampling(on: str, steps: tuple, formula: object) -> None:
    grid = SpacingGrid(spacing=(1.3, 2.1, 0.9))
    plan = small_plan(grid, StepsWindow(on=on, steps=steps))
    # A plan that changes no intensity but by a factor of one gives the resampled values themselves.
    resampled = small_plan(grid, StepsWindow(steps=(ToRange(low=0, high=1, to=(0, 1), clip=False),)))
    if on == "grid":
        expected = formula(preprocess(VOLUME, resampled).tensor.double().numpy())
    else:
        values = formula(VOLUME.array.astype(np.float64)).astype(np.float32)
        expected = preprocess(Volume(values, GEOMETRY), resampled).tensor.numpy()
    assert np.abs(preprocess(VOLUME, plan).tensor.numpy() - expected).max() < 2e-5


@pytest.mark.parametrize("shape", [(5, 4, 3), (41, 30, 52)])
@pytest.mark.parametrize(
    "steps",
    [
        (ToRange(low=-50, high=80, to=(-1.5, 2.5)), Sigmoid()),
        (ZScore(), Tanh(limit=3)),
        (ZScore(nonzero=True),),
        (MinMax(to=(-1, 0.3)),),
    ],
)
def test_steps_are_monais_to_the_last_bit(steps: tuple, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(2).normal(0, 90, shape).round().astype(np.float32)
    window = StepsWindow(steps=steps)
    known = {"$torch.sigmoid": torch.sigmoid, "$torch.tanh": torch.tanh}
    expected = torch.from_numpy(image.copy())
    for name, arguments in monai_steps(window):
        transform = getattr(transforms, name)(**{key: known.get(value, value) for key, value in arguments.items()})
        expected = transform(expected)
    assert np.array_equal(scaled(image.copy(), window), expected.numpy())


def test_steps_without_pytorch_differ_by_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (ZScore(nonzero=True), Tanh(limit=3), Sigmoid(), MinMax(to=(-1, 1)), ToRange(low=-1, high=0.7, to=(0, 1)))
    image, window = VOLUME.array.round(), StepsWindow(steps=steps)
    with_pytorch = scaled(image, window)
    monkeypatch.setattr(arrays, "has_torch", lambda: False)
    assert np.abs(scaled(image, window) - with_pytorch).max() < 1e-5
    assert isinstance(preprocess(VOLUME, small_plan()).tensor, np.ndarray)


@pytest.mark.parametrize("voxels", [1, 2, 7, 1000, 54_321, 1_000_000])
def test_limits_of_a_small_image_are_pytorchs_quantiles(voxels: int) -> None:
    values = np.random.default_rng(voxels).normal(0, 300, voxels).astype(np.float32)
    for lower, upper in ((0.5, 99.5), (1, 99), (33.3, 66.7), (12.34, 98.76)):
        expected = tuple(float(torch.quantile(torch.from_numpy(values), end / 100)) for end in (lower, upper))
        assert limits(values, PercentileWindow(lower=lower, upper=upper)) == expected


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slab_bytes", [1, 2**16, 2**28])
def test_neither_slabs_nor_threads_change_a_voxel(
    threads: int, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [Line(np.arange(grid) * (size - 1) / (grid - 1), size) for grid, size in ((70, 31), (52, 26), (40, 19))]
    image = VOLUME.array.transpose(2, 1, 0)
    whole = interpolate_slab(image, lines, slice(0, 70))
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    assert np.array_equal(resample(image, lines, slab_bytes), whole)


def test_zero_voxels_stay_zero_where_a_z_score_is_of_the_others() -> None:
    array = VOLUME.array.copy()
    array[:5] = 0
    plan = small_plan(SpacingGrid(spacing=SPACING), StepsWindow(steps=(ZScore(nonzero=True),)))
    tensor = preprocess(Volume(array, GEOMETRY), plan).tensor
    assert not tensor[..., :5].any()
    assert abs(float(tensor[..., 5:].mean())) < 1e-4 and abs(float(tensor[..., 5:].std()) - 1) < 1e-3


@pytest.mark.parametrize("orientation", ["LPS", "RPI", "LAI"])
def test_another_orientation_is_the_same_image_turned(orientation: str) -> None:
    ras = preprocess(VOLUME, small_plan(SpacingGrid(spacing=(1.3, 2.1, 0.9))))
    turned = preprocess(VOLUME, small_plan(SpacingGrid(spacing=(1.3, 2.1, 0.9), orientation=orientation)))
    flips = [axis for axis, code in enumerate(orientation, 1) if code in "LPI"]
    voxel = np.array([3, 2, 1, 1.0])
    there = voxel.copy()
    for axis in flips:
        there[axis - 1] = turned.tensor.shape[axis] - 1 - voxel[axis - 1]
    assert turned.tensor.shape == ras.tensor.shape
    # The turned grid starts at the other end of the volume, and so lies elsewhere by less than a voxel.
    assert np.abs((turned.affine @ there - ras.affine @ voxel)[:3]).max() < 2.1
    same = preprocess(VOLUME, small_plan(SpacingGrid(spacing=SPACING, orientation=orientation))).tensor
    assert torch.equal(same.flip(flips), preprocess(VOLUME, small_plan(SpacingGrid(spacing=SPACING))).tensor)


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
    assert np.array_equal(same, labels.transpose(2, 1, 0))
    half = labels_to_plan_grid(Volume(labels, GEOMETRY), small_plan(SpacingGrid(spacing=(0.703125, 0.5625, 1.0))))
    assert np.array_equal(half[::2, ::2, ::2], labels.transpose(2, 1, 0))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("every", [2, 5, 10])
def test_no_labeled_slice_is_lost_on_a_coarser_grid(every: int, reverse: bool) -> None:
    numbers = tuple(range(1, 60, every))
    label = np.full((60, 8, 8), -1, np.int32)
    label[list(numbers)] = np.array(numbers)[:, None, None]
    direction = np.diag([1.0, 1.0, -1.0 if reverse else 1.0])
    volume = Volume(label, Geometry((8, 8, 60), (1.0, 1.0, 1.5), (0.0, 0.0, 0.0), direction))
    plan = small_plan(SpacingGrid(spacing=(1.0, 1.0, 6.0 if every > 2 else 3.0)))
    slices = LabeledSlices(numbers=numbers)
    planes = labels_to_plan_grid(volume, plan, slices)[0, 0]
    assert {n for n in planes.tolist() if n >= 0} == set(numbers)
    millimeters = 1.5 * np.arange(60)[::-1] if reverse else 1.5 * np.arange(60)
    spacing = plan.grid.spacing[2]
    assert all(abs(millimeters[n] - spacing * plane) <= spacing / 2 for plane, n in enumerate(planes) if n >= 0)
    if every == 5:  # without being told which, most go the way of the others
        assert (labels_to_plan_grid(volume, plan)[0, 0] >= 0).sum() < len(numbers)


def test_a_grid_as_fine_as_the_slices_takes_labels_as_ever() -> None:
    label = np.full((19, 26, 31), -1, np.int32)
    label[[4, 9, 14]] = 2
    slices = LabeledSlices(numbers=(4, 9, 14))
    for spacing in (SPACING, (0.703125, 0.5625, 1.0)):
        plan = small_plan(SpacingGrid(spacing=spacing))
        same = labels_to_plan_grid(Volume(label, GEOMETRY), plan)
        assert np.array_equal(labels_to_plan_grid(Volume(label, GEOMETRY), plan, slices), same)


def _monai_image() -> MetaTensor:
    return MetaTensor(
        torch.from_numpy(VOLUME.array.transpose(2, 1, 0).copy())[None],
        affine=torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64)),
    )


def _monai_window(window: PercentileWindow | RangeWindow) -> object:
    if isinstance(window, RangeWindow):
        return ScaleIntensityRange(window.low, window.high, 0, 1, clip=True)
    return ScaleIntensityRangePercentiles(window.lower, window.upper, 0, 1, clip=True)
