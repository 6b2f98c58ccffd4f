"""DINOMix Train for 3D Slicer. The work is in DINOMixTrainLib."""

import slicer
from DINOMixTrainLib.logic import DINOMixTrainLogic
from DINOMixTrainLib.parameter_node import DINOMixTrainParameterNode
from DINOMixTrainLib.sample_data import registerSampleData
from DINOMixTrainLib.self_test import DINOMixTrainTest
from DINOMixTrainLib.widget import DINOMixTrainWidget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

from dinomix_slicer.about import CONTRIBUTORS, HOMEPAGE, acknowledgement

__all__ = [
    "DINOMixTrain",
    "DINOMixTrainLogic",
    "DINOMixTrainParameterNode",
    "DINOMixTrainTest",
    "DINOMixTrainWidget",
]


class DINOMixTrain(ScriptedLoadableModule):
    """What Slicer shows of the module before its window is opened."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DINOMix Train")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["DINOMixEngine", "Plots", "Segmentations", "SubjectHierarchy", "Tables", "Volumes"]
        self.parent.contributors = CONTRIBUTORS
        self.parent.helpText = _(
            "Adapts a segmentation model to your own scans, from a few labeled and many unlabeled volumes. Check the cases, "
            'choose how to train, and watch it run. See the <a href="{url}">tutorial and documentation</a>. '
            "For research; this is not a medical device."
        ).format(url=HOMEPAGE)
        self.parent.acknowledgementText = acknowledgement()
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self) -> None:
        """Offer data to try the module with; Slicer's Sample Data module is there by now."""
        registerSampleData(self.resourcePath("Icons/PhantomAbdomens.png"))
