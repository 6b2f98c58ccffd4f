"""``ctkComboBox`` and ``ctkCheckableComboBox``."""

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted, qtProperty, stored


@hosted
class ctkComboBox(qt.QComboBox):
    """A combo box that shows ``defaultText`` while nothing is chosen."""

    setters = ("currentUserDataAsString",)
    defaultText = stored("defaultText", "QString", "", "update")
    forceDefault = stored("forceDefault", "bool", False, "update")

    def _userData(self) -> str:
        data = self.itemData(self.currentIndex)
        return "" if data is None else str(data)

    def _setUserData(self, data: str) -> None:
        self.currentIndex = self.findData(data)

    currentUserDataAsString = qtProperty("QString", _userData, _setUserData)

    def _shownText(self) -> str:
        return self.defaultText if self.currentIndex < 0 or self.forceDefault else self.currentText

    def paintEvent(self, event: QtCore.QEvent) -> None:
        paintWithText(self, self._shownText())


@hosted
class ctkCheckableComboBox(qt.QComboBox):
    """A combo box whose items have check boxes; what is checked is shown."""

    checkedIndexesChanged = QtCore.Signal()

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self.model().rowsInserted.connect(self._onRowsInserted)
        self.model().dataChanged.connect(self._onDataChanged)
        self.view().viewport().installEventFilter(self)

    def checkableModel(self) -> QtCore.QAbstractItemModel:
        return self.model()

    def checkedIndexes(self) -> list[QtCore.QModelIndex]:
        return [index for index in self._indexes() if self.checkState(index) == qt.Qt.Checked]

    def allChecked(self) -> bool:
        return all(self.checkState(index) == qt.Qt.Checked for index in self._indexes())

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()

    def checkState(self, index: QtCore.QModelIndex) -> QtCore.Qt.CheckState:
        return qt.Qt.CheckState(index.data(qt.Qt.CheckStateRole) or 0)

    def setCheckState(self, index: QtCore.QModelIndex, state: QtCore.Qt.CheckState) -> None:
        self.model().setData(index, state, qt.Qt.CheckStateRole)

    def _indexes(self) -> list[QtCore.QModelIndex]:
        return [self.model().index(row, 0) for row in range(self.model().rowCount())]

    def _onRowsInserted(self, parent: QtCore.QModelIndex, first: int, last: int) -> None:
        for row in range(first, last + 1):
            item = self.model().item(row)
            item.setCheckable(True)
            item.setCheckState(qt.Qt.Unchecked)

    def _onDataChanged(self, topLeft: QtCore.QModelIndex, bottomRight: QtCore.QModelIndex, roles: list[int]) -> None:
        if not roles or qt.Qt.CheckStateRole in roles:
            self.checkedIndexesChanged.emit()
            self.update()

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """A click on an item of the open list checks or unchecks it and leaves the list open."""
        if event.type() != QtCore.QEvent.MouseButtonRelease:
            return False
        index = self.view().indexAt(event.position().toPoint())
        if index.isValid():
            checked = self.checkState(index) == qt.Qt.Checked
            self.setCheckState(index, qt.Qt.Unchecked if checked else qt.Qt.Checked)
        return True

    def paintEvent(self, event: QtCore.QEvent) -> None:
        checked = [index.data() for index in self.checkedIndexes()]
        text = "All" if checked and self.allChecked() else ", ".join(checked) if checked else "None"
        paintWithText(self, text)


def paintWithText(box: qt.QComboBox, text: str) -> None:
    """Paint a combo box as its style does, with this text."""
    painter = qt.QStylePainter(box)
    option = qt.QStyleOptionComboBox()
    box.initStyleOption(option)
    option.currentText = text
    painter.drawComplexControl(qt.QStyle.CC_ComboBox, option)
    painter.drawControl(qt.QStyle.CE_ComboBoxLabel, option)
