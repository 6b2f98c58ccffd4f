"""What the user says of labels that may not tell everything: for all cases by options, for one by the list of cases."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dinomix.cohort.cohort import LabeledSlices
from dinomix.errors import DinomixError
from dinomix.names import normalized_name

Slices = LabeledSlices | Literal["found", "all", "drawn"]
"""Which slices were labeled: those given; those found where a label shows single ones at equal distances; all; those shown."""
ALL = "all"
_OF_CASE = re.compile(r"(?P<case>.+)=(?:(?P<axis>[ijk]):)?(?P<numbers>\d+(?:,\d+)*)")


@dataclass(frozen=True)
class Said:
    """Of one case: names of structures, and slices.

    Attributes:
        drawn: all that were drawn completely, so that the others were not; None where nothing is said of that.
        absent: those that the patient does not have.
        not_drawn: those that were not drawn, or not completely.
    """

    drawn: tuple[str, ...] | None = None
    absent: tuple[str, ...] = ()
    not_drawn: tuple[str, ...] = ()
    slices: Slices | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*(self.drawn or ()), *self.absent, *self.not_drawn)


@dataclass(frozen=True)
class Decisions:
    """Of all cases, where nothing else is said of one.

    Attributes:
        partial: structures that a case lacks were not drawn in it.
        absent: names of structures that a case lacks where the patient does not have them; ("all",) for any.
        cases: name of a case -> what is said of it alone.
    """

    partial: bool = False
    absent: tuple[str, ...] = ()
    slices: Literal["found", "all", "drawn"] = "found"
    cases: Mapping[str, Said] = field(default_factory=dict)

    @classmethod
    def of_options(
        cls, partial: bool, absent: Sequence[str], labeled_slices: Sequence[str], cases: Mapping[str, Said]
    ) -> "Decisions":
        """Raises DinomixError where an option cannot be used."""
        said, of_all = dict(cases), "found"
        for text in labeled_slices:
            match = _OF_CASE.fullmatch(text)
            if match is not None:
                numbers = tuple(sorted({int(number) for number in match["numbers"].split(",")}))
                slices = LabeledSlices(axis=match["axis"] or "k", numbers=numbers)
                said[match["case"]] = replace(said.get(match["case"], Said()), slices=slices)
            elif text in ("found", "all", "drawn"):
                of_all = text
            else:
                raise DinomixError(
                    f"--labeled-slices {text} says no slices.",
                    "Give found, all, drawn, or the slices of one case as CASE=10,20,30 (counted from 0 along the file's "
                    "third axis; CASE=i:10,20 along the first).",
                    "labeled-slices",
                )
        return cls(partial, tuple(absent), of_all, said)  # type: ignore[arg-type]

    def is_absent(self, name: str) -> bool:
        """Whether a structure is absent wherever a case lacks it."""
        return ALL in self.absent or normalized_name(name) in map(normalized_name, self.absent)

    @property
    def stated(self) -> set[str]:
        """The names of which somebody has said by name that labels are to be believed where they show none."""
        of_cases = (name for said in self.cases.values() for name in (*(said.drawn or ()), *said.absent))
        return {*of_cases, *self.absent} - {ALL}

    def unknown(self, names: Iterable[str]) -> list[str]:
        """What ``absent`` names that is not among ``names``."""
        known = {normalized_name(name) for name in names}
        return [name for name in self.absent if name != ALL and normalized_name(name) not in known]
