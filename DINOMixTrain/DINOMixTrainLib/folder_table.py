"""The folders that hold cases: a table of them, and buttons to add and remove some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.tables import fitHeight, selectedRows, setRow, setUpColumns

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode

FIELDS = {"labeled": "labeledFolders", "unlabeled": "unlabeledFolders", "test": "testFolders"}
"""Kind of folder -> the parameter that holds them."""
USE, FOLDER = 0, 1  # columns


class FolderTable:
    """
    Signals:
        notice(text): a folder was not added, and why.
    """

    def __init__(self, ui: Any) -> None:
        self.notice = Signal()
        self._ui = ui
        self._node: DINOMixTrainParameterNode | None = None
        self._shown: list[tuple[str, str]] | None = None
        self._lastFolder = ""
        ui.addLabeledButton.connect("clicked()", lambda: self._onAdd("labeled"))
        ui.addUnlabeledButton.connect("clicked()", lambda: self._onAdd("unlabeled"))
        ui.addTestButton.connect("clicked()", lambda: self._onAdd("test"))
        ui.removeFolderButton.connect("clicked()", self._onRemove)
        ui.foldersTable.connect("itemSelectionChanged()", self._showButtons)
        setUpColumns(ui.foldersTable, stretched=[FOLDER], fitted=[USE])
        ui.foldersTable.textElideMode = qt.Qt.ElideLeft

    def show(self, node: DINOMixTrainParameterNode, isEnabled: bool) -> None:
        """Show the folders of the parameter node."""
        self._node = node
        rows = [(kind, folder) for kind in FIELDS for folder in getattr(node, FIELDS[kind])]
        if rows != self._shown:
            self._fill(rows)
        buttons = (self._ui.addLabeledButton, self._ui.addUnlabeledButton, self._ui.addTestButton)
        for widget in (self._ui.foldersTable, *buttons):
            widget.enabled = isEnabled
        self._showButtons()

    def _fill(self, rows: list[tuple[str, str]]) -> None:
        self._shown = rows
        titles = {"labeled": _("Labeled"), "unlabeled": _("Unlabeled"), "test": _("Test")}
        table = self._ui.foldersTable
        table.rowCount = len(rows)
        fitHeight(table, 2, 5)
        for row, (kind, folder) in enumerate(rows):
            setRow(table, row, (titles[kind], folder), (folder, folder))

    def _showButtons(self) -> None:
        table = self._ui.foldersTable
        self._ui.removeFolderButton.enabled = table.enabled and bool(table.selectedItems())

    def _onAdd(self, kind: str) -> None:
        titles = {
            "labeled": _("Folder of images with labels"),
            "unlabeled": _("Folder of images without labels"),
            "test": _("Folder of test images with labels"),
        }
        folder = askForFolder(self._ui.foldersTable, titles[kind], self._lastFolder)
        if folder:
            self.add(kind, folder)

    def add(self, kind: str, folder: str) -> None:
        """Add a folder as "labeled", "unlabeled" or "test"."""
        self._lastFolder = folder
        folders = getattr(self._node, FIELDS[kind])
        if folder in folders:
            self.notice.emit(_("The folder {folder} is in the list already.").format(folder=folder))
            return
        setattr(self._node, FIELDS[kind], [*folders, folder])

    def _onRemove(self) -> None:
        rows = selectedRows(self._ui.foldersTable)
        kept = [entry for row, entry in enumerate(self._shown or []) if row not in rows]
        for kind, field in FIELDS.items():
            folders = [folder for other, folder in kept if other == kind]
            if folders != list(getattr(self._node, field)):
                setattr(self._node, field, folders)


def askForFolder(parent: Any, title: str, start: str) -> str:
    """The folder that the user chooses; empty when none is."""
    return qt.QFileDialog.getExistingDirectory(parent, title, start) or ""
