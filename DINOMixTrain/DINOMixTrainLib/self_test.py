"""The module's own test, which Slicer runs from its window and from CTest. It needs no network and no model."""

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class DINOMixTrainTest(ScriptedLoadableModuleTest):
    """Checks that the installed module is whole. The thorough tests are in Testing/modules of the repository."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(False)

    def runTest(self) -> None:
        self.setUp()
        self.test_windowOpens()

    def test_windowOpens(self) -> None:
        logic = slicer.util.getModuleLogic("DINOMixTrain")
        self.assertEqual(logic.getParameterNode().preset, "standard")
