"""The functions of ``slicer.util`` that install packages. A pip that would use the network is written down, never run."""

import json
import os
import subprocess
import sys
from pathlib import Path

RECORD = "SLICER_HOST_PIP_RECORD"
"""Environment variable that names the file of what was asked: a JSON line of module, arguments and pip's settings for each."""


def executePythonModule(module, args, blocking=True, logCallback=None, completedCallback=None):
    """``python -m module args``; its lines are printed. CalledProcessError where it fails."""
    if not blocking:
        raise RuntimeError("there is no event loop in PythonSlicer")
    if module in ("pip", "light_the_torch") and "PIP_NO_INDEX" not in os.environ:
        note(module, args)
        return
    process = subprocess.Popen(
        [sys.executable, "-m", module, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        print(line.rstrip())
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def _executePythonModule(module, args):
    executePythonModule(module, args)


def pip_install(requirements, **options):
    """Also in Slicer 5.10, which has no ``slicer.packaging``."""
    arguments = requirements.split() if isinstance(requirements, str) else requirements
    executePythonModule("pip", ["install", *arguments])


def note(module, args):
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    with Path(os.environ[RECORD]).open("a") as file:
        file.write(json.dumps([module, list(args), settings]) + "\n")
    print(f"{module} {' '.join(args)}")
