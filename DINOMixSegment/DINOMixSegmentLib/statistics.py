"""Organ volumes in ml, by Slicer's own Segment Statistics module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
import vtk
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode, vtkMRMLTableNode

MODULE = "SegmentStatistics"
PLUGIN = "LabelmapSegmentStatisticsPlugin"
MEASURE = f"{PLUGIN}.volume_cm3"  # 1 cm3 is 1 ml


def hasStatistics() -> bool:
    """Whether Slicer's Segment Statistics module is there."""
    try:
        import SegmentStatistics  # noqa: F401
    except ImportError:
        return False
    return True


def makeVolumeTable(segmentation: vtkMRMLSegmentationNode) -> vtkMRMLTableNode:
    """A new table node: each segment's name, and its volume in ml.

    Raises:
        DinomixError: the module is not there.
    """
    if not hasStatistics():
        raise DinomixError(
            _("The table of volumes is made by Slicer's Segment Statistics module, which is not here."),
            _("Open the segmentation in a Slicer that has it."),
        )
    rows = measure(segmentation)
    names, milliliters = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    names.SetName(_("Organ"))
    milliliters.SetName(_("Volume (ml)"))
    for name, volume in rows:
        names.InsertNextValue(name)
        milliliters.InsertNextValue(volume)
    title = _("Volumes of {name}").format(name=segmentation.GetName())
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", title)
    table.AddColumn(names)
    table.AddColumn(milliliters)
    return table


def measure(segmentation: vtkMRMLSegmentationNode) -> list[tuple[str, float]]:
    """(name, ml) of each segment, hidden ones included, by the Segment Statistics module."""
    import SegmentStatistics

    before = _parameterNodes()
    try:
        logic = SegmentStatistics.SegmentStatisticsLogic()
        # A parameter node of our own: the user's choices in that module's window stay as they are.
        parameters = slicer.mrmlScene.AddNode(logic.createParameterNode())
        logic.setParameterNode(parameters)
        parameters.SetParameter("Segmentation", segmentation.GetID())
        parameters.SetParameter("visibleSegmentsOnly", "False")
        for plugin in logic.plugins:
            name = plugin.__class__.__name__
            parameters.SetParameter(f"{name}.enabled", str(name == PLUGIN))
        logic.computeStatistics()
        statistics = logic.getStatistics()
    finally:
        for node in _parameterNodes():
            if node not in before:
                slicer.mrmlScene.RemoveNode(node)
    segments = segmentation.GetSegmentation()
    return [
        (segments.GetSegment(segment).GetName(), float(statistics.get((segment, MEASURE), 0)))
        for segment in statistics["SegmentIDs"]
    ]


def _parameterNodes() -> list[slicer.vtkMRMLScriptedModuleNode]:
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return [node for node in nodes if node.GetAttribute("ModuleName") == MODULE]
