"""What has become of a run, told by its files alone."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from filelock import FileLock

import host

sys.path += [str(host.REPOSITORY / "DINOMixTrain"), str(host.REPOSITORY / "DINOMixSegment")]

from DINOMixSegmentLib.batch_items import isImageFile
from DINOMixSegmentLib.checks import whyNotModel
from DINOMixTrainLib.cohort_request import CohortRequest
from DINOMixTrainLib.teachers import whyNotFile
from DINOMixTrainLib.training_logic import TrainingLogic, whyNotFrom

from dinomix_slicer.run import process as run_process
from dinomix_slicer.run import state as run_state
from dinomix_slicer.run.follower import RunFollower
from dinomix_slicer.run.process import endRun, hasCheckpoint
from dinomix_slicer.run.registry import isRun, knownRuns, rememberRun
from dinomix_slicer.run.state import Heartbeat, judge, lastWord, quickState, readSigns

HERE = socket.gethostname()
TRAINING = """
import json, os, socket, subprocess, sys, time
from filelock import FileLock
lock = FileLock(".lock")
lock.acquire()
open("alive.json", "w").write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
"""What ``dinomix train`` does that others see of it, in the run's directory."""


@contextlib.contextmanager
def failing(folder):
    """All that lies in a folder cannot be looked at, as where a server has lost it while it was connected."""
    stat = os.stat

    def failed(path, *arguments, **options):
        if isinstance(path, str | os.PathLike) and Path(path).is_relative_to(folder):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return stat(path, *arguments, **options)

    with patch.object(os, "stat", failed):
        yield


class RunFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_ = Path(folder.name) / "runs" / "one"
        self.run_.mkdir(parents=True)
        self.write("config.json", {"train": {"steps": 100}})

    def write(self, name, data):
        (self.run_ / name).write_text(json.dumps(data), encoding="utf-8")

    def event(self, kind, **fields):
        with open(self.run_ / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), "kind": kind, **fields}) + "\n")

    def alive(self, pid=None, host_=HERE, age=0.0):
        self.write("alive.json", {"pid": pid or os.getpid(), "host": host_, "time": time.time() - age})

    def launch(self, pid, age=0.0, log=""):
        (self.run_ / "log.txt").write_text(log, encoding="utf-8")
        self.write("launch.json", {"pid": pid, "host": HERE, "time": time.time() - age, "log": 0})

    def judged(self):
        signs, heartbeat = readSigns(self.run_), Heartbeat()
        heartbeat.look(signs.alive)
        return judge(self.run_, lastWord(self.run_), signs, heartbeat)

    def deadProcess(self):
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        return process.pid


class StateTest(RunFiles):
    def test_running(self):
        self.event("started", steps=100)
        self.event("loss", step=2, total=1.0)
        self.alive()
        self.assertEqual(self.judged().name, "running")

    def test_its_last_word_counts(self):
        self.event("started", steps=100)
        self.event("paused", step=4, message="The disk is full.", remedy="Free some space.")
        state = self.judged()
        self.assertEqual((state.name, state.reason, state.remedy), ("paused", "The disk is full.", "Free some space."))
        self.assertTrue(state.canResume)
        self.event("started", steps=100)
        self.event("error", message="The loss is not finite.", remedy="Lower the learning rate.")
        self.assertEqual((self.judged().name, self.judged().reason), ("failed", "The loss is not finite."))
        self.event("started", steps=100)
        self.event("finished", path="model", seconds=3, stopped=True)
        self.assertEqual(self.judged().name, "finished")
        self.assertIn("stopped early", self.judged().reason)
        self.assertFalse(self.judged().canResume)

    def test_a_killed_process_is_told_at_once(self):
        self.event("loss", step=2, total=1.0)
        self.alive(pid=self.deadProcess())
        state = self.judged()
        self.assertEqual(state.name, "lost")
        self.assertIn("ended from outside", state.reason)
        self.assertTrue(state.canResume)

    def test_a_process_that_is_only_waiting_to_be_collected_has_ended(self):
        process = subprocess.Popen([sys.executable, "-c", ""])
        self.addCleanup(process.wait)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.event("loss", step=2, total=1.0)
        self.alive(pid=process.pid)
        self.assertEqual(self.judged().name, "lost")

    def test_a_full_disk_is_told_where_the_process_could_not_say_so(self):
        self.event("loss", step=2, total=1.0)
        usage = type("Usage", (), {"free": 1000})()
        with patch.object(run_state.shutil, "disk_usage", lambda path: usage):
            self.assertIn("disk of this run is full", self.judged().reason)

    def test_silence_from_elsewhere(self):
        self.event("loss", step=2, total=1.0)
        self.alive(pid=1, host_="gpu-box")
        signs, heartbeat = readSigns(self.run_), Heartbeat()
        heartbeat.look(signs.alive)
        state = judge(self.run_, lastWord(self.run_), signs, heartbeat)
        self.assertEqual((state.name, state.isHere), ("running", False))
        with patch.object(run_state, "PATIENCE_ELSEWHERE", -1.0):
            state = judge(self.run_, lastWord(self.run_), signs, heartbeat)
        self.assertEqual(state.name, "lost")
        self.assertIn("gpu-box", state.reason)

    def test_a_clock_elsewhere_may_be_wrong_by_hours(self):
        self.event("loss", step=2, total=1.0)
        heartbeat = Heartbeat()
        with patch.object(run_state, "PATIENCE_ELSEWHERE", 0.5):
            for _beat in range(4):
                self.alive(pid=1, host_="gpu-box", age=7200 - _beat)
                signs = readSigns(self.run_)
                heartbeat.look(signs.alive)
                self.assertEqual(judge(self.run_, lastWord(self.run_), signs, heartbeat).name, "running")
                time.sleep(0.2)

    def test_a_process_that_stands_still(self):
        """As after Ctrl-Z, or while a laptop sleeps; also where this window has only just begun to look."""
        self.event("loss", step=2, total=1.0)
        self.alive()
        lock = FileLock(self.run_ / ".lock")
        with lock, patch.object(run_state, "PATIENCE_HERE", -1.0):
            state, quick = self.judged(), quickState(self.run_)
        self.assertEqual((state.name, quick.name), ("running", "running"))
        self.assertIn("stands still", state.reason)

    def test_another_process_has_its_number_after_a_restart_of_the_computer(self):
        self.event("loss", step=2, total=1.0)
        self.alive()
        (self.run_ / ".lock").touch()
        with patch.object(run_state, "PATIENCE_HERE", -1.0):
            state, quick = self.judged(), quickState(self.run_)
        self.assertEqual((state.name, quick.name), ("lost", "lost"))
        self.assertTrue(state.canResume)
        # To look has not taken the lock away from who wants to train.
        with FileLock(self.run_ / ".lock").acquire(timeout=0):
            pass

    def test_the_folder_is_gone(self):
        signs = readSigns(self.run_ / "elsewhere")
        state = judge(self.run_ / "elsewhere", None, signs, Heartbeat())
        self.assertEqual((state.name, state.canResume), ("lost", False))
        self.assertIn("is gone", state.reason)

    def test_a_shared_folder_that_fails_is_told_as_gone(self):
        self.event("loss", step=2, total=1.0)
        with failing(self.run_.parents[1]):
            state = self.judged()
            self.assertFalse(isRun(self.run_) or hasCheckpoint(self.run_))
        self.assertEqual((state.name, state.canResume), ("lost", False))
        self.assertIn("its disk is not connected", state.remedy)
        self.assertTrue(isRun(self.run_))

    def test_what_is_asked_of_a_study_whose_shared_folder_fails_is_answered(self):
        study, logic = self.run_.parents[1], TrainingLogic(lambda node: None)
        node = SimpleNamespace(runName="", preset="one", studyFolder=str(study))
        with failing(study):
            self.assertIn("no labeled case", CohortRequest(studyFolder=str(study)).whyNot())
            self.assertEqual(logic.runName(node), "one-1")
            self.assertIn("is gone", whyNotFrom(str(self.run_ / "model")))
            self.assertIn("is gone", whyNotModel(str(self.run_ / "model"), [], isHere=True))
            self.assertIn("There is no file", whyNotFile(str(study / "resnet50=teacher.pth")))
            self.assertFalse(isImageFile(study / "ct.nii.gz"))

    def test_damaged_files_do_no_harm(self):
        (self.run_ / "alive.json").write_text("{", encoding="utf-8")
        (self.run_ / "launch.json").write_text("[1]", encoding="utf-8")
        (self.run_ / "events.jsonl").write_bytes(b"\xff\x00\n{}\n[1]\n" + b'{"kind": "finished"')
        self.assertEqual(self.judged().name, "lost")


class LaunchTest(RunFiles):
    def test_starting(self):
        (self.run_ / "config.json").unlink()
        self.launch(os.getpid())
        self.assertEqual(self.judged().name, "new")

    def test_resuming_after_a_pause(self):
        self.event("paused", step=4, reason="Asked.", remedy="")
        time.sleep(0.01)
        self.launch(os.getpid())
        self.assertEqual(self.judged().name, "new")
        time.sleep(0.01)
        self.event("started", steps=100)
        self.alive()
        self.assertEqual(self.judged().name, "running")

    def test_what_prevents_a_start_is_told_with_its_own_words(self):
        (self.run_ / "config.json").unlink()
        self.launch(self.deadProcess(), log="loading\nError: The teacher is missing. Choose another.\n")
        state = self.judged()
        self.assertEqual((state.name, state.reason), ("failed", "The teacher is missing. Choose another."))
        self.assertFalse(state.canResume)

    def test_a_crash_at_the_start(self):
        self.launch(self.deadProcess(), log="Traceback\nImportError: libcuda\n")
        self.assertIn("ImportError: libcuda", self.judged().reason)

    def test_a_refused_second_process_does_not_hide_the_first(self):
        self.event("loss", step=2, total=1.0)
        self.alive()
        time.sleep(0.01)
        self.launch(self.deadProcess(), log="Error: Another process is training.\n")
        self.assertEqual(self.judged().name, "running")


class EndTest(RunFiles):
    def started(self, program, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=self.run_, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def trained(self):
        """A process that trains the run, and the number of one that it has started."""
        process = self.started(TRAINING)
        return process, int(process.stdout.readline())

    def stranger(self):
        """A process that is nothing of the run's."""
        return self.started("import time; time.sleep(600)")

    def assertEnded(self, process, child):
        self.assertNotEqual(process.wait(10), 0)
        host.waitUntil(lambda: not run_state.isThere(child))

    def test_who_has_the_number_of_before_a_restart_of_the_computer_is_left_alone(self):
        """Started from Slicer; after the restart, resumed in a terminal."""
        stranger = self.stranger()
        self.launch(stranger.pid, age=3600)
        process, child = self.trained()
        endRun(self.run_)
        self.assertEnded(process, child)
        self.assertIsNone(stranger.poll())

    def test_an_old_sign_of_life_ends_nobody(self):
        stranger = self.stranger()
        self.alive(stranger.pid)
        endRun(self.run_)
        self.assertIsNone(stranger.poll(), "no process trains the run")
        self.alive(stranger.pid, age=3600)
        with FileLock(self.run_ / ".lock"):
            endRun(self.run_)
        self.assertIsNone(stranger.poll(), "the one that trains it has not said so yet")

    def test_a_slicer_that_was_closed_meanwhile_ends_what_it_has_started(self):
        launcher = self.started("import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", TRAINING)
        child = int(launcher.stdout.readline())
        self.launch(launcher.pid)
        endRun(self.run_)
        self.assertEnded(launcher, child)
        self.assertFalse(run_state.isThere(run_state.readJson(self.run_ / "alive.json")["pid"]))

    def test_what_is_only_starting_is_ended_too(self):
        started = self.stranger()
        self.launch(started.pid)
        endRun(self.run_)
        self.assertNotEqual(started.wait(10), 0)

    def test_what_this_slicer_has_started_is_ended_whatever_the_files_say(self):
        started = self.stranger()
        with patch.dict(run_process._started, {self.run_: started}):
            endRun(self.run_)
        self.assertNotEqual(started.wait(10), 0)


class QuickTest(RunFiles):
    def test_an_old_sign_of_life_is_none(self):
        """The number of a process of before the restart may belong to another one now."""
        self.event("loss", step=2, total=1.0)
        self.alive(age=5)
        self.assertEqual(quickState(self.run_).name, "running")
        self.alive(age=3600)
        self.assertEqual(quickState(self.run_).name, "lost")


class RegistryTest(RunFiles):
    def test_runs_of_the_study_come_first(self):
        other = self.run_.parents[1] / "elsewhere"
        other.mkdir()
        rememberRun(other)
        study = str(self.run_.parents[1])
        self.assertEqual(knownRuns(study), [self.run_])
        (other / "config.json").write_text("{}")
        self.assertEqual(knownRuns(study), [self.run_, other])
        self.assertEqual(knownRuns(), [other])


class FollowerTest(RunFiles):
    def setUp(self):
        super().setUp()
        self.heard = []
        self.follower = RunFollower(self.run_)
        self.follower.event.connect(lambda event: self.heard.append(event))
        self.follower.restarted.connect(lambda: self.heard.append("again"))
        self.addCleanup(self.follower.stop)

    def steps(self):
        return [event if event == "again" else event.get("step") for event in self.heard]

    def test_events_come_as_they_are_written(self):
        self.event("loss", step=1)
        self.follower.start()
        host.waitUntil(lambda: self.follower.isCaughtUp)
        self.event("loss", step=2)
        with open(self.run_ / "events.jsonl", "a") as file:
            file.write('{"kind": "loss", "st')
        host.waitUntil(lambda: len(self.heard) == 2)
        with open(self.run_ / "events.jsonl", "a") as file:
            file.write('ep": 3}\n')
        host.waitUntil(lambda: len(self.heard) == 3)
        self.assertEqual(self.steps(), [1, 2, 3])
        self.assertEqual((self.follower.step, self.follower.steps), (3, 100))

    def test_a_run_with_a_budget_of_time_tells_its_steps_when_they_are_measured(self):
        self.write("config.json", {"train": {"steps": None, "time": 60.0}})
        self.event("started", steps=None)
        self.follower.start()
        host.waitUntil(lambda: self.follower.isCaughtUp)
        self.assertEqual(self.follower.steps, 0)
        self.event("schedule", step=0, steps=40)
        self.event("schedule", step=10, steps=30)
        host.waitUntil(lambda: len(self.heard) == 3)
        self.assertEqual((self.follower.step, self.follower.steps), (10, 30))

    def test_a_resumed_run_takes_events_back(self):
        for step in range(1, 8):
            self.event("loss", step=step)
        self.follower.start()
        host.waitUntil(lambda: self.follower.isCaughtUp)
        kept = (self.run_ / "events.jsonl").read_text().splitlines(keepends=True)[:4]
        (self.run_ / "aside").write_text("".join(kept))
        os.replace(self.run_ / "aside", self.run_ / "events.jsonl")
        self.event("loss", step=5)
        host.waitUntil(lambda: "again" in self.heard and len(self.heard) == 13)
        self.assertEqual(self.steps(), [1, 2, 3, 4, 5, 6, 7, "again", 1, 2, 3, 4, 5])

    def test_deleting_the_folder_is_told_and_harmless(self):
        self.event("loss", step=1)
        self.follower.start()
        host.waitUntil(lambda: self.follower.isCaughtUp)
        for file in self.run_.iterdir():
            file.unlink()
        self.run_.rmdir()
        host.waitUntil(lambda: "is gone" in self.follower.state.reason)
        self.assertEqual(self.follower.state.name, "lost")

    def test_a_folder_that_comes_back(self):
        """A shared folder that was not connected for a while."""
        self.event("loss", step=1)
        self.alive()
        self.follower.start()
        host.waitUntil(lambda: self.follower.isCaughtUp)
        away = self.run_.with_name("away")
        os.replace(self.run_, away)
        host.waitUntil(lambda: self.follower.state.name == "lost")
        os.replace(away, self.run_)
        self.alive()
        host.waitUntil(lambda: self.follower.state.name == "running")
        self.assertEqual(self.steps(), [1])


if __name__ == "__main__":
    unittest.main()
