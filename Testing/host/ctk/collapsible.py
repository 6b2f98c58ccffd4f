"""``ctkCollapsibleButton`` and ``ctkCollapsibleGroupBox``: sections that open and close."""

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted, qtProperty

NO_LIMIT = 16777215  # QWIDGETSIZE_MAX
MARGIN = 6


class _Contents:
    """What both have in common: closing hides the widgets inside, opening shows those that were not hidden on purpose."""

    def _setOpen(self, isOpen: bool) -> None:
        self._isOpen = isOpen
        for child in self.children():
            if child.isWidgetType() and isOpen == child.isHidden():
                self._showOrHide(child, isOpen)
        self.setMaximumHeight(NO_LIMIT if isOpen else self._closedHeight())
        self.updateGeometry()

    def _showOrHide(self, child: qt.QWidget, isOpen: bool) -> None:
        """Hide what is shown and remember it; show only what was hidden so."""
        self._busy = True
        try:
            if not isOpen:
                self._closedAway.append(child)
                child.hide()
            elif child in self._closedAway:
                self._closedAway.remove(child)
                child.show()
        finally:
            self._busy = False

    def _watch(self, event: QtCore.QEvent) -> None:
        """A widget that comes into a closed section, or is shown in it, stays hidden until the section opens."""
        if event.type() == QtCore.QEvent.ChildPolished and event.child().isWidgetType():
            event.child().installEventFilter(self)
            if not self._isOpen and not event.child().isHidden():
                self._showOrHide(event.child(), False)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if event.type() == QtCore.QEvent.ShowToParent and not self._isOpen and not self._busy:
            self._showOrHide(watched, False)
        return False


@hosted
class ctkCollapsibleButton(_Contents, qt.QAbstractButton):
    """A wide button with an arrow; its layout holds what it opens."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._isOpen, self._busy, self._closedAway = True, False, []
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(qt.QSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Preferred))
        self.setContentsMargins(0, self._headerHeight(), 0, 0)
        self.toggled.connect(self._onToggled)

    def _onToggled(self, checked: bool) -> None:
        self._setOpen(checked)
        self.contentsCollapsed.emit(not checked)

    collapsed = qtProperty("bool", lambda self: not self.checked, lambda self, value: self.setChecked(not value))

    def _headerHeight(self) -> int:
        return self.fontMetrics().height() + 2 * MARGIN

    _closedHeight = _headerHeight

    def childEvent(self, event: QtCore.QEvent) -> None:
        self._watch(event)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._headerHeight()

    def sizeHint(self) -> QtCore.QSize:
        return self._sizeOf("totalSizeHint")

    def minimumSizeHint(self) -> QtCore.QSize:
        return self._sizeOf("totalMinimumSize")

    def _sizeOf(self, which: str) -> QtCore.QSize:
        header = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, self._headerHeight())
        if not self._isOpen or self.layout() is None:
            return header
        return getattr(self.layout(), which)().expandedTo(header)

    def paintEvent(self, event: QtCore.QEvent) -> None:
        painter = qt.QStylePainter(self)
        option = qt.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, self._headerHeight())
        option.state |= qt.QStyle.State_Sunken if self.isDown() else qt.QStyle.State_Raised
        painter.drawControl(qt.QStyle.CE_PushButtonBevel, option)
        arrow = qt.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(MARGIN, (self._headerHeight() - 12) // 2, 12, 12)
        shape = qt.QStyle.PE_IndicatorArrowUp if self._isOpen else qt.QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(shape, arrow)
        text = option.rect.adjusted(MARGIN + 18, 0, -MARGIN, 0)
        painter.drawItemText(
            text,
            qt.Qt.AlignLeft | qt.Qt.AlignVCenter | qt.Qt.TextShowMnemonic,
            self.palette,
            self.enabled,
            self.text,
            qt.QPalette.ButtonText,
        )


@hosted
class ctkCollapsibleGroupBox(_Contents, qt.QGroupBox):
    """A group box whose title opens and closes it."""

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._isOpen, self._busy, self._closedAway = True, False, []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._setOpen)

    collapsed = qtProperty("bool", lambda self: not self.checked, lambda self, value: self.setChecked(not value))

    def _closedHeight(self) -> int:
        return self.fontMetrics().height() + MARGIN

    def childEvent(self, event: QtCore.QEvent) -> None:
        self._watch(event)

    def paintEvent(self, event: QtCore.QEvent) -> None:
        """As a group box, with an arrow in place of the check box."""
        painter = qt.QStylePainter(self)
        option = qt.QStyleOptionGroupBox()
        self.initStyleOption(option)
        check = self.style().subControlRect(qt.QStyle.CC_GroupBox, option, qt.QStyle.SC_GroupBoxCheckBox, self)
        option.subControls &= ~qt.QStyle.SC_GroupBoxCheckBox
        painter.drawComplexControl(qt.QStyle.CC_GroupBox, option)
        arrow = qt.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = check
        painter.drawPrimitive(qt.QStyle.PE_IndicatorArrowUp if self._isOpen else qt.QStyle.PE_IndicatorArrowDown, arrow)
