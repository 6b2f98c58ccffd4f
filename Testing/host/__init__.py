"""Runs Slicer's modules without the Slicer application: ``import host; host.start()``.

Real, from the slicer-core package: the MRML scene and all nodes, the C++ logics of Slicer's own modules, the segmentation
library, storage nodes, displayable managers, ``slicer.util``, and VTK.

Stood in for, each in the file named, and each stricter than Slicer where the two could differ:

- ``slicer.app`` (application.py): no main window, no Python console, testing mode on; settings and temporary files in a
  folder that is removed at the end; ``restart()`` is not done, but what it would lose is noted. ``slicer.app.moduleManager()``
  (module_manager.py), ``slicer.app.coreIOManager()`` (file_types.py: volumes, segmentations, sequences, transforms and scenes
  only; an unknown type or property is an error), ``slicer.app.layoutManager()`` (rendering.py: views that VTK draws off-screen).
- ``slicer.modules`` (modules.py): Slicer's own modules with their logics and without their windows. Slicer's terminology and
  color files are not in the package; they are loaded only from a source checkout.
- Putting nodes into the subject hierarchy (subject_hierarchy.py), which Slicer does in Qt classes.
- Loading, entering, leaving and reloading a scripted module, ``slicer.qSlicerScriptedLoadableModule`` and its widget
  (module_loader.py).
- ``slicer.ScriptedLoadableModule`` (scripted_module.py), ``slicer.parameterNodeWrapper`` (parameter_node.py), ``slicer.i18n``
  (i18n.py: nothing is translated), ``slicer.packaging`` (packaging.py: looks at what is installed), ``slicer.testing``
  (testing.py). With the environment variable ``SLICER_SOURCE`` naming a checkout of Slicer's source, Slicer's own files take
  the place of these five, and its Segment Statistics module can be imported (slicer_source.py).
- Changes that pip would make, which are only written down (pip_record.py), and ``PythonSlicer``, a launcher of the Python that
  runs the tests, with Slicer's packages as they are outside the application and the PyTorch extension's module (python_slicer/).
- ``qt`` (qt/), ``ctk`` (ctk/), the ``qMRML*`` widgets (qmrml/), and reading ``.ui`` files (ui_loader.py), over PySide6 drawn
  off-screen.

What VTK and MRML report as errors (vtk_errors.py), errors in slots and what Qt warns of (qt_errors.py) is written down too;
Slicer would only log it.
"""

import atexit
import importlib
import logging
import os
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

_started = False
_kept: list[object] = []  # what Qt and VTK refer to without owning it


def start() -> None:
    """Make ``slicer``, ``qt``, ``ctk`` and their parts importable and start the application. Later calls do nothing."""
    global _started
    if _started:
        return
    _started = True
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    home = Path(tempfile.mkdtemp(prefix="slicer-host-")).resolve()
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    _addPythonSlicer(home)
    _startQt(home)
    _startSlicer(home)


def processEvents(milliseconds: float = 0) -> None:
    """Let Qt's event loop run for that long, and on a busy computer longer: at least once around for every 2 ms.

    One round may do less than what is due, since Qt puts timers behind other events, and what it does may be followed by more.
    """
    import slicer

    end = time.monotonic() + milliseconds / 1000
    rounds = milliseconds // 2
    slicer.app.processEvents()
    while time.monotonic() < end or rounds > 0:
        slicer.app.processEvents()
        time.sleep(0.001)
        rounds -= 1


def waitUntil(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Let Qt's event loop run until ``condition()`` is true; AssertionError after that many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds} s: {getattr(condition, '__qualname__', condition)}")
        processEvents(5)


def loadModule(name: str):
    """Load ``NAME/NAME.py`` of this repository as Slicer does at its start; returns ``slicer.modules.<name>``."""
    import slicer

    loaded = slicer.app.moduleManager().module(name)
    if loaded is not None:
        return loaded
    from host import application, module_loader

    module_loader.registerFolders(REPOSITORY)
    module = module_loader.loadScriptedModule(REPOSITORY / name / f"{name}.py")
    application.completeStartup()
    return module


def loadModules() -> None:
    """Load every scripted module of this repository. As in Slicer, one that cannot be loaded is only logged, and is not there."""
    for path in sorted(REPOSITORY.glob("*/*.py")):
        if path.stem == path.parent.name:
            try:
                loadModule(path.stem)
            except Exception:
                logging.exception(f"the module {path.stem} cannot be loaded")


def emptyScene() -> None:
    """Remove every node but the singletons, as closing the scene does."""
    import slicer

    slicer.mrmlScene.Clear(False)
    processEvents()


def reset() -> None:
    """An empty scene, no settings, testing mode, nothing remembered from an earlier test."""
    import qt
    import slicer

    from host import pip_record, qt_errors, vtk_errors
    from host.qt import dialogs

    emptyScene()
    # Windows that were given up; Qt itself would keep them until its event loop ends.
    qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
    pip_record.reset()
    vtk_errors.messages.clear()
    qt_errors.messages.clear()
    dialogs.reset()
    for settings in (qt.QSettings(), slicer.app.userSettings(), slicer.app.revisionUserSettings()):
        settings.clear()
        settings.sync()
    slicer.app.commandOptions().__init__()
    slicer.app.restarts.clear()


def _startQt(home: Path) -> None:
    """Start Qt with settings of its own in ``home``, and make ``qt`` and ``ctk`` importable."""
    # First, because it says how PySide6 is to be imported.
    sys.modules["qt"] = importlib.import_module("host.qt")
    from PySide6 import QtCore, QtWidgets

    from host import qt_errors
    from host.qt import appearance

    qt_errors.watch()
    QtCore.QCoreApplication.setOrganizationName("NA-MIC")
    QtCore.QCoreApplication.setApplicationName("Slicer")
    ini = QtCore.QSettings.Format.IniFormat
    QtCore.QSettings.setDefaultFormat(ini)
    QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.UserScope, str(home))
    QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.SystemScope, str(home / "system"))
    if QtWidgets.QApplication.instance() is None:
        _kept.append(QtWidgets.QApplication(["slicer-host"]))
    appearance.apply(QtWidgets.QApplication.instance())
    sys.modules["ctk"] = importlib.import_module("host.ctk")


def _startSlicer(home: Path) -> None:
    """Make the scene, the application and Slicer's own modules."""
    import slicer

    _removeShortcuts(slicer)
    slicer.modules = sys.modules["slicer.modules"] = types.ModuleType("slicer.modules")
    slicer.moduleNames = sys.modules["slicer.moduleNames"] = types.ModuleType("slicer.moduleNames")
    slicer.selfTests = {}

    from host import application, module_manager, modules, pip_record, slicer_source, subject_hierarchy, vtk_errors

    scene = slicer.vtkMRMLScene()
    applicationLogic = slicer.vtkSlicerApplicationLogic()
    applicationLogic.SetTemporaryPath(str(home))
    applicationLogic.SetMRMLScene(scene)
    _kept.extend(application.startDataManagers(applicationLogic, home))
    slicer.mrmlScene = scene
    slicer.app = application.Application(scene, applicationLogic, home)
    for module in modules.startCoreModules(applicationLogic):
        module_manager.addModule(module)
    _kept.append(subject_hierarchy.SubjectHierarchyKeeper(scene))
    if slicer_source.terminologyFolder():
        modules.loadTerminologies(slicer.modules.terminologies.logic(), slicer_source.terminologyFolder())
    pip_record.install()
    vtk_errors.watch()
    _addWidgetClasses(slicer)
    slicer_source.install()


def _addWidgetClasses(slicer: types.ModuleType) -> None:
    """Offer the widgets of ``host.qmrml`` and the scripted module's two classes as ``slicer.<class>``."""
    qmrml = importlib.import_module("host.qmrml")
    for name in dir(qmrml):
        if name.startswith(("qMRML", "qSlicer")):
            setattr(slicer, name, getattr(qmrml, name))

    from host import module_loader

    slicer.qSlicerScriptedLoadableModule = module_loader.qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = module_loader.qSlicerScriptedLoadableModuleWidget


def _addPythonSlicer(home: Path) -> None:
    """Put ``PythonSlicer`` on the path: like Slicer's it is a launcher, and ending it does not end the Python that it started.

    That Python finds Slicer's packages as they are outside the application (python_slicer/).
    """
    os.environ["SLICER_HOST_PIP_RECORD"] = str(home / "pip.jsonl")
    if os.name == "nt":
        return
    launcher = home / "bin" / "PythonSlicer"
    launcher.parent.mkdir()
    packages = Path(__file__).parent / "python_slicer"
    paths = f'PYTHONPATH="{packages}${{PYTHONPATH:+:$PYTHONPATH}}"'
    launcher.write_text(f'#!/bin/sh\n{paths} "{sys.executable}" "$@"\nexit $?\n')
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"


def _removeShortcuts(slicer: types.ModuleType) -> None:
    """Undo that the package offers ``slicer.util``'s functions as ``slicer.loadVolume``, which Slicer does not know."""
    for name, value in list(vars(slicer).items()):
        if getattr(slicer.util, name, None) is value and getattr(value, "__module__", "") == "slicer.util":
            delattr(slicer, name)
