"""What tests of DINOMix Train's window share."""

import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import slicer
from DINOMixTrainLib.logic import DINOMixTrainLogic
from segment_window import WindowClient, WindowInstaller
from waiting import processEvents
from window_actions import WindowActions


class TrainWindowTestCase(WindowActions, unittest.TestCase):
    """Opens a window over a worker and an installer that the test plays; ``prepare`` may set ``self.models`` before."""

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.models = []
        self.installer = WindowInstaller()
        self.prepare()
        self.client = WindowClient(self.models)
        self.openWindow()

    def prepare(self):
        """What a test wants to be so before the window opens."""

    def openWindow(self):
        """Open a window; it goes at the end of the test unless the test closes it."""
        # Slicer remembers the window made last as the module's.
        self.windowBefore = getattr(slicer.modules, "DINOMixTrainWidget", None)
        with patch("DINOMixTrainLib.widget.DINOMixTrainLogic", lambda: self.makeLogic()):
            self.panel = slicer.modules.dinomixtrain.createNewWidgetRepresentation()
        self.widget = self.panel.self()
        self.isOpen = True
        self.addCleanup(self.closeWindow)
        self.ui, self.logic = self.widget.ui, self.widget.logic
        self.panel.resize(480, 900)
        self.panel.show()
        self.widget.enter()
        processEvents(20)

    def makeLogic(self):
        return DINOMixTrainLogic(self.client, self.installer)

    def closeWindow(self):
        if not self.isOpen:
            return
        self.isOpen = False
        self.widget.cleanup()
        slicer.modules.DINOMixTrainWidget = self.windowBefore
        if self.windowBefore is None:
            del slicer.modules.DINOMixTrainWidget
        self.panel.hide()
        self.panel.deleteLater()
        processEvents(10)

    @property
    def parameters(self):
        return self.logic.getParameterNode()

    @property
    def ui3(self):
        """The widgets of page 3."""
        return self.widget.pages["run"].ui

    def pointsShown(self):
        """How many steps the curves that page 3 shows have."""
        plots = self.plotsIn(self.ui3.curvesPlotWidget)
        if not plots:
            return 0
        steps = plots[0].GetInput().GetColumnByName("step")
        return len({steps.GetValue(row) for row in range(steps.GetNumberOfTuples())})

    def plotsIn(self, placeholder):
        """What the plot view in a widget draws."""
        chart = placeholder.findChild(slicer.qMRMLPlotView).chart()
        return [chart.GetPlot(n) for n in range(chart.GetNumberOfPlots())]
