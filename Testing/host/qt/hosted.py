"""For widgets written for the host (``ctk``, ``qMRML*``): declaring properties and signals as the C++ classes have them."""

from collections.abc import Callable

from PySide6 import QtCore

from host.qt.properties import acceptsPlain, adoptHostedClass
from host.qt.signals import adoptSignals

QT_KINDS: dict[str, object] = {
    "bool": bool,
    "int": int,
    "double": float,
    "QString": str,
    "QStringList": "QStringList",
    "QColor": "QColor",
    "QIcon": "QIcon",
    "QVariant": "QVariant",
}


def hosted(cls: type) -> type:
    """Class decorator: users of the widget may set only what it declares; ``setX`` is made for each property ``x``."""
    for name, value in list(vars(cls).items()):
        setter = f"set{name[0].upper()}{name[1:]}"
        if isinstance(value, QtCore.Property) and value.fset is not None and not hasattr(cls, setter):
            setattr(cls, setter, value.fset)
    adoptSignals(cls)
    return adoptHostedClass(cls)


def qtProperty(typeName: str, getter: Callable, setter: Callable | None = None) -> QtCore.Property:
    """A property that is computed; a value of another type than ``typeName`` is refused."""
    if setter is None:
        return QtCore.Property(QT_KINDS[typeName], getter)

    def checked(self: QtCore.QObject, value: object) -> None:
        setter(self, checkedValue(typeName, value))

    return QtCore.Property(QT_KINDS[typeName], getter, checked)


def stored(name: str, typeName: str, default: object, changed: str | None = None) -> QtCore.Property:
    """A property that is kept in the widget; the method named ``changed`` is called without arguments after a change."""

    def getter(self: QtCore.QObject) -> object:
        return vars(self).get(f"_{name}Value", default)

    def setter(self: QtCore.QObject, value: object) -> None:
        before = getter(self)
        setattr(self, f"_{name}Value", value)
        if changed is not None and value != before:
            getattr(self, changed)()

    return qtProperty(typeName, getter, setter)


def checkedValue(typeName: str, value: object) -> object:
    """``value`` as PythonQt gives it back for that C++ type, a QStringList as a tuple; ValueError if it is none."""
    if typeName == "QStringList" and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if typeName == "double" and acceptsPlain(typeName, value):
        return float(value)
    if typeName == "QStringList" or not acceptsPlain(typeName, value):
        raise ValueError(f"a property of type '{typeName}' does not accept {value!r}")
    return value


def delegated(inner: str, name: str, typeName: str) -> QtCore.Property:
    """A property that a widget inside has: ``self.<inner>.<name>``."""
    return qtProperty(
        typeName,
        lambda self: getattr(getattr(self, inner), name),
        lambda self, value: setattr(getattr(self, inner), name, value),
    )
