"""Roles drawn by patient or given by a file."""

import json
from collections import Counter
from pathlib import Path

import pytest

from dinomix.cohort.found import FoundCase, Pool
from dinomix.cohort.splitting import CaseWithRole, Draw, drawn_roles, given_roles, read_split
from dinomix.errors import DinomixError
from dinomix.events import Notice


def found(names: list[str], pool: Pool = "labeled") -> list[FoundCase]:
    return [FoundCase(n, n, pool, Path(f"{n}.nii"), None if pool == "unlabeled" else Path(f"{n}-l.nii")) for n in names]


def roles(cases: list[CaseWithRole]) -> dict[str, str]:
    return {c.case.name: c.role for c in cases}


TWENTY = [f"p{number:02d}" for number in range(20)]
# Ten patients with two visits each.
VISITS = [f"pat{number}_v{visit}" for number in range(10) for visit in (1, 2)]


def test_the_draw_hangs_on_the_seed_and_not_on_the_order_of_files() -> None:
    draws = [
        roles(drawn_roles(found(names), Draw(4, 0.25, 6, seed), None, []))
        for seed, names in ((1, TWENTY), (1, TWENTY[::-1]), (2, TWENTY))
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert Counter(draws[0].values()) == {"test": 5, "validation": 4, "labeled": 6, "unlabeled": 5}


def test_fewer_labeled_cases_are_a_part_of_more_and_leave_the_test_cases_alone() -> None:
    few, many = (roles(drawn_roles(found(TWENTY), Draw(0, 5, n, 3), None, [])) for n in (2, 6))
    assert {n for n, r in few.items() if r == "labeled"} < {n for n, r in many.items() if r == "labeled"}
    assert {n for n, r in few.items() if r == "test"} == {n for n, r in many.items() if r == "test"}


def test_patients_are_never_split_apart() -> None:
    problems: list[DinomixError] = []
    cases = drawn_roles(found(VISITS), Draw(4, 6, 4), r"^(pat\d+)_", problems)
    assert not problems
    for patient in {c.patient for c in cases}:
        assert len({c.role for c in cases if c.patient == patient}) == 1, patient
    assert Counter(c.role for c in cases) == {"test": 6, "validation": 4, "labeled": 4, "unlabeled": 6}


def test_a_number_that_whole_patients_cannot_give_is_refused() -> None:
    problems: list[DinomixError] = []
    drawn_roles(found(VISITS), Draw(validation=3), r"^(pat\d+)_", problems)
    assert "validation cases (3)" in problems[0].problem


def test_a_patient_with_unlabeled_scans_is_not_drawn_for_validation() -> None:
    cases = [*found(VISITS), *found([f"pat{n}_v3" for n in range(9)], "unlabeled")]
    drawn = drawn_roles(cases, Draw(validation=2), r"^(pat\d+)_", [])
    assert {c.patient for c in drawn if c.role == "validation"} == {"pat9"}


def test_a_patient_in_training_and_test_is_refused() -> None:
    problems: list[DinomixError] = []
    drawn_roles([*found(["pat1_v1", "pat2_v1"]), *found(["pat1_v2"], "test")], Draw(), r"^(pat\d+)_", problems)
    assert len(problems) == 1
    assert all(word in problems[0].problem for word in ('"pat1"', "pat1_v1.nii", "pat1_v2.nii"))


def test_a_pattern_that_does_not_fit_every_case_is_refused() -> None:
    problems: list[DinomixError] = []
    drawn_roles(found(["pat1_v1", "other"]), Draw(), r"^(pat\d+)_", problems)
    assert '"other"' in problems[0].problem
    with pytest.raises(DinomixError, match="regular expression"):
        drawn_roles(found(["pat1_v1"]), Draw(), "(", [])


def test_cases_made_unlabeled_lose_their_labels() -> None:
    cases = drawn_roles(found(TWENTY), Draw(labeled_count=3), None, [])
    assert [c.case.label is None for c in cases] == [c.role == "unlabeled" for c in cases]


def test_a_given_split_with_numbers_only_at_the_names_ends(tmp_path: Path) -> None:
    file = tmp_path / "splits: all.json"
    file.write_text(
        json.dumps({"a": {"labeled": ["0001"], "unlabeled": ["0002"], "val": ["0003"], "test": ["img0004"]}})
    )
    split = read_split(f"{file}:a")
    problems: list[DinomixError] = []
    notices: list[Notice] = []
    names = ["img0001", "img0002", "img0003", "img0004", "img0005", "img10001"]
    cases = given_roles(found(names), split, "splits", None, problems, notices)
    assert not problems
    assert roles(cases) == {"img0001": "labeled", "img0002": "unlabeled", "img0003": "validation", "img0004": "test"}
    assert cases[1].case.label is None
    assert "2 of 6" in notices[0].message


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ({"labeled": ["a", "x"]}, '"x", which is in none'),
        ({"labeled": ["a"], "test": ["a"]}, "as labeled and as test"),
        ({"labeled": ["a"], "validation": ["u"]}, "without a label"),
    ],
)
def test_a_split_that_does_not_fit(split: dict, says: str) -> None:
    problems: list[DinomixError] = []
    given_roles([*found(["a", "b"]), *found(["u"], "unlabeled")], split, "split.json", None, problems, [])
    assert says in problems[0].problem


@pytest.mark.parametrize(
    ("data", "key", "says"),
    [
        ({"one": {"labeled": ["a"]}}, "", "one"),
        ({"one": {"labeled": ["a"]}}, ":two", "one"),
        ({"labeled": "a"}, "", "not a list"),
        ({"test": ["a"]}, "", "no labeled case"),
        ([1], "", "no table of names"),
    ],
)
def test_a_file_that_is_no_split(tmp_path: Path, data: object, key: str, says: str) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps(data))
    with pytest.raises(DinomixError, match=says):
        read_split(f"{file}{key}")
