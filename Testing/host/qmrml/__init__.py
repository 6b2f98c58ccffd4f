"""The ``qMRML*`` widgets of Slicer that this project uses, over the real scene. The host offers them as ``slicer.qMRML*``."""

from host.qmrml.checkable_node_combo_box import qMRMLCheckableNodeComboBox
from host.qmrml.node_combo_box import qMRMLNodeComboBox
from host.qmrml.numbers import qMRMLRangeWidget, qMRMLSliderWidget, qMRMLSpinBox
from host.qmrml.plots import qMRMLPlotView
from host.qmrml.segments import qMRMLSegmentationShow3DButton, qMRMLSegmentsTableView
from host.qmrml.subject_hierarchy import qMRMLSubjectHierarchyComboBox, qMRMLSubjectHierarchyTreeView
from host.qmrml.widget import qMRMLWidget, qSlicerWidget

__all__ = [
    "qMRMLCheckableNodeComboBox",
    "qMRMLNodeComboBox",
    "qMRMLPlotView",
    "qMRMLRangeWidget",
    "qMRMLSegmentationShow3DButton",
    "qMRMLSegmentsTableView",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qMRMLSubjectHierarchyComboBox",
    "qMRMLSubjectHierarchyTreeView",
    "qMRMLWidget",
    "qSlicerWidget",
]
