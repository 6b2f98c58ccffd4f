"""What DINOMix Segment and DINOMix Train share lies beside this file: Slicer puts the folder of a module on Python's path."""

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

from dinomix_slicer.about import CONTRIBUTORS, acknowledgement


class DINOMixEngine(ScriptedLoadableModule):
    """A module without a window, which the other two name as a dependency."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DINOMix Engine")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.hidden = True
        self.parent.contributors = CONTRIBUTORS
        self.parent.helpText = _("The engine and what DINOMix Segment and DINOMix Train share.")
        self.parent.acknowledgementText = acknowledgement()
