"""Pieces removed from results: as the validation cases of a training decide, and as asked; against the same in plain loops."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label as pieces_of

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.asked_clean_up import asked_rules
from dinomix.inference.options import Options
from dinomix.inference.segment import segment_volume
from dinomix.inference.several_models import Models, segment_by_all
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model
from dinomix.planning.connected_components import clean_up
from dinomix.planning.plan import CleanUp
from dinomix.training import cleaning
from dinomix.training.cleaning import Pieces, best_rule
from dinomix.training.train import train
from random_models import labels_with_ids, random_model, small_plan
from tiny_cohort import make_cohort, make_plan, small_config

VOXEL = 0.008  # ml, of 2 mm
GEOMETRY = Geometry((16, 20, 24), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def spots(*sides: int) -> np.ndarray:
    """Cubes apart from each other, (k, j, i)."""
    array = np.zeros((24, 20, 16), np.uint8)
    for number, side in enumerate(sides):
        array[number * 6 : number * 6 + side, :side, :side] = 1
    return array


def test_pieces_below_a_size_go_and_of_the_largest_nothing() -> None:
    labels = spots(5, 4, 2)
    labels[20:22, 10:12, 10:12] = 2
    for rules in ({1: None}, {1: 65 * VOXEL}, {1: 64 * VOXEL}, {1: 0.001, 2: 1.0}):
        expected = labels.copy()
        for value, smallest in rules.items():
            found, count = pieces_of(labels == value, np.ones((3, 3, 3)))
            sizes = [(found == piece).sum() for piece in range(1, count + 1)]
            for piece, size in enumerate(sizes, 1):
                if size < max(sizes) if smallest is None else size * VOXEL < smallest:
                    expected[found == piece] = 0
        cleaned = labels.copy()
        removed = clean_up(cleaned, rules, VOXEL)
        assert np.array_equal(cleaned, expected) and removed == set(labels[cleaned != labels])


def test_the_dice_of_each_rule_is_that_of_the_cleaned_labels() -> None:
    predicted, reference = spots(5, 4, 2), spots(5, 3)
    pieces = Pieces.of(Volume(predicted, GEOMETRY), Volume(reference, GEOMETRY), 1)
    for smallest in (0.0, 0.1, 0.6, 5.0, None):
        cleaned = predicted.copy()
        clean_up(cleaned, {1: smallest}, VOXEL)
        dice = 2 * (cleaned & reference).sum() / (cleaned.sum() + reference.sum())
        assert pieces.dice(smallest) == pytest.approx(dice)


def pieces(predicted: np.ndarray, reference: np.ndarray) -> Pieces:
    return Pieces.of(Volume(predicted, GEOMETRY), Volume(reference, GEOMETRY), 1)


def test_a_rule_must_help_in_the_mean_and_harm_nowhere() -> None:
    wrong, right = pieces(spots(5, 2), spots(5)), pieces(spots(5), spots(5))
    smallest, before, after = best_rule([wrong, right])
    assert smallest == 0.1 and after == 1.0 and before == pytest.approx((wrong.dice() + 1) / 2)  # 8 voxels are 0.064 ml
    two_parts = pieces(spots(5, 2), spots(5, 2))
    assert best_rule([wrong, two_parts]) is None, "the other case has a small piece that is right"
    larger = pieces(spots(5, 5, 5), spots(5, 0, 0))
    assert best_rule([larger, larger])[0] is None, "only the largest piece alone helps"
    assert best_rule([wrong]) is None and best_rule([right, right]) is None


def test_a_run_decides_and_its_model_obeys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = make_cohort(tmp_path / "cases", validation=2)
    rule = CleanUp(channel=2, smallest=0.05)
    monkeypatch.setattr(cleaning, "best_rule", lambda pieces: (rule.smallest, 0.5, 0.6))
    path = train(cohort, tmp_path / "run", small_config("labeled-only", steps=2, validate_every=2), make_plan())
    model = load_model(path)
    assert rule in model.plan.clean_up and model.record["clean_up"]["gallbladder"]["kept"] == "0.05 ml"
    assert "of gallbladder only pieces of at least 0.05 ml" in (path / "README.md").read_text()


def test_as_asked(tmp_path: Path) -> None:
    labels = LabelSet.from_names({1: "liver", 2: "spleen"})
    assert asked_rules({"": "0.5 ml", "Liver": "largest"}, labels) == {1: None, 2: 0.5}
    for wrong, problem in (
        ({"liver": "most"}, "neither largest nor a size"),
        ({"kidney": "largest"}, "no structure kidney"),
    ):
        with pytest.raises(DinomixError, match=problem):
            asked_rules(wrong, labels)
    model = random_model(tmp_path / "model", small_plan(), labels_with_ids(1, 2))
    image = Volume(np.random.default_rng(0).normal(size=(24, 20, 16)).astype(np.float32), GEOMETRY)
    plain = segment_volume(image, model, device="cpu", precision="float32").array
    cleaned = segment_by_all(
        [image], 0, Models.of(model), Options("cpu", precision="float32", clean_up={"": "largest"})
    ).array
    clean_up(plain, {1: None, 2: None}, VOXEL)
    assert np.array_equal(cleaned, plain)
