"""The licence of the DINOv3 weights: nothing is fetched before the user has read and accepted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dinomix_slicer.window.widgets import loadDialog

FILE = Path(__file__).parents[1] / "Resources/UI/DINOMixTrainLicence.ui"


def askForLicence() -> bool:
    """Show the dialog; whether the user has accepted."""
    dialog = licenceDialog()
    try:
        return bool(dialog.exec_())
    finally:
        dialog.deleteLater()


def licenceDialog() -> Any:
    """The dialog; its button is enabled by a check mark."""
    return loadDialog(str(FILE))
