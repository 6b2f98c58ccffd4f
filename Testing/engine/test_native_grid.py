"""Labels from cells against labels from interpolating everything."""

import numpy as np
import pytest
import torch

from dinomix.images.volume import Geometry, Volume
from dinomix.inference import cells
from dinomix.inference.native_grid import NativeLabels, _groups, labels_on_native_grid
from dinomix.planning.plan import SizeGrid, SpacingGrid
from dinomix.planning.preprocessing import Preprocessed, preprocess
from dinomix.planning.resampling import Line, interpolate_slab
from random_models import small_plan

IDS = (1, 2, 9, 300, 7)
CASES = {
    "coarser": ((40, 33, 27), SpacingGrid(spacing=(3.1, 4.0, 2.6))),
    "much coarser": ((61, 50, 40), SpacingGrid(spacing=(11.0, 9.5, 13.0))),
    "finer": ((14, 11, 9), SpacingGrid(spacing=(0.6, 0.7, 0.45))),
    "the same": ((20, 21, 22), SpacingGrid(spacing=(1.0, 1.0, 1.0))),
    "mixed": ((30, 12, 25), SpacingGrid(spacing=(4.0, 0.5, 1.0))),
    "one slice": ((30, 30, 1), SpacingGrid(spacing=(2.5, 2.5, 5.0))),
    "one voxel": ((9, 8, 7), SpacingGrid(spacing=(40.0, 40.0, 40.0))),
    "of a size": ((30, 41, 17), SizeGrid(size=(16, 16, 32))),
}


def preprocessed_case(name: str) -> Preprocessed:
    size, grid = CASES[name]
    direction = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    geometry = Geometry(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), direction)
    return preprocess(Volume(np.zeros(size[::-1], np.float32), geometry), small_plan(grid))


def interpolated_everywhere(logits: torch.Tensor, preprocessed: Preprocessed) -> np.ndarray:
    """The definition: (i, j, k)."""
    lines = [
        Line(
            np.arange(preprocessed.native_size[axis], dtype=np.float64) * preprocessed.scale[axis]
            + preprocessed.shift[axis],
            logits.shape[axis + 1],
        )
        for axis in range(3)
    ]
    whole = slice(0, len(lines[0]))
    full = np.stack([interpolate_slab(channel.numpy(), lines, whole) for channel in logits])
    # argmax takes the first of equal ones.
    return preprocessed.reorientation.backward(np.array([0, *IDS], np.uint16)[full.argmax(0)])


def smooth(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    small = [max(side // 4, 1) for side in shape]
    noise = torch.randn((1, len(IDS) + 1, *small), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=shape, mode="trilinear")[0].contiguous()


def logits_of(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    noise = torch.randn((len(IDS) + 1, *shape), generator=torch.Generator().manual_seed(1))
    return {
        "smooth": smooth(shape),
        "noise": noise,
        "ties": noise.round(),
        "nearly ties": 7 + noise.round() * 2.0**-21,
        "all equal": torch.full((len(IDS) + 1, *shape), 0.3),
        "half": noise.half(),
        "huge": noise * 1e30,
    }[kind]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["smooth", "noise", "ties", "nearly ties", "all equal", "half", "huge"])
def test_the_same_as_interpolating_everything(case: str, kind: str) -> None:
    preprocessed = preprocessed_case(case)
    logits = logits_of(kind, tuple(preprocessed.tensor.shape[1:]))
    expected = interpolated_everywhere(logits, preprocessed)
    assert np.array_equal(labels_on_native_grid(logits, preprocessed, IDS), expected)
    found = labels_on_native_grid(logits.numpy(), preprocessed, IDS)
    assert np.array_equal(found, expected), "as arrays of NumPy's"


@pytest.mark.parametrize("case", CASES)
def test_slabs_of_any_thickness_give_the_same(case: str) -> None:
    preprocessed = preprocessed_case(case)
    logits = smooth(tuple(preprocessed.tensor.shape[1:]))
    expected = labels_on_native_grid(logits, preprocessed, IDS)
    for thickness in (1, 2, 5):
        labels = NativeLabels(preprocessed, tuple(logits.shape[1:]), IDS, slab_bytes=1)
        for slab in logits.split(thickness, dim=1):
            passing = slab.clone()
            labels.add(passing)
            passing.fill_(torch.nan)  # a slab is only good until the next one
        assert np.array_equal(labels.array.transpose(2, 1, 0), expected)


def test_what_is_called_between_parts_can_end_it() -> None:
    preprocessed = preprocessed_case("mixed")
    shape = tuple(preprocessed.tensor.shape[1:])
    parts: list[int] = []

    def on_part() -> None:
        parts.append(1)
        if len(parts) == 3:
            raise InterruptedError

    labels = NativeLabels(preprocessed, shape, IDS, 1, on_part)
    with pytest.raises(InterruptedError):
        labels.add(logits_of("noise", shape))
    assert len(parts) == 3


def test_where_corners_agree_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    inside = cells.winners_inside

    def counting(corners: torch.Tensor, some: torch.Tensor, weights: tuple, channels: list[int]) -> torch.Tensor:
        counted.append(len(some) * len(channels))
        return inside(corners, some, weights, channels)

    monkeypatch.setattr("dinomix.inference.native_grid.winners_inside", counting)
    preprocessed = preprocessed_case("much coarser")
    shape = tuple(preprocessed.tensor.shape[1:])
    halves = torch.zeros((len(IDS) + 1, *shape))
    halves[0], halves[2, : shape[0] // 2] = 1.0, 2.0
    assert np.array_equal(
        labels_on_native_grid(halves, preprocessed, IDS), interpolated_everywhere(halves, preprocessed)
    )
    # One layer of cells, and there only the two structures that meet.
    assert sum(counted) == 2 * len(cells.CellAxis.of(_line(preprocessed, 1, shape))) * len(
        cells.CellAxis.of(_line(preprocessed, 2, shape))
    )


def test_cells_of_few_contenders_are_not_computed_with_others_of_more() -> None:
    codes = np.repeat([1.0, 2.0, 3.0, 5.0, 8.0, 9.0], [40, 1, 2, 130, 3, 1])
    groups = _groups(codes, 48)
    assert groups == [(0, 40), (40, 43), (43, 91), (91, 139), (139, 173), (173, 176), (176, 177)]


def _line(preprocessed: Preprocessed, axis: int, shape: tuple[int, ...]) -> Line:
    native = np.arange(preprocessed.native_size[axis], dtype=np.float64)
    return Line(native * preprocessed.scale[axis] + preprocessed.shift[axis], shape[axis])
