"""Mirror images, the box in which alone is computed, and clean-up, chosen in DINOMix Segment's window."""

import qt
from segment_fakes import LIVER, addVolume, modelDict
from segment_window import WindowTestCase

from dinomix_slicer.worker.computing import Computing

KIDNEY = {**LIVER, "id": 1, "name": "left kidney", "terminology": None, "terminology_entry": ""}


class OptionsTest(WindowTestCase):
    def prepare(self):
        self.models[0]["mirror_axes"] = ["x"]
        self.models.append(modelDict(self.makeFolder("kidneys"), "Kidneys", [KIDNEY], mirror_axes=[]))

    def setUp(self):
        super().setUp()
        addVolume("scan")
        self.ui.advancedCollapsibleButton.collapsed = False
        self.settle()

    def names(self, widget):
        return [widget.item(row).text() for row in range(widget.count)]

    def tick(self, widget, name, isTicked=True):
        widget.item(self.names(widget).index(name)).setCheckState(qt.Qt.Checked if isTicked else qt.Qt.Unchecked)
        self.settle()

    def asked(self):
        """What the worker is asked by Apply."""
        job = self.apply()
        job.finishWithLabels()
        self.settle()
        return self.client.jobsOf("segment")[-1].arguments["computing"]

    def test_nothing_is_asked_for_unless_chosen(self):
        self.assertEqual(self.asked(), Computing())
        self.assertFalse(self.ui.cleanUpSpinBox.isVisible() or self.ui.cleanUpOrgansList.isVisible())

    def test_mirror_images_are_offered_where_the_model_can_see_them(self):
        box = self.ui.mirrorCheckBox
        self.click(box)
        self.assertTrue(self.asked().mirror)
        self.choose(self.ui.modelComboBox, "Kidneys")
        self.settle()
        self.assertFalse(box.enabled or box.checked)
        self.assertIn("Kidneys cannot be shown mirror images: it was not trained with such", box.toolTip)
        self.assertFalse(self.logic.requestOf(self.parameters).computing.mirror)
        self.choose(self.ui.modelComboBox, "Abdomen")
        self.settle()
        self.assertTrue(box.enabled and box.checked)
        self.assertIn("two to eight times", box.toolTip)
        self.tick(self.ui.furtherModelsList, "Kidneys")
        self.assertFalse(box.enabled)

    def test_pieces_are_cleaned_up_as_chosen(self):
        self.choose(self.ui.cleanUpComboBox, "Only the largest piece")
        self.settle()
        self.assertEqual(self.asked().cleanUp, {"": "largest"})
        self.choose(self.ui.cleanUpComboBox, "Pieces of at least")
        self.settle()
        self.ui.cleanUpSpinBox.value = 2.5
        self.tick(self.ui.cleanUpOrgansList, "spleen")
        self.assertEqual(self.asked().cleanUp, {"spleen": "2.5ml"})
        self.tick(self.ui.furtherModelsList, "Kidneys")
        self.tick(self.ui.cleanUpOrgansList, "left kidney")
        self.assertEqual(self.logic.requestOf(self.parameters).computing.asFields()["clean_up"], {
            "spleen": "2.5ml", "left kidney": "2.5ml"
        })  # fmt: skip
        self.tick(self.ui.furtherModelsList, "Kidneys", False)
        self.assertEqual(list(self.parameters.cleanUpOrgans), ["spleen"])
        self.choose(self.ui.cleanUpComboBox, "As the model does")
        self.settle()
        self.assertFalse(self.ui.cleanUpOrgansList.isVisible())
        self.assertEqual(self.logic.requestOf(self.parameters).computing.cleanUp, {})

    def test_only_a_box_is_computed_and_the_time_is_the_most_that_it_takes(self):
        self.tick(self.ui.furtherModelsList, "Kidneys")
        self.assertEqual(self.names(self.ui.insideList), ["liver", "spleen"], "those of the model that finds the box")
        before = len(self.client.jobsOf("estimate"))
        self.tick(self.ui.insideList, "liver")
        job = self.waitForJobs("estimate", before + 1)
        self.assertEqual(job.arguments["computing"].inside, ("liver",))
        job.finish(seconds=60, memory=None, device="cuda", reason="A card is there.")
        self.settle()
        self.assertIn("at most about", self.ui.statusLabel.text)
        self.assertEqual(self.asked().inside, ("liver",))
        self.choose(self.ui.modelComboBox, "Kidneys")
        self.settle()
        self.assertEqual(list(self.parameters.inside), [])

    def test_organs_of_a_model_that_was_replaced_can_be_unticked(self):
        self.parameters.inside = ["pancreas"]
        self.settle()
        self.assertIn("does not find pancreas. Choose again", self.logic.checkCanApply(self.parameters))
        self.tick(self.ui.insideList, "pancreas", False)
        self.assertIsNone(self.logic.checkCanApply(self.parameters))
        self.parameters.cleanUp, self.parameters.cleanUpOrgans = "largest", ["pancreas"]
        self.settle()
        self.assertIn("organs to clean up again", self.logic.checkCanApply(self.parameters))
        self.tick(self.ui.cleanUpOrgansList, "pancreas", False)
        self.assertIsNone(self.logic.checkCanApply(self.parameters))
