"""The whole way with the real worker process: a volume node in, a segmentation out, and every way to end it."""

import os
import shutil
import signal
import sys
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import slicer
from DINOMixSegmentLib.batch_items import itemsOfDisk
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeInstaller, Heard, addVolume, segmentNames, segmentVoxels
from segment_models import makeModel, makeNoiseVolume
from segment_window import WindowTestCase
from waiting import waitUntil

from dinomix.errors import DinomixError
from dinomix_slicer.worker import client as worker_client


class WorkerTestCase(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.volume = makeNoiseVolume()
        self.model = makeModel(self.folder, self.volume)
        self.logic = DINOMixSegmentLogic(installer=FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.heard = Heard(self.logic, "progress", "notice", "finished", "failed", "cancelled")
        self.parameters = self.logic.getParameterNode()
        self.parameters.inputVolume = self.volume
        self.parameters.modelPath = str(self.model)
        self.parameters.show3D = False

    def apply(self):
        self.heard.events.clear()
        self.logic.startSegmentation(self.parameters)

    def waitForEnd(self, seconds=120):
        waitUntil(lambda: self.logic.state == "idle", seconds, "the end of it")

    def waitForStage(self, stage):
        waitUntil(
            lambda: any(stage in args[0] for args in self.heard.of("progress")) or self.logic.state == "idle",
            120,
            f"the stage {stage}",
        )

    def makeBig(self):
        """A volume that takes seconds."""
        self.parameters.inputVolume = makeNoiseVolume("big", (128, 128, 128))


class SegmentTest(WorkerTestCase):
    def test_labels_are_those_of_the_engine(self):
        from dinomix.images.reading import read_image
        from dinomix.inference.segment import segment_volume
        from dinomix.models.folder import load_model

        segmentation = self.logic.segment(self.volume, str(self.model))
        image = read_image(self.folder / "for_the_model.nrrd")
        expected = segment_volume(image, load_model(self.model)).array
        self.assertGreater(len(np.unique(expected)), 2)
        for number in (1, 2, 5):
            name = f"structure {number}"
            if name in segmentNames(segmentation):
                np.testing.assert_array_equal(segmentVoxels(segmentation, name, self.volume), expected == number)
            else:
                self.assertFalse((expected == number).any())

    def test_list_then_estimate_then_twice_apply_then_other_organs(self):
        listed = Heard(self.logic, "modelsChanged", "failed")
        self.logic.setModelFolders([str(self.folder / "models")])
        waitUntil(lambda: listed.events, 120, "the models")
        organs = [structure["name"] for structure in self.logic.model(str(self.model))["structures"]]
        self.assertEqual(organs, ["structure 1", "structure 2", "structure 5"])
        estimates = Heard(self.logic, "estimated")
        self.logic.requestEstimate(self.parameters)
        waitUntil(lambda: estimates.events, 120, "the estimate")
        self.assertGreater(estimates.of("estimated")[0][0].seconds, 0)
        self.apply()
        self.waitForEnd()
        self.assertEqual(self.heard.of("failed"), [])
        worker = self.logic.workerHello["pid"]
        self.apply()
        self.waitForEnd()
        self.assertEqual(self.logic.workerHello["pid"], worker, "torch was loaded anew")
        self.parameters.keep = ["structure 5"]
        self.apply()
        self.waitForEnd()
        ((segmentation,),) = self.heard.of("finished")
        self.assertEqual(segmentNames(segmentation), ["structure 5"])


class EndsTest(WorkerTestCase):
    def test_cancel_then_kill_the_worker_then_apply_again(self):
        self.makeBig()
        self.apply()
        self.waitForStage("segment")
        self.assertEqual(self.logic.state, "running")
        worker = self.logic.workerHello["pid"]
        with patch.object(worker_client, "CANCEL_SECONDS", 60):  # a busy computer's worker is not ended
            self.logic.cancel()
            waitUntil(lambda: self.logic.state == "idle", what="the end of it")
        self.assertEqual(len(self.heard.of("cancelled")), 1)
        self.assertEqual(self.heard.of("finished"), [])
        self.apply()
        self.waitForStage("segment")
        self.assertEqual(self.logic.workerHello["pid"], worker, "it was ended, though it had only to be told")
        os.kill(self.logic.workerHello["pid"], signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        self.waitForEnd()
        self.assertEqual(len(self.heard.of("failed")), 1)
        self.parameters.inputVolume = self.volume
        self.apply()
        self.waitForEnd()
        self.assertEqual(len(self.heard.of("finished")), 1)

    def test_model_removed_between_two_runs(self):
        self.apply()
        self.waitForStage("loading")
        shutil.rmtree(self.model)
        self.waitForEnd()
        self.assertEqual(len(self.heard.of("finished")) + len(self.heard.of("failed")), 1)
        self.apply()
        self.assertIn("is gone", self.heard.of("failed")[0][0])

    def test_scene_closed(self):
        self.makeBig()
        self.apply()
        self.waitForStage("segment")
        slicer.mrmlScene.Clear(False)
        self.assertEqual(len(self.heard.of("cancelled")), 1)
        self.assertEqual(self.logic.state, "idle")

    def test_a_script_is_told_where_temporary_files_cannot_be_written(self):
        with (
            patch.object(slicer.app, "temporaryPath", str(self.folder / "gone")),
            self.assertRaisesRegex(DinomixError, "nothing can be written to .*gone.*set another folder"),
        ):
            self.logic.segment(self.volume, str(self.model))
        self.assertIsNotNone(self.logic.segment(self.volume, str(self.model)))


class NewPackagesTest(WorkerTestCase):
    def test_the_worker_is_started_anew_after_what_runs(self):
        self.makeBig()
        self.apply()
        self.waitForStage("segment")
        worker = self.logic.workerHello["pid"]
        self.logic.takeNewPackages()
        self.waitForEnd()
        self.assertEqual(len(self.heard.of("finished")), 1)
        waitUntil(lambda: (self.logic.workerHello or {}).get("pid", worker) != worker, 120, "another worker")


class NewPackagesInTheWindowTest(WindowTestCase):
    def prepare(self):
        addVolume()

    def test_the_worker_is_started_anew_at_once_or_after_what_runs(self):
        self.waitForJobs("estimate", 1)
        starts = self.client.starts
        self.installer.end()
        self.assertEqual(self.client.starts, starts + 1, "nothing was being computed")
        self.waitForJobs("estimate", 2)

        job = self.apply()
        self.installer.end()
        self.settle()
        self.assertEqual(self.client.starts, starts + 1)
        job.finishWithLabels()
        waitUntil(lambda: self.client.starts == starts + 2, what="another worker")
        self.settle()
        self.assertEqual((self.client.starts, len(self.logic.models())), (starts + 2, 1))

    def test_none_is_started_for_a_window_that_is_closed(self):
        self.apply()
        self.installer.end()
        starts = self.client.starts
        self.widget.cleanup()
        self.settle()
        self.assertEqual((self.client.starts, self.client.state), (starts, "stopped"))

    def test_a_worker_of_another_environment_goes_on(self):
        starts = self.client.starts
        self.logic.setWorkerCommandText("ssh gpu-box dinomix worker")
        self.client.start()
        with patch.object(self.client, "stop", lambda: self.fail("it was stopped")):
            self.installer.end()
        self.assertEqual(self.client.starts, starts + 1)
        self.logic.setWorkerCommandText("")


class BatchTest(WorkerTestCase):
    def test_files_on_disk(self):
        scans = self.folder / "scans"
        scans.mkdir()
        for name in ("one.nrrd", "zwei-ä.nii.gz"):
            self.assertTrue(slicer.util.saveNode(self.volume, str(scans / name)))
        (scans / "broken.nrrd").write_text("NRRD0004 and no more")
        (scans / "kept.seg.nrrd").write_text("precious")
        shutil.copy(scans / "one.nrrd", scans / "kept.nrrd")
        ended = Heard(self.logic, "batchFinished")
        self.logic.startBatch(itemsOfDisk(str(scans)), self.parameters)
        waitUntil(lambda: ended.events, 240, "the batch")
        states = {item.title: item.state for item in self.logic.batchItems}
        self.assertEqual(
            states, {"broken.nrrd": "failed", "kept.nrrd": "skipped", "one.nrrd": "done", "zwei-ä.nii.gz": "done"}
        )
        loaded = slicer.util.loadSegmentation(str(scans / "one.seg.nrrd"))
        direct = self.logic.segment(self.volume, str(self.model))
        for name in segmentNames(direct):
            np.testing.assert_array_equal(
                segmentVoxels(loaded, name, self.volume), segmentVoxels(direct, name, self.volume)
            )
