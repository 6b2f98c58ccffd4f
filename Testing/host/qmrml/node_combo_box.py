"""``slicer.qMRMLNodeComboBox``: choosing a node of the scene."""

from typing import ClassVar

import qt
import shiboken6
import slicer
from PySide6 import QtCore

from host.ctk.combo_boxes import ctkComboBox
from host.qmrml.watching import SceneWatch
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
        self._requested = None  # node or ID that was asked for before there was a scene
        self._listed: list[str] = []  # IDs of the nodes in the list
        self._attributes: dict[tuple[str, str], str | None] = {}
        self._baseNames: dict[str, str] = {}
        self._typeLabels: dict[str, str] = {}
        self._shownName = ""
        self._filling = False
        self._box = self._makeBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setSizePolicy(qt.QSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Fixed))
        self._box.connect("currentIndexChanged(int)", self._onIndexChanged)
        self._box.connect("activated(int)", self._onActivated)
        self._watch = SceneWatch(self._refresh)
        watch = self._watch
        self.connect("destroyed()", lambda: watch.stop())
        self.setEnabled(False)
        self._fill()

    def _makeBox(self) -> qt.QComboBox:
        return ctkComboBox()

    # What is listed

    nodeTypes = stored("nodeTypes", "QStringList", (), "_onTypesChanged")
    showHidden = stored("showHidden", "bool", False, "_refresh")
    showChildNodeTypes = stored("showChildNodeTypes", "bool", True, "_refresh")
    hideChildNodeTypes = stored("hideChildNodeTypes", "QStringList", (), "_refresh")
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
        """List the nodes of ``scene``. The first is chosen if one must be and none was asked for before."""
        if scene is self._scene:
            return
        requested = self._requested or self._current
        self._scene, self._requested = checkedScene(scene), None
        self._listed = [node.GetID() for node in self._nodes()]
        self._watch.setScene(scene, self._nodes())
        if requested in self._listed:
            self._choose(requested)
        else:
            self._choose(self._listed[0] if self._listed and not self.noneEnabled else "")
        self.setEnabled(scene is not None)

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

    def setCurrentNode(self, node) -> None:
        """Choose a node of the list, or none: also where the node is not in the list."""
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise TypeError(f"setCurrentNode() takes a node or None, not {node!r}")
        self.setCurrentNodeID(node.GetID() or "" if node is not None else "")

    def setCurrentNodeID(self, identifier: str) -> None:
        if not isinstance(identifier, str):
            raise TypeError(f"setCurrentNodeID() takes the ID of a node, not {identifier!r}")
        if self._scene is None:
            self._requested = identifier
        self._choose(identifier if identifier in self._listed else "")

    currentNodeID = qtProperty("QString", lambda self: self._current, setCurrentNodeID)

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def _choose(self, identifier: str) -> None:
        changed, self._current = identifier != self._current, identifier
        self._fill()
        if changed:
            self._announce()

    def _announce(self) -> None:
        node = self.currentNode()
        self._shownName = node.GetName() if node is not None else ""
        self.currentNodeChanged.emit(node)
        self._currentNodeChangedBool.emit(node is not None)
        self.currentNodeIDChanged.emit(self._current)

    def _refresh(self) -> None:
        """Follow the scene. Where the chosen node went, the one that takes its place in the list is chosen."""
        if not shiboken6.isValid(self):
            self._watch.stop()
            return
        nodes = self._nodes()
        self._watch.setScene(self._scene, nodes)
        before, self._listed = self._listed, [node.GetID() for node in nodes]
        for node in nodes:
            if node.GetID() not in before:
                self.nodeAdded.emit(node)
        if self._current in self._listed:
            self._fill()
            self._announceNewName()
        elif self._current and self._listed:
            self._choose(self._listed[min(before.index(self._current), len(self._listed) - 1)])
        elif self._listed and not before and not self.noneEnabled and not self._actions():
            self._choose(self._listed[0])  # an entirely empty list chooses the first entry that comes
        else:
            self._choose("")

    def _announceNewName(self) -> None:
        """A chosen node that is renamed is announced again, as the text that is shown changes."""
        if self.currentNode() is not None and self.currentNode().GetName() != self._shownName:
            self._announce()

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
            self._showHint()
        finally:
            self._filling = False

    def _showHint(self) -> None:
        self._box.defaultText = f"Select a {self.nodeTypeLabel(self.nodeTypes[0] if self.nodeTypes else '')}"

    def _row(self, entries: list[tuple[str, str]]) -> int:
        identifiers = [identifier for identifier, _ in entries]
        return identifiers.index(self._current) if self._current in identifiers else -1

    def _actions(self) -> list[tuple[str, str]]:
        """What can be done with nodes: (action, text) each."""
        if self._scene is None:
            return []
        label = self.nodeTypeLabel(self.nodeTypes[0] if len(self.nodeTypes) == 1 else "")
        actions = [("rename", f"Rename current {label}")] if self.renameEnabled else []
        actions += [("edit", f"Edit current {label}")] if self.editEnabled else []
        for nodeType in self.nodeTypes if self.addEnabled else ():
            actions.append((f"add {nodeType}", f"Create new {self.nodeTypeLabel(nodeType)}"))
            if self.renameEnabled:
                actions.append((f"addAs {nodeType}", f"Create new {self.nodeTypeLabel(nodeType)} as..."))
        actions += [("remove", f"Delete current {label}")] if self.removeEnabled else []
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
            self._addByAction(nodeType, askName=kind == "addAs")
        elif kind == "rename":
            self.renameCurrentNode()
        elif kind == "remove":
            self.removeCurrentNode()
        else:
            raise NotImplementedError("the test host has no module to edit a node in")

    def _addByAction(self, nodeType: str, askName: bool) -> None:
        name = self._askName("") if askName else ""
        if askName and not name:
            return
        node = self.addNode(nodeType)
        if name:
            node.SetName(name)
        self.setCurrentNode(node)

    # What the user can do with nodes

    def _setBaseName(self, baseName: str, nodeType: str = "") -> None:
        """How new nodes are called; without ``nodeType``, those of all types listed."""
        if not (nodeType or self.nodeTypes):
            raise ValueError("set nodeTypes before baseName")
        for name in [nodeType] if nodeType else self.nodeTypes:
            self._baseNames[name] = baseName

    baseName = qtProperty("QString", lambda self: self._baseNames.get(self.nodeTypes[0], ""), _setBaseName)

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        self._typeLabels[nodeType] = label
        self._fill()

    def nodeTypeLabel(self, nodeType: str) -> str:
        known = self._scene.GetTypeDisplayNameByClassName(nodeType) if self._scene is not None and nodeType else ""
        return self._typeLabels.get(nodeType) or known or "node"

    def addNode(self, nodeType: str = ""):
        """A new node, chosen if ``selectNodeUponCreation``."""
        nodeType = nodeType or self.nodeTypes[0]
        if nodeType not in self.nodeTypes:
            raise ValueError(f"{nodeType} is not among {', '.join(self.nodeTypes)}")
        node = self._scene.CreateNodeByClass(nodeType)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self._baseNames.get(nodeType) or self.nodeTypeLabel(nodeType)))
        for (attributeType, name), value in self._attributes.items():
            if node.IsA(attributeType):
                node.SetAttribute(name, value or "")
        self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = self._askName(node.GetName()) if node is not None else ""
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def _askName(self, name: str) -> str:
        return qt.QInputDialog.getText(self, "Name", "New name:", qt.QLineEdit.Normal, name)


def isNodeClass(name: str) -> bool:
    """True if ``name`` is a class of node, abstract ones included."""
    cls = getattr(slicer, name, None)
    return isinstance(cls, type) and issubclass(cls, slicer.vtkMRMLNode)
