"""Several models in DINOMix Segment: ticked in its window, or named by a script; the result is one segmentation."""

import qt
from segment_fakes import LIVER, SPLEEN, addVolume, modelDict
from segment_window import WindowTestCase

TUMOR = {**LIVER, "id": 1, "name": "tumor", "terminology": None, "terminology_entry": ""}
NAMED_ALIKE = {**SPLEEN, "id": 2, "name": "Spleen"}


class FurtherModelsTest(WindowTestCase):
    def prepare(self):
        self.tumors, self.pelvis = self.makeFolder("tumors"), self.makeFolder("pelvis")
        two = [{"name": "t1", "modality": "MR"}, {"name": "t2", "modality": "MR"}]
        self.models += [
            modelDict(self.tumors, "Tumors", [TUMOR, NAMED_ALIKE]),
            modelDict(self.pelvis, "Pelvis", [{**TUMOR, "name": "bladder"}]),
            modelDict(self.makeFolder("heads"), "Heads", [TUMOR], channels=two),
            modelDict(self.makeFolder("broken"), "Broken", [TUMOR], problem="It is damaged."),
        ]

    def setUp(self):
        super().setUp()
        addVolume("scan")
        self.ui.advancedCollapsibleButton.collapsed = False
        self.settle()

    @property
    def rows(self):
        return {self.ui.furtherModelsList.item(row).text(): row for row in range(self.ui.furtherModelsList.count)}

    def tick(self, title, isTicked=True):
        state = qt.Qt.Checked if isTicked else qt.Qt.Unchecked
        self.ui.furtherModelsList.item(self.rows[title]).setCheckState(state)
        self.settle()

    def organs(self):
        return [self.ui.organsList.item(row).text() for row in range(self.ui.organsList.count)]

    def test_organs_of_ticked_models_come_into_one_result(self):
        self.assertEqual(list(self.rows), ["Tumors", "Pelvis"], "others see other images, or cannot be used")
        self.tick("Pelvis")
        self.tick("Tumors")
        self.assertEqual(self.organs(), ["liver", "spleen", "tumor", "bladder"])
        job = self.apply()
        self.assertEqual(job.arguments["moreModels"], (self.tumors, self.pelvis))
        self.assertEqual(job.arguments["model"], self.models[0]["path"])
        job.finishWithLabels()
        self.settle()
        self.ui.organsList.item(3).setCheckState(qt.Qt.Unchecked)
        self.settle()
        self.assertEqual(list(self.parameters.keep), ["liver", "spleen", "tumor"])
        self.tick("Tumors", False)
        self.assertEqual(list(self.parameters.keep), ["liver", "spleen"])

    def test_the_chosen_model_is_no_further_one(self):
        self.tick("Tumors")
        self.choose(self.ui.modelComboBox, "Tumors")
        self.settle()
        self.assertNotIn("Tumors", self.rows)
        self.assertEqual(self.organs(), ["tumor", "Spleen"])

    def test_a_ticked_model_that_is_gone_is_told(self):
        self.tick("Tumors")
        self.client.modelList = [model for model in self.models if model["path"] != self.tumors]
        self.logic.refreshModels()
        self.settle()
        self.assertIn("is not there", self.logic.checkCanApply(self.parameters))
        self.tick(self.tumors, False)
        self.assertIsNone(self.logic.checkCanApply(self.parameters))

    def test_one_model_needs_no_list(self):
        self.client.modelList = self.models[:1]
        self.logic.refreshModels()
        self.settle()
        self.assertFalse(self.ui.furtherModelsList.isVisible())
