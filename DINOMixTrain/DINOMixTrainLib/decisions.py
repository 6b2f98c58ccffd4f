"""What the user says of labels that may not show everything; kept in the parameter node, and told to the engine.

A structure that a case lacks and others show is absent in this patient, or was not drawn: only the user knows. Of all cases it is
said by the engine's options, of one by its entry in the list of ``--cases``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dinomix.names import normalized_name
from dinomix_slicer.stored_text import jsonIn

ABSENT, NOT_DRAWN = "absent", "not_drawn"
"""What can be said of a structure: the patient does not have it; it was not drawn, or not completely."""
FOUND, ALL, SHOWN = "found", "all", "drawn"
"""Which slices were labeled: found, where single ones at equal distances show something; all; those that show something."""


@dataclass(frozen=True)
class Said:
    """Of one case.

    Attributes:
        structures: structure -> ABSENT or NOT_DRAWN.
        slices: ALL, SHOWN or "k:10,20,30" (numbers from 0 along that axis of the file); empty where nothing is said.
        source: the chosen folder that the case was found in; empty where it was found in none.
    """

    structures: Mapping[str, str] = field(default_factory=dict)
    slices: str = ""
    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.structures or self.slices)

    def entry(self, renames: Mapping[str, str | None]) -> dict[str, Any]:
        """Its part of an entry of the engine's list; structures that were renamed since are told by their new names."""
        new = {normalized_name(old): name for old, name in renames.items()}
        told: dict[str, Any] = {}
        for structure, what in self.structures.items():
            name = new.get(normalized_name(structure), structure)
            if name is not None:
                told.setdefault(what, []).append(name)
        axis, _colon, numbers = self.slices.partition(":")
        if numbers:
            told.update(labeled_slices=[int(number) for number in numbers.split(",")], slice_axis=axis)
        elif self.slices:
            told["labeled_slices"] = self.slices
        return told


@dataclass(frozen=True)
class Decisions:
    """
    Attributes:
        isPartial: what a case lacks was not drawn, where nothing else is said of it.
        absent: structures that a patient may lack: where a case shows none, it is absent.
        slices: FOUND, ALL or SHOWN, where nothing else is said of a case.
        cases: name of a case -> what is said of it alone.
    """

    isPartial: bool = False
    absent: tuple[str, ...] = ()
    slices: str = FOUND
    cases: Mapping[str, Said] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Decisions:
        """What a text of the parameter node holds; nothing where it is damaged."""
        data = jsonIn(text, dict)
        try:
            cases = {str(name): Said(**said) for name, said in dict(data.pop("cases", {})).items()}
            return replace(cls(**data), absent=tuple(data.get("absent", ())), cases=cases)
        except (TypeError, ValueError):
            return cls()

    @property
    def text(self) -> str:
        """As the parameter node holds it; empty where nothing is said."""
        if self == Decisions():
            return ""
        data = {**vars(self), "cases": {name: vars(said) for name, said in self.cases.items()}}
        return json.dumps(data, ensure_ascii=False, sort_keys=True)

    def said(self, case: str) -> Said:
        """Of one case."""
        return self.cases.get(case, Said())

    def withCases(self, cases: Mapping[str, Said]) -> Decisions:
        """With what is said of these cases instead of what was; those of which nothing is said any more go."""
        together = {**self.cases, **cases}
        return replace(self, cases={name: said for name, said in together.items() if said})

    def options(self) -> list[str]:
        """What ``dinomix check`` is given for all cases."""
        words = ["--partial"] if self.isPartial else []
        words += [f"--absent={name}" for name in self.absent]
        return words + ([f"--labeled-slices={self.slices}"] if self.slices != FOUND else [])

    def addTo(
        self, listed: Sequence[Mapping[str, Any]], folders: Collection[str], renames: Mapping[str, str | None]
    ) -> list[dict[str, Any]]:
        """The engine's list of cases with what is said of these and of those that lie in the chosen folders.

        Args:
            listed: entries with image, label and name.
            folders: those that are chosen now; of cases of others nothing is told, which would be of no case.
        """
        names = {entry["name"] for entry in listed}
        entries = [{**entry, **(self.said(entry["name"]).entry(renames) if entry["label"] else {})} for entry in listed]
        others = {n: said for n, said in self.cases.items() if n not in names and said.source in ("", *folders)}
        return entries + [{"name": name, **said.entry(renames)} for name, said in others.items()]


def sourceOf(image: str, folders: Sequence[str], ownFolders: Sequence[str]) -> str:
    """The folder that a case lies in.

    Args:
        folders: those that are chosen; a case in none of them came with a zip of cases, which is empty here.
        ownFolders: those of the study, whose cases are listed by themselves.
    """
    return next((folder for folder in (*folders, *ownFolders) if Path(image).is_relative_to(folder)), "")
