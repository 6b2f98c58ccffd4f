"""What was drawn in the chosen cases, and what the user says of it: a table of structures, the labeled slices, and buttons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import setWrappedText
from dinomix_slicer.window.choices import showChoices
from dinomix_slicer.window.tables import fitHeight, setRow, setUpColumns, stress
from dinomix_slicer.window.widgets import isBeingTyped

from .cohort_report import CheckedCase, CohortReport
from .decisions import ABSENT, ALL, FOUND, NOT_DRAWN, SHOWN, Decisions, Said, sourceOf
from .open_label import DRAWN, UNDECIDED, listed
from .study import CORRECTED, SCENE

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode

STRUCTURE, STATE, SAYS = 0, 1, 2  # columns
IN_PART, NOTHING, VARIOUS = "in_part", "", "various"
"""What the user may say besides ABSENT and NOT_DRAWN; VARIOUS stands for cases of which different things are said."""
NUMBERS = "numbers"


class LabelsPanel:
    """Of the cases that are chosen in the table; where none is, of all cases at once.

    Signals:
        decided(): the user has said something.
        notice(text): what was typed cannot be used, and why.
    """

    def __init__(self, ui: Any) -> None:
        self.decided, self.notice = Signal(), Signal()
        self._ui = ui
        self._node: DINOMixTrainParameterNode | None = None
        self._report: CohortReport | None = None
        self._chosen: list[CheckedCase] = []
        self._shown: object = None
        self._isTyping = False  # numbers of slices, of which nothing is said yet
        setUpColumns(ui.labelsTable, stretched=[STRUCTURE, STATE], fitted=[SAYS])
        ui.absentButton.connect("clicked()", lambda: self.decideUndecided(self._chosen, ABSENT))
        ui.notDrawnButton.connect("clicked()", lambda: self.decideUndecided(self._chosen, NOT_DRAWN))
        ui.takeBackButton.connect("clicked()", lambda: self.takeBack(self._chosen))
        ui.slicesComboBox.connect("activated(int)", lambda row: self._onSlices(ui.slicesComboBox.itemData(row)))
        ui.slicesAxisComboBox.connect("activated(int)", lambda row: self._onNumbers())
        ui.slicesLineEdit.connect("editingFinished()", self._onNumbers)

    def show(self, node: DINOMixTrainParameterNode, report: CohortReport | None, chosen: Sequence[CheckedCase]) -> None:
        """Show what is so now.

        Args:
            chosen: those of the cases that are chosen; only the labeled ones count.
        """
        said = self._decisions(node)
        cases = [case for case in chosen if case.open.states or said.said(case.name)]
        if isOpen(report, said) and not isOpen(self._report, said):
            self._ui.labelsCollapsibleButton.collapsed = False
        if [case.name for case in cases] != [case.name for case in self._chosen]:
            self._isTyping = False
        self._node, self._report, self._chosen = node, report, cases
        labeled = report.labeled() if report is not None else []
        # Where only unlabeled cases are chosen, there is nothing to say of them.
        isUsed = bool(cases or (not chosen and (labeled or said != Decisions())))
        self._ui.labelsCollapsibleButton.visible = report is not None and isUsed
        self._showTable(cases or labeled, said)
        self._showSlices(cases, said)
        self._showButtons(cases or labeled, said)

    def decideUndecided(self, cases: Sequence[CheckedCase], what: str) -> None:
        """Say of what is undecided that it is ABSENT or NOT_DRAWN in these cases; where there are none, in all."""
        said = self._decisions(self._node)
        if cases:
            self._write(said.withCases({
                case.name: self._with(case, dict.fromkeys(case.open.names(UNDECIDED), what)) for case in cases
            }))  # fmt: skip
        elif what == NOT_DRAWN:
            self._write(replace(said, isPartial=True))
        else:
            names = [n for case in self._labeled() for n in case.open.names(UNDECIDED)]
            self._write(replace(said, absent=tuple(dict.fromkeys([*said.absent, *names]))))

    def takeBack(self, cases: Sequence[CheckedCase]) -> None:
        """Take back what was said of these cases; where there are none, what was said of all at once."""
        said = self._decisions(self._node)
        kept = said.withCases({case.name: Said() for case in cases}) if cases else Decisions(cases=said.cases)
        self._isTyping = False
        self._write(kept)

    # -- The table of structures

    def _showTable(self, cases: Sequence[CheckedCase], said: Decisions) -> None:
        names = list(dict.fromkeys(name for case in cases for name in case.open.states))
        counts = {name: Counter(case.open.states.get(name) for case in cases) for name in names}
        names.sort(key=lambda name: (not counts[name][UNDECIDED], len(counts[name]) == 1 and DRAWN in counts[name]))
        rows = [
            (name, stateText(counts[name], len(cases)), bool(counts[name][UNDECIDED]), *self._choicesOf(name, said))
            for name in names
        ]
        setWrappedText(self._ui.labelsOfLabel, self._titleOf(cases))
        if rows == self._shown:
            return
        self._shown = rows
        table = self._ui.labelsTable
        table.rowCount = 0
        table.rowCount = len(rows)
        fitHeight(table, 1, 8)
        for row, (name, state, isUndecided, choices, chosen) in enumerate(rows):
            setRow(table, row, (name, state), (name, state))
            if isUndecided:
                stress(table, row, STATE)
            table.setCellWidget(row, SAYS, self._comboBox(name, choices, chosen))

    def _titleOf(self, cases: Sequence[CheckedCase]) -> str:
        if not self._chosen:
            return _("All {n} labeled cases; choose some in the table above to decide for these alone:").format(
                n=len(cases)
            )
        if len(cases) == 1:
            return _("{name}:").format(name=cases[0].name)
        return _("{n} cases: {names}").format(n=len(cases), names=listed([case.name for case in cases]))

    def _choicesOf(self, structure: str, said: Decisions) -> tuple[list[tuple[str, str]], str]:
        """What can be said of a structure: texts with what they stand for; and what is said now."""
        if not self._chosen:
            nothing = _("not drawn if lacking") if said.isPartial else _("(nothing said)")
            choices = [(nothing, NOTHING), (_("absent if lacking"), ABSENT)]
            return choices, ABSENT if structure in said.absent else NOTHING
        lacking = any(isLacking(case, structure) for case in self._chosen)
        showing = any(not isLacking(case, structure) for case in self._chosen)
        absent = _("absent") if len(self._chosen) == 1 else _("absent if lacking")
        notDrawn = _("not drawn") if len(self._chosen) == 1 else _("not drawn if lacking")
        choices = [(_("(nothing said)"), NOTHING)]
        choices += [(absent, ABSENT), (notDrawn, NOT_DRAWN)] if lacking else []
        choices += [(_("drawn in part"), IN_PART)] if showing else []
        concerned = [case for case in self._chosen if isLacking(case, structure) == lacking]
        now = {said.said(case.name).structures.get(structure, NOTHING) for case in concerned}
        if len(now) > 1:
            return [*choices, (_("(various)"), VARIOUS)], VARIOUS
        what = now.pop()
        if what == NOT_DRAWN and not lacking:
            what = IN_PART
        if what == ABSENT and not lacking:
            choices.append((absent, ABSENT))  # the check says that this is wrong
        return choices, what

    def _comboBox(self, structure: str, choices: list[tuple[str, str]], chosen: str) -> Any:
        box = qt.QComboBox()
        box.setFrame(False)
        for text, what in choices:
            box.addItem(text, what)
        box.currentIndex = [what for _text, what in choices].index(chosen)
        box.toolTip = _(
            "Absent: the patient does not have it, and the network learns that there is none. Not drawn: nothing is learned of "
            "it where nothing is drawn."
        )
        box.connect("activated(int)", lambda row: self._onStructure(structure, choices[row][1]))
        return box

    def _onStructure(self, structure: str, what: str) -> None:
        said = self._decisions(self._node)
        if what == VARIOUS:
            return
        if not self._chosen:
            absent = [name for name in said.absent if name != structure] + ([structure] if what == ABSENT else [])
            self._write(replace(said, absent=tuple(absent)))
            return
        # What can only be so where a case lacks the structure, or shows it, is said of such cases.
        concerned = {
            ABSENT: lambda case: isLacking(case, structure),
            NOT_DRAWN: lambda case: isLacking(case, structure),
            IN_PART: lambda case: not isLacking(case, structure),
            NOTHING: lambda case: True,
        }[what]
        word = NOT_DRAWN if what == IN_PART else what
        self._write(said.withCases({
            case.name: self._with(case, {structure: word}) for case in self._chosen if concerned(case)
        }))  # fmt: skip

    # -- The labeled slices

    def _showSlices(self, cases: Sequence[CheckedCase], said: Decisions) -> None:
        ui = self._ui
        default = [(_("as for all cases"), "")] if cases else [(_("found by themselves"), FOUND)]
        entries = [*default, (_("all"), ALL), (_("those that show something"), SHOWN)]
        entries += [(_("these:"), NUMBERS)] if cases else []
        told = {said.said(case.name).slices for case in cases} or {said.slices}
        axis, _colon, numbers = (told.copy().pop() if len(told) == 1 else "").partition(":")
        hasNumbers = self._isTyping or bool(numbers)
        showChoices(ui.slicesComboBox, entries, NUMBERS if hasNumbers else axis if len(told) == 1 else None)
        showChoices(ui.slicesAxisComboBox, axes(), axis if numbers else self._axisOf(cases))
        # Where it is about to be hidden, it must be empty: losing the focus, it tells that it was edited.
        if not self._isTyping and not (numbers and isBeingTyped(ui.slicesLineEdit)):
            ui.slicesLineEdit.text = numbers.replace(",", ", ")
        for widget in (ui.slicesLineEdit, ui.slicesAxisComboBox):
            widget.visible = hasNumbers
        setWrappedText(ui.slicesLabel, slicesText(cases or self._labeled()))

    def _axisOf(self, cases: Sequence[CheckedCase]) -> str:
        return self._ui.slicesAxisComboBox.itemData(self._ui.slicesAxisComboBox.currentIndex) if self._isTyping else (
            next((case.open.axis for case in cases if case.open.axis), "k")
        )  # fmt: skip

    def _onSlices(self, what: str) -> None:
        found = {(case.open.axis, case.open.slices) for case in self._chosen}
        self._isTyping = what == NUMBERS
        if self._isTyping:
            # What was found may need a correction only.
            axis, slices = found.pop() if len(found) == 1 else ("", ())
            self._ui.slicesLineEdit.text = ", ".join(map(str, slices))
            showChoices(self._ui.slicesAxisComboBox, axes(), axis or "k")
            self.show(self._node, self._report, self._chosen)
            self._ui.slicesLineEdit.setFocus()
        elif self._chosen:
            self._sayOfChosen(lambda said: replace(said, slices=what))
        else:
            self._write(replace(self._decisions(self._node), slices=what))

    def _onNumbers(self) -> None:
        ui = self._ui
        text = ui.slicesLineEdit.text.strip()
        if not self._chosen or not text:
            return
        words = re.split(r"[,;\s]+", text.strip(" ,;"))
        if not all(word.isascii() and word.isdigit() for word in words):
            self.notice.emit(
                _("{text} are no slices. Give their numbers from 0, such as 10, 20, 30.").format(text=text)
            )
            return
        axis = ui.slicesAxisComboBox.itemData(ui.slicesAxisComboBox.currentIndex)
        slices = f"{axis}:{','.join(map(str, sorted(set(map(int, words)))))}"
        self._isTyping = ui.slicesLineEdit.modified = False
        self._sayOfChosen(lambda said: replace(said, slices=slices))

    # -- What is said

    def _showButtons(self, cases: Sequence[CheckedCase], said: Decisions) -> None:
        ui = self._ui
        isUndecided = any(case.open.isUndecided for case in cases)
        ui.absentButton.enabled = ui.notDrawnButton.enabled = isUndecided
        ofAll = replace(said, cases={}) != Decisions()
        ui.takeBackButton.enabled = any(said.said(case.name) for case in self._chosen) if self._chosen else ofAll

    def _with(self, case: CheckedCase, structures: dict[str, str]) -> Said:
        """What is said of a case with this of structures; NOTHING takes it back."""
        before = self._decisions(self._node).said(case.name)
        now = {name: what for name, what in {**before.structures, **structures}.items() if what}
        return replace(before, structures=now, source=self._sourceOf(case))

    def _sayOfChosen(self, change: Callable[[Said], Said]) -> None:
        said = self._decisions(self._node)
        self._write(said.withCases({
            case.name: replace(change(said.said(case.name)), source=self._sourceOf(case)) for case in self._chosen
        }))  # fmt: skip

    def _sourceOf(self, case: CheckedCase) -> str:
        node = self._node
        own = [str(Path(node.studyFolder) / part) for part in (SCENE, CORRECTED)]
        return sourceOf(case.image, [*node.labeledFolders, *node.testFolders, *node.unlabeledFolders], own)

    def _labeled(self) -> list[CheckedCase]:
        return self._report.labeled() if self._report is not None else []

    def _decisions(self, node: DINOMixTrainParameterNode | None) -> Decisions:
        return Decisions.of(node.decisions) if node is not None else Decisions()

    def _write(self, said: Decisions) -> None:
        if said.text != self._node.decisions:
            self._node.decisions = said.text
            self.decided.emit()
        self.show(self._node, self._report, self._chosen)


def isOpen(report: CohortReport | None, said: Decisions) -> bool:
    """Whether there is anything to be said of the labels, or was."""
    cases = report.labeled() if report is not None else []
    return bool(cases and said != Decisions()) or any(case.open.isUndecided or case.open.slices for case in cases)


def isLacking(case: CheckedCase, structure: str) -> bool:
    """Whether a case shows nothing of a structure."""
    return not case.voxels.get(structure)


def stateText(states: Counter[str | None], cases: int) -> str:
    """ "drawn", or of several cases "drawn in 2, undecided in 1"."""
    titles = {UNDECIDED: _("undecided"), NOT_DRAWN: _("not drawn"), ABSENT: _("absent"), DRAWN: _("drawn")}
    if len(states) == 1:
        return titles.get(next(iter(states)), "")
    inSome = _("{state} in {n}")
    return ", ".join(inSome.format(state=titles[s], n=states[s]) for s in titles if states[s])


def slicesText(cases: Sequence[CheckedCase]) -> str:
    """Which slices were labeled by the last check."""
    sliced = [case for case in cases if case.open.slices]
    if len(cases) == 1 and sliced:
        text = _("{slices} along {axis}: {numbers}.")
        (case,) = sliced
        return text.format(
            slices=case.open.slicesText(case.size), axis=case.open.axis, numbers=", ".join(map(str, case.open.slices))
        )
    if not sliced:
        return ""
    return _("Of {n} of these cases only some slices are labeled.").format(n=len(sliced))


def axes() -> list[tuple[str, str]]:
    """The axes of a file."""
    return [(_("along i"), "i"), (_("along j"), "j"), (_("along k"), "k")]
