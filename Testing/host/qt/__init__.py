"""The ``qt`` module of Slicer, made from PySide6 with PythonQt's habits.

Properties are attributes, signals are connected by text or by name, enums are flat and compare with numbers, ``exec_`` and
``className`` exist, and what does not exist cannot be set. PySide6's classes themselves are changed, so that objects made by
Qt (children of a ``.ui`` file, actions, layouts) have the same habits as those made in Python.
"""

import sys

sys.pyside6_option_python_enum = 0x03  # enums are numbers, as in PythonQt; must be said before PySide6 is imported

from PySide6 import QtCore, QtGui, QtNetwork, QtSvg, QtUiTools, QtWidgets, QtXml  # noqa: E402

from host.qt import dialogs, habits  # noqa: E402

if QtCore.Qt.CheckState.Checked != 2:
    raise RuntimeError("PySide6 was imported before host.start(), so its enums are not numbers as in Slicer")

MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtSvg, QtUiTools, QtXml)

globals().update(habits.adopt(MODULES))
dialogs.adopt()

from host.ui_loader import QUiLoader  # noqa: E402, F401


def __getattr__(name: str) -> object:
    raise AttributeError(f"module 'qt' has no attribute '{name}'")
