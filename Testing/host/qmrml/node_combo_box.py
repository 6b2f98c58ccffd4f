"""``slicer.qMRMLNodeComboBox`` and ``slicer.qMRMLCheckableNodeComboBox``: choosing nodes of the scene."""

from typing import ClassVar

import qt
import shiboken6
import slicer
from PySide6 import QtCore

from host.ctk.combo_boxes import ctkCheckableComboBox, ctkComboBox
from host.qmrml.scene_watch import SceneWatch
from host.qmrml.widget import checkedScene
from host.qt.hosted import hosted, qtProperty, stored

ID_ROLE = QtCore.Qt.ItemDataRole.UserRole
ACTION_ROLE = QtCore.Qt.ItemDataRole.UserRole + 1


@hosted
class qMRMLNodeComboBox(qt.QWidget):
    """Lists the nodes of ``nodeTypes`` in the order of the scene, then what can be done with them."""

    currentNodeChanged = QtCore.Signal(object)
    _currentNodeChangedBool = QtCore.Signal(bool)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    currentNodeRenamed = QtCore.Signal(str)
    cppSignals: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
        "currentNodeChanged(bool)": "_currentNodeChangedBool(bool)",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated(PyObject)",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded(PyObject)",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser(PyObject)",
    }

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None
        self._current = ""  # ID of the chosen node
        self._attributes: dict[tuple[str, str], str | None] = {}
        self._baseNames: dict[str, str] = {}
        self._typeLabels: dict[str, str] = {}
        self._shownName = ""
        self._filling = False
        self._box = self._makeBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setSizePolicy(qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed))
        self._box.connect("currentIndexChanged(int)", self._onIndexChanged)
        self._box.connect("activated(int)", self._onActivated)
        self._watch = SceneWatch(self._refresh)
        watch = self._watch
        self.connect("destroyed()", lambda: watch.stop())
        self._fill()

    def _makeBox(self) -> qt.QComboBox:
        return ctkComboBox()

    # What is listed

    nodeTypes = stored("nodeTypes", "QStringList", [], "_onTypesChanged")
    showHidden = stored("showHidden", "bool", False, "_refresh")
    showChildNodeTypes = stored("showChildNodeTypes", "bool", True, "_refresh")
    hideChildNodeTypes = stored("hideChildNodeTypes", "QStringList", [], "_refresh")
    noneEnabled = stored("noneEnabled", "bool", False, "_refresh")
    noneDisplay = stored("noneDisplay", "QString", "None", "_refresh")
    addEnabled = stored("addEnabled", "bool", True, "_fill")
    removeEnabled = stored("removeEnabled", "bool", True, "_fill")
    editEnabled = stored("editEnabled", "bool", False, "_fill")
    renameEnabled = stored("renameEnabled", "bool", False, "_fill")
    selectNodeUponCreation = stored("selectNodeUponCreation", "bool", True)

    def _onTypesChanged(self) -> None:
        unknown = [name for name in self.nodeTypes if not isNodeClass(name)]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no class of node of the scene")
        self._refresh()

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = checkedScene(scene)
            self._watch.setScene(scene)
            self._refresh()

    def addAttribute(self, nodeType: str, name: str, value: object = None) -> None:
        """List nodes of that type only if they have the attribute (with that value)."""
        self._attributes[nodeType, name] = None if value is None else str(value)
        self._refresh()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        self._attributes.pop((nodeType, name), None)
        self._refresh()

    def _nodes(self) -> list:
        if self._scene is None:
            return []
        nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        return [node for node in nodes if self._lists(node)]

    def _lists(self, node) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        matches = node.IsA if self.showChildNodeTypes else lambda name: node.GetClassName() == name
        if not any(matches(name) for name in self.nodeTypes) or any(node.IsA(name) for name in self.hideChildNodeTypes):
            return False
        for (nodeType, name), value in self._attributes.items():
            if node.IsA(nodeType) and (node.GetAttribute(name) is None or value not in (None, node.GetAttribute(name))):
                return False
        return True

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index: int):
        nodes = self._nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    # What is chosen

    def currentNode(self):
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    currentNodeID = qtProperty("QString", lambda self: self._current, lambda self, value: self.setCurrentNode(value))

    def setCurrentNode(self, node) -> None:
        """``node`` is a node, its ID, or None. One that is not listed leaves nothing chosen."""
        if not (node is None or isinstance(node, str | slicer.vtkMRMLNode)):
            raise TypeError(f"setCurrentNode() takes a node, its ID or None, not {node!r}")
        identifier = node if isinstance(node, str) else node.GetID() if node is not None else ""
        listed = [item.GetID() for item in self._nodes()]
        self._choose(identifier if identifier in listed else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def _choose(self, identifier: str) -> None:
        changed, self._current = identifier != self._current, identifier
        self._fill()
        if changed:
            self._announce()

    def _announce(self) -> None:
        node = self.currentNode()
        self.currentNodeChanged.emit(node)
        self._currentNodeChangedBool.emit(node is not None)
        self.currentNodeIDChanged.emit(self._current)

    def _refresh(self) -> None:
        """Follow the scene: keep the chosen node if it is still listed, else choose the first, or none where allowed."""
        if not shiboken6.isValid(self):
            self._watch.stop()
            return
        nodes = self._nodes()
        self._watch.watchNodes(nodes)
        listed = [node.GetID() for node in nodes]
        if self._current in listed or (not self._current and self.noneEnabled):
            self._fill()
            self._announceNewName()
        else:
            self._choose(listed[0] if listed and not self.noneEnabled else "")

    def _announceNewName(self) -> None:
        name = self.currentNode().GetName() if self.currentNode() is not None else ""
        if name != self._shownName:
            self._shownName = name
            self.currentNodeRenamed.emit(name)

    # The combo box inside

    def _fill(self) -> None:
        """Show the list and the chosen node, without a signal."""
        self._filling = True
        try:
            entries = [("", self.noneDisplay)] if self.noneEnabled else []
            entries += [(node.GetID(), node.GetName() or node.GetID()) for node in self._nodes()]
            self._box.clear()
            for identifier, text in entries:
                self._box.addItem(text, identifier)
            for action, text in self._actions():
                self._box.addItem(text)
                self._box.setItemData(self._box.count - 1, action, ACTION_ROLE)
            self._box.currentIndex = self._row(entries)
        finally:
            self._filling = False

    def _row(self, entries: list[tuple[str, str]]) -> int:
        identifiers = [identifier for identifier, _ in entries]
        return identifiers.index(self._current) if self._current in identifiers else -1

    def _actions(self) -> list[tuple[str, str]]:
        actions = []
        for nodeType in self.nodeTypes:
            label = self.nodeTypeLabel(nodeType)
            if self.addEnabled and not isAbstract(nodeType):
                actions += [
                    (f"add {nodeType}", f"Create new {label}"),
                    (f"addAs {nodeType}", f"Create new {label} as..."),
                ]
        node = self.currentNode()
        if node is not None:
            kinds = {"rename": self.renameEnabled, "edit": self.editEnabled, "remove": self.removeEnabled}
            verbs = {"rename": "Rename", "edit": "Edit", "remove": "Delete"}
            actions += [(kind, f"{verbs[kind]} current node") for kind, enabled in kinds.items() if enabled]
        return actions

    def _onIndexChanged(self, index: int) -> None:
        """Someone set the combo box inside; the user's own choice comes by ``activated``."""
        if not self._filling and index >= 0 and self._box.itemData(index, ACTION_ROLE) is None:
            self._choose(self._box.itemData(index, ID_ROLE) or "")

    def _onActivated(self, index: int) -> None:
        action = self._box.itemData(index, ACTION_ROLE)
        if action is None:
            self.nodeActivated.emit(self.currentNode())
            return
        self._fill()
        kind, _, nodeType = action.partition(" ")
        if kind in ("add", "addAs"):
            node = self.addNode(nodeType)
            if kind == "addAs":
                self._rename(node)
        elif kind == "rename":
            self.renameCurrentNode()
        elif kind == "remove":
            self.removeCurrentNode()
        else:
            raise NotImplementedError("the test host has no module to edit a node in")

    # What the user can do with nodes

    def setBaseName(self, baseName: str, nodeType: str = "") -> None:
        self._baseNames[nodeType] = baseName

    baseName = qtProperty("QString", lambda self: self._baseNames.get("", ""), setBaseName)

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        self._typeLabels[nodeType] = label
        self._fill()

    def nodeTypeLabel(self, nodeType: str) -> str:
        return self._typeLabels.get(nodeType) or slicer.mrmlScene.GetTypeDisplayNameByClassName(nodeType) or nodeType

    def addNode(self, nodeType: str = ""):
        """A new node as by "Create new ...", chosen if ``selectNodeUponCreation``."""
        nodeType = nodeType or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(nodeType)
        node.UnRegister(None)
        baseName = self._baseNames.get(nodeType) or self._baseNames.get("") or self.nodeTypeLabel(nodeType)
        node.SetName(self._scene.GenerateUniqueName(baseName))
        for (attributeType, name), value in self._attributes.items():
            if node.IsA(attributeType):
                node.SetAttribute(name, value or "")
        self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAdded.emit(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        self._rename(self.currentNode())

    def _rename(self, node) -> None:
        name = qt.QInputDialog.getText(self, "Rename", "New name:", qt.QLineEdit.Normal, node.GetName())
        if name:
            node.SetName(name)


@hosted
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Each node has a check box; there is no chosen node but those checked."""

    checkedNodesChanged = QtCore.Signal()

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        self._checked: dict[str, bool] = {}
        super().__init__(parent)
        self._box.checkedIndexesChanged.connect(self._onChecked)

    def _makeBox(self) -> qt.QComboBox:
        return ctkCheckableComboBox()

    def _fill(self) -> None:
        super()._fill()
        for row in range(self._box.count):
            if self._box.itemData(row, ACTION_ROLE) is None and self._checked.get(self._box.itemData(row, ID_ROLE)):
                blocked = self._box.blockSignals(True)
                self._box.setCheckState(self._box.model().index(row, 0), qt.Qt.Checked)
                self._box.blockSignals(blocked)

    def _onChecked(self) -> None:
        if self._filling:
            return
        for row in range(self._box.count):
            state = self._box.checkState(self._box.model().index(row, 0))
            self._checked[self._box.itemData(row, ID_ROLE)] = state == qt.Qt.Checked
        self.checkedNodesChanged.emit()

    def checkedNodes(self) -> list:
        return [node for node in self._nodes() if self._checked.get(node.GetID())]

    def uncheckedNodes(self) -> list:
        return [node for node in self._nodes() if not self._checked.get(node.GetID())]

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def checkState(self, node) -> QtCore.Qt.CheckState:
        return qt.Qt.Checked if self._checked.get(node.GetID()) else qt.Qt.Unchecked

    def setCheckState(self, node, state: QtCore.Qt.CheckState) -> None:
        if self.checkState(node) != state:
            self._checked[node.GetID()] = state == qt.Qt.Checked
            self._fill()
            self.checkedNodesChanged.emit()

    def check(self, node) -> None:
        self.setCheckState(node, qt.Qt.Checked)

    def uncheck(self, node) -> None:
        self.setCheckState(node, qt.Qt.Unchecked)


def isNodeClass(name: str) -> bool:
    """True if ``name`` is a class of node, abstract ones included."""
    cls = getattr(slicer, name, None)
    return isinstance(cls, type) and issubclass(cls, slicer.vtkMRMLNode)


def isAbstract(name: str) -> bool:
    """True if the scene can make no node of that class."""
    node = slicer.mrmlScene.CreateNodeByClass(name)
    if node is None:
        return True
    node.UnRegister(None)
    return False
