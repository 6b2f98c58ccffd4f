"""A program beside Slicer is heard message by message, with the window's turn in between; and what processes are ended."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import qt
from workers import isAlive, script

from dinomix.worker.stream import Decoder
from dinomix_slicer import process as process_module
from dinomix_slicer import processes
from dinomix_slicer.process import Process
from host import processEvents, waitUntil

MANY = """
import json, sys
for number in range(500):
    sys.stdout.write(json.dumps({"type": "event", "number": number}) + "\\n")
sys.stdout.flush()
"""


def processOf(folder, text, take):
    """A process that gives ``take`` the number of each message, and what it has said of its end."""
    process, ends = Process(script(folder, text), [], Decoder().feed), []
    process.heard.connect(lambda message: take(message.fields["number"]))
    process.ended.connect(lambda *how: ends.append(how))
    process.start()
    return process, ends


def test_many_messages_at_once_leave_the_window_its_turn(tmp_path, monkeypatch):
    now, taken = [0.0], []

    def take(number):
        now[0] += 0.002  # of a clock that only this work drives, so that other programs do not count
        taken.append(number)

    monkeypatch.setattr(process_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    turns, timer = [], qt.QTimer()
    timer.connect("timeout()", lambda: turns.append(now[0]))
    timer.setInterval(0)
    timer.start()
    _process, ends = processOf(tmp_path, MANY, take)
    waitUntil(lambda: ends)
    timer.stop()
    assert taken == list(range(500)) and now[0] == pytest.approx(1.0)
    assert ends == [("exited", 0)]
    assert max(np.diff([0.0, *turns])) < 0.05


def test_all_can_be_heard_at_once(tmp_path):
    taken = []
    process, _ends = processOf(tmp_path, MANY + "import time; time.sleep(60)", taken.append)
    while len(taken) < 500:
        process._process.waitForReadyRead(100)  # no turn of the event loop
        process.hearAll()
    assert taken == list(range(500))
    process.end()


def test_nothing_is_heard_after_its_end(tmp_path):
    taken = []

    def take(number):
        taken.append(number)
        if len(taken) == 3:
            process.end()

    process, ends = processOf(tmp_path, MANY + "import time; time.sleep(60)", take)
    waitUntil(lambda: taken)
    processEvents(50)
    assert taken == [0, 1, 2] and not ends and not process.isRunning()


def test_what_waits_for_input_gets_an_empty_one(tmp_path):
    _process, ends = processOf(tmp_path, "import sys; sys.exit(len(sys.stdin.read()))", None)
    waitUntil(lambda: ends)
    assert ends == [("exited", 0)]


def test_a_program_that_is_not_there(tmp_path):
    command = SimpleNamespace(arguments=[str(tmp_path / "none"), sys.executable], environment={})
    process, ends = Process(command, [], Decoder().feed), []
    process.ended.connect(lambda *how: ends.append(how))
    process.start()
    waitUntil(lambda: ends)
    assert ends == [("not started", -1)]


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def test_no_process_is_ended_that_this_one_descends_from(sleeper, monkeypatch):
    """Such as 1, which a worker in a container says that it is."""
    signaled = set()
    monkeypatch.setattr(processes.os, "kill", lambda process, number: signaled.add(process))
    line = [process.pid for process in psutil.Process().parents()]
    processes.killTrees([1, os.getpid(), *line, sleeper.pid])
    assert signaled == {sleeper.pid}


def test_a_tree_is_ended(sleeper):
    assert isAlive(sleeper.pid)
    processes.killTrees([sleeper.pid])
    assert sleeper.wait(10) != 0


@pytest.mark.parametrize("hasProc", [True, False])
def test_when_a_process_was_created(sleeper, monkeypatch, hasProc):
    if not hasProc:  # as on macOS
        monkeypatch.setattr(processes, "_hasProc", lambda: False)
    assert processes.createdAt(sleeper.pid) == pytest.approx(time.time(), abs=5)
    assert processes.createdAt(os.getpid()) == pytest.approx(psutil.Process().create_time(), abs=5)
    sleeper.kill()
    sleeper.wait()
    assert processes.createdAt(sleeper.pid) is None


def test_an_age_as_it_is_written():
    assert [processes._secondsOf(age) for age in ("00:07", "01:02:03", "2-00:00:01")] == [7, 3723, 172801]
