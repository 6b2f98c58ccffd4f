"""``slicer.qMRMLCheckableNodeComboBox``: choosing several nodes of the scene."""

import qt
from PySide6 import QtCore

from host.ctk.combo_boxes import ctkCheckableComboBox
from host.qmrml.node_combo_box import ACTION_ROLE, ID_ROLE, qMRMLNodeComboBox
from host.qt.hosted import hosted


@hosted
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Each node has a check box; there is no chosen node but those checked."""

    checkedNodesChanged = QtCore.Signal()

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        self._checked: dict[str, bool] = {}
        super().__init__(parent)
        self.addEnabled = self.removeEnabled = False
        self._box.checkedIndexesChanged.connect(self._onChecked)

    def _makeBox(self) -> qt.QComboBox:
        return ctkCheckableComboBox()

    def _showHint(self) -> None:
        """What is checked is shown."""

    def _fill(self) -> None:
        super()._fill()
        for row in range(self._box.count):
            if self._box.itemData(row, ACTION_ROLE) is None and self._checked.get(self._box.itemData(row, ID_ROLE)):
                blocked = self._box.blockSignals(True)
                self._box.setCheckState(self._box.model().index(row, 0), qt.Qt.Checked)
                self._box.blockSignals(blocked)

    def _refresh(self) -> None:
        listed = {node.GetID() for node in self._nodes()}
        gone = [identifier for identifier, checked in self._checked.items() if checked and identifier not in listed]
        self._checked = {identifier: checked for identifier, checked in self._checked.items() if identifier in listed}
        super()._refresh()
        if gone:
            self.checkedNodesChanged.emit()

    def _onChecked(self) -> None:
        if self._filling:
            return
        for row in range(self._box.count):
            state = self._box.checkState(self._box.model().index(row, 0))
            self._checked[self._box.itemData(row, ID_ROLE)] = state == qt.Qt.Checked
        self.checkedNodesChanged.emit()

    def checkedNodes(self) -> list:
        return [node for node in self._nodes() if self._checked.get(node.GetID())]

    def uncheckedNodes(self) -> list:
        return [node for node in self._nodes() if not self._checked.get(node.GetID())]

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def checkState(self, node) -> QtCore.Qt.CheckState:
        return qt.Qt.Checked if self._checked.get(node.GetID()) else qt.Qt.Unchecked

    def setCheckState(self, node, state: QtCore.Qt.CheckState) -> None:
        if self.checkState(node) != state:
            self._checked[node.GetID()] = state == qt.Qt.Checked
            self._fill()
            self.checkedNodesChanged.emit()

    def check(self, node) -> None:
        self.setCheckState(node, qt.Qt.Checked)

    def uncheck(self, node) -> None:
        self.setCheckState(node, qt.Qt.Unchecked)
