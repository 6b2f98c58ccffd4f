"""DINOMix Segment for 3D Slicer. The work is in DINOMixSegmentLib."""

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

# In the extension's package everything lies in one folder; in a source checkout the engine lies beside this module's folder.
ENGINE = Path(__file__).resolve().parent.parent / "DINOMixEngine"
if ENGINE.is_dir() and str(ENGINE) not in sys.path:
    sys.path.append(str(ENGINE))

from DINOMixSegmentLib.logic import DINOMixSegmentLogic  # noqa: E402
from DINOMixSegmentLib.parameter_node import DINOMixSegmentParameterNode  # noqa: E402
from DINOMixSegmentLib.sample_data import registerSampleData  # noqa: E402
from DINOMixSegmentLib.self_test import DINOMixSegmentTest  # noqa: E402
from DINOMixSegmentLib.widget import DINOMixSegmentWidget  # noqa: E402

__all__ = [
    "DINOMixSegment",
    "DINOMixSegmentLogic",
    "DINOMixSegmentParameterNode",
    "DINOMixSegmentTest",
    "DINOMixSegmentWidget",
]

HOMEPAGE = "https://github.com/DINOMix/SlicerDINOMix"


class DINOMixSegment(ScriptedLoadableModule):
    """What Slicer shows of the module before its window is opened."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DINOMix Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Sequences", "SubjectHierarchy", "Terminologies", "Volumes"]
        self.parent.contributors = ["The DINOMix developers"]
        self.parent.helpText = _(
            "Finds organs in a CT or an MR volume with a model, in one click. Choose a volume and a model, then Apply. "
            'See the <a href="{url}">tutorial and documentation</a>. '
            "For research; this is not a medical device."
        ).format(url=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "The models are trained by DINO-Mix. Please cite: Liu and Sun, 2026, "
            '<a href="https://arxiv.org/abs/2602.07819">arXiv:2602.07819</a>.'
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
