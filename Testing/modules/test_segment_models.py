"""What the window shows of models, devices and settings."""

import base64
import unittest
from unittest.mock import patch

from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeClient, FakeInstaller, Heard, modelDict

from dinomix_slicer.models.folders import modelFolders
from dinomix_slicer.models.info import modelInfo
from dinomix_slicer.window.duration import duration
from dinomix_slicer.worker.owner import WorkerOwner

RECORD = {
    "method": "dino-mix",
    "steps": 2000,
    "labeled_cases": 4,
    "unlabeled_cases": 20,
    "validation": {"step": 1800, "dice": {"liver": 0.91, "spleen": 0.7, "colon": None}, "mean": 0.805},
}


class ModelInfoTest(unittest.TestCase):
    def test_rows(self):
        rows = dict(modelInfo(modelDict("/models/abdomen", record=RECORD, data_source="FLARE")).rows)
        self.assertEqual(rows["License"], "CC BY 4.0")
        self.assertEqual(rows["Trained on"], "FLARE")
        self.assertEqual(rows["Cases"], "4 labeled, 20 unlabeled")
        self.assertEqual(rows["Validation"], "Dice 0.805 (spleen 0.70, liver 0.91)")
        self.assertEqual(rows["Folder"], "/models/abdomen")
        self.assertNotIn("Author", rows)

    def test_an_ensemble_names_its_models(self):
        record = {"ensemble_of": [{"title": "fold 0", "networks": 1}, {"title": "fold 1", "networks": 1}]}
        self.assertEqual(dict(modelInfo(modelDict("/m", record=record)).rows)["Ensemble of"], "fold 0, fold 1")

    def test_unstated_license_is_said(self):
        self.assertEqual(dict(modelInfo(modelDict("/m", license=None)).rows)["License"], "not stated")

    def test_picture(self):
        self.assertIsNone(modelInfo(modelDict("/m")).picture)
        self.assertIsNone(modelInfo(modelDict("/m", preview="damaged!")).picture)
        preview = base64.b64encode(b"\x89PNG").decode()
        self.assertEqual(modelInfo(modelDict("/m", preview=preview)).picture, b"\x89PNG")

    def test_organs(self):
        self.assertEqual([organ.name for organ in modelInfo(modelDict("/m")).organs], ["liver", "spleen"])

    def test_record_of_a_stranger(self):
        for record in ({}, {"validation": None}, {"validation": {"mean": None}}, {"validation": "good"}):
            self.assertNotIn("Validation", dict(modelInfo(modelDict("/m", record=record)).rows))


class ModelListTest(unittest.TestCase):
    def setUp(self):
        self.client = FakeClient([modelDict("/models/a", "A"), modelDict("/models/b", "B")])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.heard = Heard(self.logic, "modelsChanged", "workerStateChanged")

    def test_listing_starts_the_worker(self):
        self.assertEqual(self.client.starts, 0)
        self.logic.refreshModels()
        self.assertEqual(self.client.starts, 1)
        self.assertEqual([model["title"] for model in self.logic.models()], ["A", "B"])
        self.assertEqual(self.logic.model("/models/b")["title"], "B")
        self.assertIsNone(self.logic.model("/models/c"))
        self.assertEqual(len(self.heard.of("modelsChanged")), 1)

    def test_a_folder_whose_name_is_not_utf8_is_listed_and_says_so(self):
        self.client.modelList = [modelDict("/models/mod\udcff", "mod\udcff")]
        self.logic.refreshModels()
        (model,) = self.logic.models()
        self.assertEqual((model["path"], model["title"]), ("/models/mod?", "mod?"))
        self.assertIn("not valid UTF-8. Rename", model["problem"])

    def test_folders_are_kept_in_the_settings(self):
        self.assertEqual(modelFolders(), [])
        for folders in (["/models"], ["/models", "/more models"], []):
            self.logic.setModelFolders(folders)
            self.assertEqual(modelFolders(), folders)

    def test_what_owns_the_worker_is_made_once(self):
        with patch.object(WorkerOwner, "__init__", autospec=True, side_effect=WorkerOwner.__init__) as made:
            self.addCleanup(DINOMixSegmentLogic(self.client, FakeInstaller()).cleanup)
        self.assertEqual(made.call_count, 1)

    def test_devices(self):
        self.assertEqual(self.logic.devices(), [("auto", "Automatic")])
        self.client.hello = {
            "devices": [
                {"name": "cuda:0", "title": "NVIDIA", "memory": 1},
                {"name": "cpu", "title": "CPU", "memory": 1},
            ],
            "automatic": {"device": "cuda:0", "reason": "Computing on the GPU."},
        }
        devices = [("auto", "Automatic: NVIDIA"), ("cuda:0", "NVIDIA"), ("cpu", "CPU")]
        self.assertEqual(self.logic.devices(), devices)


class DurationTest(unittest.TestCase):
    def test_words(self):
        for seconds, words in ((0.2, "a second"), (20, "20 seconds"), (200, "3 minutes"), (6000, "1.7 hours")):
            self.assertEqual(duration(seconds), words)
