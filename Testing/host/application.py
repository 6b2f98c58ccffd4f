"""``slicer.app``: the part of Slicer's application object that scripts use, without a main window."""

import os
import platform
import sys
from pathlib import Path

import ctk
import qt
import slicer
import vtk

from host.emitter import Emitter
from host.file_types import FileTypes
from host.module_manager import ModuleManager
from host.rendering import LayoutManager

MAJOR_VERSION = 5
MINOR_VERSION = 12
REVISION = "34000"


class CommandOptions:
    """The switches of the command line; tests may set them."""

    def __init__(self) -> None:
        self.testingEnabled = True
        self.noMainWindow = False
        self.noSplash = True
        self.ignoreSlicerRC = True


class Application(Emitter):
    """What ``slicer.app`` answers. Attributes that are properties in Slicer are attributes here, the others methods.

    Nothing but the properties that Slicer lets scripts write can be set, as in Slicer.
    """

    WRITABLE = ("temporaryPath", "cachePath", "defaultScenePath", "extensionsInstallPath")

    signals = (
        "startupCompleted()",
        "aboutToQuit()",
        "lastWindowClosed()",
        "mrmlSceneChanged(vtkMRMLScene*)",
        "focusObjectChanged(QObject*)",
        "paletteChanged(QPalette)",
    )

    def __init__(self, scene: "slicer.vtkMRMLScene", applicationLogic: "slicer.vtkSlicerApplicationLogic", home: Path):
        super().__init__()
        self._scene = scene
        self._applicationLogic = applicationLogic
        self._moduleManager = ModuleManager()
        self._fileTypes = FileTypes(applicationLogic)
        self._layoutManager = LayoutManager(scene, applicationLogic)
        self._commandOptions = CommandOptions()
        self._renderPauses = 0
        self.restarts: list[list[str]] = []

        self.applicationName = "Slicer"
        self.mainApplicationName = "Slicer"
        self.mainApplicationDisplayName = "3D Slicer"
        self.majorVersion = self.mainApplicationMajorVersion = MAJOR_VERSION
        self.minorVersion = self.mainApplicationMinorVersion = MINOR_VERSION
        self.revision = self.mainApplicationRevision = self.repositoryRevision = REVISION
        self.applicationVersion = f"{MAJOR_VERSION}.{MINOR_VERSION}.0"
        self.releaseType = "Stable"
        self.isInstalled = True
        self.os = {"linux": "linux", "darwin": "macosx", "win32": "win"}[sys.platform]
        self.arch = "amd64" if platform.machine().lower() in ("x86_64", "amd64") else platform.machine().lower()
        self.platform = f"{self.os}-{self.arch}"
        self.applicationLocaleName = "en_US"

        self.slicerHome = str(home)
        self.slicerSharePath = f"share/Slicer-{MAJOR_VERSION}.{MINOR_VERSION}"
        self.temporaryPath = str(existingFolder(home / "temporary"))
        self.cachePath = str(existingFolder(home / "cache"))
        self.defaultScenePath = str(existingFolder(home / "scenes"))
        self.extensionsInstallPath = str(existingFolder(home / f"Extensions-{REVISION}"))
        self.startupWorkingPath = str(Path.cwd())
        self.launcherExecutableFilePath = ""
        self.launcherSettingsFilePath = ""
        self.slicerUserSettingsFilePath = str(home / "NA-MIC" / "Slicer.ini")
        self.slicerRevisionUserSettingsFilePath = str(home / "NA-MIC" / f"Slicer-{REVISION}.ini")
        self._complete = True

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "_complete", False) and name not in self.WRITABLE and name[0] != "_":
            raise AttributeError(f"slicer.app has no property {name!r} that can be set")
        super().__setattr__(name, value)

    # The scene and the logics

    def mrmlScene(self) -> "slicer.vtkMRMLScene":
        return self._scene

    def applicationLogic(self) -> "slicer.vtkSlicerApplicationLogic":
        return self._applicationLogic

    def moduleLogic(self, moduleName: str) -> "slicer.vtkMRMLAbstractLogic":
        return self._applicationLogic.GetModuleLogic(moduleName)

    def moduleManager(self) -> ModuleManager:
        return self._moduleManager

    def coreIOManager(self) -> FileTypes:
        return self._fileTypes

    ioManager = coreIOManager

    # The event loop and the windows

    def thread(self):
        """The main thread."""
        return qt.QApplication.instance().thread()

    def processEvents(self, *arguments: object) -> None:
        qt.QApplication.processEvents(*arguments)

    def topLevelWidgets(self) -> list:
        return qt.QApplication.topLevelWidgets()

    def activeWindow(self):
        return qt.QApplication.activeWindow()

    def activeModalWidget(self):
        return qt.QApplication.activeModalWidget()

    def layoutManager(self) -> LayoutManager | None:
        """The views, drawn off-screen; None when Slicer was started without a main window, as in Slicer."""
        return None if self._commandOptions.noMainWindow else self._layoutManager

    def palette(self):
        return qt.QApplication.palette()

    def style(self):
        return qt.QApplication.style()

    def clipboard(self):
        return qt.QApplication.clipboard()

    def setOverrideCursor(self, cursor) -> None:
        qt.QApplication.setOverrideCursor(qt.QCursor(cursor))

    def restoreOverrideCursor(self) -> None:
        qt.QApplication.restoreOverrideCursor()

    def pauseRender(self) -> None:
        self._renderPauses += 1
        self._applicationLogic.PauseRender()

    def resumeRender(self) -> None:
        if self._renderPauses == 0:
            raise RuntimeError("resumeRender() without pauseRender()")
        self._renderPauses -= 1
        self._applicationLogic.ResumeRender()

    # Settings and how it was started

    def userSettings(self):
        return qt.QSettings(self.slicerUserSettingsFilePath, qt.QSettings.IniFormat)

    settings = userSettings

    def revisionUserSettings(self):
        return qt.QSettings(self.slicerRevisionUserSettingsFilePath, qt.QSettings.IniFormat)

    def commandOptions(self) -> CommandOptions:
        return self._commandOptions

    def testingEnabled(self) -> bool:
        return self._commandOptions.testingEnabled

    def startupEnvironment(self):
        return qt.QProcessEnvironment.systemEnvironment()

    environment = startupEnvironment

    def pythonConsole(self) -> None:
        """There is no Python console."""

    def applicationPid(self) -> int:
        return os.getpid()

    def translate(self, context: str, text: str) -> str:
        if not isinstance(context, str) or not isinstance(text, str):
            raise TypeError(f"translate() takes two texts, not {context!r} and {text!r}")
        return text

    def confirmRestart(self, reason: str = "") -> None:
        """Asks, and restarts where the user agrees or has once said not to be asked again; of unsaved data it says nothing."""
        box = ctk.ctkMessageBox()
        box.text = reason or "Are you sure you want to restart?"
        box.icon = qt.QMessageBox.Question
        box.standardButtons = qt.QMessageBox.Ok | qt.QMessageBox.Cancel
        box.dontShowAgainSettingsKey = "MainWindow/DontConfirmRestart"
        if box.exec_() == qt.QMessageBox.Ok:
            self.restart()

    def restart(self) -> None:
        """Notes what data a restart would lose, instead of restarting. As in Slicer nobody is asked and no window closes."""
        nodes = vtk.vtkCollection()
        self._scene.GetStorableNodesModifiedSinceRead(nodes)
        self.restarts.append([nodes.GetItemAsObject(n).GetName() for n in range(nodes.GetNumberOfItems())])


def completeStartup() -> None:
    """Say once to each who waits for it that the application is up."""
    waiting = list(slicer.app._slots["startupCompleted()"])
    slicer.app._slots["startupCompleted()"].clear()
    for slot in waiting:
        slot()


def startDataManagers(applicationLogic: "slicer.vtkSlicerApplicationLogic", home: Path) -> list:
    """Give the scene what it needs to open an ``.mrb`` file. The logics returned must be kept."""
    scene = applicationLogic.GetMRMLScene()
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLApplicationLogic(applicationLogic)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(existingFolder(home / "cache")))
    remote.SetMRMLScene(scene)
    data = slicer.vtkDataIOManagerLogic()
    data.SetMRMLApplicationLogic(applicationLogic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    data.SetMRMLScene(scene)
    scene.SetDataIOManager(remote.GetDataIOManager())
    scene.SetCacheManager(remote.GetCacheManager())
    return [remote, data]


def existingFolder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
