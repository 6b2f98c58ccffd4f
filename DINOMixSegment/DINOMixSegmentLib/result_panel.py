"""The result: what to look at first, its segments, surfaces in 3D, the table of volumes, and undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix_slicer.scene.surfaces import areSurfacesShown
from dinomix_slicer.scene.unsure import inWords, unsureSegments
from dinomix_slicer.signal import Signal, telling
from dinomix_slicer.window.widgets import signalsBlocked

from .statistics import hasStatistics, makeVolumeTable

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

    from .logic import DINOMixSegmentLogic


class ResultPanel:
    """
    Attributes:
        segmentation: the result that is shown; None without one.

    Signals:
        failed(problem, remedy)
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self.failed = Signal()
        self.segmentation: vtkMRMLSegmentationNode | None = None
        self._ui, self._logic = ui, logic
        ui.show3DButton.connect("toggled(bool)", self._onShow3D)
        ui.undoButton.connect("clicked()", logic.undo)
        ui.volumesButton.connect("clicked()", self._onVolumes)
        self.showSurfaces(0, 0)
        self.show(None)

    def show(self, segmentation: vtkMRMLSegmentationNode | None) -> None:
        """Show this result, or nothing but undo where that is possible."""
        ui, self.segmentation = self._ui, segmentation
        canUndo = self._logic.canUndo()
        ui.resultsCollapsibleButton.visible = segmentation is not None or canUndo
        ui.segmentsTableView.setSegmentationNode(segmentation)
        ui.segmentsTableView.visible = segmentation is not None
        unsure = unsureSegments(segmentation) if segmentation is not None else []
        ui.unsureLabel.visible = bool(unsure)
        ui.unsureLabel.text = _("Look at these first, the model is unsure of them: {organs}.").format(
            organs=inWords(unsure)
        )
        ui.undoButton.enabled = canUndo and self._logic.state == "idle"
        ui.show3DButton.enabled = segmentation is not None
        ui.volumesButton.enabled = segmentation is not None and hasStatistics()
        if hasStatistics():
            ui.volumesButton.toolTip = _("Make a table with the volume of each organ in milliliters.")
        else:
            ui.volumesButton.toolTip = _("This needs Slicer's Segment Statistics module, which is not here.")
        name = segmentation.GetName() if segmentation is not None else ""
        ui.resultsCollapsibleButton.text = _("Result: {name}").format(name=name) if name else _("Result")
        self._showButton()

    def showSurfaces(self, done: int, total: int) -> None:
        """Surfaces are being made: so many of so many."""
        self._ui.surfacesLabel.visible = done < total
        self._ui.surfacesLabel.text = _("Making surfaces: {done} of {total}.").format(done=done, total=total)
        self._showButton()

    def _showButton(self) -> None:
        button = self._ui.show3DButton
        with signalsBlocked(button):
            button.checked = self.segmentation is not None and areSurfacesShown(self.segmentation)

    def _onShow3D(self, isShown: bool) -> None:
        self.segmentation.CreateDefaultDisplayNodes()
        self.segmentation.GetDisplayNode().SetVisibility3D(isShown)
        if isShown:
            self._logic.makeSurfaces(self.segmentation)
        else:
            self._logic.stopSurfaces()

    def _onVolumes(self) -> None:
        with telling(self.failed):
            showTable(makeVolumeTable(self.segmentation))


def resultFor(
    volume: vtkMRMLScalarVolumeNode | None, output: vtkMRMLSegmentationNode | None
) -> vtkMRMLSegmentationNode | None:
    """The segmentation that is written into, else the newest one of this volume; None without any."""
    if output is not None or volume is None:
        return output
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return next((node for node in reversed(nodes) if node.GetNodeReference(role) is volume), None)


def showTable(table: Any) -> None:
    """Show a table node beside the views, as Slicer's own modules do."""
    layout = slicer.app.layoutManager()
    if layout is None:
        return
    layout.setLayout(slicer.modules.tables.logic().GetLayoutWithTable(layout.layout))
    slicer.app.applicationLogic().GetSelectionNode().SetActiveTableID(table.GetID())
    slicer.app.applicationLogic().PropagateTableSelection()
