"""The views of the scene, drawn off-screen by VTK and Slicer's own displayable managers: three slices and one 3D view.

``slicer.app.layoutManager()`` is a ``LayoutManager``; ``pictureOfScene`` is all four views in one picture, as in Slicer's
"four-up" layout. A picture is an array (height, width, 3) of uint8, top row first. The views are there from the start, because
in Slicer they follow every change of the scene; they are drawn only for a picture.
"""

from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from host.offscreen import offscreenWindow, pictureOf

SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
GAP = 4  # pixels between the views of a picture of the scene
GAP_COLOR = 51


class RenderedView:
    """One off-screen window and what fills it from one view node."""

    def __init__(self, viewNode, factory, background: "vtk.vtkActor2D | None" = None) -> None:
        self.window = offscreenWindow()
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        # Before the managers' own actors, which are blended over it.
        if background is not None:
            self.renderer.AddActor(background)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self._managers = factory.InstantiateDisplayableManagers(self.renderer)
        self._managers.SetMRMLDisplayableNode(viewNode)

    def picture(self, width: int, height: int) -> np.ndarray:
        return pictureOf(self.window, width, height)


class SliceWidget:
    """What ``layoutManager().sliceWidget("Red")`` answers; it is its own ``sliceView()`` and ``sliceController()``."""

    def __init__(self, logic: "slicer.vtkMRMLSliceLogic", factory) -> None:
        self._logic = logic
        self._background = backgroundActor()
        self._view = RenderedView(logic.GetSliceNode(), factory, self._background)

    @property
    def sliceViewName(self) -> str:
        return self.mrmlSliceNode().GetLayoutName()

    def sliceLogic(self) -> "slicer.vtkMRMLSliceLogic":
        return self._logic

    def mrmlSliceNode(self) -> "slicer.vtkMRMLSliceNode":
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> "slicer.vtkMRMLSliceCompositeNode":
        return self._logic.GetSliceCompositeNode()

    def sliceView(self) -> "SliceWidget":
        return self

    def sliceController(self) -> "SliceWidget":
        return self

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def scheduleRender(self) -> None:
        """Nothing is on a screen."""

    forceRender = scheduleRender

    def _picture(self, width: int, height: int) -> np.ndarray:
        """The slice as it is, in a view of that size."""
        if tuple(self.mrmlSliceNode().GetDimensions()[:2]) != (width, height):
            self._logic.ResizeSliceNode(width, height)
        volumes = self._logic.GetImageDataConnection()
        self._background.SetVisibility(volumes is not None)
        self._background.GetMapper().SetInputConnection(volumes)
        return self._view.picture(width, height)


def backgroundActor() -> "vtk.vtkActor2D":
    """Draws the volumes of a slice, which no displayable manager does."""
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    return actor


class ThreeDWidget:
    """What ``layoutManager().threeDWidget(0)`` answers; it is its own ``threeDView()`` and ``threeDController()``."""

    def __init__(self, viewNode: "slicer.vtkMRMLViewNode", factory) -> None:
        self._viewNode = viewNode
        self._view = RenderedView(viewNode, factory)

    def mrmlViewNode(self) -> "slicer.vtkMRMLViewNode":
        return self._viewNode

    def threeDView(self) -> "ThreeDWidget":
        return self

    def threeDController(self) -> "ThreeDWidget":
        return self

    def resetFocalPoint(self) -> None:
        """Look at the middle of what is visible, from where all of it is seen."""
        bounds = self._visibleBounds()
        if bounds is not None:
            self._view.renderer.ResetCamera(bounds)

    def rotateToViewAxis(self, axis: int) -> None:
        """Look along an axis, by Slicer's numbers: 0 left, 1 right, 2 posterior, 3 anterior, 4 inferior, 5 superior."""
        logic = slicer.modules.cameras.logic()
        camera = logic.GetViewActiveCameraNode(self._viewNode)
        directions = ("Left", "Right", "Posterior", "Anterior", "Inferior", "Superior")
        camera.RotateTo(getattr(camera, directions[axis]))

    def scheduleRender(self) -> None:
        """Nothing is on a screen."""

    forceRender = scheduleRender

    def _picture(self, width: int, height: int) -> np.ndarray:
        """The view as it is, in that size."""
        return self._view.picture(width, height)

    def _visibleBounds(self) -> "tuple[float, ...] | None":
        """World bounds in mm of every segmentation and model that is shown in 3D, None if there is none."""
        box = vtk.vtkBoundingBox()
        for className in ("vtkMRMLSegmentationNode", "vtkMRMLModelNode"):
            for node in slicer.util.getNodesByClass(className):
                display = node.GetDisplayNode()
                if display is None or not display.GetVisibility() or not display.GetVisibility3D():
                    continue
                bounds = [0.0] * 6
                node.GetRASBounds(bounds)
                if vtk.vtkMath.AreBoundsInitialized(bounds):
                    box.AddBounds(bounds)
        if not box.IsValid():
            return None
        bounds = [0.0] * 6
        box.GetBounds(bounds)
        return tuple(bounds)


class LayoutManager:
    """Slicer's views without its windows."""

    def __init__(self, scene: "slicer.vtkMRMLScene", applicationLogic: "slicer.vtkSlicerApplicationLogic") -> None:
        self._layoutLogic = slicer.vtkMRMLLayoutLogic()
        self._layoutLogic.SetMRMLApplicationLogic(applicationLogic)
        self._layoutLogic.SetMRMLScene(scene)
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._sliceLogics = vtk.vtkCollection()
        applicationLogic.SetSliceLogics(self._sliceLogics)
        sliceFactory = makeFactory(slicer.vtkMRMLSliceViewDisplayableManagerFactory, SLICE_MANAGERS, applicationLogic)
        self._sliceWidgets: dict[str, SliceWidget] = {}
        for name in ("Red", "Green", "Yellow"):
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(applicationLogic)
            logic.SetMRMLScene(scene)
            logic.SetSliceNode(scene.GetNodeByID(f"vtkMRMLSliceNode{name}"))
            self._sliceLogics.AddItem(logic)
            self._sliceWidgets[name] = SliceWidget(logic, sliceFactory)
        threeDFactory = makeFactory(
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory, THREE_D_MANAGERS, applicationLogic
        )
        self._threeDWidget = ThreeDWidget(scene.GetFirstNodeByClass("vtkMRMLViewNode"), threeDFactory)
        self.threeDViewCount = 1
        self.plotViewCount = 0
        self.tableViewCount = 0

    @property
    def layout(self) -> int:
        return self._layoutLogic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._layoutLogic.GetLayoutNode().SetViewArrangement(layout)

    def layoutLogic(self) -> "slicer.vtkMRMLLayoutLogic":
        return self._layoutLogic

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._sliceWidgets)

    def sliceWidget(self, name: str) -> SliceWidget:
        return self._sliceWidgets[name]

    def mrmlSliceLogics(self) -> "vtk.vtkCollection":
        return self._sliceLogics

    def threeDWidget(self, index: int) -> ThreeDWidget:
        return (self._threeDWidget,)[index]

    def resetSliceViews(self) -> None:
        for widget in self._sliceWidgets.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        self._threeDWidget.resetFocalPoint()


def makeFactory(factoryClass: type, managers: tuple[str, ...], applicationLogic):
    """A factory of the displayable managers named; Slicer's modules register them in one that is common to all views."""
    factory = factoryClass()
    factory.SetMRMLApplicationLogic(applicationLogic)
    for name in managers:
        factory.RegisterDisplayableManager(name)
    return factory


def pictureOfScene(width: int, height: int, fit: bool = True) -> np.ndarray:
    """Axial and 3D view above, coronal and sagittal below; with ``fit`` each shows all there is."""
    manager = slicer.app.layoutManager()
    columns = (width - GAP) // 2, width - GAP - (width - GAP) // 2
    rows = (height - GAP) // 2, height - GAP - (height - GAP) // 2
    views = (
        (manager.sliceWidget("Red"), 0, 0),
        (manager.threeDWidget(0), 0, 1),
        (manager.sliceWidget("Green"), 1, 0),
        (manager.sliceWidget("Yellow"), 1, 1),
    )
    result = np.full((height, width, 3), GAP_COLOR, np.uint8)
    for view, row, column in views:
        if fit:
            fitView(view, columns[column], rows[row])
        top, left = row * (rows[0] + GAP), column * (columns[0] + GAP)
        result[top : top + rows[row], left : left + columns[column]] = view._picture(columns[column], rows[row])
    return result


def fitView(view: SliceWidget | ThreeDWidget, width: int, height: int) -> None:
    """Show all there is in a view of that size."""
    if isinstance(view, SliceWidget):
        view.sliceLogic().ResizeSliceNode(width, height)
        view.fitSliceToBackground()
    else:
        view.resetFocalPoint()


def savePicture(picture: np.ndarray, path: str | Path) -> None:
    """Write a picture as PNG."""
    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(picture[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
