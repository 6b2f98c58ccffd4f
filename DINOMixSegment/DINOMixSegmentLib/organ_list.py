"""The organs to keep: a list with check boxes, a search, and all or none at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import colorIcon
from dinomix_slicer.window.widgets import signalsBlocked

if TYPE_CHECKING:
    from dinomix_slicer.models.info import Organ


class OrganList:
    """
    Signals:
        changed(names): the organs to keep; empty means all.
    """

    def __init__(self, ui: Any) -> None:
        self.changed = Signal()
        self._ui = ui
        self._organs: tuple[Organ, ...] = ()
        ui.organsList.connect("itemChanged(QListWidgetItem*)", self._onItemChanged)
        ui.organsSearchBox.connect("textChanged(QString)", self._onSearch)
        ui.organsAllButton.connect("clicked()", lambda: self._checkShown(True))
        ui.organsNoneButton.connect("clicked()", lambda: self._checkShown(False))
        self._describe()

    def show(self, organs: tuple[Organ, ...], keep: list[str]) -> None:
        """List a model's organs; ``keep`` are the names to check, empty for all."""
        if organs != self._organs:
            self._organs = organs
            self._fill()
        if self.whyNot() and not keep:
            return  # The user has just unchecked all, and is about to check some.
        self._check({organ.name for organ in organs if not keep or organ.name in keep})

    def whyNot(self) -> str | None:
        """The sentence that says why this choice cannot be used; None when it can."""
        if self._organs and not self._checked():
            return _("No organ is chosen. Choose the organs to keep.")
        return None

    def _fill(self) -> None:
        with signalsBlocked(self._ui.organsList):
            self._ui.organsList.clear()
            for organ in self._organs:
                item = qt.QListWidgetItem(colorIcon(organ.color), organ.name)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Checked)
                self._ui.organsList.addItem(item)
        self._onSearch(self._ui.organsSearchBox.text)

    def _items(self) -> list[Any]:
        return [self._ui.organsList.item(row) for row in range(self._ui.organsList.count)]

    def _checked(self) -> list[str]:
        return [item.text() for item in self._items() if item.checkState() == qt.Qt.Checked]

    def _check(self, names: set[str]) -> None:
        with signalsBlocked(self._ui.organsList):
            for item in self._items():
                item.setCheckState(qt.Qt.Checked if item.text() in names else qt.Qt.Unchecked)
        self._describe()

    def _checkShown(self, isChecked: bool) -> None:
        shown = {item.text() for item in self._items() if not item.isHidden()}
        checked = set(self._checked())
        self._check(checked | shown if isChecked else checked - shown)
        self._onItemChanged(None)

    def _onSearch(self, text: str) -> None:
        for item in self._items():
            item.setHidden(text.strip().lower() not in item.text().lower())

    def _onItemChanged(self, item: Any) -> None:
        self._describe()
        checked = self._checked()
        self.changed.emit([] if len(checked) == len(self._organs) else checked)

    def _describe(self) -> None:
        """Say in words what is kept, also in the section's title, which is seen when it is closed."""
        checked, every = len(self._checked()), len(self._organs)
        for widget in (
            self._ui.organsList,
            self._ui.organsSearchBox,
            self._ui.organsAllButton,
            self._ui.organsNoneButton,
        ):
            widget.enabled = every > 0
        title = _("Organs to keep")
        if not every:
            text = _("Choose a model to see its organs.")
        elif checked == every:
            text = _("All {n} organs are kept.").format(n=every)
        else:
            title = _("Organs to keep ({n} of {all})").format(n=checked, all=every)
            text = self.whyNot() or _("{n} of {all} organs are kept.").format(n=checked, all=every)
        self._ui.organsLabel.text = text
        self._ui.organsCollapsibleButton.text = title
