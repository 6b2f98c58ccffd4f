"""What tests of DINOMix Train's window share."""

import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import qt
import slicer
from DINOMixTrainLib.logic import DINOMixTrainLogic
from segment_window import WindowInstaller
from waiting import processEvents
from window_actions import WindowActions

from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.signal import Signal

CPU = {"name": "cpu", "title": "CPU", "memory": 8 * 2**30}


class ListingProcess:
    """What the engine tells when it is asked for models or devices."""

    def __init__(self, told):
        self.event, self.finished, self.failed = Signal(), Signal(), Signal()
        self._told = told

    def start(self):
        qt.QTimer.singleShot(0, self._tell)

    def end(self):
        self._told = None

    def _tell(self):
        if self._told is not None:
            self.event.emit(self._told)
            self.finished.emit(0)


class TrainWindowTestCase(WindowActions, unittest.TestCase):
    """Opens a window over an engine, of which the test plays the lists of models and devices, and an installer that it plays.

    ``prepare`` may set ``self.models`` before.
    """

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.models = []
        self.installer = WindowInstaller()
        self.prepare()
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
        return DINOMixTrainLogic(self.installer, self.makeProcess)

    def makeProcess(self, arguments):
        if arguments[:2] == ["models", "list"]:
            return ListingProcess({"kind": "models", "installed": self.models})
        if "--list-devices" in arguments:
            return ListingProcess({"kind": "devices", "devices": [CPU], "automatic": "cpu"})
        return EngineProcess(arguments)

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
