"""``slicer.qMRMLWidget``: a panel that knows the scene and passes it on to its children by a signal."""

from typing import ClassVar

import qt
from PySide6 import QtCore

from host.qt.hosted import hosted


class _ScenePanel(qt.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)
    cppSignals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = checkedScene(scene)
            self.mrmlSceneChanged.emit(scene)


@hosted
class qMRMLWidget(_ScenePanel):
    def mrmlScene(self):
        return self._scene


@hosted
class qSlicerWidget(_ScenePanel):
    """The base of every module's panel; Python cannot ask it for the scene."""


def checkedScene(scene):
    """``scene``; TypeError if it is neither a scene nor None."""
    if scene is not None and not (hasattr(scene, "IsA") and scene.IsA("vtkMRMLScene")):
        raise TypeError(f"setMRMLScene() takes a vtkMRMLScene, not {scene!r}")
    return scene
