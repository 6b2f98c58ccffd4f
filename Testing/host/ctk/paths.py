"""``ctkPathLineEdit`` and ``ctkDirectoryButton``: choosing files and folders."""

import enum

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted, qtProperty, stored


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
    """An editable path with a button that asks for a file, or for a folder if ``filters`` has no ``Files``."""

    Filter = PathFilter
    Dirs, Files, Drives, NoSymLinks = PathFilter.Dirs, PathFilter.Files, PathFilter.Drives, PathFilter.NoSymLinks
    Readable, Writable, Executable = PathFilter.Readable, PathFilter.Writable, PathFilter.Executable
    Hidden, System, AllEntries = PathFilter.Hidden, PathFilter.System, PathFilter.AllEntries

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = qt.QComboBox()
        self._edit.editable = True
        self._edit.sizePolicy = qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        self._button = qt.QToolButton()
        self._button.text = "..."
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(self._button)
        self._edit.editTextChanged.connect(self.currentPathChanged)
        self._button.connect("clicked()", self.browse)

    def _setPath(self, path: str) -> None:
        if path != self._edit.currentText:
            self._edit.setEditText(path)

    currentPath = qtProperty("QString", lambda self: self._edit.currentText, _setPath)
    filters = stored("filters", "int", int(PathFilter.Files | PathFilter.Readable))
    nameFilters = stored("nameFilters", "QStringList", ())
    settingKey = stored("settingKey", "QString", "")
    label = stored("label", "QString", "")
    showBrowseButton = qtProperty(
        "bool", lambda self: not self._button.isHidden(), lambda self, value: self._button.setVisible(value)
    )
    showHistoryButton = stored("showHistoryButton", "bool", True)

    def browse(self) -> None:
        if self.filters & PathFilter.Files == 0:
            path = qt.QFileDialog.getExistingDirectory(self, self.label or "Select a folder", self.currentPath)
        elif self.filters & PathFilter.Writable:
            path = qt.QFileDialog.getSaveFileName(self, self.label or "Select a file", self.currentPath, self._names())
        else:
            path = qt.QFileDialog.getOpenFileName(self, self.label or "Open a file", self.currentPath, self._names())
        if path:
            self.currentPath = path

    def addCurrentPathToHistory(self) -> None:
        if self._edit.findText(self.currentPath) < 0:
            self._edit.addItem(self.currentPath)

    def _names(self) -> str:
        return ";;".join(self.nameFilters)


@hosted
class ctkDirectoryButton(qt.QWidget):
    """A button that shows a folder and asks for another."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)

    def __init__(self, *arguments: object) -> None:
        paths = [argument for argument in arguments if isinstance(argument, str)]
        super().__init__(*[argument for argument in arguments if not isinstance(argument, str)])
        self._button = qt.QPushButton()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        self._directory = qt.QDir(paths[0] if paths else ".")
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
