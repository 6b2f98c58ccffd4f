"""The one-line API and the examples of docs/scripting.md, which are run as they stand there."""

import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeClient, FakeInstaller, modelDict, segmentNames, segmentVoxels
from segment_models import makeModel, makeNoiseVolume
from waiting import waitUntil

from dinomix.errors import DinomixError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scripting.md"


def examples():
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


class ExamplesTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.volume = makeNoiseVolume()
        self.model = str(makeModel(self.folder, self.volume))
        self.logic = slicer.util.getModuleLogic("DINOMixSegment")
        self.addCleanup(self.logic.stopWorker)
        if self.logic.missingDependencies():
            self.skipTest("needs the engine's packages")

    def test_one_line_then_without_waiting(self):
        names = {"slicer": slicer, "volume": self.volume, "model": self.model}
        exec(examples()[0], names)
        self.assertTrue(names["segmentation"].IsA("vtkMRMLSegmentationNode"))
        done = []
        self.logic.finished.connect(done.append)
        self.addCleanup(self.logic.finished.disconnect, done.append)
        exec(examples()[3].replace('"liver"', '"structure 1"'), names)
        waitUntil(lambda: done, 120, "the segmentation")

    def test_regions_are_segments_too(self):
        from random_models import labels_with_ids, random_model, small_plan

        labels = labels_with_ids(1, 2, 5).with_regions({"both": [1, 2]})
        folder = self.folder / "models" / "with regions"
        random_model(folder, small_plan(patch=(32, 32, 32)), labels, self.folder / "for_the_model.nrrd")
        segmentation = self.logic.segment(self.volume, str(folder), regions=True)
        names = segmentNames(segmentation)
        self.assertEqual(names[-1], "both")
        voxels = {name: segmentVoxels(segmentation, name, self.volume) for name in names}
        parts = [voxels[name] for name in names if name in ("structure 1", "structure 2")]
        np.testing.assert_array_equal(voxels["both"], np.any(parts, axis=0))

    def test_a_volume_for_each_channel(self):
        from channel_cases import two_channel_model, two_channel_plan

        from dinomix.planning.plan import InputChannel, PercentileWindow, RangeWindow

        model = str(two_channel_model(self.folder / "models" / "two").path)
        names = {
            "slicer": slicer,
            "volume": self.volume,
            "otherVolume": makeNoiseVolume("other", (20, 20, 20)),
            "model": model,
        }
        exec(examples()[1], names)
        reference = names["segmentation"].GetNodeReference("referenceImageGeometryRef")
        self.assertIs(reference, self.volume)

        # What the engine sees to be swapped is told with the windows' remedy.
        second = InputChannel(name="pet", modality="PT", window=PercentileWindow())
        plan = two_channel_plan(RangeWindow(low=-150, high=250), modality="CT", channel="ct", more_channels=(second,))
        model = str(two_channel_model(self.folder / "models" / "petct", plan).path)
        pet = slicer.util.addVolumeFromArray(np.random.default_rng(1).uniform(0, 9, (24, 28, 32)), name="pet")
        ct = slicer.util.addVolumeFromArray(np.full((24, 28, 32), -1000, np.int16), name="ct")
        slicer.util.arrayFromVolume(ct)[4:20, 4:24, 4:28] = 40
        with self.assertRaisesRegex(DinomixError, "in each other's place.*Choose the image of each channel again"):
            self.logic.segment({"ct": pet, "pet": ct}, model)

    def test_script_without_a_window(self):
        image, out = self.folder / "for_the_model.nrrd", self.folder / "organs.seg.nrrd"
        self.assertEqual(self.runScript(image, self.model, out), 0)
        self.assertGreater(out.stat().st_size, 0)
        self.assertEqual(self.runScript(image, self.folder / "no model", out), 2)

    def runScript(self, *arguments):
        """The exit code."""
        argv = ["segment_scan.py", *map(str, arguments)]
        with mock.patch.object(sys, "argv", argv), mock.patch.object(slicer.util, "exit") as end:
            exec(examples()[2], {})
        return end.call_args.args[0]


class SegmentTest(unittest.TestCase):
    """What ``segment`` does with its arguments, with a client that is not there."""

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        self.volume = makeNoiseVolume()
        self.client = FakeClient()
        self.installer = FakeInstaller()
        self.logic = DINOMixSegmentLogic(self.client, self.installer)
        self.addCleanup(self.logic.cleanup)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(Path(self.folder).rmdir)

    def finishSoon(self, finish):
        """Answer the job from the event loop, as the real client does."""
        import qt

        def answer():
            if self.client.jobs:
                timer.stop()
                finish(self.client.jobs[-1])

        timer = qt.QTimer()
        timer.setInterval(5)
        timer.connect("timeout()", answer)
        timer.start()
        self.addCleanup(timer.stop)

    def test_model_by_title_and_the_only_one(self):
        self.client.modelList = [modelDict(self.folder, "Abdomen")]
        for model in ("Abdomen", None, self.folder):
            self.client.jobs.clear()
            self.finishSoon(lambda job: job.finishWithLabels())
            self.logic.segment(self.volume, model)
            self.assertEqual(Path(self.client.jobs[0].arguments["model"]).resolve(), Path(self.folder).resolve())

    def test_several_models_and_a_box(self):
        other = tempfile.mkdtemp()
        self.addCleanup(Path(other).rmdir)
        self.client.modelList = [modelDict(self.folder, "Abdomen"), modelDict(str(Path(other).resolve()), "Tumors")]
        self.finishSoon(lambda job: job.finishWithLabels())
        self.logic.segment(self.volume, ["Tumors", self.folder], inside=["liver"])
        asked = self.client.jobs[0].arguments
        named = [asked["model"], *asked["moreModels"]]
        self.assertEqual([Path(path).resolve() for path in named], [Path(other).resolve(), Path(self.folder).resolve()])
        self.assertEqual(asked["computing"].inside, ("liver",))
        with self.assertRaisesRegex(DinomixError, "No model was given"):
            self.logic.segment(self.volume, [])

    def test_model_that_is_not_there_or_not_named(self):
        self.client.modelList = [modelDict("/a", "Abdomen"), modelDict("/b", "Brain")]
        with self.assertRaisesRegex(DinomixError, "no single model Liver.*Abdomen, Brain"):
            self.logic.segment(self.volume, "Liver")
        with self.assertRaisesRegex(DinomixError, "must be named"):
            self.logic.segment(self.volume)
        self.client.modelList = []
        with self.assertRaisesRegex(DinomixError, "must be named"):
            self.logic.segment(self.volume)

    def test_failure_and_cancel_are_errors(self):
        self.finishSoon(lambda job: job.fail("No memory.", "Crop the volume."))
        with self.assertRaisesRegex(DinomixError, "No memory. Crop the volume."):
            self.logic.segment(self.volume, self.folder)
        self.client.jobs.clear()
        self.finishSoon(lambda job: (self.logic.cancel(), job.confirmCancel()))
        with self.assertRaisesRegex(DinomixError, "cancelled"):
            self.logic.segment(self.volume, self.folder)

    def test_missing_dependencies(self):
        self.installer.names = ["torch"]
        with self.assertRaisesRegex(DinomixError, "torch"):
            self.logic.segment(self.volume, self.folder)
        self.assertEqual(self.client.jobs, [])

    def test_no_volume(self):
        with self.assertRaisesRegex(DinomixError, "Choose the volume"):
            self.logic.segment(None, self.folder)

    def test_surfaces_are_there_when_it_returns(self):
        self.finishSoon(lambda job: job.finishWithLabels())
        segmentation = self.logic.segment(self.volume, self.folder, show3D=True)
        self.assertTrue(segmentation.GetSegmentation().ContainsRepresentation("Closed surface"))
