"""What is installed is found out; what should be installed is asked of pip and never done."""

import subprocess
import sys
import unittest
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import slicer
from packaging.requirements import InvalidRequirement

pytest.importorskip("slicer.packaging", reason="this Slicer has no slicer.packaging")
from slicer.packaging import (
    load_pyproject_dependencies,
    load_requirements,
    pip_check,
    pip_ensure,
    pip_install,
)

from host import pip_record, waitUntil


class PackagingTest(unittest.TestCase):
    def test_check(self):
        numpy = version("numpy")
        self.assertTrue(pip_check("numpy>=1.0"))
        self.assertTrue(pip_check(f"numpy=={numpy} pytest"))
        self.assertFalse(pip_check("numpy>=999"))
        self.assertFalse(pip_check(["numpy", "surely-no-such-package"]))
        self.assertTrue(pip_check("surely-no-such-package; sys_platform == 'amiga'"))
        with self.assertRaises(InvalidRequirement):
            pip_check("numpy >=")

    def test_files(self):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "requirements.txt"
            path.write_text("# comment\n\n--index-url https://example.org\nnumpy>=1.0\n")
            self.assertEqual([requirement.name for requirement in load_requirements(path)], ["numpy"])
        project = Path(__file__).parents[2] / "pyproject.toml"
        self.assertIn("torch", [requirement.name for requirement in load_pyproject_dependencies(project)])

    def test_ensure_does_nothing_in_testing_mode(self):
        pip_ensure("surely-no-such-package", requester="Test")
        self.assertEqual(pip_record.requests, [])

    def test_ensure_asks_pip_for_what_is_missing(self):
        pip_ensure(["numpy", "surely-no-such-package>=2"], prompt_install=False, skip_in_testing=False)
        self.assertEqual(pip_record.requests, [["install", "surely-no-such-package>=2"]])

    def test_install_records_its_arguments(self):
        pip_install("one two>=1", constraints="limits.txt")
        slicer.util.pip_install(["--no-index", "--find-links", "/a folder", "three"])
        self.assertEqual(
            pip_record.requests,
            [
                ["install", "one", "two>=1", "-c", "limits.txt"],
                ["install", "--no-index", "--find-links", "/a folder", "three"],
            ],
        )

    def test_failure_of_pip(self):
        pip_record.answer.returnCode = 1
        with self.assertRaises(subprocess.CalledProcessError):
            pip_install("one")

    def test_install_in_the_background(self):
        lines, ends = [], []
        pip_record.answer.lines = ["Collecting one"]
        pip_record.answer.returnCode = 2
        slicer.app.commandOptions().testingEnabled = False
        pip_install("one", blocking=False, show_progress=False, logCallback=lines.append, completedCallback=ends.append)
        self.assertTrue(slicer.packaging.isPipInstallInProgress())
        waitUntil(lambda: ends)
        self.assertEqual((lines, ends), (["Collecting one"], [2]))
        self.assertFalse(slicer.packaging.isPipInstallInProgress())

    @unittest.skipIf(sys.platform == "win32", "the launcher is a shell script")
    def test_other_python_modules_do_run(self):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "compiled.py"
            path.write_text("x = 1\n")
            slicer.util.executePythonModule("compileall", ["-q", str(path)])
            self.assertTrue(list(Path(folder).glob("__pycache__/compiled.*.pyc")))
        self.assertEqual(pip_record.requests, [])
