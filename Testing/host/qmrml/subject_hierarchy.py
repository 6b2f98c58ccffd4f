"""``slicer.qMRMLSubjectHierarchyTreeView`` and ``slicer.qMRMLSubjectHierarchyComboBox`` over the real subject hierarchy node."""

from typing import ClassVar

import qt
import shiboken6
import slicer
import vtk
from PySide6 import QtCore

from host.ctk.combo_boxes import ctkComboBox
from host.qmrml.watching import HierarchyWatch
from host.qmrml.widget import checkedScene
from host.qt.hosted import hosted, qtProperty, stored

ITEM_ROLE = QtCore.Qt.ItemDataRole.UserRole
NO_ITEM = slicer.vtkMRMLSubjectHierarchyNode.GetInvalidItemID()


class _Hierarchy:
    """What tree and combo box have in common: which items they show, which is chosen."""

    def _startHierarchy(self) -> None:
        self._scene = None
        self._current = NO_ITEM
        self._root = NO_ITEM
        self._filling = False
        self._watch = HierarchyWatch(self._refresh)
        watch = self._watch
        self.connect("destroyed()", lambda: watch.stop())

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = checkedScene(scene)
            self._root = self.subjectHierarchyNode().GetSceneItemID() if scene is not None else NO_ITEM
            self._watch.setScene(scene)
            self._refresh()

    def subjectHierarchyNode(self):
        return self._scene.GetSubjectHierarchyNode() if self._scene is not None else None

    def rootItem(self) -> int:
        return self._root

    def setRootItem(self, item: int) -> None:
        self._root = item
        self._refresh()

    def currentItem(self) -> int:
        return self._current

    def currentNode(self):
        return self.subjectHierarchyNode().GetItemDataNode(self._current) if self._current != NO_ITEM else None

    def setCurrentItem(self, item: int) -> None:
        """Choose an item that is shown; any other leaves nothing chosen."""
        if not isinstance(item, int):
            raise TypeError(f"setCurrentItem() takes the ID of an item, not {item!r}")
        self._choose(item if item in self._shownItems() else NO_ITEM)

    def setCurrentNode(self, node) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise TypeError(f"setCurrentNode() takes a node or None, not {node!r}")
        self.setCurrentItem(self.subjectHierarchyNode().GetItemByDataNode(node) if node is not None else NO_ITEM)

    def _choose(self, item: int) -> None:
        changed, self._current = item != self._current, item
        self._showCurrent()
        if changed:
            self._announce()

    def _refresh(self) -> None:
        if not shiboken6.isValid(self):
            self._watch.stop()
            return
        if self.subjectHierarchyNode() is not None and not self._isItem(self._root):
            self._root = self.subjectHierarchyNode().GetSceneItemID()
        self._fill()
        self._choose(self._current if self._current in self._shownItems() else NO_ITEM)

    def _isItem(self, item: int) -> bool:
        hierarchy = self.subjectHierarchyNode()
        scene = hierarchy.GetSceneItemID()
        return item == scene or item in childItems(hierarchy, scene, recursive=True)

    def _children(self, item: int) -> list[int]:
        """The children to be shown under an item: those that match, or have descendants that do."""
        children = childItems(self.subjectHierarchyNode(), item)
        return [child for child in children if self._matches(child) or self._children(child)]

    def _matches(self, item: int) -> bool:
        node = self.subjectHierarchyNode().GetItemDataNode(item)
        if self.nodeTypes and (node is None or not any(node.IsA(name) for name in self.nodeTypes)):
            return False
        return node is None or not any(node.IsA(name) for name in self._typesHidden())

    def _typesHidden(self) -> tuple[str, ...]:
        return self.hideChildNodeTypes

    def _shownItems(self) -> list[int]:
        shown, waiting = [], self._children(self._root) if self._scene is not None else []
        while waiting:
            item = waiting.pop(0)
            shown.append(item)
            waiting = self._children(item) + waiting
        return shown


def childItems(hierarchy, item: int, recursive: bool = False) -> list[int]:
    identifiers = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, identifiers, recursive)
    return [identifiers.GetId(index) for index in range(identifiers.GetNumberOfIds())]


@hosted
class qMRMLSubjectHierarchyTreeView(_Hierarchy, qt.QTreeView):
    currentItemChanged = QtCore.Signal("qlonglong")
    currentNodeChanged = QtCore.Signal(object)
    currentItemsChanged = QtCore.Signal(list)
    cppSignals: ClassVar[dict[str, str]] = {
        "currentItemChanged(vtkIdType)": "currentItemChanged(qlonglong)",
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
        "currentItemsChanged(QList<vtkIdType>)": "currentItemsChanged(QVariantList)",
    }

    setters = (
        "contextMenuEnabled", "editMenuActionVisible", "addNodeMenuActionVisible", "selectRoleSubMenuVisible",
        "highlightReferencedItems", "showRootItem", "multiSelection",
    )  # fmt: skip
    nodeTypes = stored("nodeTypes", "QStringList", (), "_refresh")
    hideChildNodeTypes = stored("hideChildNodeTypes", "QStringList", (), "_refresh")
    nameFilter = stored("nameFilter", "QString", "", "_refresh")
    contextMenuEnabled = stored("contextMenuEnabled", "bool", True)
    editMenuActionVisible = stored("editMenuActionVisible", "bool", True)
    addNodeMenuActionVisible = stored("addNodeMenuActionVisible", "bool", False)
    selectRoleSubMenuVisible = stored("selectRoleSubMenuVisible", "bool", True)
    highlightReferencedItems = stored("highlightReferencedItems", "bool", True)
    showRootItem = stored("showRootItem", "bool", False)
    visibilityColumnVisible = stored("visibilityColumnVisible", "bool", True, "_fill")
    colorColumnVisible = stored("colorColumnVisible", "bool", True, "_fill")
    idColumnVisible = stored("idColumnVisible", "bool", False, "_fill")
    transformColumnVisible = stored("transformColumnVisible", "bool", True)
    descriptionColumnVisible = stored("descriptionColumnVisible", "bool", False)
    multiSelection = qtProperty(
        "bool",
        lambda self: self.selectionMode() == qt.QAbstractItemView.ExtendedSelection,
        lambda self, value: self.setSelectionMode(
            qt.QAbstractItemView.ExtendedSelection if value else qt.QAbstractItemView.SingleSelection
        ),
    )

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._startHierarchy()
        self._items = qt.QStandardItemModel(self)
        self.setModel(self._items)
        self.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.selectionModel().selectionChanged.connect(self._onSelectionChanged)
        self._fill()

    def currentItems(self) -> list[int]:
        return [index.data(ITEM_ROLE) for index in self.selectionModel().selectedRows()]

    def clearSelection(self) -> None:
        self.setCurrentItem(NO_ITEM)

    def displayedItemCount(self) -> int:
        return len(self._shownItems())

    def _matches(self, item: int) -> bool:
        name = self.subjectHierarchyNode().GetItemName(item)
        return self.nameFilter.lower() in name.lower() and super()._matches(item)

    def _announce(self) -> None:
        self.currentItemChanged.emit(self._current)
        self.currentNodeChanged.emit(self.currentNode())
        self.currentItemsChanged.emit(self.currentItems())

    def _fill(self) -> None:
        self._filling = True
        try:
            self._items.clear()
            self._items.setHorizontalHeaderLabels(["Node", *(["ID"] if self.idColumnVisible else [])])
            if self._scene is not None:
                self._addRows(self._items.invisibleRootItem(), self._root)
            self.expandAll()
        finally:
            self._filling = False

    def _addRows(self, parentRow: qt.QStandardItem, parent: int) -> None:
        hierarchy = self.subjectHierarchyNode()
        for item in self._children(parent):
            row = qt.QStandardItem(hierarchy.GetItemName(item))
            row.setData(item, ITEM_ROLE)
            node = hierarchy.GetItemDataNode(item)
            parentRow.appendRow([row, qt.QStandardItem(node.GetID() if node is not None else "")])
            self._addRows(row, item)
        self.setColumnHidden(1, not self.idColumnVisible)

    def _showCurrent(self) -> None:
        self._filling = True
        try:
            start = self._items.index(0, 0)
            flags = qt.Qt.MatchExactly | qt.Qt.MatchRecursive
            found = self._items.match(start, ITEM_ROLE, self._current, 1, flags) if self._current != NO_ITEM else []
            flags = qt.QItemSelectionModel.ClearAndSelect | qt.QItemSelectionModel.Rows
            self.selectionModel().setCurrentIndex(found[0] if found else QtCore.QModelIndex(), flags)
        finally:
            self._filling = False

    def _onSelectionChanged(self, selected: object, deselected: object) -> None:
        if self._filling:
            return
        items = self.currentItems()
        self._current = items[0] if items else NO_ITEM
        self._announce()


@hosted
class qMRMLSubjectHierarchyComboBox(_Hierarchy, ctkComboBox):
    currentItemChanged = QtCore.Signal("qlonglong")
    cppSignals: ClassVar[dict[str, str]] = {"currentItemChanged(vtkIdType)": "currentItemChanged(qlonglong)"}

    setters = ("nodeTypes",)
    nodeTypes = stored("nodeTypes", "QStringList", (), "_refresh")
    noneEnabled = stored("noneEnabled", "bool", False, "_refresh")
    noneDisplay = stored("noneDisplay", "QString", "Select subject hierarchy item", "_refresh")
    showRootItem = stored("showRootItem", "bool", False)
    showCurrentItemParents = stored("showCurrentItemParents", "bool", True)
    highlightReferencedItems = stored("highlightReferencedItems", "bool", True)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        self._hiddenTypes: tuple[str, ...] = ()
        super().__init__(parent)
        self._startHierarchy()
        self.connect("currentIndexChanged(int)", self._onIndexChanged)
        self._fill()

    def _typesHidden(self) -> tuple[str, ...]:
        return self._hiddenTypes

    def setHideChildNodeTypes(self, names: list[str]) -> None:
        self._hiddenTypes = tuple(names)
        self._refresh()

    def clearSelection(self) -> None:
        self.setCurrentItem(NO_ITEM)

    def _announce(self) -> None:
        self.currentItemChanged.emit(self._current)

    def _fill(self) -> None:
        self._filling = True
        try:
            self.defaultText = self.noneDisplay
            self.clear()
            if self.noneEnabled:
                self.addItem(self.noneDisplay, NO_ITEM)
            for item in self._shownItems():
                self.addItem(self.subjectHierarchyNode().GetItemName(item), item)
            self.currentIndex = self.findData(self._current)
        finally:
            self._filling = False

    def _showCurrent(self) -> None:
        self._filling = True
        try:
            self.currentIndex = self.findData(self._current)
        finally:
            self._filling = False

    def _onIndexChanged(self, index: int) -> None:
        if not self._filling:
            self._choose(self.itemData(index) if index >= 0 else NO_ITEM)
