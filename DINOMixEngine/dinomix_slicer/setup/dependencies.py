"""Installing what the engine needs into Slicer's Python: asked first, beside the window, with progress, and to be cancelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..engine_process import EngineProcess
from ..signal import Signal
from ..worker.command import WorkerCommand, ownPython, workerCommand
from . import requirements

WHEELS_SETTING = "DINOMix/WheelFolder"


class DependencyInstaller:
    """Installs the missing packages in a process of its own (``packages.py``).

    With a folder of wheels (the setting DINOMix/WheelFolder), nothing is fetched from the network.

    Signals; of the last three one is emitted, once for each ``install``:
        progress(text, step, total): what is being done, steps done, steps in all.
        logged(line): a line that pip printed.
        finished(needsRestart): everything is installed; packages that Slicer has loaded may have changed under it.
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self, python: str | None = None) -> None:
        self.progress, self.logged = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self._python = python or ownPython()
        self._process: EngineProcess | None = None
        self._step = self._total = 0
        self._before: dict[str, str] = {}

    def missing(self) -> list[str]:
        """Packages to install, as pip names them. Takes milliseconds; nothing is imported."""
        return [str(requirement) for requirement in requirements.missing()]

    def notices(self) -> list[str]:
        """What is wrong though everything is installed, such as a PyTorch that cannot use the GPU; full sentences."""
        return requirements.notices()

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
        options = self._options()
        if slicer.app.testingEnabled() or not confirm(self.question()):
            self.cancelled.emit()
            return
        self._before, self._step = requirements.versions(), 0
        program = [self._python, "-m", "dinomix_slicer.setup.packages"]
        process = self._process = EngineProcess(options, WorkerCommand(program, workerCommand("").environment))
        process.event.connect(self._onEvent)
        process.finished.connect(self._onFinished)
        process.failed.connect(self._onFailed)
        process.cancelled.connect(self._onCancelled)
        process.start()
        self.progress.emit(_("Preparing to install packages"), 0, self._total)

    def cancel(self) -> None:
        """End the installation; what is installed by then stays. ``cancelled`` follows."""
        if self._process is not None:
            self._process.cancel()

    def _options(self) -> list[str]:
        """What ``packages.py`` is told, with the number of its steps noted."""
        lacking, wheels = requirements.missing(), self.wheelFolder()
        keep = [option for line in requirements.constraints() for option in ("--keep", line)]
        if wheels:
            self._total = 1
            return [*keep, "--wheels", wheels, *map(str, lacking)]
        others = [str(requirement) for requirement in lacking if requirement.name != "torch"]
        self._total = bool(others) + (len(others) < len(lacking))
        if len(others) == len(lacking):
            return [*keep, *others]
        if not hasattr(slicer.modules, "pytorchutils"):
            raise DinomixError(
                _("PyTorch is not installed, and the PyTorch extension that installs it is missing."),
                _(
                    "Install the PyTorch extension in the Extensions Manager and restart Slicer, or set a worker command."
                ),
            )
        extension = str(Path(slicer.util.modulePath("PyTorchUtils")).parent)
        torch = str(requirements.torchSpecifier())
        return [*keep, "--torch", torch, "--pytorch-utils", extension, *others]

    def _onEvent(self, event: dict[str, Any]) -> None:
        if event["kind"] == "line":
            self.logged.emit(event["text"])
        elif event["kind"] == "step":
            text = _("Installing {names}").format(names=event["package"])
            self.progress.emit(text, self._step, self._total)
            self._step += 1

    def _onFinished(self, exitCode: int) -> None:
        self._process = None
        if left := self.missing():
            problem = _("After installing, these packages are still missing: {names}.").format(names=", ".join(left))
            self.failed.emit(problem, _("Restart Slicer, then try again."))
        else:
            self.finished.emit(bool(requirements.changedInUse(self._before)))

    def _onFailed(self, reason: str, remedy: str) -> None:
        self._process = None
        self.failed.emit(
            _("The packages could not be installed: {reason}").format(reason=reason),
            _(
                "Check the internet connection and the free disk space, then try again; without a network, set a folder of "
                "wheels in the module's settings."
            ),
        )

    def _onCancelled(self) -> None:
        self._process = None
        self.cancelled.emit()


def isSlicerInstalling() -> bool:
    """Whether another module installs packages through ``slicer.packaging``; two at once would spoil each other's."""
    try:
        from slicer.packaging import isPipInstallInProgress
    except ImportError:  # Slicer 5.10
        return False
    return bool(isPipInstallInProgress())
