"""What is still missing before a module can be used: one sentence, and a button that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..signal import Signal
from ..window.appearance import INFO, paintFrame, paintIcon
from ..worker.owner import WorkerOwner
from .restart import mayRestart

READ_SETTING = "DINOMix/NoticeWasRead"


@dataclass(frozen=True)
class Lack:
    """What is missing: a sentence, the button's text, and what the button does."""

    text: str
    button: str
    toolTip: str
    action: Callable[[], None]


class SetupNotice:
    """Installs packages and starts the worker again. A module's own notice adds what else it needs.

    Signals:
        failed(problem, remedy): an installation failed.
        installed(): the packages are there now.
        logged(line): what pip printed.
    """

    def __init__(self, ui: Any, owner: WorkerOwner) -> None:
        self.failed, self.installed, self.logged = Signal(), Signal(), Signal()
        self._ui, self._owner = ui, owner
        self._parameterNode: Any = None
        self._lack: Lack | None = None
        self._installing = ""  # what is being installed
        self._needsRestart = False
        self._wrong: str | None = None  # though nothing is missing; not looked for yet
        ui.setupButton.connect("clicked()", self._onButton)
        paintFrame(ui.setupFrame, INFO)
        paintIcon(ui.setupIconLabel, INFO)
        installer = owner.installer
        self._connections = (
            (installer.progress, self._onProgress),
            (installer.logged, self.logged.emit),
            (installer.finished, self._onInstalled),
            (installer.failed, self._onFailed),
            (installer.cancelled, self._onCancelled),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show(None)

    @property
    def text(self) -> str:
        """The sentence that is shown; empty when nothing is missing."""
        return self._lack.text if self._lack else ""

    def close(self) -> None:
        """End an installation that runs."""
        if self._installing:
            self._owner.installer.cancel()
        for signal, slot in self._connections:
            signal.disconnect(slot)

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
        owner = self._owner
        if self._installing:
            toolTip = _("End the installation. What is installed by then stays.")
            return Lack(self._installing, _("Cancel"), toolTip, owner.installer.cancel)
        if self._needsRestart:
            text = _("The packages are installed. Restart Slicer to use them.")
            return Lack(text, _("Restart"), _("Slicer asks what to do with unsaved data."), self._onRestart)
        missing = owner.whyNotDependencies()
        if missing:
            return Lack(missing, _("Install..."), _("Slicer asks before anything is downloaded."), self._onInstall)
        if owner.workerState == "failed":
            text = _("The process that computes has ended.")
            return Lack(text, _("Start again"), _("Start the worker again."), owner.restartWorker)
        return None

    def rememberForRestart(self, parameterNode: Any) -> None:
        """Note where the user is, before Slicer restarts."""

    # -- Inside

    def _whatIsWrong(self) -> Lack | None:
        """What the user should know though nothing is missing, until the button says that it was read."""
        if self._wrong is None:
            self._wrong = " ".join(self._owner.installer.notices())
        hasRead = qt.QSettings().value(READ_SETTING) == self._wrong
        if not self._wrong or hasRead or self._owner.workerCommandText():
            return None
        return Lack(self._wrong, _("Do not show again"), _("Hide this; nothing else is changed."), self._onRead)

    def _onRead(self) -> None:
        qt.QSettings().setValue(READ_SETTING, self._wrong)
        self.show(self._parameterNode)

    def _onButton(self) -> None:
        if self._lack is not None:
            self._lack.action()

    def _onInstall(self) -> None:
        try:
            self._owner.installer.install(slicer.util.confirmYesNoDisplay)
        except DinomixError as error:
            self.failed.emit(error.problem, error.remedy)

    def _onProgress(self, text: str, step: int, total: int) -> None:
        self._installing = _("{what} ({step} of {total})...").format(what=text, step=step + 1, total=total)
        self.show(self._parameterNode)

    def _onInstalled(self, needsRestart: bool) -> None:
        self._installing, self._needsRestart, self._wrong = "", needsRestart, None
        self._owner.recheckDependencies()
        self.show(self._parameterNode)
        if not needsRestart:
            self.installed.emit()

    def _onFailed(self, problem: str, remedy: str) -> None:
        self._onCancelled()
        self.failed.emit(problem, remedy)

    def _onCancelled(self) -> None:
        self._installing = ""
        self._owner.recheckDependencies()
        self.show(self._parameterNode)

    def _onRestart(self) -> None:
        if mayRestart():
            self.rememberForRestart(self._parameterNode)
            slicer.util.restart()
