"""The example scans and "Show me how". Nothing is downloaded: Slicer's Sample Data module is stood in for."""

import sys
import tempfile
import types
import unittest
from unittest import mock

import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixSegmentLib.sample_data import CARDIO, LIVER, downloadSample, sampleFor
from DINOMixSegmentLib.show_me_how import ShowMeHow
from segment_fakes import FakeClient, FakeInstaller, Heard, addVolume, modelDict

from dinomix.errors import DinomixError


def fakeSampleData(download):
    """A module like Slicer's Sample Data."""
    module = types.ModuleType("SampleData")
    module.downloadSample = download
    return mock.patch.dict(sys.modules, SampleData=module)


class SampleDataTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)

    def test_without_the_module_there_is_no_example(self):
        with mock.patch.dict(sys.modules, SampleData=None), self.assertRaisesRegex(DinomixError, "Sample Data module"):
            downloadSample(LIVER)

    def test_failed_download_is_one_sentence(self):
        def fail(name):
            raise OSError("no route to host")

        with fakeSampleData(fail), self.assertRaisesRegex(DinomixError, "could not be downloaded.*no route"):
            downloadSample(LIVER)

    def test_loaded_scan_is_taken_without_a_download(self):
        volume = addVolume("CTLiver")
        with fakeSampleData(lambda name: self.fail("downloaded")):
            self.assertIs(downloadSample(LIVER), volume)

    def test_example_fits_the_model(self):
        self.assertIs(sampleFor(["left ventricle", "aorta"]), CARDIO)
        self.assertIs(sampleFor(["liver", "aorta", "left kidney"]), LIVER)
        self.assertIs(sampleFor([]), LIVER)


class ShowMeHowTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.client = FakeClient([modelDict(folder.name)])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.parameters = self.logic.getParameterNode()
        self.parameters.show3D = False
        self.logic.refreshModels()

    def makeExample(self, download=None):
        example = ShowMeHow(self.logic, self.parameters, download or (lambda sample: addVolume(sample.name)))
        self.heard = Heard(example, "changed", "failed")
        return example

    def shownSteps(self):
        return [index for (index,) in self.heard.of("changed")]

    def test_asks_before_anything_is_downloaded(self):
        example = self.makeExample(lambda sample: self.fail("downloaded before the user agreed"))
        self.assertIn("Download it now?", example.question())
        self.assertIn("CC BY-SA", example.question())

    def test_question_without_a_download(self):
        addVolume("CTLiver")
        self.assertIn("loaded already", self.makeExample().question())

    def test_from_the_scan_to_the_result(self):
        example = self.makeExample()
        example.begin()
        self.assertEqual(self.parameters.inputVolume.GetName(), "CTLiver")
        example.next()
        example.next()
        self.assertEqual(self.parameters.modelPath, self.client.modelList[0]["path"])
        self.assertEqual(self.client.jobs, [])
        example.next()
        example.next()  # impatient; it is segmenting
        self.client.jobs[0].finishWithLabels()
        self.assertEqual(self.shownSteps(), [0, 1, 2, 3])
        example.next()
        example.next()
        self.assertEqual(self.shownSteps(), [0, 1, 2, 3, 4, -1])

    def test_stays_on_apply_when_it_was_cancelled(self):
        example = self.makeExample()
        example.begin()
        for _step in range(3):
            example.next()
        self.client.jobs[0].confirmCancel()
        self.assertEqual(self.shownSteps(), [0, 1, 2])
        example.next()
        self.client.jobs[1].finishWithLabels()
        self.assertEqual(self.shownSteps(), [0, 1, 2, 3])

    def test_failed_download_ends_it_with_a_sentence(self):
        def fail(sample):
            raise DinomixError("CTLiver could not be downloaded.", "Try again.")

        self.makeExample(fail).begin()
        self.assertEqual(
            self.heard.events, [("failed", "CTLiver could not be downloaded.", "Try again."), ("changed", -1)]
        )

    def test_without_a_model_it_says_how_to_get_one(self):
        self.client.modelList = []
        self.logic.refreshModels()
        example = self.makeExample()
        self.assertIn("train one", example.steps()[1].text)
        example.begin()
        example.next()
        example.next()
        self.assertIn("no model yet", self.heard.of("failed")[0][0])
        self.assertEqual(self.shownSteps()[-1], -1)
