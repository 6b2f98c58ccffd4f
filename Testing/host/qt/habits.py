"""Changes PySide6's classes so that they behave as PythonQt's."""

import sys
import types
from collections.abc import Iterable

from PySide6 import QtCore, QtGui

from host.qt import signals, uses
from host.qt.properties import adoptClass, className


def adopt(modules: Iterable[types.ModuleType]) -> dict[str, object]:
    """Change all classes of these modules. Returns them by name, with those that Slicer does not have left out."""
    names = {name: getattr(module, name) for module in modules for name in dir(module) if name.startswith("Q")}
    classes = [value for value in names.values() if isinstance(value, type) and hasattr(value, "__mro__")]
    for cls in sorted(classes, key=lambda cls: len(cls.__mro__)):
        if cls.__module__.startswith("PySide6") and type(cls).__module__ == "Shiboken":
            adoptClass(cls)
            signals.adoptSignals(cls)
            if hasattr(cls, "exec") and not hasattr(cls, "exec_"):
                cls.exec_ = cls.exec
            _adoptAttributes(cls)
    QtCore.QObject.className = className
    QtGui.QColor.name = colorName
    return names


def _adoptAttributes(cls: type) -> None:
    """Take ``connect`` and ``disconnect`` over. On instances PySide6 answers for them before it looks at the class."""
    plainAttribute = cls.__getattribute__
    isObject = issubclass(cls, QtCore.QObject)
    both = {"connect": signals.connect, "disconnect": signals.disconnect} if isObject else {}

    def attribute(self: object, name: str) -> object:
        # There is no caller where Qt itself calls, as at the end of the process.
        if uses.isWatching and (caller := sys._getframe().f_back) is not None:
            uses.note(self, name, caller)
        return types.MethodType(both[name], self) if name in both else plainAttribute(self, name)

    cls.__getattribute__ = attribute
    for name, function in both.items():
        setattr(cls, name, staticmethod(function))


_colorName = QtGui.QColor.name


def colorName(color: QtGui.QColor, nameFormat: int = 0) -> str:
    """PythonQt takes a number for any enum; of Slicer's own files only this needs it (``color.name(1)``)."""
    return _colorName(color, QtGui.QColor.NameFormat(nameFormat))
