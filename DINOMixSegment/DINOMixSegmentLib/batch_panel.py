"""The batch: what is to be segmented, and a table of what became of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import qt
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.formats import Format
from dinomix_slicer.window.path_field import onPathChanged, showPath
from dinomix_slicer.window.tables import setRow, setUpColumns

from .batch_cases import Cases, casesOfDisk, casesOfHierarchyFolder, casesOfScene
from .batch_items import DONE, FAILED, RUNNING, SKIPPED, WAITING, BatchItem

if TYPE_CHECKING:
    from dinomix.images.channel_files import Channel

    from .logic import DINOMixSegmentLogic
    from .parameter_node import DINOMixSegmentParameterNode

SOURCES = ("scene", "hierarchy", "disk")  # in the order of the combo box
FORMATS: tuple[Format, ...] = ("seg.nrrd", "dicom-seg", "rtstruct")  # so, too
NAME, STATE, DETAILS = 0, 1, 2  # columns
SURE = "2"  # behind each predicted Dice, which are texts
MOST_LEFT_OUT = 4
"""Sentences that are shown of what a batch leaves out."""


class FolderOnDisk(NamedTuple):
    """A folder whose images are to be segmented, and what else the items depend on; as ``casesOfDisk`` takes them."""

    folder: str
    outputFolder: str
    format: Format
    channels: tuple[Channel, ...]


class BatchPanel:
    """Follows the parameter node and the scene while nothing runs; keeps the table of the last batch until they change."""

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self._ui, self._logic = ui, logic
        self._parameterNode: DINOMixSegmentParameterNode | None = None
        self._items: list[BatchItem] = []
        self._asked: object = None  # what the table was made of
        self._lookedInto: FolderOnDisk | None = None  # what was looked into last
        self._problem = ""
        self._leftOut: list[str] = []
        ui.batchSourceComboBox.connect("activated(int)", self._onSource)
        ui.batchHierarchyComboBox.connect("currentItemChanged(vtkIdType)", self._onHierarchyItem)
        onPathChanged(ui.batchInputPathEdit, partial(self._onFolder, "batchInputFolder"))
        onPathChanged(ui.batchOutputPathEdit, partial(self._onFolder, "batchOutputFolder"))
        ui.batchFormatComboBox.connect("activated(int)", self._onFormat)
        ui.batchButton.connect("clicked()", self._onButton)
        ui.batchCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)
        setUpColumns(ui.batchTable, stretched=[DETAILS], fitted=[STATE])
        ui.batchTable.setColumnWidth(NAME, 130)

    def show(self, parameterNode: DINOMixSegmentParameterNode | None) -> None:
        """Show the batch that these parameters describe."""
        if parameterNode is not self._parameterNode:
            # The user has come to the module, or the scene is another: files may be others by now, too.
            self._parameterNode, self._lookedInto = parameterNode, None
        if any(item.volumeId and item.volume is None for item in self._items):
            self._asked = None  # where the scene was closed, the nodes of the next one get the same IDs
        if parameterNode is None:
            self._items, self._asked = [], None
            self._fillTable()
            return
        self._showSource()
        if not self._ui.batchCollapsibleButton.collapsed and self._logic.state == "idle":
            self._findItems()
        self._showButton()

    def showItem(self, item: BatchItem) -> None:
        """A row has changed."""
        if item in self._items:
            self._fillRow(self._items.index(item), item)
            self._describe()

    def showEnd(self) -> None:
        """The batch is over: cases stand first of which the model is unsure, those with the lowest predicted Dice on top."""
        self._items.sort(key=lambda item: item.unsure[0][1] if item.unsure else SURE)
        self._fillTable()

    # -- What is to be segmented

    def _showSource(self) -> None:
        ui, node = self._ui, self._parameterNode
        ui.batchSourceComboBox.currentIndex = SOURCES.index(node.batchSource)
        for widget in (ui.batchHierarchyLabel, ui.batchHierarchyComboBox):
            widget.visible = node.batchSource == "hierarchy"
        ofDisk = (ui.batchInputLabel, ui.batchInputPathEdit, ui.batchOutputLabel, ui.batchOutputPathEdit)
        for widget in (*ofDisk, ui.batchFormatLabel, ui.batchFormatComboBox):
            widget.visible = node.batchSource == "disk"
        ui.batchFormatComboBox.currentIndex = FORMATS.index(node.batchFormat) if node.batchFormat in FORMATS else 0
        showPath(ui.batchInputPathEdit, node.batchInputFolder)
        showPath(ui.batchOutputPathEdit, node.batchOutputFolder)

    def _findItems(self) -> None:
        """List what there is, unless it is what the table shows already, perhaps with the states of a batch."""
        folder = self._folderOnDisk()
        if folder is not None and folder == self._lookedInto:
            return  # looking into it opens a file of every series at least, which takes long on a network drive
        self._lookedInto = folder
        try:
            (items, self._leftOut), self._problem = self._casesOfSource(folder), ""
        except DinomixError as error:
            items, self._leftOut, self._problem = [], [], str(error)
        asked = [(i.title, i.volumeId, i.moreVolumeIds, i.image, i.moreImages, i.out) for i in items]
        if asked != self._asked:
            self._items, self._asked = items, asked
            self._fillTable()
        self._describe()

    def _folderOnDisk(self) -> FolderOnDisk | None:
        node = self._parameterNode
        if node.batchSource != "disk" or not node.batchInputFolder:
            return None
        channels = self._logic.channels(node.modelPath)
        return FolderOnDisk(node.batchInputFolder, node.batchOutputFolder, node.batchFormat, channels)

    def _casesOfSource(self, folder: FolderOnDisk | None) -> Cases:
        if folder is not None:
            return casesOfDisk(*folder)
        node = self._parameterNode
        channels = self._logic.channels(node.modelPath)
        if node.batchSource == "scene":
            return casesOfScene(channels)
        item = self._ui.batchHierarchyComboBox.currentItem() if node.batchSource == "hierarchy" else 0
        return casesOfHierarchyFolder(item, channels) if item else Cases([], [])

    def _onSource(self, row: int) -> None:
        self._parameterNode.batchSource = SOURCES[row]

    def _onFormat(self, row: int) -> None:
        self._parameterNode.batchFormat = FORMATS[row]

    def _onHierarchyItem(self, item: int) -> None:
        if self._parameterNode is not None:
            self.show(self._parameterNode)

    def _onFolder(self, name: str, path: str) -> None:
        if self._parameterNode is not None and path != getattr(self._parameterNode, name):
            setattr(self._parameterNode, name, path)

    def _onCollapsed(self, isCollapsed: bool) -> None:
        if not isCollapsed:
            self._lookedInto = None
            self.show(self._parameterNode)

    # -- Start and cancel

    def _onButton(self) -> None:
        if self._logic.state == "idle":
            self._logic.startBatch(self._items, self._parameterNode)
        else:
            self._logic.cancel()

    def _isRunning(self) -> bool:
        return self._logic.state != "idle" and self._logic.batchItems is self._items

    def _showButton(self) -> None:
        button = self._ui.batchButton
        if self._isRunning():
            button.text = _("Cancel batch")
            button.enabled = self._logic.state == "running"
            button.toolTip = _("End the batch. What is done stays.")
        else:
            whyNot = self._problem or self._logic.checkCanStartBatch(self._items, self._parameterNode)
            button.text = _("Start batch")
            button.enabled = not whyNot
            button.toolTip = whyNot or _("Segment these one after the other with the chosen model.")
        for widget in (
            self._ui.batchSourceComboBox,
            self._ui.batchHierarchyComboBox,
            self._ui.batchInputPathEdit,
            self._ui.batchOutputPathEdit,
            self._ui.batchFormatComboBox,
        ):
            widget.enabled = not self._isRunning()

    # -- The table

    def _fillTable(self) -> None:
        self._ui.batchTable.rowCount = len(self._items)
        for row, item in enumerate(self._items):
            self._fillRow(row, item)
        self._describe()

    def _fillRow(self, row: int, item: BatchItem) -> None:
        where = "\n".join(str(path) for path in (item.image, *item.moreImages)) if item.image else item.title
        texts = (item.title, stateText(item), item.detail)
        setRow(self._ui.batchTable, row, texts, (where, item.detail, item.detail))
        self._ui.batchTable.item(row, STATE).setIcon(stateIcon(self._ui.batchTable, item))

    def _describe(self) -> None:
        """Say in words what the table shows."""
        counts = {state: sum(item.state == state for item in self._items) for state in (DONE, FAILED, SKIPPED, RUNNING)}
        isOfCases = any(item.moreVolumeIds or item.moreImages for item in self._items)
        if self._problem:
            text = self._problem
        elif not self._items:
            text = _("There is nothing to segment here yet.")
        elif any(counts.values()):
            text = _("{done} of {all} done, {failed} failed, {skipped} skipped.").format(
                done=counts[DONE], all=len(self._items), failed=counts[FAILED], skipped=counts[SKIPPED]
            )
            unsure = sum(bool(item.unsure) for item in self._items)
            if unsure == 1:
                text = _("{text} The model is unsure of one; look at it first.").format(text=text)
            elif unsure:
                text = _("{text} The model is unsure of {n}; look at these first.").format(text=text, n=unsure)
        elif len(self._items) == 1:
            text = _("One case will be segmented.") if isOfCases else _("One volume will be segmented.")
        else:
            text = _("{n} cases will be segmented.") if isOfCases else _("{n} volumes will be segmented.")
            text = text.format(n=len(self._items))
        if self._leftOut:
            shown = " ".join(self._leftOut[:MOST_LEFT_OUT])
            hidden = len(self._leftOut) - MOST_LEFT_OUT
            more = _(" {n} more are left out.").format(n=hidden) if hidden > 0 else ""
            text = _("{text} Left out: {sentences}{more}").format(text=text, sentences=shown, more=more)
        self._ui.batchLabel.text = text


def stateText(item: BatchItem) -> str:
    """A row's state in the user's language."""
    if item.state == RUNNING and item.progress > 0:
        return _("Running, {percent:.0f}%").format(percent=100 * item.progress)
    if item.unsure:
        return _("Done, unsure")
    return {
        WAITING: _("Waiting"),
        RUNNING: _("Running"),
        DONE: _("Done"),
        FAILED: _("Failed"),
        SKIPPED: _("Skipped"),
    }[item.state]


def stateIcon(widget: Any, item: BatchItem) -> Any:
    """The style's icon for a row's state, from the style of a widget."""
    icons = {
        RUNNING: qt.QStyle.SP_MediaPlay,
        DONE: qt.QStyle.SP_DialogApplyButton,
        FAILED: qt.QStyle.SP_MessageBoxCritical,
        SKIPPED: qt.QStyle.SP_MediaSkipForward,
    }
    icon = qt.QStyle.SP_MessageBoxWarning if item.unsure else icons.get(item.state)
    return widget.style().standardIcon(icon) if icon is not None else qt.QIcon()
