"""Installing what the engine needs into Slicer's Python: asked first, beside the window, with progress, and to be cancelled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..signal import Signal
from ..worker.command import ownPython
from ..worker.process import killTrees
from . import requirements

WHEELS_SETTING = "DINOMix/WheelFolder"
LOG_LINES = 2000


class DependencyInstaller:
    """Installs the missing packages one command after the other, each a process of its own.

    torch is installed as the PyTorch extension does it (light-the-torch finds the build that fits the GPU); with a folder of
    wheels (the setting DINOMix/WheelFolder), nothing is fetched from the network.

    Signals; of the last three one is emitted, once for each ``install``:
        progress(text, step, total): what is being done, commands done, commands in all.
        logged(line): a line that pip printed.
        finished(needsRestart): everything is installed; packages that Slicer has loaded may have changed under it.
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self, python: str | None = None) -> None:
        self.progress, self.logged = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self.log: list[str] = []
        self._python = python or ownPython()
        self._process: Any = None
        self._commands: list[tuple[str, list[str]]] = []
        self._total = 0
        self._constraints: Path | None = None
        self._before: dict[str, str] = {}

    def missing(self) -> list[str]:
        """Packages to install, as pip names them. Takes milliseconds; nothing is imported."""
        return [str(requirement) for requirement in requirements.missing()]

    def notices(self) -> list[str]:
        """What is wrong though everything is installed, such as a PyTorch that cannot use the GPU; full sentences."""
        return requirements.notices()

    def isRunning(self) -> bool:
        """Whether an installation is under way."""
        return self._process is not None

    def wheelFolder(self) -> str:
        """The folder of wheels to install from without a network; empty for the network."""
        return str(qt.QSettings().value(WHEELS_SETTING) or "")

    def question(self) -> str:
        """What to ask the user before anything is fetched or installed."""
        source = self.wheelFolder()
        where = _("from the folder {folder}").format(folder=source) if source else _("from the internet (up to 3 GB)")
        return _("DINOMix needs these Python packages: {names}.\n\nInstall them into Slicer's Python {where}?").format(
            names=", ".join(self.missing()), where=where
        )

    def install(self, confirm: Callable[[str], bool]) -> None:
        """Install what is missing, if ``confirm(question)`` says yes; returns at once. Slicer's tests install nothing.

        Raises:
            DinomixError: an installation runs already, of ours or of Slicer's, or torch is missing and so is the PyTorch
                extension.
        """
        if self._process is not None:
            raise DinomixError(_("Packages are being installed already."), _("Wait for it, or cancel it."))
        if isSlicerInstalling():
            raise DinomixError(_("Slicer is installing packages already."), _("Wait until it is done, then try again."))
        if not requirements.missing():
            self.finished.emit(False)
            return
        self._commands = self._planned()
        if slicer.app.testingEnabled() or not confirm(self.question()):
            self._commands = []
            self.cancelled.emit()
            return
        self.log, self._total = [], len(self._commands)
        self._before = requirements.versions()
        self._runNext()

    def cancel(self) -> None:
        """End the installation; what is installed by then stays."""
        if self._process is None:
            return
        process, self._process, self._commands = self._process, None, []
        killTrees([int(process.processId())])
        process.kill()
        process.waitForFinished(200)
        self._removeConstraints()
        self.cancelled.emit()

    def _planned(self) -> list[tuple[str, list[str]]]:
        """What to run: (a text for the user, arguments of Python)."""
        lacking = requirements.missing()
        wheels = self.wheelFolder()
        pip = ["-m", "pip", "install", "--disable-pip-version-check", "--constraint", str(self._writeConstraints())]
        if wheels:
            offline = [*pip, "--no-index", "--find-links", wheels]
            return [(_("Installing packages from {folder}").format(folder=wheels), [*offline, *map(str, lacking)])]
        commands = []
        if any(requirement.name == "torch" for requirement in lacking):
            if not hasattr(slicer.modules, "pytorchutils"):
                self._removeConstraints()
                raise DinomixError(
                    _("PyTorch is not installed, and the PyTorch extension that installs it is missing."),
                    _(
                        "Install the PyTorch extension in the Extensions Manager and restart Slicer, or set a worker command."
                    ),
                )
            torch = "torch" + str(requirements.torchSpecifier())
            commands.append((_("Preparing to install PyTorch"), [*pip, "light-the-torch>=0.5"]))
            commands.append((_("Installing PyTorch"), ["-m", "light_the_torch", "install", torch, "torchvision"]))
        others = [str(requirement) for requirement in lacking if requirement.name != "torch"]
        if others:
            commands.append((_("Installing {names}").format(names=", ".join(others)), [*pip, *others]))
        return commands

    def _runNext(self) -> None:
        text, arguments = self._commands.pop(0)
        self.progress.emit(text, self._total - len(self._commands) - 1, self._total)
        process = self._process = qt.QProcess()
        process.setProcessChannelMode(qt.QProcess.MergedChannels)
        process.connect("readyReadStandardOutput()", self._onOutput)
        process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        process.start(self._python, arguments)

    def _onOutput(self) -> None:
        if self._process is None:
            return
        text = bytes(self._process.readAllStandardOutput().data()).decode("utf-8", "replace")
        for line in filter(str.strip, text.splitlines()):
            self.log = [*self.log[-LOG_LINES:], line]
            self.logged.emit(line)

    def _onError(self, error: int) -> None:
        if self._process is not None and error == qt.QProcess.FailedToStart:
            self._end(_("Python cannot be started to install packages ({program}).").format(program=self._python))

    def _onFinished(self, exitCode: int, exitStatus: int) -> None:
        if self._process is None:
            return
        self._onOutput()
        if exitCode != 0 or exitStatus != qt.QProcess.NormalExit:
            reason = next((line for line in reversed(self.log) if "ERROR" in line), self.log[-1] if self.log else "")
            self._end(_("The packages could not be installed: {reason}").format(reason=reason))
            return
        if self._commands:
            self._runNext()
            return
        self._process = None
        self._removeConstraints()
        if left := self.missing():
            problem = _("After installing, these packages are still missing: {names}.").format(names=", ".join(left))
            self.failed.emit(problem, _("Restart Slicer, then try again."))
            return
        self.finished.emit(bool(requirements.changedInUse(self._before)))

    def _end(self, problem: str) -> None:
        self._process, self._commands = None, []
        self._removeConstraints()
        self.failed.emit(
            problem,
            _(
                "Check the internet connection and the free disk space, then try again; without a network, set a folder of "
                "wheels in the module's settings."
            ),
        )

    def _writeConstraints(self) -> Path:
        handle, name = tempfile.mkstemp(prefix="dinomix-constraints-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(requirements.constraints()))
        self._constraints = Path(name)
        return self._constraints

    def _removeConstraints(self) -> None:
        if self._constraints is not None:
            self._constraints.unlink(missing_ok=True)
            self._constraints = None


def isSlicerInstalling() -> bool:
    """Whether another module installs packages through ``slicer.packaging``; two at once would spoil each other's."""
    try:
        from slicer.packaging import isPipInstallInProgress
    except ImportError:  # Slicer 5.10
        return False
    return bool(isPipInstallInProgress())
