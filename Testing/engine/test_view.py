"""How slices are shown to the frozen teacher: the right way up on every grid, as fine as the student's stage, in HU if wanted."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.planning.plan import PercentileWindow, Plan, SizeGrid, SpacingGrid
from dinomix.planning.preprocessing import preprocess
from dinomix.training import fkd
from dinomix.training.config import FkdConfig, make_config
from dinomix.training.trial import Stage
from dinomix.training.view import View, make_view, scale_that_resolves
from tiny_cohort import make_plan

STAGE = Stage("down_3", 8, (4, 4, 4))
AXIAL = [
    "".join(plane) + "S" for first in ("RA", "AR") for plane in product(*({"R": "RL", "A": "AP"}[c] for c in first))
]


def turned(cohort: Cohort, orientation: str) -> Cohort:
    return cohort.model_copy(
        update={"cases": tuple(case.model_copy(update={"orientation": orientation}) for case in cohort.cases)}
    )


def scan(orientation: str) -> Volume:
    """A scan of a patient whose front is bright and whose right side is brighter still, stored along the axes named."""
    towards = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    direction = np.array([towards[code] for code in orientation], dtype=float).T
    geometry = Geometry((8, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), direction)
    index = np.stack(np.meshgrid(*[np.arange(8) - 3.5] * 3, indexing="ij"), -1)
    left, back, _ = np.moveaxis(index @ direction.T, -1, 0)  # LPS
    values = 50.0 - 8 * back - 20 * left
    return Volume(values.transpose(2, 1, 0).astype(np.float32), geometry)


def picture(plan: Plan, cohort: Cohort, orientation: str) -> torch.Tensor:
    view = make_view(FkdConfig(), plan, cohort, STAGE, 16)
    slices = preprocess(scan(orientation), plan).tensor[0].permute(2, 0, 1)
    return view.shown(slices, (8, 8))[4, 0]


@pytest.mark.parametrize("orientation", AXIAL)
def test_slices_of_a_size_grid_are_shown_the_right_way_up(cohort: Cohort, orientation: str):
    plan = make_plan().model_copy(update={"grid": SizeGrid(size=(8, 8, 8))})
    shown = picture(plan, turned(cohort, orientation), orientation)
    assert (shown[0] > shown[-1]).all(), "the front is above"
    assert (shown[:, 0] > shown[:, -1]).all(), "the patient's right is on the left"


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAI"])
def test_slices_of_a_spacing_grid_are_too_whatever_its_axes(cohort: Cohort, axes: str):
    plan = make_plan().model_copy(update={"grid": SpacingGrid(spacing=(1, 1, 1), orientation=axes)})
    for orientation in ("LPS", "RAI", "SRA"):
        shown = picture(plan, cohort, orientation)
        assert (shown[0] > shown[-1]).all() and (shown[:, 0] > shown[:, -1]).all()


def test_slices_that_are_not_axial_stand_upright(cohort: Cohort):
    sagittal = View(axes="AS").shown(torch.linspace(0, 1, 8).expand(1, 8, 8), (8, 8))[0, 0]
    assert (sagittal[0] > sagittal[-1]).all(), "the head is above"


@pytest.mark.parametrize(
    "axes", ["".join(pair) for pair in permutations("RAPLIS", 2) if set(pair) not in (set("RL"), set("AP"), set("IS"))]
)
def test_maps_are_turned_back_to_where_the_slice_has_them(axes: str):
    view, slices = View(axes=axes), torch.rand(2, 6, 4)
    assert torch.equal(view.turned_back(view.shown(slices, (6, 4)))[:, 0], slices)


def test_most_files_decide_which_way_is_up(cohort: Cohort):
    plan = make_plan().model_copy(update={"grid": SizeGrid(size=(8, 8, 8))})
    cases = [case.model_copy(update={"orientation": "RAS"}) for case in cohort.cases[:1]] + list(cohort.cases[1:])
    assert make_view(FkdConfig(), plan, cohort.model_copy(update={"cases": tuple(cases)}), STAGE, 16).axes == "LP"


def scale(spacing: tuple[float, float, float], grid: tuple[int, int, int], reduction: int) -> tuple[float, float]:
    plan = make_plan().model_copy(update={"grid": SpacingGrid(spacing=spacing)})
    return scale_that_resolves(plan, Stage("", 1, grid), reduction)


def test_the_automatic_scale_resolves_the_students_stage():
    # The patch has 32 voxels a side.
    assert scale((1.5, 1.5, 3), (4, 4, 4), 32) == (4, 4)
    assert scale((1.5, 1.5, 3), (4, 4, 4), 16) == (2, 2)
    assert scale((1.5, 1.5, 3), (8, 8, 4), 16) == (4, 4)
    # Nothing of the slice is lost for tokens that are fine already, and no picture is more than eight times as large.
    assert scale((1.5, 1.5, 3), (2, 2, 4), 8) == (1, 1)
    assert scale((1.5, 1.5, 3), (16, 16, 4), 32) == (8, 8)
    # Voxels of 4 x 1 mm and cells of 8 x 8 mm: square pixels of a quarter millimeter.
    assert scale((4, 1, 1), (16, 4, 4), 32) == (8, 2)


def test_tokens_are_no_coarser_than_the_stages_cells(cohort: Cohort):
    for settings in ({}, {"layers": 2}, {"layers": (-2,)}):
        config = FkdConfig(teacher="random:tf_efficientnet_lite0", scale="auto", **settings)
        foundation = fkd.teacher_of(config, make_plan(), cohort)
        x, y = foundation.tokens_of(32, 32)
        assert x >= 4 and y >= 4 and max(foundation.reductions) <= 8 * foundation.view.scale[0]


def test_a_teacher_of_cts_sees_hounsfield_units_as_it_was_trained(cohort: Cohort):
    view = make_view(FkdConfig(hounsfield=(65.0, 178.0)), make_plan(), cohort, STAGE, 16)
    assert view.gray is not None
    mean, deviation = view.gray
    for units in (-150.0, 0.0, 250.0):
        shown = (units + 150) / 400  # the plan's window
        assert (shown - mean) / deviation == pytest.approx((units - 65) / 178)
    percentiles = make_plan().model_copy(update={"modality": "MR", "window": PercentileWindow()})
    with pytest.raises(DinomixError, match=r"fkd\.hounsfield is for CT"):
        make_view(FkdConfig(hounsfield=(65.0, 178.0)), percentiles, cohort, STAGE, 16)


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [("scale", 9, "neither auto nor between"), ("scale", 0.01, "neither auto nor between"),
     ("layers", 0, "neither auto, a number"),
     ("layers", [], "neither auto, a number"), ("hounsfield", [0, 0], "no deviation")],
)  # fmt: skip
def test_impossible_settings_are_refused_in_a_sentence(setting: str, value: object, told: str):
    with pytest.raises(DinomixError, match=told):
        make_config("dino-mix", **{f"fkd.{setting}": value})
