"""Workers and models for tests of the worker's client."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil

from dinomix_slicer.worker.client import WorkerClient
from dinomix_slicer.worker.command import WorkerCommand, workerCommand
from host import REPOSITORY, waitUntil

sys.path.append(str(REPOSITORY / "Testing" / "engine"))

NOTHING_LEFT = ("finished", "failed", "cancelled")
TEN_THOUSAND_EVENTS = """
import json, sys
events = [{"kind": "loss", "step": n, "total": n / 7, "text": "x" * 200} for n in range(10_000)]
sys.stdout.write("".join(json.dumps(event) + "\\n" for event in events))
"""
"""A program that announces all of them at once."""


def noise(shape=(24, 28, 32), seed=0):
    """An image as ``imageOfNode`` gives it, (k, j, i)."""
    array = np.random.default_rng(seed).normal(0, 100, shape).astype(np.int16)
    return SimpleNamespace(array=array, affineRas=np.diag([-1.0, -1.2, 0.9, 1.0]), notices=())


def tinyModel(folder: Path, patch=(32, 32, 32)) -> str:
    """A model folder with random weights."""
    from random_models import labels_with_ids, random_model, small_plan

    random_model(folder / "models" / "tiny", small_plan(patch=patch), labels_with_ids(1, 2, 9))
    return str(folder / "models" / "tiny")


def script(folder: Path, text: str, name: str = "worker.py") -> WorkerCommand:
    """A command that runs this Python program instead of a worker."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return WorkerCommand([sys.executable, str(path)], dict(os.environ))


def elsewhere(folder: Path) -> WorkerCommand:
    """A worker that cannot read the client's files: what the client writes or wants segmented does not exist for it.

    Args:
        folder: for its program; a ``private-scan.nrrd`` beside that, however deep, cannot be read.
    """
    private = str(folder.parent), "private-scan.nrrd"
    return script(
        folder,
        "import os, sys, tempfile\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'DINOMixEngine')!r})\n"
        "def audit(event, arguments):\n"
        "    name = str(arguments[0]) if arguments else ''\n"
        f"    isPrivate = name.startswith({private[0]!r}) and name.endswith({private[1]!r})\n"
        "    if event == 'open' and ('probe.txt' in name or '-image' in name or isPrivate):\n"
        "        raise FileNotFoundError(2, 'No such file', name)\n"
        "sys.addaudithook(audit)\n"
        "from dinomix.cli import main\n"
        "main(['worker'])\n",
        "elsewhere.py",
    )


class Heard:
    """Everything that a job announces, in order: (signal's name, arguments...)."""

    def __init__(self, job):
        self.events = []
        for name in ("progress", "notice", "finished", "failed", "cancelled"):
            getattr(job, name).connect(lambda *arguments, name=name: self.events.append((name, *arguments)))

    def last(self):
        return self.events[-1]

    def names(self):
        return [event[0] for event in self.events]


def run(client: WorkerClient, job, seconds=240):
    """Wait for a job's end; returns what it announced last. On a busy computer, importing PyTorch takes minutes."""
    heard = Heard(job)
    waitUntil(lambda: job.state in NOTHING_LEFT and heard.events, seconds)
    return heard


def isAlive(process: int) -> bool:
    """Whether a process is there; one that has ended and waits for its parent is not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ownWorker() -> WorkerClient:
    return WorkerClient(workerCommand(""))
