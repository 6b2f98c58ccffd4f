"""Dialogs that a test answers, instead of a user: ``dialogs.answer(qt.QMessageBox.Yes, "/data/scan.nrrd")``.

Answers are taken in order, one for each dialog. A message box takes one of its standard buttons or the text of a button; a
question for a file, folder, text, number or color takes that (None cancels); any other dialog takes True, False, a result code,
or a function that is called with the dialog while it is open and closes it. A dialog that nobody answers, neither so nor in
another way within ``PATIENCE_S``, is closed and fails with UnansweredDialog. What was asked is in ``dialogs.asked``.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

PATIENCE_S = 10


class UnansweredDialog(AssertionError):
    """A dialog came that the test did not expect."""


@dataclass(frozen=True)
class Asked:
    """One dialog that came: its class, its title, and its text."""

    kind: str
    title: str
    text: str


asked: list[Asked] = []
_answers: list[object] = []
_execute = QtWidgets.QDialog.exec
_deleteLater = QtWidgets.QDialog.deleteLater
_toBeDeleted: set[int] = set()  # addresses


def answer(*answers: object) -> None:
    """Answer the next dialogs."""
    _answers.extend(answers)


def unusedAnswers() -> list[object]:
    """The answers for which no dialog has come."""
    return list(_answers)


def reset() -> None:
    """Forget answers and questions."""
    _answers.clear()
    asked.clear()


def adopt() -> None:
    """Put this in place of what would wait for a user."""
    QtWidgets.QDialog.exec = QtWidgets.QDialog.exec_ = execute
    QtWidgets.QDialog.deleteLater = deleteLater
    for name, icon in (
        ("information", QtWidgets.QMessageBox.Information),
        ("question", QtWidgets.QMessageBox.Question),
        ("warning", QtWidgets.QMessageBox.Warning),
        ("critical", QtWidgets.QMessageBox.Critical),
    ):
        setattr(QtWidgets.QMessageBox, name, staticmethod(messageBoxFunction(icon)))
    for cls, name, kinds, cancelled in (
        (QtWidgets.QFileDialog, "getOpenFileName", str, ""),
        (QtWidgets.QFileDialog, "getSaveFileName", str, ""),
        (QtWidgets.QFileDialog, "getExistingDirectory", str, ""),
        (QtWidgets.QFileDialog, "getOpenFileNames", list | tuple, ()),
        (QtWidgets.QInputDialog, "getText", str, ""),
        (QtWidgets.QInputDialog, "getMultiLineText", str, ""),
        (QtWidgets.QInputDialog, "getItem", str, ""),
        (QtWidgets.QInputDialog, "getInt", int, 0),
        (QtWidgets.QInputDialog, "getDouble", float, 0.0),
        (QtWidgets.QColorDialog, "getColor", QtGui.QColor, QtGui.QColor()),
    ):
        setattr(cls, name, staticmethod(valueFunction(f"{cls.__name__}.{name}", kinds, cancelled)))


def execute(dialog: QtWidgets.QDialog) -> int:
    """``dialog.exec_()``: shows it and waits until it is answered."""
    text = dialog.text if isinstance(dialog, QtWidgets.QMessageBox) else ""
    asked.append(Asked(type(dialog).__name__, dialog.windowTitle, text))
    problems: list[AssertionError] = []
    closing = QtCore.QTimer()
    closing.singleShot = True
    if _answers:
        closing.connect("timeout()", lambda: _apply(dialog, _answers.pop(0), problems))
        closing.start(0)
    else:
        closing.connect("timeout()", lambda: _giveUp(dialog, problems))
        closing.start(PATIENCE_S * 1000)
    with keptAlive(dialog):
        result = _execute(dialog)
    closing.stop()
    if problems:
        raise problems[0]
    return result


def deleteLater(dialog: QtWidgets.QDialog) -> None:
    address = shiboken6.getCppPointer(dialog)[0]
    _toBeDeleted.add(address)
    dialog.connect("destroyed()", lambda: _toBeDeleted.discard(address))
    _deleteLater(dialog)


@contextlib.contextmanager
def keptAlive(dialog: QtWidgets.QDialog) -> Iterator[None]:
    """Slicer calls ``deleteLater()`` before ``exec_()``: under its event loop that waits for the end, in a test it would not."""
    address = shiboken6.getCppPointer(dialog)[0]
    wasToBeDeleted = address in _toBeDeleted
    _toBeDeleted.discard(address)
    if wasToBeDeleted:
        QtCore.QCoreApplication.removePostedEvents(dialog, QtCore.QEvent.DeferredDelete)
    yield
    if wasToBeDeleted:
        _deleteLater(dialog)


def _apply(dialog: QtWidgets.QDialog, given: object, problems: list[AssertionError]) -> None:
    if callable(given) and not isinstance(given, int):
        given(dialog)
    elif isinstance(dialog, QtWidgets.QMessageBox):
        _click(dialog, given, problems)
    elif isinstance(given, int):
        dialog.done(int(given))
    else:
        problems.append(AssertionError(f"{given!r} is no answer to the dialog '{dialog.windowTitle}'"))
        dialog.reject()


def _click(box: QtWidgets.QMessageBox, given: object, problems: list[AssertionError]) -> None:
    texts = {button.text.replace("&", ""): button for button in box.buttons()}
    if isinstance(given, QtWidgets.QMessageBox.StandardButton):
        button = box.button(given)
    else:
        button = texts.get(given) if isinstance(given, str) else None
    if button is None:
        problems.append(AssertionError(f"{given!r} is no button of '{box.text}', which has {sorted(texts)}"))
        box.done(0)
    else:
        button.click()


def _giveUp(dialog: QtWidgets.QDialog, problems: list[AssertionError]) -> None:
    last = asked[-1]
    problems.append(UnansweredDialog(f"nobody answered the {last.kind} '{last.title}': {last.text}"))
    dialog.done(0)


def messageBoxFunction(icon: QtWidgets.QMessageBox.Icon) -> Callable:
    """``QMessageBox.question(parent, title, text, buttons, defaultButton)`` and the like."""
    box = QtWidgets.QMessageBox

    def show(parent, title: str, text: str, buttons=box.Ok, defaultButton=box.NoButton):
        dialog = box(icon, title, text, buttons, parent)
        dialog.setDefaultButton(defaultButton)
        return box.StandardButton(execute(dialog))

    return show


def valueFunction(name: str, kinds: type, cancelled: object) -> Callable:
    """``QFileDialog.getOpenFileName(parent, title, ...)`` and the like; as in PythonQt the value alone is returned."""

    def ask(parent=None, title: str = "", *arguments: object) -> object:
        text = "; ".join(argument for argument in arguments if isinstance(argument, str))
        asked.append(Asked(name, title if isinstance(title, str) else "", text))
        if not _answers:
            raise UnansweredDialog(f"nobody answered {name} '{title}'")
        given = _answers.pop(0)
        if given is None:
            return cancelled
        if not isinstance(given, kinds):
            raise AssertionError(f"{given!r} is no answer to {name} '{title}'")
        return tuple(given) if isinstance(given, list) else given

    return ask
