"""The module's own test, which Slicer runs from its window and from CTest. It needs no network and no model."""

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .choosing import obviousVolume


class DINOMixSegmentTest(ScriptedLoadableModuleTest):
    """Checks that the installed module is whole. The thorough tests are in Testing/modules of the repository."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)

    def runTest(self) -> None:
        for name in ("test_windowOpens", "test_volumeIsChosen", "test_saysWhatIsMissing"):
            self.setUp()
            getattr(self, name)()

    def test_windowOpens(self) -> None:
        self.assertIsNotNone(slicer.util.getModuleLogic("DINOMixSegment"))

    def test_volumeIsChosen(self) -> None:
        volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5), np.int16))
        self.assertIs(obviousVolume(), volume)

    def test_saysWhatIsMissing(self) -> None:
        logic = slicer.util.getModuleLogic("DINOMixSegment")
        self.assertIn("volume", logic.checkCanApply(logic.getParameterNode()))
