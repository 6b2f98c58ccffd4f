"""What tests of DINOMix Segment's window share: a window over a worker and an installer that the test plays."""

import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeClient, FakeInstaller, modelDict
from waiting import processEvents, waitUntil
from window_actions import WindowActions

HELLO = {
    "dinomix": "0.1", "python": "3.12", "torch": "2.9", "monai": "1.5", "host": "here", "shares_files": True,
    "devices": [{"name": "cuda:0", "title": "NVIDIA A2000"}, {"name": "cpu", "title": "CPU"}],
    "automatic": {"device": "cuda:0", "reason": "A graphics card with 12 GB is there."},
    "memory": {"total": 32 * 2**30, "available": 20 * 2**30},
}  # fmt: skip


class WindowClient(FakeClient):
    """A worker that says what it is when it starts."""

    def start(self):
        self.hello = HELLO
        super().start()

    def stop(self):
        self.hello = None
        super().stop()

    def jobsOf(self, kind):
        return [job for job in self.jobs if job.kind == kind]


class WindowInstaller(FakeInstaller):
    """An installer that asks, and leaves the rest to the test."""

    def install(self, choose, purposes):
        if choose("Install?", ["everything"]) is not None:
            self.show("Installing torch (1 of 2)...")

    def cancel(self):
        self.show("")

    def show(self, stage):
        self.stage = stage
        self.changed.emit()

    def end(self, needsRestart=False):
        self.names, self.needsRestart = [], needsRestart
        self.show("")
        if not needsRestart:
            self.installed.emit()


class WindowTestCase(WindowActions, unittest.TestCase):
    """Opens a window; ``self.models`` and ``self.installer`` may be set by ``prepare`` before.

    Questions are answered with ``self.answer``.
    """

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.models = [modelDict(self.makeFolder("abdomen"), "Abdomen")]
        self.installer = WindowInstaller()
        self.answer = True
        patcher = patch.object(slicer.util, "confirmYesNoDisplay", lambda text, **options: self.answer)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.prepare()
        self.client = WindowClient(self.models)
        self.openWindow()

    def prepare(self):
        """What a test wants to be so before the window opens."""

    def makeFolder(self, name):
        path = self.folder / name
        path.mkdir()
        return str(path)

    def openWindow(self):
        # Slicer remembers the window made last as the module's; this one goes at the end of the test.
        self.windowBefore = getattr(slicer.modules, "DINOMixSegmentWidget", None)
        with patch("DINOMixSegmentLib.widget.DINOMixSegmentLogic", lambda: self.makeLogic()):
            self.panel = slicer.modules.dinomixsegment.createNewWidgetRepresentation()
        self.widget = self.panel.self()
        self.addCleanup(self.closeWindow)
        self.ui, self.logic = self.widget.ui, self.widget.logic
        self.panel.resize(480, 900)
        self.panel.show()
        self.widget.enter()
        processEvents(20)

    def makeLogic(self):
        return DINOMixSegmentLogic(self.client, self.installer)

    def closeWindow(self):
        self.widget.cleanup()
        slicer.modules.DINOMixSegmentWidget = self.windowBefore
        if self.windowBefore is None:
            del slicer.modules.DINOMixSegmentWidget
        self.panel.hide()
        self.panel.deleteLater()
        processEvents(10)

    @property
    def parameters(self):
        return self.logic.getParameterNode()

    # -- What a person does

    def apply(self):
        """Click Apply; returns what the worker was asked."""
        self.click(self.ui.applyButton)
        self.waitForJobs("segment", len(self.client.jobsOf("segment")) or 1)
        return self.client.jobsOf("segment")[-1]

    def waitForJobs(self, kind, number):
        waitUntil(lambda: len(self.client.jobsOf(kind)) >= number, what=f"{kind} {number}")
        return self.client.jobsOf(kind)[number - 1]

    def settle(self):
        """Let the window show what has happened."""
        processEvents(30)
