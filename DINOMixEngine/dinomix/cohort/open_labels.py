"""What the label of a case leaves open: which structures were drawn, which values nobody labeled, and which slices.

A structure that a case lacks, and others have, is absent in the patient, or was not drawn. Nobody can see that in the files; what
is not decided counts as not drawn, since the two mistakes are not alike: an organ that is there and is learned as background
is unlearned from all cases, while one that is absent and counts as unknown only leaves out some of the examples of its absence,
and none where another structure was drawn.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dinomix.cohort.cohort import LabeledSlices
from dinomix.cohort.facts import CaseFacts
from dinomix.cohort.found import Findings
from dinomix.cohort.labeled_slices import drawn_slices, found_slices
from dinomix.cohort.problems import Problem
from dinomix.cohort.renaming import Renames
from dinomix.cohort.said import Decisions, Said, Slices
from dinomix.cohort.splitting import CaseWithRole
from dinomix.labels import LabelSet
from dinomix.names import listed, normalized_name

Voxels = Mapping[int, int]


@dataclass(frozen=True)
class OpenLabel:
    """As ``Case`` has it."""

    drawn: tuple[int, ...] | None = None
    undecided: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    labeled_slices: LabeledSlices | None = None


def open_labels(
    cases: Sequence[CaseWithRole],
    facts: Mapping[str, CaseFacts],
    voxels: Mapping[str, Voxels],
    labels: LabelSet,
    nowhere: Sequence[str],
    decisions: Decisions,
    renames: Renames,
    problems: list[Problem],
) -> dict[str, OpenLabel]:
    """Case name -> what its label leaves open, for the cases with a label.

    Args:
        voxels: case name -> structure id -> count.
        nowhere: names that the label files have as well, and that are no structures of the cohort; see ``nowhere_drawn``.
    """
    problems += _unknown_names(cases, (*labels.names, *nowhere), decisions)
    shown = {id for c in cases if c.role == "labeled" for id, n in voxels.get(c.case.name, {}).items() if n}
    return {
        c.case.name: OpenLabel(
            *_drawn(c, voxels[c.case.name], shown, labels, decisions, renames, problems),
            ignored=facts[c.case.name].ignored,
            labeled_slices=_slices(c, facts[c.case.name], decisions, problems),
        )
        for c in cases
        if c.case.name in voxels
    }


def _drawn(
    c: CaseWithRole,
    voxels: Voxels,
    shown: set[int],
    labels: LabelSet,
    decisions: Decisions,
    renames: Renames,
    problems: list[Problem],
) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """The structures that were drawn completely, None for all; and those of the others that nobody has decided on."""
    said = decisions.cases.get(c.case.name, Said())
    present = {id for id in labels.ids if voxels.get(id)}
    absent, not_drawn = _ids(said.absent, labels), _ids(said.not_drawn, labels)
    if wrong := absent & present:
        names = [name for id, name in zip(labels.ids, labels.names, strict=True) if id in wrong]
        problems.append(Problem(
            f"{c.case.label} shows {listed(names)}, said to be absent in {c.case.name}.",
            "Take it out of what is absent there, or out of the label.", "said", case=c.case.name, file=c.case.label,
        ))  # fmt: skip
    if said.drawn is not None:
        drawn = (_ids(said.drawn, labels) | absent) - not_drawn
        return _none_for_all(drawn, labels), ()
    # A label without any structure is that of a healthy patient, but for structures that have no mask; and of a structure that is
    # nowhere, nothing is asked.
    of_layout = _ids([renames(name) for name in c.case.drawn or () if not renames.drops(name)], labels)
    lacking = shown - present - absent - of_layout if present or c.case.drawn is not None else set()
    lacking = {
        id for id, name in zip(labels.ids, labels.names, strict=True) if id in lacking and not decisions.is_absent(name)
    }
    undecided = set() if decisions.partial else lacking - not_drawn
    return _none_for_all(set(labels.ids) - lacking - not_drawn, labels), tuple(sorted(undecided))


def _none_for_all(drawn: set[int], labels: LabelSet) -> tuple[int, ...] | None:
    return None if drawn == set(labels.ids) else tuple(sorted(drawn))


def _slices(c: CaseWithRole, facts: CaseFacts, decisions: Decisions, problems: list[Problem]) -> LabeledSlices | None:
    slices: Slices = decisions.cases.get(c.case.name, Said()).slices or decisions.slices
    if slices == "all":
        return None
    if slices == "drawn":
        return drawn_slices(facts.runs)
    if slices == "found":
        return found_slices(facts.runs, facts.geometry.size)
    last = facts.geometry.size["ijk".index(slices.axis)] - 1
    if max(slices.numbers) > last:
        problems.append(Problem(
            f"{c.case.name} has no slice {max(slices.numbers)} along {slices.axis}: the last one is {last}.",
            "Count slices from 0.", "said", case=c.case.name, file=c.case.image,
        ))  # fmt: skip
    return slices


def _ids(names: Sequence[str], labels: LabelSet) -> set[int]:
    wanted = {normalized_name(name) for name in names}
    return {structure.id for structure in labels.structures if normalized_name(structure.name) in wanted}


def _unknown_names(cases: Sequence[CaseWithRole], names: Sequence[str], decisions: Decisions) -> list[Problem]:
    """A misspelled name would decide nothing."""
    known = {normalized_name(name) for name in names}
    has = f"The cohort has {', '.join(names)}."
    found = []
    if unknown := decisions.unknown(names):
        found.append(Problem(f"No structure is called {listed(unknown)}, said to be absent.", has, "said"))
    by_name = {c.case.name: c for c in cases}
    for name, said in decisions.cases.items():
        unknown = [each for each in said.names if normalized_name(each) not in known]
        if unknown and name in by_name:
            found.append(Problem(
                f"No structure is called {listed(unknown)}, of which something is said in {name}.", has, "said",
                case=name, file=by_name[name].case.label,
            ))  # fmt: skip
    return found


def said_of_no_case(decisions: Decisions, found: Findings, exclude: Sequence[str]) -> list[Problem]:
    """A misspelled name of a case would decide nothing."""
    known = {*(case.name for case in found.cases), *(problem.case for problem in found.problems), *exclude}
    return [
        Problem(
            f"Something is said of the case {name}, which is in none of the folders.",
            "Correct its name.",
            "said",
            case=name,
        )
        for name in decisions.cases
        if name not in known
    ]


def nowhere_drawn(labels: LabelSet, voxels: Mapping[str, Voxels], stated: Collection[str]) -> list[str]:
    """The names of a template's segments in which nothing is drawn in any case; they are no structures of the cohort.

    With them, each label would say that there is no such organ, and a model that knows it would unlearn it. Where nothing
    is drawn at all, none are named.

    Args:
        stated: names that are structures all the same: somebody has said so, or they were drawn below others.
    """
    shown = {id for of_case in voxels.values() for id, count in of_case.items() if count}
    stated = {normalized_name(name) for name in stated}
    return [s.name for s in labels.structures if shown and s.id not in shown and normalized_name(s.name) not in stated]


def without_structures(cases: Sequence[CaseWithRole], voxels: Mapping[str, Voxels]) -> list[Problem]:
    """One case without any structure is that of a healthy patient, but something must be there to be learned."""
    labeled = [c.case.name for c in cases if c.role == "labeled" and c.case.name in voxels]
    if not labeled or any(any(voxels[name].values()) for name in labeled):
        return []
    return [Problem(
        "No labeled case shows a structure: all their labels are empty.",
        "Give at least one in which something is drawn, and those that were not labeled yet after --unlabeled.", "no-structure",
    )]  # fmt: skip
