"""Installing what the engine needs into Slicer's Python: asked first, beside the window, with progress, and to be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..engine_process import EngineProcess
from ..signal import Signal, telling
from ..worker.command import WorkerCommand, ownPython, workerCommand
from . import requirements

WHEELS_SETTING = "DINOMix/WheelFolder"
Choose = Callable[[str, list[str]], int | None]
"""Asks a question that has these answers; the number of the one that is given, None where the user wants none of them."""


def titles() -> dict[str, str]:
    """Purpose of packages -> what a button says of it."""
    return {
        requirements.SEGMENT: _("Segment only (about 100 MB)"),
        requirements.TRAIN: _("Segment and train (up to 3 GB)"),
    }


class DependencyInstaller:
    """Installs the missing packages in a process of its own (``packages.py``).

    With a folder of wheels (the setting DINOMix/WheelFolder), nothing is fetched from the network.

    Attributes:
        stage: what is being done, in words; empty while nothing is installed.
        needsRestart: packages that Slicer has loaded have changed under it.

    Signals:
        changed(): one of these, or what is missing.
        logged(line): a line that pip printed.
        installed(): everything is there, and no restart is needed.
        failed(problem, remedy): it cannot be installed.
    """

    def __init__(self, python: str | None = None) -> None:
        self.changed, self.logged, self.installed, self.failed = Signal(), Signal(), Signal(), Signal()
        self.stage, self.needsRestart = "", False
        self._python = python or ownPython()
        self._process: EngineProcess | None = None
        self._missing: dict[str, list[str]] = {}
        self._purpose = requirements.TRAIN
        self._notices: list[str] | None = None
        self._before: dict[str, str] = {}

    def missing(self, purposes: Sequence[str] = (requirements.TRAIN,)) -> list[str]:
        """Packages to install, as pip names them, before one of these purposes is served: those of the first.

        What it was when somebody looked last.
        """
        lacking = [self._missingFor(purpose) for purpose in purposes]
        return lacking[0] if all(lacking) else []

    def _missingFor(self, purpose: str) -> list[str]:
        if purpose not in self._missing:
            self._missing[purpose] = [str(requirement) for requirement in requirements.missing(purpose)]
        return self._missing[purpose]

    def recheck(self) -> None:
        """Look again at what is missing or wrong: packages may have been installed elsewhere."""
        self._missing, self._notices = {}, None

    def notices(self) -> list[str]:
        """What is wrong though everything is installed, such as a PyTorch that cannot use the GPU; full sentences."""
        if self._notices is None:
            self._notices = requirements.notices()
        return self._notices

    def install(self, choose: Choose, purposes: Sequence[str] = (requirements.TRAIN,)) -> None:
        """Install what is missing for one of the purposes, which the user chooses; returns at once.

        Slicer's tests install nothing.
        """
        self.recheck()
        if not self.missing(purposes):
            self._end()
            return
        wheels = str(qt.QSettings().value(WHEELS_SETTING) or "")
        with telling(self.failed):
            self._refuse()
            if slicer.app.testingEnabled():
                return
            # With PyTorch there already, the rest is small.
            hasTorch = not any(requirement.name == "torch" for requirement in requirements.missing())
            offered = [requirements.TRAIN] if hasTorch and requirements.TRAIN in purposes else list(purposes)
            number = choose(self._question(offered, wheels), [titles()[purpose] for purpose in offered])
            if number is not None:
                self._purpose = offered[number]
                self._start(self._options(wheels))

    def _start(self, options: list[str]) -> None:
        self._before = requirements.versions()
        program = [self._python, "-m", "dinomix_slicer.setup.packages"]
        process = self._process = EngineProcess(options, WorkerCommand(program, workerCommand("").environment))
        process.event.connect(self._onEvent)
        process.finished.connect(lambda exitCode: self._end())
        process.failed.connect(self._onFailed)
        process.cancelled.connect(self._letGo)
        process.start()
        self._show(_("Preparing to install packages..."))

    def cancel(self) -> None:
        """End the installation; what is installed by then stays."""
        if self._process is not None:
            self._process.cancel()

    def _refuse(self) -> None:
        if self._process is not None:
            raise DinomixError(_("Packages are being installed already."), _("Wait for it, or cancel it."))
        if isSlicerInstalling():
            raise DinomixError(_("Slicer is installing packages already."), _("Wait until it is done, then try again."))

    def _question(self, offered: list[str], wheels: str) -> str:
        """What to ask the user before anything is fetched or installed."""
        folder = _("from the folder {folder}").format(folder=wheels)
        everything = ", ".join([*self._missingFor(requirements.TRAIN), *map(str, requirements.accelerators())])
        if offered == [requirements.TRAIN]:
            return _(
                "DINOMix needs these Python packages: {names}.\n\nInstall them into Slicer's Python {where}?"
            ).format(names=everything, where=folder if wheels else _("from the internet (up to 3 GB)"))
        return _(
            "DINOMix needs Python packages, which are installed into Slicer's Python {where}.\n\n"
            "To segment only, on the processor, with models that carry a graph: {few}.\n\n"
            "To segment with all models and on graphics cards, and to train: {names}."
        ).format(
            where=folder if wheels else _("from the internet"),
            few=", ".join(self._missingFor(requirements.SEGMENT)),
            names=everything,
        )

    def _options(self, wheels: str) -> list[str]:
        """What ``packages.py`` is told."""
        settings = [option for line in requirements.constraints() for option in ("--keep", line)]
        lacking = requirements.missing(self._purpose)
        if self._purpose == requirements.TRAIN:
            settings += [option for package in requirements.accelerators() for option in ("--also", str(package))]
        if wheels:
            return [*settings, "--wheels", wheels, *map(str, lacking)]
        others = [str(requirement) for requirement in lacking if requirement.name != "torch"]
        if len(others) == len(lacking):
            return [*settings, *others]
        if not hasattr(slicer.modules, "pytorchutils"):
            raise DinomixError(
                _("PyTorch is not installed, and the PyTorch extension that installs it is missing."),
                _(
                    "Install the PyTorch extension in the Extensions Manager and restart Slicer, or set a worker command."
                ),
            )
        extension = str(Path(slicer.util.modulePath("PyTorchUtils")).parent)
        torch = str(requirements.torchSpecifier())
        return [*settings, "--torch", torch, "--pytorch-utils", extension, *others]

    def _onEvent(self, event: dict[str, Any]) -> None:
        if event["kind"] == "line":
            self.logged.emit(event["text"])
        elif event["kind"] == "step":
            what = _("Installing {names} ({step} of {total})...")
            self._show(what.format(names=event["package"], step=event["step"], total=event["total"]))

    def _show(self, stage: str) -> None:
        self.stage = stage
        self.changed.emit()

    def _letGo(self) -> None:
        self._process = None
        self.recheck()
        self._show("")

    def _end(self) -> None:
        """Everything should be there now."""
        self.needsRestart = bool(requirements.changedInUse(self._before))
        self._letGo()
        if lacking := self._missingFor(self._purpose):
            problem = _("After installing, these packages are still missing: {names}.")
            self.failed.emit(problem.format(names=", ".join(lacking)), _("Restart Slicer, then try again."))
        elif not self.needsRestart:
            self.installed.emit()

    def _onFailed(self, reason: str, remedy: str) -> None:
        self._letGo()
        self.failed.emit(
            _("The packages could not be installed: {reason}").format(reason=reason),
            _(
                "Check the internet connection and the free disk space, then try again; without a network, set a folder of "
                "wheels in the module's settings."
            ),
        )


@cache
def sharedInstaller() -> DependencyInstaller:
    """The one of all windows: two installations at once would spoil each other's."""
    return DependencyInstaller()


def isSlicerInstalling() -> bool:
    """Whether another module installs packages through ``slicer.packaging``."""
    try:
        from slicer.packaging import isPipInstallInProgress
    except ImportError:  # Slicer 5.10
        return False
    return bool(isPipInstallInProgress())
