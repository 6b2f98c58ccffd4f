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
    """Class decorator: users of the widget may set only what it declares, and make it with a parent or nothing.

    ``setX`` is made for each property ``x`` named in ``cls.setters``: of most properties it is no slot in C++, and PythonQt does
    not find it then. CTK's wrapper of a class has no other constructor either.
    """
    for name in vars(cls).get("setters", ()):
        setattr(cls, f"set{name[0].upper()}{name[1:]}", vars(cls)[name].fset)
    plain = cls.__init__

    def __init__(self, *arguments: object) -> None:
        if type(self) is cls and not (arguments in ((), (None,)) or [*map(isWidget, arguments)] == [True]):
            raise ValueError(f"{cls.__name__}() takes its parent or nothing, not {arguments!r}")
        plain(self, *arguments)

    cls.__init__ = __init__
    adoptSignals(cls)
    return adoptHostedClass(cls)


def isWidget(value: object) -> bool:
    return isinstance(value, QtCore.QObject) and value.isWidgetType()


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
