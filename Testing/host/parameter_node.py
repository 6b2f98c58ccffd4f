"""``slicer.parameterNodeWrapper``: typed parameters stored in a ``vtkMRMLScriptedModuleNode``.

A small writing of our own of what Slicer's package of that name does for the types ``str``, ``bool``, ``int``, ``float``,
``pathlib.Path``, enums, ``list`` and ``dict`` of plain values, MRML nodes, and ``list`` of nodes. Stricter than Slicer: an
attribute that is no parameter cannot be set, a ``bool`` is no number, a node must be in the scene, lists and dictionaries
cannot be changed in place (assign a new one), and two widgets cannot claim one parameter.
"""

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path

import slicer
import vtk

from host.gui_connectors import Connector, Decimals, SingleStep, connectorFor
from host.validators import (
    Choice,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    RangeBounds,
    Validator,
    WithinRange,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "RangeBounds",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

SlicerParameterNamePropertyName = "SlicerParameterName"


class Default:
    """Annotation: the value of a parameter that was never set, or ``generator`` to make it."""

    def __init__(self, value: object = None, *, generator: Callable[[], object] | None = None) -> None:
        self._value = value
        self._generator = generator

    @property
    def isGenerated(self) -> bool:
        return self._generator is not None

    @property
    def value(self) -> object:
        return self._generator() if self._generator else self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Default) and (self._value, self._generator) == (other._value, other._generator)

    __hash__ = None


class StoredList(Sequence):
    """What a ``list`` parameter reads as: like Slicer's, a sequence that is no ``list``; unlike Slicer's, unchangeable."""

    def __init__(self, items: Sequence) -> None:
        self._items = list(items)

    def __getitem__(self, index):
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and self._items == list(other)

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self._items)


class StoredDict(Mapping):
    """What a ``dict`` parameter reads as; unchangeable."""

    def __init__(self, items: Mapping) -> None:
        self._items = dict(items)

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self._items)


class Parameter:
    """One annotated member of a wrapper class: how its value is checked, written and read."""

    def __init__(self, name: str, annotation: object, classDefault: object) -> None:
        self.basename = name
        self.unalteredType = annotation
        metadata = annotation.__metadata__ if typing.get_origin(annotation) is typing.Annotated else ()
        self.type = typing.get_args(annotation)[0] if metadata else annotation
        self.validators = [item for item in metadata if isinstance(item, Validator)]
        defaults = [item for item in metadata if isinstance(item, Default)]
        unknown = [item for item in metadata if not isinstance(item, Validator | Default | Decimals | SingleStep)]
        if unknown:
            raise TypeError(f"parameter {name}: the annotations {unknown} are not understood")
        if len(defaults) > 1:
            raise TypeError(f"parameter {name} has two defaults")
        self.nodeTypes = nodeTypes(self.type)
        isList = typing.get_origin(self.type) is list
        self.itemNodeTypes = nodeTypes(typing.get_args(self.type)[0]) if isList else ()
        if classDefault is not MISSING:
            self.default = Default(classDefault)
        else:
            self.default = defaults[0] if defaults else Default(generator=self._emptyValue)
        self._checkSupported()
        if classDefault is not MISSING or (defaults and not defaults[0].isGenerated):
            self.check(self.default.value)

    def check(self, value: object) -> None:
        """TypeError or ValueError unless ``value`` may be stored."""
        if self.nodeTypes:
            self._checkNode(value)
        elif self.itemNodeTypes and isinstance(value, list | StoredList):
            for item in value:
                self._checkNode(item)
        else:
            checkType(self.basename, value, self.type)
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: "slicer.vtkMRMLScriptedModuleNode", name: str, value: object) -> None:
        self.check(value)
        if self.nodeTypes:
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
            return
        if self.itemNodeTypes:
            self._writeNodes(node, name, value)
            return
        if isinstance(value, Enum):
            text = value.name
        elif isinstance(value, str | Path | bool | int | float):
            text = str(value)
        else:
            text = json.dumps(list(value) if isinstance(value, Sequence) else dict(value))
        if not node.HasParameter(name) or node.GetParameter(name) != text:
            node.SetParameter(name, text)

    def read(self, node: "slicer.vtkMRMLScriptedModuleNode", name: str) -> object:
        if self.nodeTypes:
            return node.GetNodeReference(name)
        if self.itemNodeTypes:
            count = int(node.GetParameter(f"{name}.len") or 0)
            return StoredList([node.GetNodeReference(f"{name}.{index}") for index in range(count)])
        if not node.HasParameter(name):
            return self._frozen(self.default.value)
        text = node.GetParameter(name)
        if self.type is bool:
            return {"True": True, "False": False}[text]
        if self.type in (str, int, float, Path):
            return self.type(text)
        if isinstance(self.type, type) and issubclass(self.type, Enum):
            return self.type[text]
        return self._frozen(json.loads(text))

    def _writeNodes(self, node: "slicer.vtkMRMLScriptedModuleNode", name: str, values: Sequence) -> None:
        """As Slicer: a reference for each item, and how many there are."""
        modifying = node.StartModify()
        for index in range(max(len(values), int(node.GetParameter(f"{name}.len") or 0))):
            value = values[index] if index < len(values) else None
            node.SetNodeReferenceID(f"{name}.{index}", value.GetID() if value is not None else None)
        node.SetParameter(f"{name}.len", str(len(values)))
        node.EndModify(modifying)

    def _frozen(self, value: object) -> object:
        origin = typing.get_origin(self.type) or self.type
        return {list: StoredList, dict: StoredDict}.get(origin, lambda same: same)(value)

    def _emptyValue(self) -> object:
        if self.nodeTypes:
            return None
        if isinstance(self.type, type) and issubclass(self.type, Enum):
            return next(iter(self.type))
        return (typing.get_origin(self.type) or self.type)()

    def _checkNode(self, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, self.nodeTypes or self.itemNodeTypes):
            raise TypeError(
                f"parameter {self.basename} takes a node of {self.nodeTypes or self.itemNodeTypes}, not {value!r}"
            )
        if value.GetScene() is not slicer.mrmlScene:
            raise ValueError(f"parameter {self.basename}: the node {value.GetName()} is not in the scene")

    def _checkSupported(self) -> None:
        origin, arguments = typing.get_origin(self.type), typing.get_args(self.type)
        supported = (
            self.nodeTypes
            or self.type in (str, bool, int, float, Path)
            or (isinstance(self.type, type) and issubclass(self.type, Enum))
            or self.itemNodeTypes
            or (origin is list and arguments[0] in (str, bool, int, float))
            or (origin is dict and arguments[0] is str and arguments[1] in (str, bool, int, float))
        )
        if not supported:
            raise TypeError(f"parameter {self.basename}: the test host does not store the type {self.type}")


MISSING = object()


def nodeTypes(datatype: object) -> tuple[type, ...]:
    """The node classes of ``vtkMRMLSomeNode`` or a union of such (with or without None); empty for any other type."""
    isUnion = typing.get_origin(datatype) in (typing.Union, types.UnionType)
    members = [item for item in (typing.get_args(datatype) if isUnion else (datatype,)) if item is not type(None)]
    return (
        tuple(members)
        if all(isinstance(item, type) and issubclass(item, slicer.vtkMRMLNode) for item in members)
        else ()
    )


def checkType(name: str, value: object, datatype: object) -> None:
    """TypeError unless ``value`` is of ``datatype``, and so every item of a list or dictionary; ValueError for None."""
    if value is None:
        raise ValueError(f"parameter {name} cannot be None")
    origin, arguments = typing.get_origin(datatype), typing.get_args(datatype)
    if origin is list:
        if not isinstance(value, list | StoredList):
            raise TypeError(f"parameter {name} takes a list, not {value!r}")
        for item in value:
            checkType(name, item, arguments[0])
    elif origin is dict:
        if not isinstance(value, dict | StoredDict):
            raise TypeError(f"parameter {name} takes a dictionary, not {value!r}")
        for key, item in value.items():
            checkType(name, key, arguments[0])
            checkType(name, item, arguments[1])
    elif isinstance(value, bool) and datatype is not bool:
        raise TypeError(f"parameter {name} takes {datatype.__name__}, not the truth value {value}")
    elif not isinstance(value, (int, float) if datatype is float else datatype):
        raise TypeError(f"parameter {name} takes {datatype.__name__}, not {value!r}")


class WrapperMethods:
    """What every class made by ``parameterNodeWrapper`` can do."""

    allParameters: typing.ClassVar[dict[str, Parameter]]
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: "slicer.vtkMRMLScriptedModuleNode", prefix: str | None = None) -> None:
        set_ = super().__setattr__
        set_("parameterNode", parameterNode)
        set_("_prefix", prefix or "")
        set_("_guis", {})
        set_("_updatingGui", False)
        for name, parameter in self.allParameters.items():
            isStored = parameter.nodeTypes or parameter.itemNodeTypes
            if not isStored and not parameterNode.HasParameter(self._prefix + name):
                parameter.write(parameterNode, self._prefix + name, parameter.default.value)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.allParameters and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no parameter {name!r}, only {sorted(self.allParameters)}")
        super().__setattr__(name, value)

    def getValue(self, name: str) -> object:
        return self._parameter(name).read(self.parameterNode, self._prefix + name)

    def setValue(self, name: str, value: object) -> None:
        self._parameter(name).write(self.parameterNode, self._prefix + name, value)

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    @classmethod
    def dataType(cls, name: str) -> object:
        if name not in cls.allParameters:
            raise ValueError(f"{cls.__name__} has no parameter {name!r}, only {sorted(cls.allParameters)}")
        return cls.allParameters[name].unalteredType

    def connectGui(self, gui) -> int:
        """Connect every widget whose property ``SlicerParameterName`` names a parameter. Returns what ``disconnectGui`` takes."""
        widgets = gui.findChildren(qtWidgetClass()) if hasattr(gui, "findChildren") else list(vars(gui).values())
        mapping: dict[str, object] = {}
        for widget in widgets:
            name = widget.property(SlicerParameterNamePropertyName)
            if not name:
                continue
            if name in mapping:
                raise ValueError(f"{mapping[name].objectName} and {widget.objectName} both name the parameter {name}")
            mapping[name] = widget
        if not mapping:
            raise ValueError(f"no widget has the property {SlicerParameterNamePropertyName}")
        return self.connectParametersToGui(mapping)

    def connectParametersToGui(self, mapping: Mapping[str, object]) -> int:
        """Connect widgets by the name of their parameter; each takes the stored value at once."""
        connectors = {name: connectorFor(widget, self.dataType(name)) for name, widget in mapping.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(lambda name=name, connector=connector: self._onGuiChanged(name, connector))
        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._updateGui())
        self._guis[tag] = connectors
        return tag

    def disconnectGui(self, tag: int) -> None:
        for connector in self._guis.pop(tag, {}).values():
            connector.disconnect()
            self.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def _parameter(self, name: str) -> Parameter:
        self.dataType(name)
        return self.allParameters[name]

    def _onGuiChanged(self, name: str, connector: Connector) -> None:
        if not self._updatingGui:
            self.setValue(name, connector.read())

    def _updateGui(self) -> None:
        if self._updatingGui:
            return
        self.__dict__["_updatingGui"] = True
        try:
            for connectors in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self.__dict__["_updatingGui"] = False


def parameterNodeWrapper(classtype: type | None = None):
    """Class decorator: every annotated member becomes a parameter of a node."""
    if classtype is None:
        return parameterNodeWrapper
    parameters = {
        name: Parameter(name, annotation, vars(classtype).get(name, MISSING))
        for name, annotation in typing.get_type_hints(classtype, include_extras=True).items()
    }
    reserved = [name for name in vars(WrapperMethods) if not name.startswith("__")]
    taken = [name for name in reserved if name in parameters or hasattr(classtype, name)]
    if taken:
        raise ValueError(f"{classtype.__name__} uses names that a parameter node needs: {taken}")
    members = {key: getattr(classtype, key) for key in ("__module__", "__qualname__", "__doc__")}
    members["allParameters"] = parameters
    for name in parameters:
        members[name] = property(
            lambda self, name=name: self.getValue(name), lambda self, value, name=name: self.setValue(name, value)
        )
    return type(classtype.__name__, (WrapperMethods, classtype), members)


def isParameterNodeWrapper(classOrObject: object) -> bool:
    return getattr(classOrObject, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter: str):
    """The child of ``widget`` that is connected to ``parameter``, or None."""
    for child in widget.findChildren(qtWidgetClass()):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    return None


def qtWidgetClass() -> type:
    import qt

    return qt.QWidget
