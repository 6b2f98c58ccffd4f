"""One look on every machine: the Fusion style, its light colors, and a font that comes with matplotlib."""

import importlib.util
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

FAMILY = "DejaVu Sans"
FILES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
)
POINT_SIZE = 9


def apply(application: QtWidgets.QApplication) -> None:
    """Set style, colors and font. RuntimeError where the font cannot be loaded, as all text would be shown as boxes."""
    application.setStyle("Fusion")
    application.styleHints().setColorScheme(QtCore.Qt.ColorScheme.Light)
    for file in FILES:
        if QtGui.QFontDatabase.addApplicationFont(str(fontFolder() / file)) < 0:
            raise RuntimeError(f"Qt cannot load the font {file} that comes with matplotlib")
    application.setFont(QtGui.QFont(FAMILY, POINT_SIZE))


def fontFolder() -> Path:
    """Where matplotlib keeps its fonts; it is not imported for that."""
    specification = importlib.util.find_spec("matplotlib")
    return Path(specification.origin).parent / "mpl-data" / "fonts" / "ttf"
