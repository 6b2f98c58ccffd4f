"""The ``qMRML*`` widgets of Slicer that this project uses, over the real scene. The host offers them as ``slicer.qMRML*``."""

from host.qmrml.widget import qMRMLWidget, qSlicerWidget

__all__ = ["qMRMLWidget", "qSlicerWidget"]
