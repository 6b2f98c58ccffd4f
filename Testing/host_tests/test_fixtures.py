"""What conftest.py does around each test, seen in a pytest of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

TESTING = Path(__file__).resolve().parents[1]

LEAVES_A_PROCESS = """
import subprocess, sys

def test_leaves_a_process():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    print("started", process.pid)

def test_leaves_an_orphan():
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    process = subprocess.Popen(["PythonSlicer", "-c", code], stdout=subprocess.PIPE, text=True)
    print("started", process.stdout.readline())
    process.kill()
    process.wait()

def test_ends_its_process():
    subprocess.run([sys.executable, "-c", ""])
"""

PROVOKES_VTK = """
import unittest
import slicer

def provoke():
    slicer.mrmlScene.GetSubjectHierarchyNode().GetItemName(12345)

class Forgetful(unittest.TestCase):
    def test_forgetful(self):
        provoke()

class Outspoken(unittest.TestCase):
    expectsVtkErrors = True

    def test_outspoken(self):
        provoke()
"""

NEEDS_NO_HOST = """
import sys

def test_engine():
    assert "slicer" not in sys.modules and "PySide6" not in sys.modules
"""


@pytest.fixture
def run_pytest(tmp_path: Path):
    """``run_pytest(folder, source)`` runs a test file there beside a copy of conftest.py and returns what was printed."""

    def run(folder: str, source: str) -> str:
        shutil.copy(TESTING / "conftest.py", tmp_path)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test_inner.py").write_text(source)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(TESTING), str(TESTING.parent / "DINOMixEngine")])
        }
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", str(tmp_path)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=120
        ).stdout

    return run


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_process_left_behind_fails_the_test_and_is_ended(run_pytest):
    output = run_pytest("host_tests", LEAVES_A_PROCESS)
    assert "left these processes running" in output
    assert "3 passed, 2 errors" in output
    pids = [int(pid) for pid in re.findall(r"started (\d+)", output)]
    assert len(pids) == 2
    assert not [pid for pid in pids if is_running(pid)]


def test_error_of_vtk_fails_the_test(run_pytest):
    output = run_pytest("host_tests", PROVOKES_VTK)
    assert "Failed to find subject hierarchy item by ID 12345" in output
    assert "2 passed, 1 error" in output


def test_engine_tests_run_without_the_host(run_pytest):
    assert "1 passed" in run_pytest("engine", NEEDS_NO_HOST)
