import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.memory import plan_memory
from dinomix.inference.native_grid import labels_on_native_grid
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model
from dinomix.planning.connected_components import remove_stray_pieces
from dinomix.planning.plan import OnePiece, RangeWindow, SizeGrid, SpacingGrid
from dinomix.planning.preprocessing import preprocess
from random_models import labels_with_ids, random_model, small_plan

GRIDS = [
    SpacingGrid(spacing=(1.3, 2.1, 0.9)),
    SpacingGrid(spacing=(1.0, 1.0, 1.0)),
    SpacingGrid(spacing=(9.0, 9.0, 9.0)),
    SizeGrid(size=(40, 16, 33)),
]


def tilted(size: tuple[int, int, int] = (31, 26, 19)) -> Geometry:
    direction, _ = np.linalg.qr(np.array([[0.1, 1.0, 0.2], [-1.0, 0.2, 0.1], [0.1, 0.0, -1.0]]))
    return Geometry(size, (1.4, 1.1, 2.0), (10.0, -20.0, 30.0), direction)


def blobs(geometry: Geometry) -> Volume:
    rng = np.random.default_rng(4)
    centers = rng.uniform(5, 40, (4, 3))
    index = np.stack(np.meshgrid(*map(np.arange, geometry.size), indexing="ij"), axis=-1) * geometry.spacing
    distance = np.min([np.linalg.norm(index - center, axis=-1) for center in centers], axis=0)
    return Volume((1 - distance / 30).clip(0, 1).astype(np.float32).transpose(2, 1, 0), geometry)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    plan = small_plan(GRIDS[0], RangeWindow(low=0, high=1))
    return random_model(tmp_path_factory.mktemp("models") / "model", plan, labels_with_ids(4, 300))


@pytest.mark.parametrize("grid", GRIDS)
def test_slabs_change_nothing(grid: SpacingGrid | SizeGrid) -> None:
    preprocessed = preprocess(blobs(tilted()), small_plan(grid))
    logits = torch.randn((4, *preprocessed.tensor.shape[1:]), generator=torch.Generator().manual_seed(1))
    whole = labels_on_native_grid(logits, preprocessed, (1, 2, 9), slab_bytes=2**40)
    assert set(np.unique(whole)) == {0, 1, 2, 9}
    for slab_bytes in (1, 100_000):
        assert np.array_equal(labels_on_native_grid(logits, preprocessed, (1, 2, 9), slab_bytes=slab_bytes), whole)


def test_stray_pieces_are_removed_told_and_kept_on_request(model: Model) -> None:
    rule = OnePiece(channels=(1, 2))
    strict = replace(model, plan=model.plan.model_copy(update={"one_piece": rule}))
    notices: list[str] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "notice":
            notices.append(fields["message"])

    everything = segment_volume(blobs(tilted()), strict, device="cpu", all_pieces=True, emit=emit).array
    assert np.array_equal(everything, segment_volume(blobs(tilted()), model, device="cpu").array) and not notices
    cleaned = segment_volume(blobs(tilted()), strict, device="cpu", emit=emit).array
    removed = remove_stray_pieces(everything, rule, np.array([0, *model.labels.ids]))
    assert removed and np.array_equal(cleaned, everything)
    assert len(notices) == 1 and all(model.labels.names[channel - 1] in notices[0] for channel in removed)


@pytest.mark.parametrize("grid", GRIDS)
def test_native_grid_agrees_with_scipy(grid: SpacingGrid | SizeGrid) -> None:
    preprocessed = preprocess(blobs(tilted()), small_plan(grid))
    logits = torch.randn((3, *preprocessed.tensor.shape[1:]), generator=torch.Generator().manual_seed(2))
    index = np.meshgrid(*map(np.arange, preprocessed.native_size), indexing="ij")
    at = [i * scale + shift for i, scale, shift in zip(index, preprocessed.scale, preprocessed.shift, strict=True)]
    full = np.stack([map_coordinates(c, at, order=1, mode="nearest") for c in logits.double().numpy()])
    expected = preprocessed.reorientation.backward(full.astype(np.float32).argmax(0))
    assert np.array_equal(labels_on_native_grid(logits, preprocessed, (1, 2)), expected)


@pytest.mark.parametrize("grid", GRIDS[:2] + GRIDS[3:])
def test_labels_lie_where_the_image_is(grid: SpacingGrid | SizeGrid, model: Model) -> None:
    class Threshold(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return torch.cat([0.7 - windows, windows - 0.7, windows * 0 - 9], dim=1)

    volume = blobs(tilted())
    plan = small_plan(grid, RangeWindow(low=0, high=1))
    moved = Model(model.path, model.labels, plan, model.weights, {})
    result = segment_volume(volume, moved, device="cpu", network=Threshold())
    expected = volume.array > 0.7
    overlap = 2 * np.sum((result.array == 4) & expected) / (np.sum(result.array == 4) + expected.sum())
    assert expected.sum() > 200 and overlap > 0.95
    # A shift by one voxel along any axis costs more than resampling does.
    for axis in range(3):
        for step in (-1, 1):
            shifted = np.roll(result.array == 4, step, axis)
            assert 2 * np.sum(shifted & expected) / (shifted.sum() + expected.sum()) < overlap


def test_result_is_on_the_same_grid_and_repeatable(model: Model) -> None:
    volume = blobs(tilted())
    first, second = (segment_volume(volume, model, device="cpu") for _ in range(2))
    assert first.geometry is volume.geometry and first.array.dtype == np.uint16
    assert np.array_equal(first.array, second.array)


def test_image_smaller_than_a_patch(model: Model) -> None:
    for size in ((3, 4, 5), (1, 40, 1)):
        assert segment_volume(blobs(tilted(size)), model, device="cpu").array.shape == size[::-1]


def test_memory_limit_shrinks_buffers_then_refuses(model: Model) -> None:
    geometry = tilted((300, 300, 300))
    free = plan_memory(geometry, model, None)
    assert plan_memory(geometry, model, free.estimate * 2).half_buffers is False
    tight = plan_memory(geometry, model, free.estimate - 2**20)
    assert tight.estimate < free.estimate
    with pytest.raises(DinomixError, match="GB are allowed") as caught:
        plan_memory(geometry, model, 2**20)
    assert "--max-memory" in caught.value.remedy


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak that Linux keeps, in KiB")
def test_peak_memory_stays_below_the_estimate(tmp_path: Path) -> None:
    # 14 channels on 180^3 voxels would take 327 MB in float32, and twice that to interpolate.
    plan = small_plan(SpacingGrid(spacing=(4.0, 4.0, 4.0)), RangeWindow(low=0, high=1))
    random_model(tmp_path / "model", plan, labels_with_ids(*range(1, 14)))
    script = f"""
import numpy as np
from pathlib import Path
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.memory import plan_memory
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import load_model
def peak():
    # Not ru_maxrss: a child starts with its parent's.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
model = load_model(Path({str(tmp_path / "model")!r}))
geometry = Geometry((180, 180, 180), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
volume = Volume(np.random.default_rng(0).random((180, 180, 180), np.float32), geometry)
segment_volume(Volume(volume.array[:20], Geometry((180, 180, 20), *[(1.0,) * 3] * 2, np.eye(3))), model, device="cpu")
before = peak()
limit = plan_memory(geometry, model, None).estimate - 2**27
segment_volume(volume, model, device="cpu", max_memory=limit)
print(limit, peak(), before)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    limit, peak, before = map(int, done.stdout.split())
    assert peak <= limit
    assert peak - before < 300e6
