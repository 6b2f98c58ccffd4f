"""``slicer.modules``: Slicer's own modules, each with its real C++ logic and no window."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import slicer
import vtk

# Slicer's name of a module -> the class of its logic, in an order in which each finds what it needs of the others.
LOGIC_CLASSES = {
    "Colors": "vtkSlicerColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
}

TERMINOLOGIES = (
    "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy",
    "SegmentationCategoryTypeModifier-DICOM-Master",
)
REGION_CONTEXTS = ("AnatomicRegionAndModifier-DICOM-Master",)


class CoreModule:
    """What ``slicer.modules.volumes`` is: a name and a logic. It has no window in the host, and says so."""

    def __init__(self, name: str, logic: "slicer.vtkSlicerModuleLogic") -> None:
        self.name = name
        self.title = name
        self.hidden = False
        self._logic = logic

    def logic(self) -> "slicer.vtkSlicerModuleLogic":
        return self._logic

    def widgetRepresentation(self) -> None:
        raise NotImplementedError(f"the test host has no window for Slicer's own module {self.name}")

    createNewWidgetRepresentation = widgetRepresentation


def startCoreModules(applicationLogic: "slicer.vtkSlicerApplicationLogic") -> list[CoreModule]:
    """Make every logic of ``LOGIC_CLASSES`` over the application's scene."""
    scene = applicationLogic.GetMRMLScene()
    modules = []
    with withoutMissingFileMessages():
        for name, className in LOGIC_CLASSES.items():
            logic = getattr(slicer, className)()
            logic.SetMRMLApplicationLogic(applicationLogic)
            applicationLogic.SetModuleLogic(name, logic)
            logic.SetMRMLScene(scene)
            modules.append(CoreModule(name, logic))
    return modules


def loadTerminologies(logic: "slicer.vtkSlicerTerminologiesModuleLogic", folder: Path) -> None:
    """Load Slicer's own terminologies from the source folder of its module, under the names that Slicer gives them."""
    for name in TERMINOLOGIES:
        if not logic.LoadTerminologyFromFile(str(folder / f"{name}.json")):
            raise RuntimeError(f"Slicer's terminology {name} cannot be read from {folder}")
    for name in REGION_CONTEXTS:
        if not logic.LoadRegionContextFromFile(str(folder / f"{name}.json")):
            raise RuntimeError(f"Slicer's region context {name} cannot be read from {folder}")


@contextlib.contextmanager
def withoutMissingFileMessages() -> Iterator[None]:
    """Keep the logics quiet about color and terminology files, which the wheel does not carry."""
    shown = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.SetGlobalWarningDisplay(0)
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(shown)
