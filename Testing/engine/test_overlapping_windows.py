"""How far the windows of a trained model overlap: as little as its validation cases allow."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinomix.models.folder import Model, load_model
from dinomix.planning.plan import Plan, SpacingGrid
from dinomix.training import overlapping_windows
from dinomix.training.arranging import arrange
from dinomix.training.overlapping_windows import DECIDED, chosen_overlap
from dinomix.training.train import train
from tiny_cohort import make_cohort, make_plan, small_config

SIZES = [(160, 160, 160), (200, 160, 160)]


def dice_by(values: dict[float, float]) -> Callable[..., dict[str, float | None]]:
    """In place of segmenting the validation cases: the Dice by the plan's overlap."""

    def dice(model: Model, plan: Plan, *rest: Any) -> dict[str, float | None]:
        return {"liver": values[plan.overlap[0]], "gallbladder": 0.5}

    return dice


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Model]:
    folder = tmp_path_factory.mktemp("overlap")
    cohort = make_cohort(folder / "cases", validation=2)
    config = small_config("labeled-only", steps=2, validate_every=2, cheapest_overlap=False)
    return cohort, load_model(train(cohort, folder / "run", config, make_plan()))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({0.5: 0.8, 0.125: 0.799, 0.25: 0.9, 0.375: 0.9}, 0.125),
        ({0.5: 0.8, 0.125: 0.797, 0.25: 0.799, 0.375: 0.8}, 0.25),
        ({0.5: 0.8, 0.125: 0.7, 0.25: 0.79, 0.375: 0.797}, None),
    ],
)
def test_the_cheapest_that_costs_nothing_is_taken(trained, values, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, model = trained
    monkeypatch.setattr(overlapping_windows, "_dice", dice_by(values))
    found = chosen_overlap(model, cohort, SIZES, "cpu", lambda *_, **__: None)
    assert (found.overlap if found else None) == expected
    if found:
        before, after = found.windows
        assert before > after > 0 and found.as_data["dice"]["before"]["liver"] == 0.8


def test_nothing_is_tried_where_there_is_nothing_to_gain_or_to_decide_by(
    trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, model = trained
    monkeypatch.setattr(overlapping_windows, "_dice", lambda *_: pytest.fail("nothing is to be segmented"))
    silent = lambda *_, **__: None  # noqa: E731
    assert chosen_overlap(model, cohort, [model.plan.patch] * 2, "cpu", silent) is None
    for update in ({"overlap": (0.3,) * 3}, {"reasons": {"overlap": "given by the user"}}):
        other = replace(model, plan=model.plan.model_copy(update=update))
        assert chosen_overlap(other, cohort, SIZES, "cpu", silent) is None
    monkeypatch.setattr(overlapping_windows, "is_decided", lambda cohort: False)
    assert chosen_overlap(model, cohort, SIZES, "cpu", silent) is None


def test_a_structure_that_no_case_shows_decides_against_it(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, model = trained
    monkeypatch.setattr(overlapping_windows, "_dice", lambda *_: {"liver": 0.8, "gallbladder": None})
    assert chosen_overlap(model, cohort, SIZES, "cpu", lambda *_, **__: None) is None


def test_of_overlaps_with_as_many_windows_the_largest_is_taken(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, model = trained
    side = model.plan.patch[0]
    monkeypatch.setattr(overlapping_windows, "_dice", lambda *_: {"liver": 0.8, "gallbladder": 0.8})
    found = chosen_overlap(model, cohort, [(2 * side, side, side)] * 2, "cpu", lambda *_, **__: None)
    assert found is None, "windows of a volume of two patches overlap by a half, or there would be gaps"
    found = chosen_overlap(model, cohort, [(3 * side, side, side)] * 2, "cpu", lambda *_, **__: None)
    assert found and found.overlap == 0.25 and found.windows == (10, 8)


def test_a_run_decides_by_its_cases_and_one_that_starts_there_decides_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(tmp_path / "cases", validation=2)
    cohort.write(tmp_path / "cohort.json")
    monkeypatch.setattr(overlapping_windows, "LOSS", 1.0)
    plan = make_plan().model_copy(update={"grid": SpacingGrid(spacing=(0.25, 1.0, 1.0))})
    path = train(cohort, tmp_path / "run", small_config("labeled-only", steps=2, validate_every=2), plan)
    model = load_model(path)
    assert model.plan.overlap == (0.25,) * 3 and model.plan.reasons["overlap"] == DECIDED
    told = model.record["overlap"]
    assert told["windows"]["after"] < told["windows"]["before"] and set(told["dice"]["after"]) == set(
        model.labels.names
    )
    assert "Windows overlap by 0.25" in (path / "README.md").read_text()
    again = arrange(tmp_path / "cohort.json", method="labeled-only", start=path, device="cpu")
    assert again.plan.overlap == (0.5,) * 3 and "overlap" not in again.plan.reasons
    # A plan of one's own stays, whatever model is started from.
    model.plan.model_copy(update={"overlap": (0.375,) * 3, "reasons": {}}).write(tmp_path / "mine.json")
    mine = arrange(
        tmp_path / "cohort.json", method="labeled-only", start=path, plan=tmp_path / "mine.json", device="cpu"
    )
    assert mine.plan.overlap == (0.375,) * 3
