"""How the window draws things: colors of organs, frames of messages, icons, and text that is shown as it is."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import qt

INFO, WARNING, ERROR = "info", "warning", "error"

NARROW = 380  # pixels of a label in a narrow panel
FITTED = "dinomixFitted"

# Half transparent, so that they suit Slicer's light and dark styles.
BACKGROUNDS = {INFO: (60, 130, 210, 40), WARNING: (235, 165, 25, 60), ERROR: (215, 60, 50, 60)}


def paintFrame(frame: Any, level: str) -> None:
    """Color the background of a ``QFrame`` by how serious its message is; without a level it is as its surroundings."""
    if level:
        setColor(frame, qt.QPalette.Window, qt.QColor(*BACKGROUNDS[level]))
    frame.autoFillBackground = bool(level)


def showLevel(frame: Any, icon: Any, level: str) -> None:
    """Show in a ``QFrame`` and the ``QLabel`` of its icon how serious their message is; without a level there is no icon."""
    paintFrame(frame, level)
    icon.visible = bool(level)
    if level:
        paintIcon(icon, level)


def setColor(widget: Any, role: int, color: Any) -> None:
    """Draw with a ``QColor`` what a role of the palette stands for; all else stays as Slicer's style has it."""
    palette = widget.palette
    palette.setColor(role, color)
    widget.setPalette(palette)


def paintIcon(label: Any, level: str) -> None:
    """Show the style's icon for a level in a ``QLabel``."""
    icons = {
        INFO: qt.QStyle.SP_MessageBoxInformation,
        WARNING: qt.QStyle.SP_MessageBoxWarning,
        ERROR: qt.QStyle.SP_MessageBoxCritical,
    }
    label.setPixmap(label.style().standardIcon(icons[level]).pixmap(16, 16))


def colorIcon(color: tuple[int, int, int]) -> Any:
    """A ``QIcon`` that is a square of this color."""
    pixmap = qt.QPixmap(14, 14)
    pixmap.fill(qt.QColor(*color))
    return qt.QIcon(pixmap)


def setWrappedText(label: Any, text: str) -> None:
    """Set the text of a ``QLabel`` that wraps words, and keep it as high as its lines; without a text it is hidden."""
    label.text = text
    label.visible = bool(text)
    keepFitted(label)


def keepFitted(label: Any) -> None:
    """Keep a ``QLabel`` that wraps words as high as its lines, however wide it becomes.

    Tabs do not pass on that a label needs more height in a narrow window: it would be drawn over its neighbors, or be far apart
    from them.
    """
    global _fitter
    if label.property(FITTED) is None:
        label.setProperty(FITTED, True)
        _fitter = _fitter or _Fitter()
        label.installEventFilter(_fitter)
    _fit(label, label.width if label.isVisible() else NARROW)


class _Fitter(qt.QObject):
    def eventFilter(self, label: Any, event: Any) -> bool:
        if event.type() == qt.QEvent.Resize:
            _fit(label, label.width)
        return False


_fitter: _Fitter | None = None


def _fit(label: Any, width: int) -> None:
    fixed = label.minimumHeight
    label.minimumHeight = 0  # its height for a width is never less than this
    height = label.heightForWidth(width)
    if label.text and height != fixed:
        label.setFixedHeight(height)
    else:
        label.minimumHeight = fixed


def legendAsHtml(entries: Sequence[tuple[str, tuple[int, int, int]]], most: int = 24) -> str:
    """Names, each with a square of its color (red, green, blue of 0 to 255); the first ``most`` of them."""
    chips = [
        f'<span style="color:{qt.QColor(*color).name()}">&#9632;</span>&nbsp;{unbroken(name)}'
        for name, color in entries[:most]
    ]
    return " &nbsp; ".join(chips) + (" ..." if len(entries) > most else "")


def rowsAsHtml(rows: tuple[tuple[str, str], ...]) -> str:
    """A table of labels and texts."""
    lines = [
        f'<tr><td style="padding-right:12px"><b>{html.escape(label)}</b></td><td>{html.escape(text)}</td></tr>'
        for label, text in rows
    ]
    return f'<table cellspacing="2">{"".join(lines)}</table>'


def unbroken(text: str) -> str:
    """Text as HTML that is not broken at its spaces."""
    return html.escape(text).replace(" ", "&nbsp;")
