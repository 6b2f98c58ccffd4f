"""From hippocampus scans to a model in DINOMix Segment: check, start, leave, come back, pause, go on, use it."""

import json
import shutil
import unittest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import slicer
from cohort_cases import realData
from cohort_window import CohortTestCase
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixTrainLib.logic import DINOMixTrainLogic
from segment_fakes import segmentNames, segmentVoxels
from segment_window import WindowInstaller
from train_cases import engine, events, isAlive
from waiting import processEvents, waitUntil

from dinomix_slicer.run.process import endRun
from dinomix_slicer.run.state import readJson

PATIENCE = 300
SHORT = {
    "steps": 80, "validate_every": 20, "checkpoint_every": 20, "record_every": 5, "learning_rate": 0.003,
    "plan.patch": [32, 48, 32],
    "plan.network": {"_target_": "monai.networks.nets.BasicUNet", "features": [8, 8, 16, 32, 64, 8]},
}  # fmt: skip
"""A run of a small network that is over in a minute on a processor."""
NAMES = {"hippocampus anterior": 1, "hippocampus posterior": 2}


class WholeWayTest(CohortTestCase):
    def prepare(self):
        self.data = realData() / "hippocampus"
        files = sorted(path.name for path in (self.data / "images").glob("*.nii.gz"))
        self.labeled, self.unlabeled, self.heldOut = self.folder / "labeled", self.folder / "unlabeled", files[20]
        for name in files[:6]:
            for part in ("images", "labels"):
                self.copy(part, name, self.labeled / part)
        for name in files[6:12]:
            self.copy("images", name, self.unlabeled)
        description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, **NAMES}}
        (self.labeled / "dataset.json").write_text(json.dumps(description))
        self.addCleanup(self.endRun)

    def makeLogic(self):
        return DINOMixTrainLogic(installer=self.installer)  # over a real worker

    def copy(self, part, name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.data / part / name, folder / name)

    def endRun(self):
        run = Path(self.parameters.runPath or "none")
        if run.is_dir():
            endRun(run)
            waitUntil(lambda: not isAlive((readJson(run / "launch.json") or {}).get("pid", 0)))

    def waitForState(self, *names):
        runs = self.logic.runs
        waitUntil(lambda: runs.state is not None and runs.state.name in names, PATIENCE, f"{names}")

    def test_the_whole_way(self):
        self.checkCases()
        self.startRun()
        run = Path(self.parameters.runPath)
        self.watchLeaveAndComeBack(run)
        self.pauseAndGoOn()
        self.assertGreater(self.logic.runs.best[1], 0.4)
        self.assertEqual(len(events(run, "validation")), 4)
        model = self.useIt(run)
        self.segmentHeldOut(model)

    def checkCases(self):
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.labeled)
        self.addFolder(self.ui.addUnlabeledButton, self.unlabeled)
        self.parameters.validationCount = 2
        processEvents(30)
        self.check()
        self.assertReady()
        parts = [part.lower() for part, state in self.states().values()]
        self.assertEqual([parts.count(part) for part in ("labeled", "validation", "unlabeled")], [4, 2, 6])

    def startRun(self):
        self.click(self.ui.goToTrainingButton)
        ui, node = self.widget.pages["training"].ui, self.parameters
        node.preset, node.device, node.settings = "quick-look", "cpu", json.dumps(SHORT)
        waitUntil(lambda: ui.startButton.enabled, PATIENCE, "what can be started")
        processEvents(50)
        self.click(ui.startButton)
        self.assertEqual(self.widget.ui.pagesTabWidget.currentIndex, 2)

    def watchLeaveAndComeBack(self, run):
        waitUntil(lambda: self.pointsShown() >= 2, PATIENCE, "curves that move")
        seen = self.pointsShown()
        self.closeWindow()
        slicer.mrmlScene.Clear(False)
        self.openWindow()
        self.assertEqual(self.parameters.runPath, str(run))
        self.widget.goTo("run")
        waitUntil(lambda: self.pointsShown() >= seen, PATIENCE, "the curves of before")

    def pauseAndGoOn(self):
        self.waitForState("running")
        self.click(self.ui3.pauseButton)
        self.waitForState("paused")
        waitUntil(lambda: self.ui3.resumeButton.enabled)
        self.click(self.ui3.resumeButton)
        self.waitForState("finished")
        processEvents(50)

    def useIt(self, run):
        self.widget.goTo("result")
        self.click(self.widget.pages["result"].ui.useModelButton)
        return str((run / "model").resolve())

    def segmentHeldOut(self, model):
        """In DINOMix Segment's window, where the model is listed and chosen; the labels are those of the command line."""
        image = self.data / "images" / self.heldOut
        volume = slicer.util.loadVolume(str(image))
        panel = self.openSegment()
        ui, logic = panel.self().ui, panel.self().logic
        waitUntil(lambda: logic.models(), PATIENCE, "the models")
        processEvents(50)
        box = ui.modelComboBox
        self.assertEqual(box.itemData(box.currentIndex), model)
        self.assertEqual(ui.volumeSelector.currentNode(), volume)
        logic.getParameterNode().show3D = False
        self.click(ui.applyButton)
        waitUntil(lambda: logic.state == "idle", PATIENCE, "the segmentation")
        (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self.assertEqual(segmentNames(segmentation), list(NAMES))
        out = self.folder / "held_out.nii.gz"
        done = engine("segment", "--model", model, "--out", out, image)
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = voxelsOf(out)
        truth = voxelsOf(self.data / "labels" / self.heldOut)
        scores = []
        for name, value in NAMES.items():
            found = segmentVoxels(segmentation, name, volume)
            np.testing.assert_array_equal(found, expected == value)
            dice = 2 * (found & (truth == value)).sum() / (found.sum() + (truth == value).sum())
            scores.append(dice)
        self.assertGreater(np.mean(scores), 0.4, scores)

    def openSegment(self):
        before = getattr(slicer.modules, "DINOMixSegmentWidget", None)
        logic = DINOMixSegmentLogic(installer=WindowInstaller())
        with patch("DINOMixSegmentLib.widget.DINOMixSegmentLogic", lambda: logic):
            panel = slicer.modules.dinomixsegment.createNewWidgetRepresentation()

        def close():
            panel.self().cleanup()
            slicer.modules.DINOMixSegmentWidget = before
            panel.hide()
            panel.deleteLater()

        self.addCleanup(close)
        panel.resize(480, 900)
        panel.show()
        panel.self().enter()
        processEvents(50)
        return panel


def voxelsOf(path):
    """The values of a label file, (k, j, i)."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


if __name__ == "__main__":
    unittest.main()
