"""``ctkMessageBox``, ``ctkSearchBox`` and ``ctkFittedTextBrowser``."""

import qt

from host.qt.hosted import hosted, qtProperty, stored


@hosted
class ctkMessageBox(qt.QMessageBox):
    """A message box that can be told not to come again; then it answers as the user did the last time."""

    setters = ("dontShowAgain",)
    dontShowAgainVisible = stored("dontShowAgainVisible", "bool", False, "_addCheckBox")
    dontShowAgainSettingsKey = stored("dontShowAgainSettingsKey", "QString", "", "_onSettingsKey")

    def _onSettingsKey(self) -> None:
        self.dontShowAgainVisible = True
        self.dontShowAgain = self._rememberedAnswer() is not None

    def _addCheckBox(self) -> None:
        # Kept here too: PySide6 would delete a check box that only the message box refers to.
        self._checkBox = qt.QCheckBox("Don't show this message again", self) if self.dontShowAgainVisible else None
        self.setCheckBox(self._checkBox)

    def _isChecked(self) -> bool:
        return self.checkBox() is not None and self.checkBox().checked

    def _setChecked(self, checked: bool) -> None:
        self.dontShowAgainVisible = True
        self.checkBox().checked = checked

    dontShowAgain = qtProperty("bool", _isChecked, _setChecked)

    def _rememberedAnswer(self) -> int | None:
        if not self.dontShowAgainSettingsKey:
            return None
        answer = qt.QSettings().value(self.dontShowAgainSettingsKey)
        return None if answer in (None, "", "0", 0) else int(answer)

    def exec_(self) -> int:
        remembered = self._rememberedAnswer()
        if remembered is not None:
            return remembered
        answer = super().exec_()
        if self.dontShowAgain and self.dontShowAgainSettingsKey:
            qt.QSettings().setValue(self.dontShowAgainSettingsKey, int(answer))
        return answer

    exec = exec_


@hosted
class ctkSearchBox(qt.QLineEdit):
    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self.clearButtonEnabled = True
        self.placeholderText = "Search..."

    showSearchIcon = stored("showSearchIcon", "bool", False)


@hosted
class ctkFittedTextBrowser(qt.QTextBrowser):
    """Text as high as it needs to be; with ``collapsed`` only its first paragraph."""

    collapsed = stored("collapsed", "bool", True)
    disableMouseScroll = stored("disableMouseScroll", "bool", False)

    def setCollapsibleText(self, text: str) -> None:
        self.setHtml(text)

    def setCollapsibleHtml(self, text: str) -> None:
        self.setHtml(text)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self.textChanged.connect(self._fit)

    def _fit(self) -> None:
        self.setMinimumHeight(int(self.document().size().height()) + 2 * self.frameWidth)
