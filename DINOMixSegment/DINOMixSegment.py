"""DINOMix Segment for 3D Slicer. The work is in DINOMixSegmentLib."""

from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixSegmentLib.parameter_node import DINOMixSegmentParameterNode
from DINOMixSegmentLib.self_test import DINOMixSegmentTest
from DINOMixSegmentLib.widget import DINOMixSegmentWidget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

from dinomix_slicer.about import CONTRIBUTORS, HOMEPAGE, acknowledgement

__all__ = [
    "DINOMixSegment",
    "DINOMixSegmentLogic",
    "DINOMixSegmentParameterNode",
    "DINOMixSegmentTest",
    "DINOMixSegmentWidget",
]


class DINOMixSegment(ScriptedLoadableModule):
    """What Slicer shows of the module before its window is opened."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DINOMix Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = [
            "DINOMixEngine", "Segmentations", "Sequences", "SubjectHierarchy", "Tables", "Terminologies", "Volumes"
        ]  # fmt: skip
        self.parent.contributors = CONTRIBUTORS
        self.parent.helpText = _(
            "Finds organs in a CT or an MR volume with a model, in one click. Choose a volume and a model, then Apply. "
            'See the <a href="{url}">tutorial and documentation</a>. '
            "For research; this is not a medical device."
        ).format(url=HOMEPAGE)
        self.parent.acknowledgementText = acknowledgement()
