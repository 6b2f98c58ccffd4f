"""Images that are plainly none for the model: the window asks, batches refuse and go on, scripts get the error."""

from unittest.mock import patch

import qt
import slicer
from DINOMixSegmentLib.batch_items import itemsOfScene
from segment_fakes import addVolume
from segment_window import WindowTestCase
from waiting import waitUntil

from dinomix.errors import DinomixError


class OtherImageTest(WindowTestCase):
    def prepare(self):
        self.questions = []
        patcher = patch.object(slicer.util, "confirmYesNoDisplay", self.ask)
        patcher.start()
        self.addCleanup(patcher.stop)
        addVolume("scaled CT")

    def ask(self, text, **options):
        self.questions.append(text)
        return self.answer

    def test_the_window_asks_and_goes_on(self):
        job = self.apply()
        self.assertFalse(job.arguments["computing"].anyImage)
        job.refuse()
        again = self.waitForJobs("segment", 2)
        (question,) = self.questions
        for words in ("scaled to a small range", "Export the image again", "Segment all the same?"):
            self.assertIn(words, question)
        self.assertTrue(again.arguments["computing"].anyImage)
        again.finishWithLabels()
        waitUntil(lambda: self.logic.state == "idle")
        self.settle()
        self.assertIn("Done", self.ui.statusLabel.text)
        # What was agreed to holds for that run only.
        self.assertFalse(self.apply().arguments["computing"].anyImage)

    def test_who_declines_keeps_the_reason_in_sight(self):
        self.answer = False
        self.apply().refuse()
        waitUntil(lambda: self.logic.state == "idle")
        self.settle()
        self.assertEqual(len(self.client.jobsOf("segment")), 1)
        self.assertIn("scaled to a small range", " ".join(self.messages()))
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_another_failure_is_not_asked_about(self):
        self.apply().fail()
        self.settle()
        self.assertEqual((self.questions, self.logic.state), ([], "idle"))

    def test_a_batch_refuses_goes_on_and_tells_at_the_end(self):
        addVolume("CT")
        items = itemsOfScene()
        self.logic.startBatch(items, self.parameters)
        self.waitForJobs("segment", 1).refuse()
        self.waitForJobs("segment", 2).finishWithLabels()
        waitUntil(lambda: self.logic.state == "idle")
        self.assertEqual([item.state for item in items], ["failed", "done"])
        self.assertIn("Export the image again", items[0].detail)
        self.assertEqual(self.questions, [])
        told = [text for text in self.messages() if "look like no images for this model" in text]
        self.assertEqual(len(told), 1)
        self.assertIn("scaled CT", told[0])

    def test_a_script_gets_the_error_and_the_remedy(self):
        volume = slicer.util.getNode("scaled CT")
        answers = iter(("refuse", "finishWithLabels"))
        ask = self.client.segment

        def answered(*arguments, **more):
            job = ask(*arguments, **more)
            qt.QTimer.singleShot(20, getattr(job, next(answers)))
            return job

        with patch.object(self.client, "segment", answered):
            with self.assertRaises(DinomixError) as caught:
                self.logic.segment(volume)
            self.assertEqual(
                (caught.exception.code, caught.exception.remedy), ("other-image", "Export the image again.")
            )
            self.assertEqual(self.questions, [])
            self.assertIsNotNone(self.logic.segment(volume, anyImage=True))
        self.assertTrue(self.client.jobsOf("segment")[-1].arguments["computing"].anyImage)

    def messages(self):
        return self.widget.messages.text.splitlines()
