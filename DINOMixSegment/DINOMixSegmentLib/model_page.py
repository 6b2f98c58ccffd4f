"""Choosing a model, and what the window shows of it."""

from __future__ import annotations

import html
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.models.folders import LAST_MODEL_SETTING
from dinomix_slicer.models.info import ModelInfo, facts, modelInfo
from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import legendAsHtml, rowsAsHtml
from dinomix_slicer.window.choices import showChoices
from dinomix_slicer.window.widgets import loadDialog

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic

SMALL, LARGE = 104, 224  # pixels of the picture


class ModelPage:
    """
    Attributes:
        info: what is known of the model that is shown; None when the worker has not listed it.

    Signals:
        chosen(path): the user has chosen a model.
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic, dialogFile: str) -> None:
        self.chosen = Signal()
        self.info: ModelInfo | None = None
        self._ui, self._logic, self._dialogFile = ui, logic, dialogFile
        self._path = ""
        self._dialog: Any = None
        ui.modelComboBox.connect("activated(int)", self._onActivated)
        ui.modelMoreButton.connect("clicked()", self.openDetails)
        self.show("")

    def show(self, path: str) -> None:
        """List the models that the worker knows, and show the one in this folder."""
        self._path = path
        model = self._logic.model(path)
        self.info = modelInfo(model) if model else None
        self._fillComboBox()
        self._ui.modelFrame.visible = self.info is not None
        if self.info is not None:
            self._fillFrame(model, self.info)

    def obviousModel(self) -> str:
        """The model that was used last, else the first that can be used; empty without any."""
        usable = [model["path"] for model in self._logic.models() if not model.get("problem")]
        last = str(qt.QSettings().value(LAST_MODEL_SETTING) or "")
        return last if last in usable else usable[0] if usable else ""

    def openDetails(self) -> None:
        """Show the whole model card in a window of its own."""
        if self.info is None:
            return
        self.close()
        self._dialog = modelDialog(self.info, self._dialogFile)
        self._dialog.show()

    def close(self) -> None:
        """Close that window."""
        if self._dialog is not None:
            self._dialog.close()
            self._dialog.deleteLater()
            self._dialog = None

    def _fillComboBox(self) -> None:
        box = self._ui.modelComboBox
        entries = [(model["title"], model["path"]) for model in self._logic.models()]
        if self._path and self._path not in [path for _title, path in entries]:
            # A scene from another computer, or a folder that is gone: Apply says what to do.
            entries.append((_("{name} (not found)").format(name=PurePath(self._path).name), self._path))
        showChoices(box, entries, self._path)
        box.enabled = bool(entries)

    def _fillFrame(self, model: dict[str, Any], info: ModelInfo) -> None:
        showPicture(self._ui.modelPictureLabel, info, SMALL)
        if info.problem:
            self._ui.modelOrgansLabel.text = html.escape(info.problem)
        else:
            self._ui.modelOrgansLabel.text = legendAsHtml(info.organs)
        self._ui.modelFactsLabel.text = facts(model)

    def _onActivated(self, row: int) -> None:
        path = self._ui.modelComboBox.itemData(row)
        qt.QSettings().setValue(LAST_MODEL_SETTING, path)
        self.chosen.emit(path)


def showPicture(label: Any, info: ModelInfo, size: int) -> None:
    """The model's picture, at most ``size`` pixels wide and high; the label is hidden without one."""
    pixmap = qt.QPixmap()
    label.visible = info.picture is not None and pixmap.loadFromData(info.picture)
    if not pixmap.isNull():
        label.setPixmap(pixmap.scaled(size, size, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation))


def modelDialog(info: ModelInfo, file: str) -> Any:
    """A window with everything about a model; ``file`` is the ``.ui`` file."""
    dialog = loadDialog(file)
    parts = slicer.util.childWidgetVariables(dialog)
    dialog.windowTitle = info.title
    parts.titleLabel.text = info.title
    parts.problemLabel.text = info.problem or ""
    parts.problemLabel.visible = bool(info.problem)
    parts.organsLabel.text = legendAsHtml(info.organs, most=200)
    parts.factsLabel.text = rowsAsHtml(info.rows)
    parts.cardBrowser.setMarkdown(demoted(info.card))
    parts.cardBrowser.visible = bool(info.card)
    showPicture(parts.pictureLabel, info, LARGE)
    return dialog


def demoted(card: str) -> str:
    """Markdown with its headings two levels lower, since the window has a title of its own; code blocks stay."""
    lines, isCode = [], False
    for line in card.splitlines():
        isCode ^= line.startswith("```")
        lines.append(f"##{line}" if line.startswith("#") and not isCode else line)
    return "\n".join(lines)
