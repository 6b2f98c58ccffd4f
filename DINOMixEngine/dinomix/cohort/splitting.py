"""Which part each case plays: drawn by patient from a seed, or given by a split file. No patient is on two sides."""

import re
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dinomix.cohort.cohort import Role
from dinomix.cohort.found import FoundCase
from dinomix.cohort.problems import Problem
from dinomix.errors import DinomixError, reason_of
from dinomix.events import Notice
from dinomix.files import read_table

Split = dict[Role, list[str]]

_KEYS: dict[str, Role] = {
    "labeled": "labeled", "unlabeled": "unlabeled", "validation": "validation", "val": "validation", "test": "test"
}  # fmt: skip
# Labeled and unlabeled cases are both trained on; a patient may be among both, but not among those and the test cases.
_SIDE: dict[Role, str] = {"labeled": "training", "unlabeled": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class CaseWithRole:
    """A case and its part; ``case.label`` is None exactly for unlabeled cases, whatever was found on disk."""

    case: FoundCase
    role: Role
    patient: str


@dataclass(frozen=True)
class Draw:
    """What to draw from the labeled cases.

    Attributes:
        validation: that many cases, or below 1 that fraction of the labeled cases.
        test: the same for test cases, drawn first.
        labeled_count: of the rest, how many stay labeled; the others become unlabeled. None keeps all.
        seed: the same seed, cases and numbers give the same draw, in whatever order the files were found. The test
            cases do not depend on the other numbers, and a smaller labeled_count takes a part of a larger one's cases.
    """

    validation: float = 0
    test: float = 0
    labeled_count: int | None = None
    seed: int = 0


def drawn_roles(
    cases: list[FoundCase], draw: Draw, patient_pattern: str | None, problems: list[Problem]
) -> list[CaseWithRole]:
    """Roles from the folders that the cases came from, and from a draw by patient among the labeled ones."""
    patient_of = _patients(cases, patient_pattern, problems)
    roles: dict[str, Role] = {case.name: case.pool for case in cases}
    for role, wanted in (("test", draw.test), ("validation", draw.validation)):
        if wanted:
            _draw(cases, roles, patient_of, role, _number(wanted, cases), draw.seed, problems)  # type: ignore[arg-type]
    if draw.labeled_count is not None:
        _keep_labeled(roles, patient_of, draw.labeled_count, draw.seed, problems)
    return _checked(cases, roles, patient_of, problems)


def given_roles(
    cases: list[FoundCase],
    split: Split,
    source: str,
    patient_pattern: str | None,
    problems: list[Problem],
    notices: list[Notice],
) -> list[CaseWithRole]:
    """Roles as a split file gives them; cases that it does not name are left out, with a notice."""
    roles: dict[str, Role] = {}
    for role, names in split.items():
        for name in names:
            case = _named(name, cases)
            if case is None:
                problems.append(Problem(
                    f'{source} names the {role} case "{name}", which is in none of the folders.',
                    "Give the folder that holds it, or take the name out of the split.",
                    case=name,
                ))  # fmt: skip
            elif roles.setdefault(case.name, role) != role:
                problems.append(Problem(
                    f'{source} has the case "{name}" as {roles[case.name]} and as {role}.', "Leave it in one of the two.",
                    case=case.name,
                ))  # fmt: skip
            elif role != "unlabeled" and case.label is None:
                problems.append(Problem(
                    f'{source} has "{name}" as a {role} case, but it was found without a label.',
                    "Give its folder after --labeled or --test.", code="no-label",
                    case=case.name, file=case.image,
                ))  # fmt: skip
    chosen = [case for case in cases if case.name in roles]
    if len(chosen) < len(cases):
        left_out = f"{len(cases) - len(chosen)} of {len(cases)}"
        notices.append(Notice(f"Cases that {source} does not name are left out: {left_out}."))
    return _checked(chosen, roles, _patients(chosen, patient_pattern, problems), problems)


def read_split(text: str) -> Split:
    """Read ``FILE`` or ``FILE:KEY``: JSON with lists of case names under labeled, unlabeled, validation or val, test.

    Raises:
        DinomixError: no such file or key, or not such a JSON.
    """
    file, key = _file_and_key(text)
    try:
        data = read_table(file)
    except (OSError, ValueError) as error:
        raise DinomixError(
            f"The split {text} cannot be read ({reason_of(error)}).", "Give a JSON file, or FILE:KEY."
        ) from error
    remedy = 'Write {"labeled": [names], "unlabeled": [names], "validation": [names], "test": [names]}.'
    if key:
        if key not in data:
            raise DinomixError(f'{file} has no split "{key}".', f"It has: {', '.join(data)}.")
        data = data[key]
    elif not set(data) & set(_KEYS) and all(isinstance(value, dict) for value in data.values()):
        raise DinomixError(f"{file} holds several splits.", f"Choose one as {file}:KEY; it has: {', '.join(data)}.")
    split: Split = {}
    for word, names in data.items() if isinstance(data, dict) else ():
        if word in _KEYS:
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DinomixError(f'"{word}" in {text} is not a list of case names.', remedy)
            split.setdefault(_KEYS[word], []).extend(names)
    if not split.get("labeled"):
        raise DinomixError(f"The split {text} names no labeled case.", remedy)
    return split


def _file_and_key(text: str) -> tuple[Path, str]:
    """The longest beginning that is a file, up to a colon; file names may hold colons, too."""
    if Path(text).is_file():
        return Path(text), ""
    parts = text.split(":")
    for end in range(len(parts) - 1, 0, -1):
        if (file := Path(":".join(parts[:end]))).is_file():
            return file, ":".join(parts[end:])
    return Path(text), ""


def _named(name: str, cases: list[FoundCase]) -> FoundCase | None:
    """The case of a name; published splits often give only the number at a name's end ("0007" for "img0007")."""
    for same in (
        lambda case: case.name == name,
        lambda case: case.short_name == name,
        lambda case: bool(re.search(rf"(?<!\d){re.escape(name)}$", case.short_name)) and name[:1].isdigit(),
    ):
        matches = [case for case in cases if same(case)]
        if len(matches) == 1:
            return matches[0]
    return None


def _patients(cases: list[FoundCase], pattern: str | None, problems: list[Problem]) -> dict[str, str]:
    """Case name -> patient: what the pattern finds in the name (its first group, if it has one), else each its own."""
    if pattern is None:
        return {case.name: case.patient or case.name for case in cases}
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise DinomixError(
            f"The patient pattern {pattern} is not a regular expression ({error}).", "Correct it."
        ) from error
    patients = {}
    for case in cases:
        match = regex.search(case.short_name)
        if match is None or not match[1 if regex.groups else 0]:
            problems.append(Problem(
                f'The patient pattern {pattern} finds no patient in the name "{case.short_name}" ({case.image}).',
                "Change the pattern so that it fits every case.",
                case=case.name, file=case.image,
            ))  # fmt: skip
            patients[case.name] = case.name
        else:
            patients[case.name] = match[1 if regex.groups else 0]
    return patients


def _number(wanted: float, cases: list[FoundCase]) -> int:
    labeled = sum(case.pool == "labeled" for case in cases)
    return max(1, round(wanted * labeled)) if wanted < 1 else round(wanted)


def _draw(
    cases: list[FoundCase],
    roles: dict[str, Role],
    patient_of: dict[str, str],
    role: Role,
    count: int,
    seed: int,
    problems: list[Problem],
) -> None:
    """Give ``role`` to ``count`` labeled cases: whole patients, of whom nothing is in another part."""
    elsewhere = {patient_of[name] for name, given in roles.items() if given != "labeled"}
    chosen = _whole_patients(roles, patient_of, elsewhere, count, seed, role)
    if chosen is None:
        available = sum(given == "labeled" and patient_of[name] not in elsewhere for name, given in roles.items())
        problems.append(Problem(
            f"The {role} cases ({count}) cannot be drawn by whole patients from the labeled cases that are free ({available}).",
            f"Ask for fewer {role} cases, or check --patient-pattern.", code="too-few",
        ))  # fmt: skip
        return
    roles.update(dict.fromkeys(chosen, role))
    if "labeled" not in roles.values() and not problems:
        problems.append(Problem(
            f"No labeled case is left to train on after the {role} cases ({count}) were drawn.", f"Ask for fewer {role} cases."
        ))  # fmt: skip


def _keep_labeled(
    roles: dict[str, Role], patient_of: dict[str, str], count: int, seed: int, problems: list[Problem]
) -> None:
    kept = _whole_patients(roles, patient_of, set(), count, seed, "labeled") if count > 0 else None
    if kept is None:
        available = sum(role == "labeled" for role in roles.values())
        problems.append(Problem(
            f"--labeled-count {count} cannot be met by whole patients from the labeled cases ({available}).",
            "Ask for another number, or check --patient-pattern.", code="too-few",
        ))  # fmt: skip
        return
    for name, role in roles.items():
        if role == "labeled" and name not in kept:
            roles[name] = "unlabeled"


def _whole_patients(
    roles: dict[str, Role], patient_of: dict[str, str], excluded: set[str], count: int, seed: int, purpose: str
) -> set[str] | None:
    """The names of exactly ``count`` labeled cases, whole patients in a random order; None when there is no such set."""
    names_of: dict[str, list[str]] = defaultdict(list)
    for name, role in roles.items():
        if role == "labeled" and patient_of[name] not in excluded:
            names_of[patient_of[name]].append(name)
    # Sorted first, so that the order in which files were found plays no part.
    patients = sorted(names_of)
    order = np.random.default_rng([seed, zlib.crc32(purpose.encode())]).permutation(len(patients))
    chosen: set[str] = set()
    for index in order:
        if len(chosen) + len(names_of[patients[index]]) <= count:
            chosen.update(names_of[patients[index]])
    return chosen if len(chosen) == count else None


def _checked(
    cases: list[FoundCase], roles: dict[str, Role], patient_of: dict[str, str], problems: list[Problem]
) -> list[CaseWithRole]:
    """The cases with their roles; a patient on two sides is a problem. Labels of unlabeled cases are dropped here."""
    sides: dict[str, dict[str, FoundCase]] = defaultdict(dict)
    for case in cases:
        sides[patient_of[case.name]].setdefault(_SIDE[roles[case.name]], case)
    for patient, where in sorted(sides.items()):
        if len(where) > 1:
            listed = " and ".join(f"{side} ({case.image})" for side, case in where.items())
            problems.append(Problem(
                f'Patient "{patient}" is in {listed}.', "Keep all cases of a patient in one of these parts."
            ))  # fmt: skip
    with_roles = []
    for case in cases:
        role = roles[case.name]
        kept = replace(case, label=None, names={}) if role == "unlabeled" else case
        with_roles.append(CaseWithRole(kept, role, patient_of[case.name]))
    return with_roles
