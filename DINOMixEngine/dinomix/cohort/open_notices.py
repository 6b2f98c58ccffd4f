"""What there is to tell of a cohort's labels that leave something open."""

from collections.abc import Callable, Sequence
from typing import Any

from dinomix.cohort.cohort import Case, Cohort
from dinomix.events import Notice
from dinomix.labels import LabelSet
from dinomix.names import listed


def told_of(case: Case, labels: LabelSet) -> dict[str, Any]:
    """For the summary and the events: names of structures, and the labeled slices.

    Returns:
        ``drawn`` (completely, and there), ``absent``, ``not_drawn`` (or not completely; decided), ``undecided`` {list of names};
        ``labeled_slices`` {axis, numbers} or None; ``ignored``, whether there are voxels that nobody labeled.
    """
    by_state: dict[str, list[str]] = {"drawn": [], "absent": [], "not_drawn": [], "undecided": []}
    for structure in labels.structures if case.label is not None else ():
        if structure.id in case.undecided:
            state = "undecided"
        elif not case.has_drawn(structure.id):
            state = "not_drawn"
        else:
            state = "drawn" if case.voxels.get(structure.id) else "absent"
        by_state[state].append(structure.name)
    slices = case.labeled_slices.model_dump(mode="json") if case.labeled_slices is not None else None
    return {**by_state, "labeled_slices": slices, "ignored": bool(case.ignored)}


def is_healthy(case: Case) -> bool:
    """Whether its label says that there is no structure."""
    return case.label is not None and not any(case.voxels.values()) and case.drawn is None


def open_notices(cohort: Cohort) -> list[Notice]:
    """Full sentences about what labels leave open, and what that means."""
    cases = [case for case in cohort.cases if case.label is not None]
    names = dict(zip(cohort.labels.ids, cohort.labels.names, strict=True))
    return [
        *_undecided(cases, names),
        *_not_drawn(cases, names),
        *_never_whole(cohort, names),
        *_sliced(cases),
        *_ignored(cases),
        *_healthy(cases),
    ]


def told_nowhere_drawn(names: Sequence[str]) -> Notice:
    """Of what ``open_labels.nowhere_drawn`` gives."""
    return Notice(
        f"Label files name these structures, but nothing is drawn in them in any case, so the cohort does not have them: "
        f"{listed(names, 20)}. A training forgets what only its start model knows, unless it is told to keep that.",
        "To learn one of them, draw it in some cases.",
    )


def _undecided(cases: Sequence[Case], names: dict[int, str]) -> list[Notice]:
    lacking = _by_structure(cases, names, lambda case, id: id in case.undecided)
    if not lacking:
        return []
    return [Notice(
        f"Some cases lack structures that others show: {lacking}. Nobody said whether they are absent in these "
        "patients or were not drawn, so where nothing is drawn there, nothing is learned of them.",
        "Give --partial if they were not drawn; --absent NAME for a structure that patients may lack, such as a removed "
        "gallbladder (--absent all for any); or say it case by case in the list of --cases.",
        "partial",
    )]  # fmt: skip


def _not_drawn(cases: Sequence[Case], names: dict[int, str]) -> list[Notice]:
    missing = _by_structure(cases, names, lambda case, id: not case.has_drawn(id) and id not in case.undecided)
    if not missing:
        return []
    return [
        Notice(f"These structures were not drawn, so nothing is learned of them where nothing is drawn: {missing}.")
    ]


def _never_whole(cohort: Cohort, names: dict[int, str]) -> list[Notice]:
    training = cohort.with_role("labeled")
    shown = {id for case in training for id, count in case.voxels.items() if count}
    whole = {id for case in training for id, count in case.voxels.items() if count and case.has_drawn(id)}
    if not (never := [names[id] for id in sorted(shown - whole)]):
        return []
    return [Notice(
        f"No labeled case has these structures drawn completely: {listed(never)}. Where they are not drawn counts as background "
        "for them, since nothing else would teach where they are not."
    )]  # fmt: skip


def _sliced(cases: Sequence[Case]) -> list[Notice]:
    sliced = [
        f"{case.name} ({len(case.labeled_slices.numbers)} of {case.size['ijk'.index(case.labeled_slices.axis)]})"
        for case in cases
        if case.labeled_slices is not None
    ]
    if not sliced:
        return []
    return [Notice(
        f"Only some slices of these cases are labeled: {listed(sliced, 3)}. Of the slices between them nothing is learned but "
        "what pseudo-labels say.",
        "If all slices were labeled, give --labeled-slices all.", "labeled-slices",
    )]  # fmt: skip


def _ignored(cases: Sequence[Case]) -> list[Notice]:
    ignored = [case.name for case in cases if case.ignored]
    return [Notice(f"Voxels marked as ignore are left out, of {listed(ignored, 3)}.")] if ignored else []


def _healthy(cases: Sequence[Case]) -> list[Notice]:
    healthy = [case.name for case in cases if is_healthy(case)]
    if not healthy:
        return []
    return [Notice(
        f"The labels of these cases hold no structure, and teach where there is none: {listed(healthy, 3)}.",
        "If they were not labeled yet, move them to a folder that is given after --unlabeled.", "no-structure",
    )]  # fmt: skip


def _by_structure(cases: Sequence[Case], names: dict[int, str], lacks: Callable[[Case, int], bool]) -> str:
    """ "spleen (case_1, case_4 and 3 more), pancreas (case_2)"."""
    lacking = {name: [case.name for case in cases if lacks(case, id)] for id, name in names.items()}
    return listed([f"{name} ({listed(of, 3)})" for name, of in lacking.items() if of])
