"""What a check found, case by case, for a window that shows it; told before the check succeeds or fails."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dinomix.cohort.facts import CaseFacts
from dinomix.cohort.naming import LabelContent
from dinomix.cohort.problems import Problem
from dinomix.cohort.splitting import CaseWithRole
from dinomix.events import Emit
from dinomix.labels import LabelSet
from dinomix.names import normalized_name


def tell_cases(
    cases: Sequence[CaseWithRole],
    facts: Mapping[str, CaseFacts],
    as_found: Mapping[str, LabelContent],
    contents: Mapping[str, LabelContent],
    labels: LabelSet | None,
    opened: Mapping[str, Mapping[str, Any]],
    emit: Emit,
) -> None:
    """Announce a ``case`` event for each case that could be read, and one ``names`` event.

    Args:
        as_found, contents: case name -> what its label file holds, before and after renaming.
        labels: None where the structures could not be told.
        opened: case name -> what its label leaves open, as ``open_notices.told_of`` tells it.
    """
    known = {normalized_name(name): name for name in labels.names} if labels else {}
    by_id = dict(zip(labels.ids, labels.names, strict=True)) if labels else {}
    for c in cases:
        name = c.case.name
        if name not in facts:
            continue
        found = facts[name]
        voxels: Counter[str] = Counter()
        if name in contents:
            for value in contents[name].values:
                called = contents[name].names.get(value) or by_id.get(value) or f"class_{value}"
                voxels[known.get(normalized_name(called), called)] += found.counts[value]
        emit(
            "case",
            name=name,
            role=c.role,
            image=str(c.case.image),
            label=None if c.case.label is None else str(c.case.label),
            size=found.geometry.size,
            spacing=found.geometry.spacing,
            orientation=found.orientation,
            patient=c.patient,
            voxels=dict(voxels),
            **opened.get(name, {}),
            more_images=[str(image) for image in c.case.more_images],
        )
    emit("names", names=_names(as_found, contents, known, by_id))


def tell_problems(problems: Sequence[Problem], cases: Sequence[CaseWithRole], emit: Emit) -> None:
    """Announce a ``problem`` event for each, with what is known of its case, which may have no ``case`` event."""
    known = {c.case.name: c for c in cases}
    for problem in problems:
        c = known.get(problem.case) if problem.case is not None else None
        emit(
            "problem",
            case=problem.case,
            file=None if problem.file is None else str(problem.file),
            **problem.fields,
            role=None if c is None else c.role,
            image=None if c is None else str(c.case.image),
            label=None if c is None or c.case.label is None else str(c.case.label),
        )


def _names(
    as_found: Mapping[str, LabelContent],
    contents: Mapping[str, LabelContent],
    known: Mapping[str, str],
    by_id: Mapping[int, str],
) -> list[dict[str, object]]:
    """Each name as the label files have it, in how many cases, and what it is in the label set, if anything."""
    shown: dict[str, str] = {}
    cases: Counter[str] = Counter()
    matched: dict[str, str | None] = {}
    for case, content in as_found.items():
        for value in content.values:
            name = content.names.get(value, f"class_{value}")
            key = normalized_name(name)
            shown.setdefault(key, name)
            cases[key] += 1
            new = contents[case].names.get(value)
            # Without names, a value is the number of a structure.
            matched[key] = by_id.get(value) if not content.names else known.get(normalized_name(new)) if new else None
    return [{"name": name, "cases": cases[key], "matched": matched[key]} for key, name in shown.items()]
