"""The order in which structures that overlap lie over each other: as the user gives it, and what it settled in a cohort."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dinomix.cohort.problems import Problem
from dinomix.cohort.renaming import Renames
from dinomix.errors import DinomixError, reason_of
from dinomix.events import Notice
from dinomix.files import read_json
from dinomix.images.overlaps import OTHERS, OverlapError, Overlaps, remedy_of
from dinomix.names import listed, normalized_name


def read_order(text: str) -> tuple[str, ...]:
    """The names of an order, the topmost last: from a JSON file with a list of them, or from "liver,tumor".

    Raises:
        DinomixError: the file is no list of names, or a name stands in it twice.
    """
    path = Path(text)
    if path.suffix.lower() == ".json" or path.is_file():
        try:
            names = read_json(path)
        except (OSError, ValueError) as error:
            raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", _HOW, "overlap") from error
    else:
        names = [name.strip() for name in text.split(",")]
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DinomixError(f"{text} is no list of names.", _HOW, "overlap")
    if len({normalized_name(name) for name in names}) < len(names):
        raise DinomixError(f"The order {text} has a name twice.", _HOW, "overlap")
    return tuple(names)


_HOW = 'Give --order liver,tumor, or a JSON file with ["liver", "tumor"]: where both were drawn, the later wins.'


def with_dropped_below(order: Sequence[str], renames: Renames) -> tuple[str, ...]:
    """The order with what is left out below all others, so that it hides nothing, whatever the user says of it."""
    dropped = sorted(name for name, new in renames.new.items() if new is None)
    if not dropped:
        return tuple(order)
    kept = [name for name in order if normalized_name(name) not in dropped]
    return (*dropped, *([] if OTHERS in kept else [OTHERS]), *kept)


def with_one_remedy(failed: Mapping[str, Problem], overlaps: Mapping[str, OverlapError]) -> dict[str, Problem]:
    """The problems by case, those of overlaps with an order that settles all of them at once."""
    if not overlaps:
        return dict(failed)
    remedy = remedy_of(list(overlaps.values()))
    return {
        name: Problem(p.problem, remedy, p.code, case=p.case, file=p.file) if name in overlaps else p
        for name, p in failed.items()
    }


def unknown_in_order(order: Sequence[str], names: Iterable[str]) -> list[Problem]:
    """A problem where the order names what no label file holds, since a misspelled name would settle nothing."""
    known = {normalized_name(name) for name in names}
    unknown = [name for name in order if name != OTHERS and normalized_name(name) not in known]
    if not unknown:
        return []
    return [Problem(f"No label file has a structure {listed(unknown)}, which the order names.", _HOW, "overlap")]


def overlap_notices(cases: Mapping[str, Overlaps]) -> list[Notice]:
    """What the order settled, each pair of structures once, with the cases and the most voxels.

    Args:
        cases: by case name.
    """
    found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for case, overlaps in cases.items():
        for below, above, voxels in overlaps:
            found[below, above].append((voxels, case))
    notices = []
    for (below, above), where in found.items():
        voxels, case = max(where)
        notices.append(Notice(
            f"By the order, {above} lies over {below} where both were drawn: in {len(where)} "
            f"case{'s' * (len(where) != 1)}, at most {voxels} voxels ({case})."
        ))  # fmt: skip
    return notices
