"""What is still missing before a module can be used: one sentence, and a button that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..window.appearance import INFO, showLevel
from .owner import PackagesOwner
from .restart import mayRestart

READ_SETTING = "DINOMix/NoticeWasRead"


@dataclass(frozen=True)
class Lack:
    """What is missing: a sentence, the button's text, and what the button does."""

    text: str
    button: str
    toolTip: str
    action: Callable[[], None]


def chosen(question: str, answers: list[str]) -> int | None:
    """Ask the user: the number of the answer, None to do nothing. Of a single answer, whether it is wanted."""
    if len(answers) == 1:
        return 0 if slicer.util.confirmYesNoDisplay(question) else None
    box = qt.QMessageBox(slicer.util.mainWindow())
    box.icon = qt.QMessageBox.Question
    box.windowTitle = _("Install packages?")
    box.text = question
    buttons = [box.addButton(answer, qt.QMessageBox.AcceptRole) for answer in answers]
    box.addButton(qt.QMessageBox.Cancel)
    box.setDefaultButton(buttons[0])
    box.deleteLater()
    box.exec_()
    return next((number for number, button in enumerate(buttons) if box.clickedButton() == button), None)


class SetupNotice:
    """Offers to install packages. A module's own notice adds what else it needs."""

    def __init__(self, ui: Any, owner: PackagesOwner) -> None:
        self._ui, self._owner, self._installer = ui, owner, owner.installer
        self._parameterNode: Any = None
        self._lack: Lack | None = None
        ui.setupButton.connect("clicked()", self._onButton)
        showLevel(ui.setupFrame, ui.setupIconLabel, INFO)
        self._installer.changed.connect(self._onChanged)
        self.show(None)

    @property
    def text(self) -> str:
        """The sentence that is shown; empty when nothing is missing."""
        return self._lack.text if self._lack else ""

    def close(self) -> None:
        """End an installation that runs."""
        self._installer.changed.disconnect(self._onChanged)
        self._installer.cancel()

    def show(self, parameterNode: Any) -> None:
        """Show what is missing now; nothing without a parameter node."""
        self._parameterNode = parameterNode
        self._lack = None
        if parameterNode is not None:
            self._lack = self.whatIsMissing(parameterNode) or self._whatIsWrong()
        self._ui.setupFrame.visible = self._lack is not None
        if self._lack is not None:
            self._ui.setupLabel.text = self._lack.text
            self._ui.setupButton.text = self._lack.button
            self._ui.setupButton.toolTip = self._lack.toolTip

    # -- For a module's own notice

    def whatIsMissing(self, parameterNode: Any) -> Lack | None:
        """The first thing that is missing."""
        owner, installer = self._owner, self._installer
        if installer.stage:
            toolTip = _("End the installation. What is installed by then stays.")
            return Lack(installer.stage, _("Cancel"), toolTip, installer.cancel)
        if installer.needsRestart:
            text = _("The packages are installed. Restart Slicer to use them.")
            return Lack(text, _("Restart"), _("Slicer asks what to do with unsaved data."), self._onRestart)
        missing = owner.whyNotDependencies()
        if missing:
            return Lack(missing, _("Install..."), _("Slicer asks before anything is downloaded."), self._onInstall)
        return None

    def rememberForRestart(self, parameterNode: Any) -> None:
        """Note where the user is, before Slicer restarts."""

    # -- Inside

    def _whatIsWrong(self) -> Lack | None:
        """What the user should know though nothing is missing, until the button says that it was read."""
        wrong = " ".join(self._installer.notices())
        if not wrong or qt.QSettings().value(READ_SETTING) == wrong or self._owner.workerCommandText():
            return None

        def onRead() -> None:
            qt.QSettings().setValue(READ_SETTING, wrong)
            self._onChanged()

        return Lack(wrong, _("Do not show again"), _("Hide this; nothing else is changed."), onRead)

    def _onButton(self) -> None:
        if self._lack is not None:
            self._lack.action()

    def _onChanged(self) -> None:
        self.show(self._parameterNode)

    def _onInstall(self) -> None:
        self._installer.install(chosen, self._owner.purposes)

    def _onRestart(self) -> None:
        if mayRestart():
            self.rememberForRestart(self._parameterNode)
            slicer.util.restart()
