"""The logic's part that knows which packages are missing, and has them installed."""

from __future__ import annotations

from collections.abc import Sequence

import qt
from slicer.i18n import tr as _

from ..worker.command import SETTING
from .dependencies import DependencyInstaller, sharedInstaller
from .requirements import TRAIN


class PackagesOwner:
    """
    Attributes:
        installer: installs what is missing; by default the one that all windows share.
        purposes: what the packages are for; those of one of them have to be there.
    """

    purposes: Sequence[str] = (TRAIN,)

    def __init__(self, installer: DependencyInstaller | None = None) -> None:
        self.installer = installer or sharedInstaller()

    def workerCommandText(self) -> str:
        """The setting DINOMix/WorkerCommand; empty for Slicer's own Python."""
        return str(qt.QSettings().value(SETTING) or "")

    def missingDependencies(self) -> list[str]:
        """Packages to install before Slicer's own Python can compute; empty when the worker is another command."""
        return [] if self.workerCommandText() else self.installer.missing(self.purposes)

    def whyNotDependencies(self) -> str | None:
        """The sentence that says which packages are missing; None when none is."""
        missing = self.missingDependencies()
        if not missing:
            return None
        return _("DINOMix needs packages that are not installed yet ({names}). Install them first.").format(
            names=", ".join(missing)
        )
