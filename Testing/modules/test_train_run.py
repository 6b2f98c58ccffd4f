"""Page 3 over real processes that train: found again, paused, resumed, stopped, killed, and left by their folder."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest.mock import patch

import slicer
from train_cases import engine, events, isAlive, makeStudy, numbers, trainOptions
from train_window import TrainWindowTestCase
from waiting import processEvents, waitUntil

from dinomix_slicer.run.process import endRun, resumeRun, startRun
from dinomix_slicer.run.state import RUNNING, quickState, readJson

LONG = 400  # steps of a run that a test ends before they are over
PATIENCE = 180


def setUpModule():
    global folder, study
    folder = tempfile.TemporaryDirectory()
    study = Path(folder.name)
    makeStudy(study)


def tearDownModule():
    folder.cleanup()


class RunTestCase(TrainWindowTestCase):
    def prepare(self):
        self.run_ = study / "runs" / self.id().rpartition(".")[2]
        self.addCleanup(self.endRun)

    def endRun(self):
        if self.run_.is_dir():
            endRun(self.run_)
            waitUntil(lambda: not self.isRunning())

    def isRunning(self):
        notes = [readJson(self.run_ / name) or {} for name in ("launch.json", "alive.json")]
        return any(isAlive(note.get("pid", 0)) for note in notes)

    def start(self, steps=LONG, **settings):
        """Start a run, and show it."""
        startRun(self.run_, trainOptions(study / "cohort.json", steps, **settings))
        self.follow()

    def follow(self):
        self.widget.goTo("run")
        self.parameters.studyFolder = str(study)
        self.parameters.runPath = str(self.run_)
        processEvents(50)

    @property
    def state(self):
        return self.logic.runs.state

    def waitForState(self, *names):
        waitUntil(lambda: self.state is not None and self.state.name in names, PATIENCE, f"{names}")

    def waitForValidation(self):
        # Its events may be read before the next look at what has become of the run, which the buttons go by.
        waitUntil(
            lambda: self.logic.runs.best is not None and self.state.name == RUNNING,
            PATIENCE,
            "a validation while it runs",
        )

    def waitForText(self, label, *words):
        waitUntil(lambda: all(word in label.text for word in words), PATIENCE, f"{words}, not: {label.text}")


class WholeLifeTest(RunTestCase):
    def test_closed_found_again_paused_resumed_and_finished_with_the_numbers_of_the_command_line(self):
        # Still running on a fast computer when the window is open again.
        steps, rarely = 160, {"validate_every": 20, "checkpoint_every": 20}
        self.start(steps, **rarely)
        self.assertIn("Starting", self.ui3.stateLabel.text)
        self.waitForText(self.ui3.stateLabel, "Training: step", f"of {steps}")
        waitUntil(lambda: self.pointsShown() >= 2, PATIENCE, "curves that move")
        before = self.pointsShown()
        waitUntil(lambda: self.pointsShown() > before, PATIENCE, "curves that move on")
        self.waitForValidation()
        self.choose(self.ui3.curvesComboBox, "Validation Dice")
        waitUntil(lambda: self.pointsShown() >= 1, what="validation")

        # Slicer is closed, and opened again with an empty scene.
        self.closeWindow()
        slicer.mrmlScene.Clear(False)
        self.assertTrue(self.isRunning())
        self.openWindow()
        self.assertEqual(self.parameters.runPath, str(self.run_))
        self.widget.goTo("run")
        self.waitForText(self.ui3.stateLabel, "Training: step")
        waitUntil(lambda: self.pointsShown() >= before, what="curves of before")

        self.click(self.ui3.pauseButton)
        self.assertRegex(self.ui3.stateLabel.text, "asked to pause|Paused")
        self.waitForState("paused")
        self.assertIn("Paused at step", self.ui3.stateLabel.text)
        self.assertFalse(self.ui3.pauseButton.enabled)
        waitUntil(lambda: not self.isRunning(), what="the end of its process")
        self.click(self.ui3.resumeButton)
        self.waitForState("new", "running")
        self.waitForState("finished")
        self.assertIn("has finished with a validation Dice of", self.ui.messageLabel.text)
        self.assertTrue((self.run_ / "model" / "labels.json").is_file())
        self.assertFalse(self.ui3.resumeButton.enabled)

        again = study / "runs" / "by command line"
        done = engine("train", *trainOptions(study / "cohort.json", steps, **rarely), "--out", again)
        self.assertEqual(done.returncode, 0, done.stderr)
        # The run also tells of the step that it was paused after, wherever that was.
        regular = [event for event in numbers(self.run_) if event["step"] % 2 == 0]
        self.assertEqual(regular, numbers(again))

    def test_stopped_early_it_keeps_its_best_model(self):
        self.start()
        self.waitForValidation()
        with patch.object(slicer.util, "confirmYesNoDisplay", lambda text: True):
            self.click(self.ui3.stopButton)
        self.waitForState("finished")
        self.assertIn("stopped early", self.ui3.stateLabel.text)
        self.assertTrue((self.run_ / "model" / "labels.json").is_file())
        self.assertLess(events(self.run_, "loss")[-1]["step"], LONG)

    def test_a_paused_run_is_stopped_without_going_on(self):
        self.start()
        self.waitForValidation()
        self.click(self.ui3.pauseButton)
        self.waitForState("paused")
        waitUntil(lambda: not self.isRunning(), what="the end of its process")
        processEvents(50)
        self.assertTrue(self.ui3.stopButton.enabled)
        step = events(self.run_, "loss")[-1]["step"]
        with patch.object(slicer.util, "confirmYesNoDisplay", lambda text: True):
            self.click(self.ui3.stopButton)
        self.waitForState("finished")
        self.assertIn("stopped early", self.ui3.stateLabel.text)
        self.assertIn("has finished with a validation Dice of", self.ui.messageLabel.text)
        self.assertTrue((self.run_ / "model" / "labels.json").is_file())
        self.assertEqual(events(self.run_, "loss")[-1]["step"], step)
        self.assertFalse(self.ui3.stopButton.enabled)


class AccidentsTest(RunTestCase):
    def test_a_killed_process_is_told_and_the_run_resumed(self):
        self.start()
        self.waitForValidation()
        waitUntil(lambda: events(self.run_, "checkpoint"), PATIENCE)
        os.kill(readJson(self.run_ / "alive.json")["pid"], signal.SIGKILL)
        self.waitForState("lost")
        self.assertIn("Interrupted at step", self.ui3.stateLabel.text)
        self.assertIn("was ended from outside", self.ui3.stateLabel.text)
        self.assertIn("was ended from outside", self.ui.messageLabel.text)
        step = events(self.run_, "loss")[-1]["step"]
        self.click(self.ui3.resumeButton)
        self.waitForState("running")
        waitUntil(lambda: self.logic.runs.follower.step > step, PATIENCE, "further steps")
        self.assertEqual(len({event["step"] for event in events(self.run_, "loss")}), len(events(self.run_, "loss")))

    def test_a_process_that_stands_still_can_be_ended(self):
        self.start()
        self.waitForValidation()
        process = readJson(self.run_ / "alive.json")["pid"]
        os.kill(process, signal.SIGSTOP)
        with patch("dinomix_slicer.run.state.PATIENCE_HERE", 3.0):
            self.waitForText(self.ui3.stateLabel, "stands still")
            waitUntil(self.ui3.endButton.isVisible)
            self.click(self.ui3.endButton)
            self.waitForState("lost")
        self.assertFalse(isAlive(process))
        self.assertTrue(self.ui3.resumeButton.enabled)

    def test_deleting_its_folder_is_told_without_a_traceback(self):
        self.start()
        self.waitForValidation()
        process = readJson(self.run_ / "alive.json")["pid"]
        waitUntil(self.delete, what="the folder is deleted")
        waitUntil(lambda: not isAlive(process), what="the end of its process")
        waitUntil(self.delete)
        self.waitForText(self.ui3.stateLabel, "is gone")
        self.assertIn("is gone", self.ui.messageLabel.text)
        self.assertFalse(self.ui3.pauseButton.enabled)
        self.assertFalse(self.ui3.resumeButton.enabled)
        self.assertEqual(self.ui3.runComboBox.currentText.partition(":")[0], self.run_.name)

    def delete(self):
        """Delete the run's folder as a user does, while its process still writes into it."""
        shutil.rmtree(self.run_, ignore_errors=True)
        return not self.run_.exists()

    def test_what_prevents_a_start_is_told(self):
        startRun(self.run_, ["--cohort", str(study / "nowhere.json")])
        self.follow()
        self.waitForState("failed")
        self.assertIn("nowhere.json is not a cohort file", self.ui3.stateLabel.text)
        self.assertFalse(self.ui3.resumeButton.enabled)

    def test_no_space_left_pauses_the_run_and_it_can_be_resumed(self):
        small = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, small, True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True, check=False
        )
        if mounted.returncode:
            self.skipTest(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(small)], check=False)
        self.addCleanup(self.endRun)
        self.run_ = small / "run"
        startRun(self.run_, [*trainOptions(study / "cohort.json", LONG), "--cache", str(study / "cache")])
        self.follow()
        waitUntil(lambda: events(self.run_, "checkpoint"), PATIENCE, "a checkpoint")
        with open(small / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        self.waitForState("paused", "lost")
        waitUntil(lambda: not self.isRunning(), what="the end of its process")
        processEvents(1500)
        self.assertRegex(self.ui3.stateLabel.text, "no space left|disk of this run is full")
        (small / "filler").unlink()
        step = self.logic.runs.follower.step
        self.click(self.ui3.resumeButton)
        self.waitForState("running")
        waitUntil(lambda: self.logic.runs.follower.step > step, PATIENCE, "further steps")


class SecondWindowTest(RunTestCase):
    def test_it_follows_and_can_pause_but_a_second_process_is_refused(self):
        self.start()
        self.waitForState("running")
        process = readJson(self.run_ / "alive.json")["pid"]
        with patch("DINOMixTrainLib.widget.DINOMixTrainLogic", lambda: self.makeLogic()):
            panel = slicer.modules.dinomixtrain.createNewWidgetRepresentation()
        second = panel.self()
        self.addCleanup(panel.deleteLater)
        self.addCleanup(second.cleanup)
        second.enter()
        waitUntil(lambda: second.logic.runs.best is not None, PATIENCE, "a validation in the second window")
        self.assertEqual(second.logic.runs.state.name, "running")
        self.assertFalse(second.pages["run"].ui.resumeButton.enabled)
        resumeRun(self.run_)
        self.waitForText(self.ui.messageLabel, "Another process is training in")
        self.assertEqual(self.state.name, "running")
        second.pages["run"].ui.pauseButton.click()
        self.waitForState("paused")
        waitUntil(lambda: second.logic.runs.state.name == "paused")
        waitUntil(lambda: not isAlive(process), what="its end")  # the run's files name the refused one by now


class ElsewhereTest(RunTestCase):
    def test_a_run_of_the_command_line_is_opened_and_followed(self):
        """As one that trains on another computer over a shared folder; only its files are seen."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dinomix", "train", *trainOptions(study / "cohort.json", 12), "--out", str(self.run_)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.parameters.studyFolder = str(study)
        self.widget.goTo("run")
        waitUntil(lambda: (self.run_ / "config.json").is_file(), PATIENCE)
        with patch("qt.QFileDialog.getExistingDirectory", lambda *arguments: str(self.run_)):
            self.click(self.ui3.openRunButton)
        self.waitForState("running")
        self.waitForState("finished")
        waitUntil(lambda: self.pointsShown() == 6, what="all six rows")

    def test_a_folder_without_a_run_is_told(self):
        with patch("qt.QFileDialog.getExistingDirectory", lambda *arguments: str(study)):
            self.widget.goTo("run")
            self.click(self.ui3.openRunButton)
        self.assertIn("There is no run in", self.ui.messageLabel.text)


class SceneTest(RunTestCase):
    def stepShown(self):
        """The step of the validation whose segmentation is shown; a fast computer may skip one while another is loaded."""
        return int(self.ui3.snapshotLabel.text.rpartition("at step ")[2].partition(":")[0].replace(",", ""))

    def test_the_validation_case_is_shown_and_refreshed(self):
        self.widget.goTo("run")
        self.click(self.ui3.snapshotCheckBox)
        self.start()
        self.waitForText(self.ui3.snapshotLabel, "at step", "Dice")
        shown = self.stepShown()
        (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        self.assertEqual(volume.GetImageData().GetDimensions(), (32, 32, 32))
        names = [node.GetSegmentation().GetNthSegment(index).GetName() for index in range(2)]
        self.assertEqual(names, ["liver", "gallbladder"])
        first = slicer.util.arrayFromSegmentBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0), volume)
        self.assertGreater(first.sum(), 0)
        before = first.copy()
        waitUntil(lambda: self.stepShown() >= shown + 8, PATIENCE, "a segmentation two validations later")
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")), 1)
        after = slicer.util.arrayFromSegmentBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0), volume)
        self.assertTrue((before != after).any())
        expected = slicer.util.loadSegmentation(str(self.run_ / self.logic.runs.snapshot["path"]))
        self.assertIsNotNone(expected)

        # The scene is closed while it is shown.
        slicer.mrmlScene.Clear(False)
        processEvents(50)
        self.follow()
        self.waitForText(self.ui3.snapshotLabel, "at step 2")
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")), 1)

    def test_what_prepared_cases_take_of_the_disk_is_shown_until_training_begins(self):
        self.run_.mkdir(parents=True)
        events, now = self.run_ / "events.jsonl", time.time()
        (self.run_ / "config.json").write_text("{}")
        alive = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
        (self.run_ / "alive.json").write_text(json.dumps(alive))
        self.addCleanup(shutil.rmtree, self.run_)
        started = {"kind": "started", "time": now, "device": "cpu", "host": alive["host"], "steps": 9}
        disk = {"kind": "disk", "time": now, "cases": 2e9, "features": 1e9, "free": 8e9, "path": "cache"}
        prepared = {"kind": "progress", "time": now, "stage": "prepare", "step": 1, "total": 4, "eta": None}
        events.write_text("".join(json.dumps(event) + "\n" for event in (started, disk, prepared)))
        self.follow()
        self.waitForText(self.ui3.stateLabel, "Prepare: 1 of 4", "take 3.0 GB of the disk of cache; 8.0 GB are free")
        with events.open("a") as file:
            file.write(json.dumps({"kind": "loss", "time": now, "step": 1, "total": 0.5}) + "\n")
        waitUntil(lambda: "of the disk" not in self.ui3.stateLabel.text, what="training")

    def test_reloading_the_module_leaves_the_run_alone(self):
        self.closeWindow()
        panel = slicer.modules.dinomixtrain.widgetRepresentation()
        self.widget = panel.self()
        self.widget.enter()
        self.logic = self.widget.logic
        # The module's own window stays for other tests, and must be whole for them.
        self.addCleanup(lambda: panel.self().onReload())
        self.start()
        self.waitForState("running")
        self.widget.exit()
        self.widget.onReload()
        processEvents(20)
        again = panel.self()
        again.enter()
        waitUntil(lambda: again.logic.runs.state is not None and again.logic.runs.state.name == "running")
        waitUntil(lambda: again.logic.runs.best is not None, PATIENCE, "a validation")
        self.assertEqual(quickState(self.run_).name, "running")


if __name__ == "__main__":
    unittest.main()
