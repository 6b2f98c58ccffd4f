"""Buttons and check boxes of ``ctk``."""

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted, qtProperty, stored


@hosted
class ctkPushButton(qt.QPushButton):
    pass


@hosted
class ctkCheckablePushButton(ctkPushButton):
    checkBoxControlsButtonToggleState = stored("checkBoxControlsButtonToggleState", "bool", True)
    checkBoxControlsButton = stored("checkBoxControlsButton", "bool", True)


@hosted
class ctkMenuButton(qt.QPushButton):
    """A push button with a menu at its side."""


@hosted
class ctkCheckBox(qt.QCheckBox):
    pass


@hosted
class ctkColorPickerButton(qt.QPushButton):
    """Shows a color; a click asks for another."""

    setters = ("color", "displayColorName")
    colorChanged = QtCore.Signal("QColor")
    colorNameChanged = QtCore.Signal(str)

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._color = qt.QColor(0, 0, 0)
        self.clicked.connect(self.changeColor)
        self._show()

    def _setColor(self, color: qt.QColor) -> None:
        if color != self._color:
            self._color = qt.QColor.fromRgba(color.rgba())  # a plain QColor, whatever class was given
            self._show()
            self.colorChanged.emit(self._color)
            self.colorNameChanged.emit(self._color.name())

    color = qtProperty("QColor", lambda self: self._color, _setColor)
    displayColorName = stored("displayColorName", "bool", True, "_show")

    def changeColor(self) -> None:
        chosen = qt.QColorDialog.getColor(self._color, self)
        if chosen.isValid():
            self.color = chosen

    def _show(self) -> None:
        picture = qt.QPixmap(16, 16)
        picture.fill(self._color)
        self.icon = qt.QIcon(picture)
        self.text = self._color.name() if self.displayColorName else ""
