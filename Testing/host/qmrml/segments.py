"""``slicer.qMRMLSegmentsTableView`` and ``slicer.qMRMLSegmentationShow3DButton`` over the real segmentation node."""

from typing import ClassVar

import qt
import shiboken6
import slicer
from PySide6 import QtCore

from host.ctk.buttons import ctkMenuButton
from host.qmrml.watching import NodeWatch, inScene
from host.qmrml.widget import qMRMLWidget
from host.qt.hosted import hosted, qtProperty, stored

ID_ROLE = QtCore.Qt.ItemDataRole.UserRole
COLUMNS = ("Visible", "Color", "Opacity", "Name", "Status", "Layer")
SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
VISIBLE, COLOR, OPACITY, NAME, STATUS, LAYER = range(len(COLUMNS))


def checkedSegmentation(node):
    """``node``; TypeError if it is neither a segmentation node nor None."""
    if node is not None and not isinstance(node, slicer.vtkMRMLSegmentationNode):
        raise TypeError(f"setSegmentationNode() takes a segmentation node or None, not {node!r}")
    return node


def partsOf(node) -> tuple:
    """What has to be followed to show a segmentation."""
    return () if node is None else (node, node.GetSegmentation(), node.GetDisplayNode())


@hosted
class qMRMLSegmentsTableView(qMRMLWidget):
    """One row for each segment."""

    selectionChanged = QtCore.Signal(object, object)
    segmentAboutToBeModified = QtCore.Signal(str)
    cppSignals: ClassVar[dict[str, str]] = {
        "selectionChanged(QItemSelection,QItemSelection)": "selectionChanged(PyObject,PyObject)"
    }

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node = None
        self._hidden: tuple[str, ...] = ()
        self._filling = False
        self._table = qt.QTableWidget(0, len(COLUMNS))
        self._table.setHorizontalHeaderLabels(["", "", "Opacity", "Name", "Status", "Layer"])
        self._table.verticalHeader().visible = False
        self._table.horizontalHeader().setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        self._table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        for column, width in ((VISIBLE, 28), (COLOR, 28), (OPACITY, 56), (STATUS, 56), (LAYER, 56)):
            self._table.setColumnWidth(column, width)
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        self._table.itemChanged.connect(self._onItemChanged)
        self._table.selectionModel().selectionChanged.connect(self._onSelectionChanged)
        self._watch = NodeWatch(self._refresh)
        watch = self._watch
        self.connect("destroyed()", lambda: watch.stop())
        self._showColumns()

    setters = (
        "visibilityColumnVisible", "colorColumnVisible", "opacityColumnVisible", "statusColumnVisible", "layerColumnVisible",
        "filterBarVisible", "jumpToSelectedSegmentEnabled", "readOnly", "textFilter", "headerVisible", "selectionMode",
    )  # fmt: skip
    visibilityColumnVisible = stored("visibilityColumnVisible", "bool", True, "_showColumns")
    colorColumnVisible = stored("colorColumnVisible", "bool", True, "_showColumns")
    opacityColumnVisible = stored("opacityColumnVisible", "bool", True, "_showColumns")
    statusColumnVisible = stored("statusColumnVisible", "bool", False, "_showColumns")
    layerColumnVisible = stored("layerColumnVisible", "bool", False, "_showColumns")
    filterBarVisible = stored("filterBarVisible", "bool", False)
    jumpToSelectedSegmentEnabled = stored("jumpToSelectedSegmentEnabled", "bool", False)
    readOnly = stored("readOnly", "bool", False, "_refresh")
    textFilter = stored("textFilter", "QString", "", "_refresh")
    headerVisible = qtProperty(
        "bool",
        lambda self: not self._table.horizontalHeader().isHidden(),
        lambda self, value: self._table.horizontalHeader().setVisible(value),
    )
    selectionMode = qtProperty(
        "int",
        lambda self: int(self._table.selectionMode()),
        lambda self, value: self._table.setSelectionMode(qt.QAbstractItemView.SelectionMode(value)),
    )
    segmentCount = qtProperty("int", lambda self: len(self._segmentIds()))

    def tableWidget(self) -> qt.QTableWidget:
        return self._table

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._node = checkedSegmentation(node)
        if node is not None and node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        self._watch.setObjects(*partsOf(node))
        self._refresh()

    def setMRMLScene(self, scene) -> None:
        super().setMRMLScene(scene)
        if self._node is not None and self._node.GetScene() is not scene:
            self.setSegmentationNode(None)

    def setHideSegments(self, segmentIds: list[str]) -> None:
        self._hidden = tuple(segmentIds)
        self._refresh()

    def hideSegments(self) -> tuple[str, ...]:
        return self._hidden

    def displayedSegmentIDs(self) -> tuple[str, ...]:
        shown = [identifier for identifier in self._segmentIds() if identifier not in self._hidden]
        return tuple(identifier for identifier in shown if self.textFilter.lower() in self._name(identifier).lower())

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows())

    def setSelectedSegmentIDs(self, segmentIds: list[str]) -> None:
        self._table.clearSelection()
        flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
        for identifier in segmentIds:
            index = self._table.model().index(self.rowForSegmentID(identifier), 0)
            self._table.selectionModel().select(index, flags)

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def rowForSegmentID(self, segmentId: str) -> int:
        return self.displayedSegmentIDs().index(segmentId) if segmentId in self.displayedSegmentIDs() else -1

    def segmentIDForRow(self, row: int) -> str:
        return self._table.item(row, NAME).data(ID_ROLE) if 0 <= row < self._table.rowCount else ""

    def _segmentIds(self) -> tuple[str, ...]:
        return tuple(self._node.GetSegmentation().GetSegmentIDs()) if self._node is not None else ()

    def _name(self, segmentId: str) -> str:
        return self._node.GetSegmentation().GetSegment(segmentId).GetName() or ""

    def _showColumns(self) -> None:
        shown = (self.visibilityColumnVisible, self.colorColumnVisible, self.opacityColumnVisible, True)
        for column, isShown in enumerate((*shown, self.statusColumnVisible, self.layerColumnVisible)):
            self._table.setColumnHidden(column, not isShown)

    def _refresh(self) -> None:
        if not shiboken6.isValid(self):
            self._watch.stop()
            return
        if self._filling:
            return
        self._node = inScene(self._node)
        selected = self.selectedSegmentIDs()
        self._filling = True
        try:
            self._table.setRowCount(0)
            for identifier in self.displayedSegmentIDs():
                self._addRow(identifier)
        finally:
            self._filling = False
        self.setSelectedSegmentIDs([identifier for identifier in selected if identifier in self.displayedSegmentIDs()])

    def _addRow(self, segmentId: str) -> None:
        segment = self._node.GetSegmentation().GetSegment(segmentId)
        display = self._node.GetDisplayNode()
        row = self._table.rowCount
        self._table.insertRow(row)
        items = [qt.QTableWidgetItem() for _ in COLUMNS]
        isVisible = display is None or display.GetSegmentVisibility(segmentId)
        items[VISIBLE].setCheckState(qt.Qt.Checked if isVisible else qt.Qt.Unchecked)
        items[COLOR].setBackground(qt.QBrush(qt.QColor.fromRgbF(*segment.GetColor())))
        items[OPACITY].setText(f"{1.0 if display is None else display.GetSegmentOpacity3D(segmentId):.2f}")
        items[NAME].setText(segment.GetName() or "")
        items[LAYER].setText(str(self._node.GetSegmentation().GetLayerIndex(segmentId)))
        for column, item in enumerate(items):
            item.setData(ID_ROLE, segmentId)
            if self.readOnly or column not in (NAME, VISIBLE):
                item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable & ~qt.Qt.ItemIsUserCheckable)
            self._table.setItem(row, column, item)

    def _onItemChanged(self, item: qt.QTableWidgetItem) -> None:
        """The user renamed a segment, or showed or hid it."""
        if self._filling:
            return
        segmentId = item.data(ID_ROLE)
        self.segmentAboutToBeModified.emit(segmentId)
        if item.column() == NAME:
            self._node.GetSegmentation().GetSegment(segmentId).SetName(item.text())
        elif item.column() == VISIBLE and self._node.GetDisplayNode() is not None:
            self._node.GetDisplayNode().SetSegmentVisibility(segmentId, item.checkState() == qt.Qt.Checked)

    def _onSelectionChanged(self, selected: object, deselected: object) -> None:
        if not self._filling:
            self.selectionChanged.emit(selected, deselected)


@hosted
class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Shows or removes the closed surfaces of a segmentation."""

    setters = ("locked",)
    locked = stored("locked", "bool", False, "_refresh")

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__("Show 3D", parent)
        self._node = None
        self._filling = False
        self.checkable = True
        self.toggled.connect(self._onToggled)
        self._watch = NodeWatch(self._refresh)
        watch = self._watch
        self.connect("destroyed()", lambda: watch.stop())
        self._refresh()

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._node = checkedSegmentation(node)
        self._watch.setObjects(*partsOf(node))
        self._refresh()

    def _refresh(self) -> None:
        if not shiboken6.isValid(self):
            self._watch.stop()
            return
        self._node = inScene(self._node)
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        isSource = segmentation is not None and segmentation.GetSourceRepresentationName() == SURFACE
        self._filling = True
        self.checked = segmentation is not None and segmentation.ContainsRepresentation(SURFACE)
        self._filling = False
        self.enabled = bool(segmentation and segmentation.GetNumberOfSegments() and not isSource and not self.locked)

    def _onToggled(self, checked: bool) -> None:
        if self._filling or self._node is None:
            return
        if checked:
            self._node.CreateClosedSurfaceRepresentation()
            if self._node.GetDisplayNode() is not None:
                self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(SURFACE)
        else:
            self._node.RemoveClosedSurfaceRepresentation()
