"""``slicer.qMRMLWidget``: a panel that knows the scene and passes it on to its children by a signal."""

from typing import ClassVar

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted


@hosted
class qMRMLWidget(qt.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)
    cppSignals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = checkedScene(scene)
            self.mrmlSceneChanged.emit(scene)


@hosted
class qSlicerWidget(qMRMLWidget):
    """What modules written in C++ call the same."""


def checkedScene(scene):
    """``scene``; TypeError if it is neither a scene nor None."""
    if scene is not None and not (hasattr(scene, "IsA") and scene.IsA("vtkMRMLScene")):
        raise TypeError(f"setMRMLScene() takes a vtkMRMLScene, not {scene!r}")
    return scene
