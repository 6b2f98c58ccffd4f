"""The engine's verbs in the background, with the real engine and with programs that behave as it should not."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import qt
import SimpleITK as sitk
from workers import TEN_THOUSAND_EVENTS, isAlive, script

from dinomix.errors import DinomixError
from dinomix_slicer import process as process_module
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.worker.command import SETTING, WorkerCommand, engineCommand
from host import processEvents, waitUntil

ENDS = ("finished", "failed", "cancelled")


class Heard:
    """Everything that a process announces: (signal's name, arguments...)."""

    def __init__(self, process):
        self.events, self.ends = [], []
        process.event.connect(self.events.append)
        for name in ENDS:
            getattr(process, name).connect(lambda *arguments, name=name: self.ends.append((name, *arguments)))

    def kinds(self):
        return {event.get("kind") for event in self.events}


def run(process, seconds=60):
    heard = Heard(process)
    process.start()
    assert not heard.ends, "nothing is announced before start() has returned"
    waitUntil(lambda: heard.ends, seconds)
    processEvents(50)
    assert len(heard.ends) == 1, heard.ends
    assert not process.isRunning()
    return heard


def labeledFolder(folder: Path, count=2) -> Path:
    """Images with labels, each of other noise."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image = np.random.default_rng(number).normal(0, 100, (12, 14, 16)).astype(np.float32)
        labels = np.zeros(image.shape, np.uint8)
        labels[4:8, 4:9, 4:10] = 1
        sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / "images" / f"case{number}.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "labels" / f"case{number}.nii.gz"))
    return folder


def test_a_verb_runs_with_the_engines_own_events(tmp_path):
    out = tmp_path / "Kohorte ü 例.json"
    heard = run(EngineProcess(["check", "--labeled", str(labeledFolder(tmp_path / "a b")), "--out", str(out)]))
    assert heard.ends == [("finished", 0)]
    assert {"progress", "cohort"} <= heard.kinds()
    assert out.is_file()


def test_a_verb_that_fails_gives_the_engines_own_words(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    heard = run(EngineProcess(["check", "--labeled", str(empty), "--out", str(tmp_path / "cohort.json"), "--json"]))
    (end,) = heard.ends
    assert end[0] == "failed"
    assert str(empty) in end[1]
    assert end[2].endswith(".")
    assert "error" in heard.kinds()
    assert not (tmp_path / "cohort.json").exists()


def test_a_wrong_option_is_one_sentence():
    (end,) = run(EngineProcess(["check", "--no-such-option"])).ends
    assert end[0] == "failed"
    assert "no-such-option" in end[1]
    assert "Traceback" not in end[1]


TREE = """
import json, os, subprocess, sys, time, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"kind": "here", "pids": [os.getpid(), child.pid]}), flush=True)
time.sleep(600)
"""


def throughLauncher(folder: Path, text: str) -> WorkerCommand:
    """As Slicer's PythonSlicer does, a launcher stands between."""
    launcher = folder / "launcher"
    program = script(folder, text).arguments
    launcher.write_text("#!/bin/sh\n" + " ".join(f'"{word}"' for word in program) + ' "$@"\nexit $?\n')
    launcher.chmod(0o755)
    return WorkerCommand([str(launcher)], dict(os.environ))


@pytest.mark.parametrize("way", [script, throughLauncher])
def test_one_that_is_killed_from_outside_says_so(tmp_path, way):
    process = EngineProcess(["anything"], way(tmp_path, TREE))
    heard = Heard(process)
    process.start()
    waitUntil(lambda: heard.events)
    program, child = heard.events[0]["pids"]
    os.kill(program, signal.SIGKILL)
    waitUntil(lambda: heard.ends)
    assert heard.ends[0][0] == "failed"
    assert "ended by the system or by another program" in heard.ends[0][1]
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("way", [script, throughLauncher])
def test_cancel_ends_the_whole_process_tree(tmp_path, way):
    process = EngineProcess(["anything"], way(tmp_path, TREE))
    heard = Heard(process)
    process.start()
    waitUntil(lambda: heard.events)
    pids = heard.events[0]["pids"]
    process.cancel()
    process.cancel()
    waitUntil(lambda: heard.ends)
    assert heard.ends == [("cancelled",)]
    waitUntil(lambda: not any(map(isAlive, pids)))
    processEvents(50)
    assert len(heard.ends) == 1


def test_cancel_ends_a_program_whose_launcher_is_gone(tmp_path):
    text = TREE.replace(
        '"kind": "here"', '"kind": "started", "pid": os.getpid(), "host": __import__("socket").gethostname()'
    )
    process = EngineProcess(["anything"], throughLauncher(tmp_path, text))
    heard = Heard(process)
    process.start()
    waitUntil(lambda: heard.events)
    process.event.connect(lambda event: pytest.fail("no event after cancel"))
    program, child = heard.events[0]["pids"]
    # Stopped, the launcher cannot hand anything on.
    launcher = psutil.Process(program).parent()
    launcher.suspend()
    process.cancel()
    waitUntil(lambda: heard.ends and not isAlive(program) and not isAlive(child))
    assert heard.ends == [("cancelled",)]


def test_a_number_inside_a_container_ends_no_process_outside(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        text = TREE.replace(
            '"kind": "here"',
            f'"kind": "started", "pid": {stranger.pid}, "host": __import__("socket").gethostname()',
        )
        process = EngineProcess(["anything"], script(tmp_path, text))
        heard = Heard(process)
        process.start()
        waitUntil(lambda: heard.events)
        process.cancel()
        waitUntil(lambda: heard.ends)
        assert stranger.poll() is None
        stranger.kill()
    assert not any(map(isAlive, heard.events[0]["pids"]))


def test_the_end_of_the_module_ends_it_without_a_word(tmp_path):
    process = EngineProcess(["anything"], script(tmp_path, TREE))
    heard = Heard(process)
    process.start()
    waitUntil(lambda: heard.events)
    process.end()
    waitUntil(lambda: not any(map(isAlive, heard.events[0]["pids"])))
    processEvents(100)
    assert heard.ends == []


def test_cancel_before_the_start_and_after_the_end_does_nothing(tmp_path):
    process = EngineProcess(["anything"], script(tmp_path, 'print(\'{"kind": "one"}\')'))
    process.cancel()
    heard = run(process)
    assert heard.ends == [("finished", 0)]
    process.cancel()
    process.start()
    processEvents(50)
    assert heard.ends == [("finished", 0)]


def test_lines_that_are_no_events_go_to_the_log(tmp_path):
    text = (
        "import sys\n"
        "sys.stdout.reconfigure(encoding='utf-8')\n"
        "print('A library says hello, ü 例')\n"
        "print('[1, 2]'); print('3'); print('{broken'); print()\n"
        'print(\'{"kind": "ü 例"}\')\n'
        "print('from the other stream', file=sys.stderr)\n"
        "print('{\"kind\": \"without an end\"}', end='')\n"
    )
    process = EngineProcess(["anything"], script(tmp_path, text))
    heard = run(process)
    assert heard.ends == [("finished", 0)]
    assert [event["kind"] for event in heard.events] == ["ü 例", "without an end"]
    for words in ("A library says hello, ü 例", "[1, 2]", "{broken", "from the other stream"):
        assert words in process.log


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("print('Welcome to the machine')", "is not DINOMix's engine.*Welcome to the machine", "worker command"),
        ("pass", "is not DINOMix's engine", "worker command"),
        ("import sys; print('{}'); print('kaputt', file=sys.stderr); sys.exit(3)", "exit code 3.*kaputt", "log"),
        # What ssh says where it cannot connect; a signal's number would be at most 64 above 128.
        ("import sys; print('Connection refused', file=sys.stderr); sys.exit(255)", "exit code 255.*refused", "log"),
        ("import dinomix_that_is_not_there", "packages are not installed.*dinomix_that_is_not_there", "Install them"),
    ],
)
def test_a_program_that_is_not_the_engine_is_reported_in_one_sentence(tmp_path, text, problem, remedy):
    (end,) = run(EngineProcess(["anything"], script(tmp_path, text))).ends
    assert end[0] == "failed"
    assert re.search(problem, end[1])
    assert remedy in end[2]
    assert "Traceback" not in end[1]


def test_a_program_that_is_not_there(tmp_path):
    (end,) = run(EngineProcess(["check"], WorkerCommand([str(tmp_path / "no such program")], {}))).ends
    assert end[0] == "failed"
    assert "no such program cannot be started" in end[1]


def test_ten_thousand_events_at_once_never_block_the_window(tmp_path, monkeypatch):
    process = EngineProcess(["anything"], script(tmp_path, TEN_THOUSAND_EVENTS))
    heard, now = Heard(process), [0.0]

    def work(event):
        now[0] += 0.002  # of a clock that only the listeners' work drives, so that other programs do not count

    process.event.connect(work)
    monkeypatch.setattr(process_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    turns, timer = [], qt.QTimer()
    timer.connect("timeout()", lambda: turns.append(now[0]))
    timer.setInterval(0)
    timer.start()
    process.start()
    waitUntil(lambda: heard.ends, 120)
    timer.stop()
    assert heard.ends == [("finished", 0)]
    assert [event["step"] for event in heard.events] == list(range(10_000))
    assert now[0] == pytest.approx(20.0) and max(np.diff(turns)) < 0.05


def test_an_error_in_a_listener_does_not_stop_the_others(tmp_path):
    text = "import json\nfor n in range(5): print(json.dumps({'kind': 'step', 'n': n}))\n"
    process = EngineProcess(["anything"], script(tmp_path, text))
    heard = Heard(process)

    def fails(event):
        if event["n"] == 2:
            raise RuntimeError("a listener's mistake")

    process.event.connect(fails)
    process.start()
    waitUntil(lambda: heard.ends)
    assert [event["n"] for event in heard.events] == [0, 1, 2, 3, 4]
    assert heard.ends == [("finished", 0)]


test_an_error_in_a_listener_does_not_stop_the_others.expectsQtErrors = True


# -- The command


def test_the_engine_is_run_by_slicers_own_python_unless_a_command_is_set(monkeypatch):
    own = engineCommand("")
    assert own.isOwnPython
    assert own.arguments[1:] == ["-m", "dinomix"]
    qt.QSettings().setValue(SETTING, f'"{sys.executable}" -m dinomix worker')
    other = engineCommand()
    assert other.arguments == [sys.executable, "-m", "dinomix"]
    assert not other.isOwnPython


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ssh gpu-box dinomix worker", "another computer"),
        ("/usr/bin/ssh -p 22 gpu-box dinomix worker", "another computer"),
        ("sh -c 'ssh gpu-box dinomix worker'", "last word is not worker"),
        ("dinomix worker --models /models", "last word is not worker"),
        ("worker", "last word is not worker"),
        ("'dinomix worker", "not closed"),
    ],
)
def test_a_worker_command_that_runs_no_engine_here_is_refused_in_a_sentence(text, problem):
    with pytest.raises(DinomixError, match=problem) as caught:
        engineCommand(text)
    assert caught.value.remedy.endswith(".")


def test_events_are_one_json_object_a_line_whatever_the_chunks(tmp_path):
    text = (
        "import json, sys, time\n"
        "lines = [json.dumps({'kind': 'größe 例', 'n': n}, ensure_ascii=False) + '\\n' for n in range(40)]\n"
        "data = ''.join(lines).encode('utf-8')\n"
        "for start in range(0, len(data), 7):\n"
        "    sys.stdout.buffer.write(data[start:start + 7]); sys.stdout.buffer.flush(); time.sleep(0.001)\n"
    )
    heard = run(EngineProcess(["anything"], script(tmp_path, text)))
    assert heard.events == [json.loads(json.dumps({"kind": "größe 例", "n": n})) for n in range(40)]
