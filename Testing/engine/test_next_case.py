"""The strategies of ``dinomix rank``: each puts cases into the order that its figures say, or draws as often as it should."""

from collections import Counter

import numpy as np
import pytest
import torch

from dinomix.inference.entropy import Entropies
from dinomix.training.next_case import STRATEGIES, strategy_of
from dinomix.training.next_case.clasp_pe import beta_with
from dinomix.training.next_case.strategy import Pool, Seen


def seen(name: str, *, patient: str = "", voxels=(10, 10), dice=(0.9, 0.9), entropies=(0.5, 0.5), entropy=0.5,
         disagreement=(0.1, 0.1)) -> Seen:  # fmt: skip
    """A case with a liver and a spleen."""
    of = [dict(zip(("liver", "spleen"), values, strict=True)) for values in (voxels, dice, entropies, disagreement)]
    return Seen(name, patient or name, of[0], of[1], entropy, of[2], of[3])


def order(by: str, cases: list[Seen], seed: int = 0, **pool) -> str:
    return "".join(place.case.name for place in strategy_of(by).rank(Pool(cases, **pool), seed))


def test_disagreement_is_a_mean_over_what_either_finds():
    cases = [
        seen("a", disagreement=(0.2, 0.4)),
        seen("b", disagreement=(None, None)),
        seen("c", disagreement=(None, 0.5)),
        seen("d", disagreement=(0.0, 0.1)),
    ]
    assert order("disagreement", cases) == "cadb"
    (first, *_) = strategy_of("disagreement").rank(Pool(cases), 0)
    assert first.score == 0.5 and first.classes == {"liver": None, "spleen": 0.5}


def test_what_was_missed_has_no_dice_where_all_labeled_cases_show_it():
    cases = [
        seen("a", dice=(0.8, 0.6)),
        seen("b", dice=(0.9, None)),
        seen("c", dice=(None, None)),
        seen("d", dice=(0.5, 0.7)),
    ]
    assert order("predicted-dice", cases) == "dabc"
    assert order("predicted-dice", cases, everywhere=frozenset({"spleen"})) == "cbda"


def test_by_chance_each_order_comes_and_a_seed_repeats_it():
    cases = [seen(name) for name in "abc"]
    orders = Counter(order("random", cases, seed) for seed in range(300))
    assert len(orders) == 6 and min(orders.values()) > 25
    assert order("random", cases, 7) == order("random", cases, 7)


def test_foreground_random_prefers_the_cases_that_show_the_rare_structure():
    cases = [seen("a", voxels=(100, 0)), seen("b", voxels=(100, 50)), seen("c", voxels=(0, 0))]
    first = Counter(order("foreground-random", cases, seed)[0] for seed in range(2000))
    # A third by chance alone; of the rest half by the spleen, which only b has, and half by the liver.
    for name, share in (("a", 1 / 9 + 1 / 6), ("b", 1 / 9 + 1 / 6 + 1 / 3), ("c", 1 / 9)):
        assert first[name] / 2000 == pytest.approx(share, abs=0.035)
    told = {place.case.name: place.classes for place in strategy_of("foreground-random").rank(Pool(cases), 0)}
    assert told == {
        "a": {"liver": 0.5, "spleen": None},
        "b": {"liver": 0.5, "spleen": 1},
        "c": {"liver": None, "spleen": None},
    }


def test_clasp_takes_the_strata_in_turns_once_the_noise_is_gone():
    cases = [
        seen("a", entropy=0.9, entropies=(0.1, 0.1)),
        seen("b", entropy=0.5, entropies=(0.8, 0.1)),
        seen("c", entropy=0.5, entropies=(0.1, 0.8)),
        seen("d", entropy=0.2, entropies=(0.2, 0.2)),
        seen("e", entropy=None, entropies=(None, None)),
    ]
    labeled = Counter(other=10)
    for seed in range(10):
        found = order("clasp-pe", cases, seed, labeled=labeled)
        assert sorted(found[:3]) == ["a", "b", "c"] and found[-1] == "e"
    with_noise = {order("clasp-pe", cases, seed, labeled=Counter(other=2))[:3] for seed in range(40)}
    assert any("d" in first for first in with_noise)


def test_the_noise_shrinks_by_equal_factors_while_cases_are_labeled():
    betas = [beta_with(labeled) for labeled in (0, 2, 4, 6, 8, 10, 50)]
    assert betas == pytest.approx([1, 1, 10**0.5, 10, 10**1.5, 100, 100])


@pytest.mark.parametrize("by", STRATEGIES)
def test_cases_of_one_patient_are_not_asked_for_together(by: str):
    cases = [seen(name, patient=name.lower()) for name in "aAbBcC"]
    labeled = Counter(c=1)
    for seed in range(5):
        found = order(by, cases, seed, labeled=labeled)
        assert sorted(found[:2].lower()) == ["a", "b"] and found[5].lower() == "c"
        assert len(set(found)) == 6
    assert order(by, []) == ""
    blank = [seen(n, voxels=(0, 0), dice=(None, None), entropies=(None, None), entropy=None, disagreement=(None, None))
             for n in "ab"]  # fmt: skip
    assert sorted(order(by, blank)) == ["a", "b"]


def test_entropies_are_of_what_is_likely_the_structure_and_slabs_do_not_matter():
    probabilities = torch.full((3, 6, 2, 2), 1e-9)
    probabilities[0] = 1
    probabilities[:, 0] = torch.tensor([0.5, 0.5, 1e-9])[:, None, None]
    probabilities[:, 1] = torch.tensor([1e-9, 1, 1e-9])[:, None, None]
    probabilities[:, 2] = torch.tensor([0.95, 1e-9, 0.05])[:, None, None]
    logits = probabilities.log()
    whole, parts = Entropies(3), Entropies(3)
    whole.add(logits)
    for slab in logits.split(1, 1):
        parts.add(slab)
    undecided = np.log(2) / np.log(3)
    assert whole.means()[:2] == pytest.approx([undecided / 3, undecided / 3], abs=1e-5)
    assert whole.means()[2] is None
    assert parts.means()[:2] == pytest.approx(whole.means()[:2])
