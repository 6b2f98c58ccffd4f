"""``ctkPathLineEdit`` and ``ctkDirectoryButton``: choosing files and folders."""

import enum
import re

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted, qtProperty, stored

MOST_IN_HISTORY = 5


class PathFilter(enum.IntFlag):
    Dirs = 0x001
    Files = 0x002
    Drives = 0x004
    NoSymLinks = 0x008
    Readable = 0x010
    Writable = 0x020
    Executable = 0x040
    Hidden = 0x100
    System = 0x200
    AllEntries = 0x007


@hosted
class ctkPathLineEdit(qt.QWidget):
    """An editable path with a button that asks for a file, or for a folder if ``filters`` has no ``Files``.

    ``currentPathChanged`` is sent only for a path that is acceptable, which an empty one never is, nor one that does not match
    ``nameFilters``; that it is no longer acceptable is told by ``validInputChanged``.
    """

    setters = ("currentPath",)
    Filter = PathFilter
    Dirs, Files, Drives, NoSymLinks = PathFilter.Dirs, PathFilter.Files, PathFilter.Drives, PathFilter.NoSymLinks
    Readable, Writable, Executable = PathFilter.Readable, PathFilter.Writable, PathFilter.Executable
    Hidden, System, AllEntries = PathFilter.Hidden, PathFilter.System, PathFilter.AllEntries

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._wasValid = False
        self._validator = qt.QRegularExpressionValidator(self)
        self._box = qt.QComboBox()
        self._box.editable = True
        self._box.insertPolicy = qt.QComboBox.NoInsert
        self._box.lineEdit().setValidator(self._validator)
        self._button = qt.QToolButton()
        self._button.text = "..."
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._box)
        layout.addWidget(self._button)
        self.setSizePolicy(qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed))
        self._validate()
        self._box.lineEdit().connect("textChanged(QString)", self._onText)
        self._button.connect("clicked()", self.browse)

    def _onText(self, text: str) -> None:
        isValid = self._box.lineEdit().hasAcceptableInput()
        wasValid, self._wasValid = self._wasValid, isValid
        if isValid:
            self.currentPathChanged.emit(text)
        if isValid != wasValid:
            self.validInputChanged.emit(isValid)

    def _validate(self) -> None:
        endings = [end for each in self.nameFilters for end in re.findall(r"\*\.(\w+)", each)]
        pattern = "|".join(rf".*\.{end}?$" for end in endings)
        self._validator.setRegularExpression(qt.QRegularExpression(f"({pattern})" if pattern else ".+"))

    currentPath = qtProperty(
        "QString",
        lambda self: self._box.lineEdit().text,
        lambda self, path: setattr(self._box.lineEdit(), "text", path),
    )
    filters = stored(
        "filters", "int", int(PathFilter.AllEntries | 0x1000 | PathFilter.Readable | PathFilter.Executable)
    )
    nameFilters = stored("nameFilters", "QStringList", (), "_validate")
    settingKey = stored("settingKey", "QString", "", "_readHistory")
    label = stored("label", "QString", "")
    showBrowseButton = qtProperty(
        "bool", lambda self: not self._button.isHidden(), lambda self, value: self._button.setVisible(value)
    )
    showHistoryButton = stored("showHistoryButton", "bool", True)
    minimumContentsLength = stored("minimumContentsLength", "int", 0)

    def browse(self) -> None:
        if self.filters & PathFilter.Files == 0:
            path = qt.QFileDialog.getExistingDirectory(self, "Select a directory...", self.currentPath)
        elif self.filters & PathFilter.Writable:
            path = qt.QFileDialog.getSaveFileName(self, "Select a file to save ", self.currentPath, self._names())
        else:
            path = qt.QFileDialog.getOpenFileName(self, "Open a file", self.currentPath, self._names())
        if path:
            self.currentPath = path

    def _historyKey(self) -> str:
        return f"ctkPathLineEdit/{self.settingKey or self.objectName}"

    def addCurrentPathToHistory(self) -> None:
        """Remember the path in the settings and offer it from now on."""
        if self.currentPath:
            before = qt.QSettings().value(self._historyKey()) or ()
            before = [before] if isinstance(before, str) else list(before)
            paths = [self.currentPath, *(path for path in before if path != self.currentPath)]
            qt.QSettings().setValue(self._historyKey(), paths)
            self._offer(paths)

    def retrieveHistory(self) -> None:
        """Offer what is remembered; an empty field takes the path used last."""
        path, paths = self.currentPath, qt.QSettings().value(self._historyKey()) or ()
        self._offer([paths] if isinstance(paths, str) else list(paths))
        if not path and self._box.count:
            self._box.currentIndex = 0

    _readHistory = retrieveHistory

    def _offer(self, paths: list[str]) -> None:
        path = self.currentPath
        blocked = self.blockSignals(True)
        self._box.clear()
        self._box.addItems(paths[:MOST_IN_HISTORY])
        self._box.setEditText(path)
        self.blockSignals(blocked)

    def _names(self) -> str:
        return ";;".join(self.nameFilters)


@hosted
class ctkDirectoryButton(qt.QWidget):
    """A button that shows a folder and asks for another."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._button = qt.QPushButton()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        self._directory = qt.QDir(".")
        self._show()
        self._button.connect("clicked()", self.browse)

    def _setDirectory(self, path: str) -> None:
        """``directorySelected`` is sent also where nothing changes, ``directoryChanged`` is not."""
        chosen = qt.QDir(path)
        changed = chosen != self._directory
        if changed:
            self._directory = qt.QDir(chosen.absolutePath())
            self._show()
        self.directorySelected.emit(chosen.absolutePath())
        if changed:
            self.directoryChanged.emit(self._directory.absolutePath())

    def _show(self) -> None:
        self._button.text = self.text or self._directory.absolutePath()

    directory = qtProperty("QString", lambda self: self._directory.path(), _setDirectory)
    text = stored("text", "QString", "", "_show")
    caption = stored("caption", "QString", "")

    def browse(self) -> str:
        chosen = qt.QFileDialog.getExistingDirectory(self, self.caption or "Select a folder", self.directory)
        if chosen:
            self.directory = chosen
        return chosen
