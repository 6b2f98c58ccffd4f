"""Qt properties as attributes, as PythonQt shows them: ``button.text``, ``button.enabled = False``; unknown names are refused."""

import inspect
import sys

import shiboken6
from PySide6 import QtCore

from host.qt import uses

# Checked here, because Qt's own setters take more than PythonQt does (None as a text) or convert in silence.
PLAIN_TYPES: dict[str, tuple[type, ...]] = {
    "QString": (str,),
    "bool": (bool,),
    "int": (int,),
    "uint": (int,),
    "double": (float, int),
    "float": (float, int),
}

_nativeClasses: set[type] = set()
_hostedClasses: set[type] = set()
_storeAttribute = shiboken6.Object.__setattr__
_missing = object()


class QtProperty:
    """One Qt property of one class, as a data descriptor. On the class itself it gives the getter function."""

    def __init__(self, owner: type, metaProperty: QtCore.QMetaProperty) -> None:
        self.name = metaProperty.name()
        self.typeName = metaProperty.typeName()
        self.writable = metaProperty.isWritable()
        self.isEnum = metaProperty.isEnumType()
        self._metaProperty = metaProperty
        self._function = getattr(owner, self.name, None)
        if isinstance(self._function, QtProperty):
            self._function = None
        # Qt's own getter where there is one: reading a virtual one through the meta-object would come back here.
        self._getter = self._function if inspect.ismethoddescriptor(self._function) else metaProperty.read
        self._setter = getattr(owner, f"set{self.name[0].upper()}{self.name[1:]}", None)

    def __get__(self, instance: object, owner: type | None = None) -> object:
        if instance is None:
            return self._function if self._function is not None else self
        return self._getter(instance)

    def __set__(self, instance: object, value: object) -> None:
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of {className(instance)} object is not writable")
        if self.isEnum and type(value) is int:
            value = type(self._getter(instance))(value)
        if not acceptsPlain(self.typeName, value):
            raise ValueError(
                f"Property '{self.name}' of type '{self.typeName}' does not accept an object of type "
                f"{type(value).__name__} ({value!r})"
            )
        try:
            if self._setter is not None:
                self._setter(instance, value)
            else:
                self._metaProperty.write(instance, value)
        except TypeError as error:
            raise ValueError(f"Property '{self.name}' of type '{self.typeName}' does not accept {value!r}") from error


def acceptsPlain(typeName: str, value: object) -> bool:
    """Whether PythonQt would take ``value`` for a property of that C++ type. Types that are not plain are left to Qt."""
    plain = PLAIN_TYPES.get(typeName)
    if plain is None:
        return value is not None
    return isinstance(value, plain) and not (isinstance(value, bool) and bool not in plain)


def adoptClass(cls: type) -> None:
    """Give a PySide6 class PythonQt's attributes. Base classes must have been adopted before."""
    _nativeClasses.add(cls)
    if issubclass(cls, QtCore.QObject):
        _adoptProperties(cls)
        cls.__getattr__ = _attributeOfObject
    cls.__setattr__ = _setAttribute


def adoptHostedClass(cls: type) -> type:
    """Decorator for a widget class written for the host: its users may set only what it declares."""
    _hostedClasses.add(cls)
    _readTypes(cls)
    return cls


def isHosted(cls: type) -> bool:
    """True for the host's own widget classes, and those derived from them."""
    return any(base in _hostedClasses for base in cls.__mro__)


def className(instance: object) -> str:
    """The C++ name of an object's class."""
    return instance.metaObject().className() if isinstance(instance, QtCore.QObject) else type(instance).__name__


declaredTypes: dict[type, dict[str, str]] = {}
"""Class of Qt -> property -> C++ type, the inherited ones too; read at the start, since PySide6 lets meta-objects die later."""


def _readTypes(cls: type) -> None:
    metaObject = cls.staticMetaObject
    found = [metaObject.property(index) for index in range(metaObject.propertyCount())]
    declaredTypes[cls] = {item.name(): item.typeName() for item in found}


def _adoptProperties(cls: type) -> None:
    _readTypes(cls)
    metaObject = cls.staticMetaObject
    for index in range(metaObject.propertyCount()):
        metaProperty = metaObject.property(index)
        isOwn = index >= metaObject.propertyOffset()
        if isOwn or metaProperty.name() in cls.__dict__:
            setattr(cls, metaProperty.name(), QtProperty(cls, metaProperty))


def _attributeOfObject(self: QtCore.QObject, name: str) -> object:
    """What PythonQt finds when a class has no such attribute: the object's name, dynamic properties, children by name."""
    if name == "name":
        return self.objectName
    if not name.startswith("__"):
        if name in [bytes(dynamic).decode() for dynamic in self.dynamicPropertyNames()]:
            return self.property(name)
        for child in self.children():
            if child.objectName == name:
                return child
    raise AttributeError(f"{className(self)} has no attribute named '{name}'")


def _setAttribute(self: object, name: str, value: object) -> None:
    if uses.isWatching:
        uses.note(self, name, sys._getframe(1))
    cls = type(self)
    attribute = _missing
    for base in cls.__mro__:
        if name in base.__dict__:
            attribute = base.__dict__[name]
            break
    if type(value) is QtCore.SignalInstance:
        return  # PySide6 wants to keep it in the object, where it would hide ours
    if attribute is _missing and _isDescendant(value, self, name):
        return  # PySide6's loader of .ui files gives the outermost widget an attribute for each widget inside
    if isinstance(attribute, QtProperty):
        attribute.__set__(self, value)
    elif isinstance(self, QtCore.QObject) and attribute is _missing and _isKnownToObject(self, name):
        self.setProperty("objectName" if name == "name" else name, value)
    elif isinstance(attribute, QtCore.Property):
        _setDeclared(self, name, attribute, value)
    elif hasattr(type(attribute), "__set__") or not _refuses(cls, name):
        _storeAttribute(self, name, value)
    elif attribute is _missing:
        raise AttributeError(f"{className(self)} has no attribute named '{name}'")
    else:
        raise AttributeError(f"'{name}' can not be overwritten on {className(self)} object")


def _isDescendant(value: object, ancestor: object, name: str) -> bool:
    """Whether ``value`` is the object of that name somewhere inside ``ancestor``."""
    if not isinstance(value, QtCore.QObject) or value.objectName != name:
        return False
    parent = value.parent()
    while parent is not None and parent is not ancestor:
        parent = parent.parent()
    return parent is not None


def _setDeclared(self: QtCore.QObject, name: str, declared: QtCore.Property, value: object) -> None:
    """Set a property that a Python class declares with ``QtCore.Property``."""
    if declared.fset is None:
        raise AttributeError(f"Property '{name}' of {className(self)} object is not writable")
    declared.fset(self, value)


def _isKnownToObject(self: QtCore.QObject, name: str) -> bool:
    if name.startswith("_"):
        return False
    return name == "name" or name in [bytes(dynamic).decode() for dynamic in self.dynamicPropertyNames()]


def _refuses(cls: type, name: str) -> bool:
    """True if instances of ``cls`` take no attributes but those declared. Classes derived in Python take any."""
    return cls in _nativeClasses or (cls in _hostedClasses and not name.startswith("_"))
