"""What the label of a checked case shows and what it leaves open, as the engine tells it, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

DRAWN, ABSENT, NOT_DRAWN, UNDECIDED = "drawn", "absent", "not_drawn", "undecided"
"""States of a structure in a case; an undecided one is lacking there though other cases show it."""
MOST_NAMES = 3


@dataclass(frozen=True)
class OpenLabel:
    """
    Attributes:
        states: structure -> its state; empty where there is no label, or it could not be told.
        axis: "i", "j" or "k", along which only some slices were labeled; empty where all were.
        slices: their numbers from 0.
        hasIgnored: whether voxels are marked as ignored.
    """

    states: Mapping[str, str] = field(default_factory=dict)
    axis: str = ""
    slices: tuple[int, ...] = ()
    hasIgnored: bool = False

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> OpenLabel:
        """What a ``case`` event of ``dinomix check`` tells."""
        states = {name: state for state in (DRAWN, ABSENT, NOT_DRAWN, UNDECIDED) for name in event.get(state) or ()}
        slices = event.get("labeled_slices") or {"axis": "", "numbers": ()}
        return cls(states, str(slices["axis"]), tuple(slices["numbers"]), bool(event.get("ignored")))

    def names(self, state: str) -> list[str]:
        """The structures that are in this state."""
        return [name for name, of in self.states.items() if of == state]

    @property
    def isUndecided(self) -> bool:
        """Whether the user has to say something of a structure."""
        return UNDECIDED in self.states.values()

    @property
    def isHealthy(self) -> bool:
        """Whether the label says that there is no structure."""
        return bool(self.states) and set(self.states.values()) == {ABSENT}

    def summary(self, size: Sequence[int]) -> str:
        """In the width of a column: "undecided: spleen; 4 of 40 slices labeled"; empty where nothing is open."""
        if self.isHealthy:
            return _("shows no structure")
        parts = [
            text.format(names=listed(self.names(state)))
            for state, text in (
                (UNDECIDED, _("undecided: {names}")),
                (NOT_DRAWN, _("not drawn: {names}")),
                (ABSENT, _("absent: {names}")),
            )
            if self.names(state)
        ]
        parts += [self.slicesText(size)] if self.slices else []
        parts += [_("some voxels ignored")] if self.hasIgnored else []
        return "; ".join(parts)

    def slicesText(self, size: Sequence[int]) -> str:
        """How many slices were labeled."""
        if not self.axis:
            return _("all slices labeled")
        return _("{n} of {all} slices labeled").format(n=len(self.slices), all=size["ijk".index(self.axis)])

    def lines(self, size: Sequence[int]) -> list[str]:
        """Each state with all of its structures, and the slices, a sentence each; none where all is drawn."""
        if not self.summary(size):
            return []
        titles = {
            UNDECIDED: _("Undecided, so that nothing is learned of it where nothing is drawn: {names}."),
            NOT_DRAWN: _("Not drawn, or not completely: {names}."),
            ABSENT: _("Absent in this patient: {names}."),
            DRAWN: _("Drawn: {names}."),
        }
        lines = [text.format(names=", ".join(self.names(state))) for state, text in titles.items() if self.names(state)]
        if self.slices:
            text = _("Labeled slices, from 0 along the file's axis {axis}: {numbers}.")
            lines.append(text.format(axis=self.axis, numbers=", ".join(map(str, self.slices))))
        if self.hasIgnored:
            lines.append(_("Voxels that are marked as ignored are left out."))
        return lines


def listed(names: Sequence[str]) -> str:
    """The first of many names."""
    if len(names) <= MOST_NAMES + 1:
        return ", ".join(names)
    return _("{names} and {n} more").format(names=", ".join(names[:MOST_NAMES]), n=len(names) - MOST_NAMES)
