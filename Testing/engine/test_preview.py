"""The picture in a model folder: the sides are right, and nothing of an image is in it."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dinomix.cohort.cohort import Cohort
from dinomix.labels import LabelSet, Structure
from dinomix.planning.cache import cache_cases
from dinomix.planning.plan import Plan, SizeGrid, SpacingGrid
from dinomix.report.front_view import front_view
from dinomix.training.preview import draw_preview
from tiny_cohort import make_cohort, make_plan

TWO = LabelSet(
    structures=(Structure(id=4, name="red", color=(255, 0, 0)), Structure(id=300, name="blue", color=(0, 0, 255)))
)


def pixels(picture: bytes | None) -> np.ndarray:
    assert picture is not None
    result = imread(io.BytesIO(picture))
    assert result.shape == (280, 260, 4)
    return result


def middle_of(picture: np.ndarray, color: int) -> tuple[float, float]:
    """Row and column of the middle of what is mainly red (0) or blue (2)."""
    rows, columns = np.nonzero((picture[..., 3] > 0.5) & (picture[..., color] > picture[..., 2 - color]))
    assert len(rows)
    return float(rows.mean()), float(columns.mean())


def test_the_patients_right_is_on_the_left_and_the_head_is_up() -> None:
    channels = np.zeros((40, 20, 30), np.uint8)
    channels[28:38, 5:15, 2:10] = 1  # at the patient's right, toward the feet
    channels[2:12, 5:15, 20:28] = 2
    picture = pixels(front_view(channels, (1.0, 1.0, 1.0), TWO))
    red, blue = middle_of(picture, 0), middle_of(picture, 2)
    assert red[0] > blue[0] + 50 and red[1] < blue[1] - 50
    assert picture[0, 0, 3] == 0 and picture[140, 130, 3] == 0


@pytest.mark.parametrize("front", [1, 2])
def test_what_lies_in_front_is_seen(front: int) -> None:
    channels = np.zeros((20, 30, 20), np.uint8)
    channels[5:15, 20:25, 5:15] = front
    channels[5:15, 2:10, 5:15] = 3 - front
    color = pixels(front_view(channels, (1.0, 1.0, 1.0), TWO))[140, 130]
    assert (color[0] > color[2]) == (front == 1)


def test_millimeters_count_and_not_voxels() -> None:
    def extent(spacing: tuple[float, float, float]) -> float:
        rows, columns = np.nonzero(pixels(front_view(np.ones((20, 20, 20), np.uint8), spacing, TWO))[..., 3] > 0.5)
        return float(np.ptp(rows) / np.ptp(columns))

    assert extent((1.0, 1.0, 1.0)) == pytest.approx(1, abs=0.03)
    assert extent((1.0, 1.0, 3.0)) == pytest.approx(3, abs=0.1)


def test_nothing_to_draw() -> None:
    assert front_view(np.zeros((5, 5, 5), np.uint8), (1.0, 1.0, 1.0), TWO) is None


def test_a_single_voxel_is_drawn() -> None:
    channels = np.zeros((5, 5, 5), np.uint8)
    channels[2, 2, 2] = 2
    assert pixels(front_view(channels, (1.0, 1.0, 1.0), TWO))[140, 130, 2] > 0.4


def size_plan() -> Plan:
    return make_plan().model_copy(update={"grid": SizeGrid(size=(32, 32, 32))})


def drawn(cohort: Cohort, plan: Plan, folder: Path) -> bytes:
    cached = cache_cases(cohort, plan, folder, lambda *_, **__: None)
    for case in cached.values():
        (case.folder / "image.npy").unlink()
        if not any(case.name == labeled.name for labeled in cohort.with_role("labeled")):
            shutil.rmtree(case.folder)
    for case in cohort.cases:
        case.image.unlink()
    picture = draw_preview(cohort, plan, cached)
    assert picture is not None
    return picture


def test_only_label_maps_of_labeled_cases_are_read(tmp_path: Path) -> None:
    """All images are gone, and so are the labels of other cases, before it is drawn."""
    cohort = make_cohort(tmp_path / "cases")
    shutil.copytree(tmp_path / "cases", tmp_path / "again")
    on_spacing = pixels(drawn(cohort, make_plan(), tmp_path / "cache"))
    assert (on_spacing[..., 3] > 0.5).mean() > 0.2
    # The phantoms' axes run to L, P and S; on a size grid they stay so, and the picture must not.
    again = Cohort.model_validate_json(
        cohort.model_dump_json().replace(f"{tmp_path / 'cases'}", f"{tmp_path / 'again'}")
    )
    on_size = pixels(drawn(again, size_plan(), tmp_path / "other"))
    assert np.abs(on_spacing - on_size).max() < 0.02


def test_a_plan_of_other_axes_gives_the_same_picture(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "data", labeled=1, unlabeled=0, validation=0)
    pictures = []
    for orientation in ("RAS", "LPS", "RPI"):
        grid = SpacingGrid(spacing=(1.0, 1.0, 1.0), orientation=orientation)
        plan = make_plan().model_copy(update={"grid": grid})
        pictures.append(
            draw_preview(cohort, plan, cache_cases(cohort, plan, tmp_path / "cache", lambda kind, **fields: None))
        )
    assert pictures[0] is not None and pictures[0] == pictures[1] == pictures[2]
