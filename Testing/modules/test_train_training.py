"""Page 2: what a run is made of, its cost, its command line, and its beginning; with the real engine where it is asked."""

import json
import shlex
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import qt
import slicer
from DINOMixTrainLib import teachers
from DINOMixTrainLib.licence_dialog import licenceDialog
from DINOMixTrainLib.offers import Offers
from DINOMixTrainLib.settings_form import patchOf
from DINOMixTrainLib.study import overlapText
from DINOMixTrainLib.training_logic import ESTIMATES
from segment_fakes import LIVER, SPLEEN, modelDict
from train_cases import QUICK, engine, events, makeStudy, numbers
from train_window import TrainWindowTestCase
from waiting import processEvents, waitUntil

from dinomix.commands.settings import method_arguments
from dinomix.commands.train import command
from dinomix.training.backbones import weight_file
from dinomix_slicer.run.process import endRun

PATIENCE = 180


def setUpModule():
    global folder, study
    folder = tempfile.TemporaryDirectory()
    study = Path(folder.name) / "study of müller"
    makeStudy(study)


def tearDownModule():
    folder.cleanup()


class TrainingTestCase(TrainWindowTestCase):
    def prepare(self):
        self.models = [modelDict(self.makeFolder("abdomen"), "Abdomen", structures=[LIVER, SPLEEN])]
        empty = patch.dict("os.environ", {"HF_HUB_CACHE": str(self.folder / "no cache")})
        empty.start()
        self.addCleanup(empty.stop)

    def makeFolder(self, name):
        path = self.folder / name
        path.mkdir()
        return str(path)

    def setUp(self):
        super().setUp()
        self.widget.goTo("training")
        (study / ESTIMATES).unlink(missing_ok=True)
        self.parameters.studyFolder = str(study)
        self.waitForPresets()
        processEvents(20)

    def waitForPresets(self):
        waitUntil(lambda: self.preset("standard") is not None, what="the engine's presets")
        processEvents(30)

    @property
    def ui2(self):
        return self.widget.pages["training"].ui

    def preset(self, name):
        return self.ui2.presetsWidget.findChild(qt.QRadioButton, f"preset_{name}")

    def editor(self, name):
        return next(w for w in self.ui2.settingsWidget.children() if w.objectName == f"setting_{name}")

    def words(self):
        """The command line that is shown, as a shell reads it."""
        processEvents(30)
        return shlex.split(self.ui2.trainCommandText.plainText)

    def option(self, name):
        words = self.words()
        return words[words.index(name) + 1] if name in words else None

    def texts(self):
        return " ".join(label.text for label in self.ui2.presetsWidget.children() if isinstance(label, qt.QLabel))


class ChoicesTest(TrainingTestCase):
    def test_what_is_chosen_becomes_a_command_line(self):
        self.assertEqual(
            self.words(),
            ["dinomix", "train", "--cohort", str(study / "cohort.json"), "--preset", "standard", "--fkd", "off",
             "--seed", "0", "--device", "auto", "--cache", str(study / "cache"),
             "--out", str(study / "runs" / "standard-1")],
        )  # fmt: skip
        self.assertIn("2 labeled, 2 unlabeled and 1 validation", self.ui2.cohortFactsLabel.text)
        self.preset("quick-look").click()
        self.assertEqual(self.option("--preset"), "quick-look")
        self.choose(self.ui2.trainingDeviceComboBox, "CPU")
        self.assertEqual(self.option("--device"), "cpu")
        self.ui2.commandCollapsibleButton.collapsed = False
        self.choose(self.ui2.commandComboBox, "More graphics cards or computers")
        self.assertEqual(self.words()[:5], ["accelerate", "launch", "-m", "dinomix", "train"])
        self.click(self.ui2.copyCommandButton)
        self.assertEqual(slicer.app.clipboard().text(), self.ui2.trainCommandText.plainText)

    def test_classes_of_the_start_model_are_told(self):
        self.choose(self.ui2.startModelComboBox, "Abdomen")
        self.assertEqual(self.option("--start"), self.models[0]["path"])
        self.assertEqual(
            self.ui2.overlapLabel.text,
            "The model knows 1 of your 2 structures; gallbladder will be learned from the beginning. "
            "It will no longer find spleen, which your cases do not have.",
        )
        self.choose(self.ui2.startModelComboBox, "Scratch: random weights")
        self.assertIsNone(self.option("--start"))

    def test_structures_that_only_the_start_model_knows_can_be_kept(self):
        box = self.ui2.keepStructuresCheckBox
        self.assertFalse(box.isVisible())
        self.choose(self.ui2.startModelComboBox, "Abdomen")
        self.assertTrue(box.isVisible() and box.toolTip)
        self.assertNotIn("--keep-structures", self.words())
        self.click(box)
        self.assertTrue(self.parameters.keepStructures)
        self.assertIn("--keep-structures", self.words())
        self.assertIn("What it predicts of spleen, which your cases do not have, is kept", self.ui2.overlapLabel.text)
        self.parameters.startModel = ""
        processEvents(20)
        self.assertFalse(box.isVisible())
        self.assertNotIn("--keep-structures", self.words())

    def test_the_model_of_a_run_by_its_folder(self):
        run = Path(self.makeFolder("old run"))
        (run / "model").mkdir()
        (run / "model" / "labels.json").write_text(
            json.dumps({"structures": [{"name": "Liver"}, {"name": "gallbladder"}]})
        )
        (run / "model" / "plan.json").write_text(json.dumps({"modality": "MR"}))
        with patch("qt.QFileDialog.getExistingDirectory", lambda *arguments: str(run)):
            self.click(self.ui2.startFolderButton)
        self.assertEqual(self.ui2.startModelComboBox.currentText, "old run (run)")
        self.assertEqual(
            self.ui2.overlapLabel.text,
            "The model knows all 2 structures of your cases. It is for MR, your cases are CT: only its weights are taken over.",
        )
        self.parameters.startModel = str(run / "gone")
        processEvents(20)
        self.assertIn("is gone", self.ui2.startStatusLabel.text)
        self.assertFalse(self.ui2.startButton.enabled)

    def test_the_file_of_an_encoder(self):
        encoder = self.folder / "CT-FM encoder.pth"
        encoder.write_bytes(b"weights")
        with patch("qt.QFileDialog.getOpenFileName", lambda *arguments: str(encoder)):
            self.click(self.ui2.startEncoderButton)
        self.assertEqual(self.ui2.startModelComboBox.currentText, "CT-FM encoder.pth")
        self.assertIn("the decoder is learned from your cases", self.ui2.overlapLabel.text)
        self.assertEqual(self.option("--start"), str(encoder))
        self.assertTrue(self.ui2.startButton.enabled)
        with patch("qt.QFileDialog.getOpenFileName", lambda *arguments: ""):
            self.click(self.ui2.startEncoderButton)
        self.assertEqual(self.option("--start"), str(encoder))
        encoder.unlink()
        self.widget.update()
        self.assertIn("CT-FM encoder.pth is gone", self.ui2.startStatusLabel.text)
        self.assertFalse(self.ui2.startButton.enabled)

    def test_the_method_takes_what_is_shown_with_it(self):
        """With another method the engine would leave out PIC and FKD unless it is told."""
        self.assertIsNone(self.option("--method"))
        self.choose(self.editor("method"), "CPS: two networks teach each other")
        self.assertEqual((self.option("--method"), self.option("--pic"), self.option("--fkd")), ("cps", "on", "off"))
        self.parameters.teacher = "random"
        self.assertEqual((self.option("--fkd"), self.option("--teacher")), ("auto", "random"))
        self.editor("pic_enabled").setChecked(False)
        self.assertEqual(self.option("--pic"), "off")
        options = command.make_context("train", self.words()[2:]).params
        self.assertEqual(method_arguments(options), {"method": "cps", "pic": False, "fkd": "auto"})
        self.choose(self.editor("method"), "DINO-Mix")
        self.assertIsNone(self.option("--method"))
        self.assertIsNone(self.option("--fkd"))

    def test_only_settings_that_differ_from_the_preset_are_passed(self):
        self.ui2.settingsCollapsibleButton.collapsed = False
        self.assertEqual(self.editor("learning_rate").value, 0.003)
        self.editor("learning_rate").value = 0.01
        self.editor("plan_patch").text = "64 x 64 x 32"
        self.editor("plan_patch").editingFinished()
        self.editor("pic_enabled").click()
        words = self.words()
        self.assertEqual([words[index + 1] for index, word in enumerate(words) if word == "--set"],
                         ["learning_rate=0.01", "plan.patch=64,64,32"])  # fmt: skip
        self.assertEqual(self.option("--pic"), "off")
        self.assertIn("3 settings differ", self.ui2.settingsNoteLabel.text)
        self.click(self.preset("quick-look"))
        self.assertEqual(self.editor("time").text, "10m")
        self.assertEqual(self.editor("learning_rate").value, 0.01)
        self.editor("learning_rate").value = 0.003
        self.assertNotIn("learning_rate=0.003", self.words())
        self.click(self.ui2.settingsResetButton)
        self.assertNotIn("--set", self.words())
        self.assertEqual(self.editor("plan_patch").text, "")

    def test_a_time_or_a_number_of_steps_is_in_place_of_the_presets_time(self):
        time, steps = self.editor("time"), self.editor("steps")
        self.assertEqual((time.text, steps.value, steps.text), ("1h", 0, "as many as fit into the time"))
        self.assertFalse({"--time", "--steps"} & set(self.words()))
        time.text = "1h 30 min"
        time.editingFinished()
        self.assertEqual((self.option("--time"), time.text, steps.value), ("1h30m", "1h30m", 0))
        steps.value = 400
        self.assertEqual((self.option("--steps"), time.text), ("400", ""))
        self.assertNotIn("--time", self.words())
        steps.value = 0
        self.assertEqual(time.text, "1h")
        time.text = "soon"
        time.editingFinished()
        processEvents(20)
        self.assertIn("soon is no time", self.ui2.startStatusLabel.text)
        self.assertFalse(self.ui2.startButton.enabled)
        time.text = ""
        time.editingFinished()
        self.assertEqual(time.text, "1h")

    def test_what_is_being_typed_is_left_alone(self):
        self.ui2.settingsCollapsibleButton.collapsed = False
        time = self.editor("time")
        time.setFocus()
        processEvents(20)
        time.selectAll()
        for letter in "45 m":
            time.insert(letter)
            self.widget.update()
        self.assertEqual(time.text, "45 m")
        time.editingFinished()  # Return, after which it still has the focus
        self.assertEqual((self.option("--time"), time.text), ("45m", "45m"))
        self.click(self.ui2.settingsResetButton)
        self.assertTrue(time.hasFocus())
        self.assertEqual(time.text, "1h")

    def test_a_number_that_is_being_typed_is_left_alone(self):
        editor = self.editor("pic_probability")
        text = editor.findChild(qt.QLineEdit)
        text.selectAll()
        for letter in "0.25":
            text.insert(letter)
            self.widget.update()
        editor.interpretText()  # Return
        self.assertIn("pic.probability=0.25", self.words())

    def test_a_patch_that_is_none_prevents_the_start(self):
        self.editor("plan_patch").text = "large"
        self.editor("plan_patch").editingFinished()
        processEvents(20)
        self.assertIn("large is no patch", self.ui2.startStatusLabel.text)
        self.assertFalse(self.ui2.startButton.enabled)
        self.editor("plan_patch").text = ""
        self.editor("plan_patch").editingFinished()
        processEvents(20)
        self.assertTrue(self.ui2.startButton.enabled)

    def test_every_advanced_setting_says_what_it_does(self):
        editors = [w for w in self.ui2.settingsWidget.children() if w.property("settingKey")]
        self.assertEqual(len(editors), 16)
        for editor in editors:
            self.assertGreater(len(editor.toolTip), 30, editor.objectName)

    def test_a_study_that_is_not_checked_yet(self):
        self.parameters.studyFolder = self.makeFolder("new study")
        processEvents(20)
        self.assertIn("not checked yet", self.ui2.startStatusLabel.text)
        self.assertFalse(self.ui2.startButton.enabled)
        self.assertFalse(self.ui2.estimateButton.enabled)

    def test_a_name_that_no_folder_can_have(self):
        for name, words in (("a/b", "cannot be the name"), ("..", "cannot be the name")):
            self.parameters.runName = name
            processEvents(20)
            self.assertIn(words, self.ui2.startStatusLabel.text)
            self.assertFalse(self.ui2.startButton.enabled)

    def test_a_worker_elsewhere_cannot_train_here(self):
        qt.QSettings().setValue("DINOMix/WorkerCommand", "ssh gpu-box dinomix worker")
        self.widget.update()
        self.assertIn("runs on another computer", self.ui2.startStatusLabel.text)
        self.assertFalse(self.ui2.startButton.enabled)
        self.assertIn("dinomix train", self.ui2.trainCommandText.plainText)


class TeacherTest(TrainingTestCase):
    def choose_(self, text):
        self.choose(self.ui2.teacherComboBox, text)

    def test_a_file(self):
        good, bad = self.folder / "dinov3.safetensors", self.folder / "other.safetensors"
        for path, name in ((good, "cls_token"), (bad, "conv")):
            header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
            path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        with patch("qt.QFileDialog.getOpenFileName", lambda *arguments: str(bad)):
            self.choose_("A file of DINOv3's weights...")
        self.assertIn("holds no weights of a DINOv3", self.ui.messageLabel.text)
        self.assertEqual(self.parameters.teacher, "off")
        with patch("qt.QFileDialog.getOpenFileName", lambda *arguments: str(good)):
            self.choose_("A file of DINOv3's weights...")
        self.assertEqual(self.option("--teacher"), str(good))
        self.assertEqual(self.ui2.teacherComboBox.currentText, "dinov3.safetensors")
        good.unlink()
        self.widget.update()
        self.assertIn("There is no file", self.ui2.startStatusLabel.text)

    def test_a_file_of_another_backbone(self):
        weights, damaged = self.folder / "resnet.safetensors", self.folder / "damaged.safetensors"
        header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        weights.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        damaged.write_bytes(header)

        def chosen(name, path):
            with (
                patch("qt.QInputDialog.getText", lambda *arguments: name),
                patch("qt.QFileDialog.getOpenFileName", lambda *arguments: str(path)),
            ):
                self.choose_("Another backbone and its file...")

        chosen("resnet 50", weights)
        self.assertIn("resnet 50 is no name of a backbone", self.ui.messageLabel.text)
        chosen("resnet50", damaged)
        self.assertIn("damaged.safetensors holds no weights. Choose", self.ui.messageLabel.text)
        chosen("", weights)
        self.assertEqual(self.parameters.teacher, "off")
        chosen("resnet50", weights)
        self.assertEqual(self.option("--teacher"), f"resnet50={weights}")
        self.assertEqual(self.ui2.teacherComboBox.currentText, "resnet50: resnet.safetensors")
        self.assertTrue(self.ui2.startButton.enabled)
        self.assertEqual(weight_file(self.option("--teacher")), ("resnet50", weights))  # so the engine understands it
        weights.unlink()
        self.widget.update()
        self.assertIn(f"There is no file {weights}", self.ui2.startStatusLabel.text)

    def test_nothing_is_fetched_before_the_licence_is_accepted(self):
        with patch("DINOMixTrainLib.training_page.askForLicence", lambda: False):
            self.choose_("DINOv3 ViT-B, fetched by timm")
        self.assertEqual(self.parameters.teacher, "off")
        self.assertNotIn("--download-teacher", self.words())
        # A scene of someone who had accepted it, on the computer of one who has not.
        self.parameters.teacher = teachers.DINOV3
        processEvents(20)
        self.assertIn("Read and accept the licence", self.ui2.startStatusLabel.text)
        self.assertNotIn("--download-teacher", self.words())
        with patch("DINOMixTrainLib.training_page.askForLicence", lambda: True):
            self.click(self.ui2.licenceButton)
        self.assertIn("--download-teacher", self.words())
        self.assertTrue(self.ui2.startButton.enabled)

    def test_weights_in_the_cache_need_neither_licence_nor_network(self):
        place = self.folder / "no cache" / "models--timm--vit_base_patch16_dinov3.lvd1689m" / "snapshots" / "abc"
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"")
        self.widget.update()
        self.choose_("DINOv3 ViT-B from your cache")
        self.assertEqual(self.option("--teacher"), teachers.DINOV3)
        self.assertNotIn("--download-teacher", self.words())
        self.assertFalse(self.ui2.licenceButton.isVisible())
        self.assertTrue(self.ui2.startButton.enabled)

    def test_the_dialog_wants_a_check_mark(self):
        dialog = licenceDialog()
        self.addCleanup(dialog.deleteLater)
        text, box = dialog.findChild(qt.QLabel, "licenceLabel"), dialog.findChild(qt.QCheckBox, "acceptCheckBox")
        button = dialog.findChild(qt.QPushButton, "acceptButton")
        self.assertIn("https://ai.meta.com/resources/models-and-libraries/dinov3-license/", text.text)
        self.assertFalse(button.enabled)
        box.checked = True
        self.assertTrue(button.enabled)
        dialog.show()
        button.click()
        self.assertEqual(dialog.result(), qt.QDialog.Accepted)


class EstimateTest(TrainingTestCase):
    def test_it_is_made_of_real_steps_and_remembered_while_nothing_changes(self):
        self.parameters.settings = json.dumps({**QUICK, "steps": 40})
        self.parameters.device = "cpu"
        processEvents(20)
        self.assertEqual(self.texts().count("Not estimated yet"), 3)
        self.click(self.ui2.estimateButton)
        self.assertEqual(self.ui2.estimateButton.text, "Cancel")
        self.assertTrue(self.ui2.estimateProgressBar.isVisible())
        waitUntil(lambda: self.logic.training.estimating is None, PATIENCE, "the estimate")
        self.assertRegex(self.texts(), r"Pseudo-labels .* steps.* Images are brought to voxels of")
        self.assertEqual(self.texts().count("Images are brought to voxels of"), 1)
        processEvents(20)
        self.assertRegex(self.texts(), r"About [\w. ]+ on cpu, with [\d.]+ GB of memory and [\d.]+ GB of disk")
        self.assertEqual(self.texts().count("Not estimated yet"), 2)
        self.assertFalse((study / "runs").exists())

        self.parameters.seed = 4
        processEvents(20)
        self.assertEqual(self.texts().count("Not estimated yet"), 3)
        self.parameters.seed = 0
        processEvents(20)
        self.assertEqual(self.texts().count("Not estimated yet"), 2)
        # Another window, another day.
        settings = self.parameters.settings
        self.closeWindow()
        slicer.mrmlScene.Clear(False)
        self.openWindow()
        self.parameters.studyFolder, self.parameters.settings, self.parameters.device = str(study), settings, "cpu"
        self.waitForPresets()
        processEvents(20)
        self.assertEqual(self.texts().count("Not estimated yet"), 2)

    def test_it_can_be_given_up(self):
        self.click(self.ui2.estimateButton)
        waitUntil(lambda: self.logic.training.estimating is not None)
        processEvents(500)
        self.click(self.ui2.estimateButton)
        waitUntil(lambda: self.logic.training.estimating is None, what="its end")
        processEvents(20)
        self.assertEqual(self.ui2.estimateButton.text, "Estimate time and memory")
        self.assertEqual(self.texts().count("Not estimated yet"), 3)
        self.assertFalse((study / ESTIMATES).exists())
        self.assertEqual(self.ui.messageLabel.text, "")

    def test_closing_the_window_ends_it(self):
        self.click(self.ui2.estimateButton)
        processEvents(200)
        self.closeWindow()  # the test fails if its process is left running


class StartTest(TrainingTestCase):
    def test_it_leads_to_the_page_run_and_the_command_line_gives_the_same_numbers(self):
        self.parameters.settings = json.dumps({**QUICK, "steps": 8})
        self.parameters.seed = 11
        self.parameters.device = "cpu"
        self.parameters.runName = "first try"
        words = self.words()
        run = study / "runs" / "first try"
        self.addCleanup(endRun, run)
        self.click(self.ui2.startButton)
        self.assertEqual(self.ui.pagesTabWidget.currentIndex, 2)
        self.assertEqual(self.parameters.runPath, str(run))
        waitUntil(lambda: self.logic.runs.state.name == "finished", PATIENCE, "the end of the run")
        self.assertEqual(events(run, "loss")[-1]["step"], 8)

        again = study / "runs" / "from the terminal"
        words[words.index("--out") + 1] = str(again)
        done = engine(*words[1:])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(numbers(run), numbers(again))

        self.widget.goTo("training")
        self.parameters.runName = "first try"
        processEvents(20)
        self.assertIn("There is a run named first try already", self.ui2.startStatusLabel.text)


class OffersTest(unittest.TestCase):
    def test_models_devices_and_presets_are_listed_without_a_worker(self):
        with tempfile.TemporaryDirectory() as folder, patch.dict("os.environ", {"DINOMIX_MODELS": folder}):
            broken = Path(folder) / "elsewhere" / "spleen"
            (broken / "models").mkdir(parents=True)
            (broken / "models" / "model.safetensors").write_bytes(b"")
            qt.QSettings().setValue("DINOMix/ModelFolders", [str(broken)])
            offers, heard = Offers(), []
            offers.changed.connect(lambda: heard.append(True))
            offers.refresh()
            offers.refresh()  # what is asked for is not asked again
            waitUntil(lambda: len(heard) == 3, PATIENCE, "the engine's answers")
        self.assertEqual([(Path(model["path"]).name, bool(model["problem"])) for model in offers.models],
                         [("spleen", True)])  # fmt: skip
        self.assertIn("cpu", [device["name"] for device in offers.devices])
        self.assertIn(offers.automatic, [device["name"] for device in offers.devices])
        self.assertEqual(offers.preset("standard")["name"], "standard")
        self.assertIsNone(offers.model(str(broken / "gone")))


class WordsTest(unittest.TestCase):
    def test_overlap(self):
        self.assertIn("knows all 1", overlapText(("Right Kidney",), ("kidney_right",)))
        self.assertIn("knows none", overlapText(("liver",), ("spleen",)))
        self.assertIn("nothing to keep", overlapText(("liver",), ("Liver",), keeps=True))

    def test_patch(self):
        self.assertEqual(patchOf("96,96, 64"), [96, 96, 64])
        self.assertEqual(patchOf("96x96x64"), [96, 96, 64])
        for text in ("96", "96, 96", "a, b, c", "96, 96, 2", "96, 96, 4000", ""):
            self.assertIsNone(patchOf(text), text)


if __name__ == "__main__":
    unittest.main()
