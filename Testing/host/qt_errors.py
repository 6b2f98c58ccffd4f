"""Writes down what Slicer would only print: errors in slots, timers and observers, and what Qt warns of.

A test fails because of them unless it says ``expectsQtErrors = True``.
"""

import sys
import traceback
import types

from PySide6 import QtCore

messages: list[str] = []

# True of every window without a screen, and no fault of a module.
HARMLESS = ("This plugin does not support",)


def watch() -> None:
    """Start writing down."""
    previousHook = sys.excepthook

    def onError(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        messages.append("".join(traceback.format_exception(kind, error, trace)))
        previousHook(kind, error, trace)

    sys.excepthook = onError
    QtCore.qInstallMessageHandler(_onMessage)


def _onMessage(kind: QtCore.QtMsgType, context: QtCore.QMessageLogContext, text: str) -> None:
    if kind != QtCore.QtMsgType.QtDebugMsg and kind != QtCore.QtMsgType.QtInfoMsg and not text.startswith(HARMLESS):
        messages.append(text)
        print(f"Qt: {text}", file=sys.stderr)
