"""Which cases to label first, before there is any model: those that represent the others best.

Each case is told by what its image shows without any network, see ``image_features``. Then one case after the other is taken,
each time the one that brings all cases nearest to those taken: the greedy solution of the k-medoids problem, whose gain is at
least 63% of what the best choice of so many cases could have (Nemhauser, Wolsey and Fisher, 1978), and whose first cases stay
the same however many are asked for. Unlike the farthest cases, they are none that are like no other.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.case_images import read_first_image
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.finding import find_cases
from dinomix.cohort.listing import read_cases
from dinomix.cohort.problems import Problem, raise_if_any
from dinomix.errors import DEFECTS, DinomixError, told_of
from dinomix.events import Emit, Progress, silent
from dinomix.files import read_json, write_json
from dinomix.training.next_case.image_features import ImageFeatures, distances, features_of

MOST, OF_ALL = 10, 3
"""Cases that are chosen if nobody says how many: so many, but at most one of ``OF_ALL`` unlabeled ones."""


class Imaged(NamedTuple):
    """A case before its label: its images, and whether it has one."""

    name: str
    images: tuple[Path, ...]
    is_labeled: bool


def rank_images(
    cases: Sequence[Imaged], count: int | None = None, *, out: Path | None = None, emit: Emit = silent
) -> dict[str, Any]:
    """Choose the unlabeled cases that, with the labeled ones, represent all best.

    Args:
        count: how many are chosen, see ``MOST``; all where there are fewer.
        out: a file for the result.

    Returns:
        ``cases``, the one to label first at the beginning, [{name, image, represents (how many of the cases are most like
        this one of those chosen or labeled, itself among them), nearest (names of up to three others of these)}].

    Raises:
        DinomixError: no unlabeled case, or, after the others are done, some could not be read.
    """
    began = time.monotonic()
    if all(case.is_labeled for case in cases):
        raise DinomixError(
            "There is no unlabeled case to choose from.", "Give some with `dinomix check --unlabeled`.", "no-unlabeled"
        )
    known: list[Imaged] = []
    features: list[ImageFeatures] = []
    progress = Progress(emit, "look at the cases", len(cases))
    for number, case in enumerate(cases, 1):
        try:
            features.append(features_of(read_first_image(case.images)))
            known.append(case)
        except (DinomixError, OSError, MemoryError, *DEFECTS) as error:
            told = told_of(error, case.images[0])
            emit("error", **{**told.fields, "message": f"{case.name}: {told.problem}"})
        progress(number)
    unlabeled = sum(not case.is_labeled for case in known)
    wanted = min(MOST, max(unlabeled // OF_ALL, 1)) if count is None else count
    result = {"by": "representative", "cases": _chosen(known, distances(features), min(wanted, unlabeled))}
    if out is not None:
        write_json(out, result)
    if len(known) < len(cases):
        failed = len(cases) - len(known)
        raise DinomixError(f"{failed} of {len(cases)} cases could not be looked at.", "The messages before say why.")
    emit("finished", path=str(out) if out is not None else "", seconds=time.monotonic() - began)
    return result


def _chosen(cases: Sequence[Imaged], apart: NDArray[np.floating], count: int) -> list[dict[str, Any]]:
    labeled = [number for number, case in enumerate(cases) if case.is_labeled]
    order = medoids(apart, labeled, count)
    centers = np.array([*labeled, *order], int)
    nearest = centers[apart[:, centers].argmin(1)] if len(centers) else centers
    told = []
    for number in order:
        others = [int(n) for n in np.flatnonzero(nearest == number) if n != number]
        told.append({
            "name": cases[number].name,
            "image": str(cases[number].images[0]),
            "represents": 1 + len(others),
            "nearest": [cases[n].name for n in sorted(others, key=lambda n: apart[n, number])[:3]],
        })  # fmt: skip
    return told


def medoids(apart: NDArray[np.floating], taken: Sequence[int], count: int) -> list[int]:
    """``count`` further members, each time the one by which the sum of all distances to the nearest taken falls the most.

    Args:
        apart: (n, n) distances.
        taken: members that are there already.
    """
    nearest = apart[:, list(taken)].min(1) if len(taken) else np.full(len(apart), 2 * apart.max(initial=0.0) + 1)
    left = np.ones(len(apart), bool)
    left[list(taken)] = False
    order: list[int] = []
    for _ in range(count):
        sums = np.minimum(apart, nearest[:, None]).sum(0)
        number = int(np.where(left, sums, np.inf).argmin())
        left[number] = False
        nearest = np.minimum(nearest, apart[:, number])
        order.append(number)
    return order


def cases_in(places: Sequence[Path]) -> list[Imaged]:
    """The labeled and unlabeled cases of cohort files, of lists of cases as `dinomix check --cases` takes them, and of folders.

    Raises:
        CohortError, DinomixError: there are none, or a place is nothing of these.
    """
    found = find_cases([], [place for place in places if place.is_dir()], [])
    raise_if_any(found.problems)
    cases = [Imaged(case.name, case.images, False) for case in found.cases]
    for file in (place for place in places if not place.is_dir()):
        cases += _listed(file) if _holds_list(file) else _of_cohort(Cohort.read(file))
    return cases


def _listed(file: Path) -> list[Imaged]:
    problems: list[Problem] = []
    listed, _ = read_cases(file, problems)
    raise_if_any(problems)
    return [Imaged(c.name, c.images, c.label is not None) for c in listed if c.pool in ("labeled", "unlabeled")]


def _of_cohort(cohort: Cohort) -> list[Imaged]:
    both = (*cohort.with_role("labeled"), *cohort.with_role("unlabeled"))
    return [Imaged(case.name, case.images, case.label is not None) for case in both]


def _holds_list(file: Path) -> bool:
    try:
        return isinstance(read_json(file), list)
    except (OSError, ValueError):
        return False
