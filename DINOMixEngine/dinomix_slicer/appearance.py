"""How the window draws things: colors of organs, frames of messages, icons, and text that is shown as it is."""

from __future__ import annotations

import html
from typing import Any

import qt

INFO, WARNING, ERROR = "info", "warning", "error"

NARROW = 380  # pixels of a label in a narrow panel

# Half transparent, so that they suit Slicer's light and dark styles.
BACKGROUNDS = {INFO: "rgba(60, 130, 210, 40)", WARNING: "rgba(235, 165, 25, 60)", ERROR: "rgba(215, 60, 50, 60)"}


def paintFrame(frame: Any, level: str) -> None:
    """Color the background of a ``QFrame`` by how serious its message is."""
    frame.styleSheet = (
        f"QFrame#{frame.objectName} {{ background-color: {BACKGROUNDS[level]}; border: none; border-radius: 5px; }}"
    )


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


def fitHeight(table: Any, least: int, most: int) -> None:
    """Make a ``QTableWidget`` as high as its rows, but for at least and at most so many; more are scrolled to."""
    rows = min(max(table.rowCount, least), most)
    # Before it is shown, its header has no height yet.
    header = table.horizontalHeader().sizeHint.height()
    table.setFixedHeight(header + rows * table.verticalHeader().defaultSectionSize + 2 * table.frameWidth)


def setWrappedText(label: Any, text: str) -> None:
    """Set the text of a ``QLabel`` that wraps words, and keep room for all its lines.

    Tabs do not pass on that a label needs more height in a narrow window, so that it would be drawn over its neighbors.
    """
    label.text = text
    label.visible = bool(text)
    width = label.width if label.isVisible() else NARROW
    label.minimumHeight = label.heightForWidth(width) if text else 0


def organsAsHtml(organs: tuple[Any, ...], most: int = 24) -> str:
    """Names of ``model_info.Organ``, each with a square of its color; the first ``most`` of them."""
    chips = [
        f'<span style="color:{qt.QColor(*organ.color).name()}">&#9632;</span>&nbsp;{unbroken(organ.name)}'
        for organ in organs[:most]
    ]
    return " &nbsp; ".join(chips) + (" ..." if len(organs) > most else "")


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
