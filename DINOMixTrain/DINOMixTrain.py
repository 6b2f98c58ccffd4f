"""DINOMix Train for 3D Slicer. The work is in DINOMixTrainLib."""

import sys
from pathlib import Path

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

# In the extension's package everything lies in one folder; in a source checkout the engine lies beside this module's folder.
ENGINE = Path(__file__).resolve().parent.parent / "DINOMixEngine"
if ENGINE.is_dir() and str(ENGINE) not in sys.path:
    sys.path.append(str(ENGINE))

from DINOMixTrainLib.logic import DINOMixTrainLogic  # noqa: E402
from DINOMixTrainLib.parameter_node import DINOMixTrainParameterNode  # noqa: E402
from DINOMixTrainLib.self_test import DINOMixTrainTest  # noqa: E402
from DINOMixTrainLib.widget import DINOMixTrainWidget  # noqa: E402

__all__ = [
    "DINOMixTrain",
    "DINOMixTrainLogic",
    "DINOMixTrainParameterNode",
    "DINOMixTrainTest",
    "DINOMixTrainWidget",
]

HOMEPAGE = "https://github.com/DINOMix/SlicerDINOMix"


class DINOMixTrain(ScriptedLoadableModule):
    """What Slicer shows of the module before its window is opened."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DINOMix Train")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Plots", "Segmentations", "SubjectHierarchy", "Tables", "Volumes"]
        self.parent.contributors = ["The DINOMix developers"]
        self.parent.helpText = _(
            "Adapts a segmentation model to your own scans, from a few labeled and many unlabeled volumes. Check the cases, "
            'choose how to train, and watch it run. See the <a href="{url}">tutorial and documentation</a>. '
            "For research; this is not a medical device."
        ).format(url=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "The models are trained by DINO-Mix. Please cite: Liu and Sun, 2026, "
            '<a href="https://arxiv.org/abs/2602.07819">arXiv:2602.07819</a>.'
        )
