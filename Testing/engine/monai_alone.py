"""Bundles run by MONAI in a process that cannot import dinomix, and their labels against ours."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np

from dinomix.images.reading import read_image
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model


def environment_without_dinomix(folder: Path) -> dict[str, str]:
    (folder / "dinomix").mkdir(parents=True)
    (folder / "dinomix/__init__.py").write_text("raise ImportError('not installed')")
    environment = {**os.environ, "PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    blocked = subprocess.run([sys.executable, "-c", "import dinomix"], env=environment, capture_output=True, text=True)
    assert "not installed" in blocked.stderr
    return environment


RUNNER = """
import json, os, runpy, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    sys.argv[1:] = json.loads(line)
    said = ""
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except BaseException:
        said = traceback.format_exc()
    print(json.dumps(said), file=answers, flush=True)
"""


@contextmanager
def monai_alone(folder: Path) -> Iterator[Callable[..., None]]:
    """``python -m monai.bundle run``, in one process for all bundles, since loading the whole of MONAI takes most of it."""
    environment = environment_without_dinomix(folder / "blocked")
    command = [sys.executable, "-W", "ignore", "-c", RUNNER]
    with open(folder / "log.txt", "w") as log, subprocess.Popen(
        command, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:  # fmt: skip

        def run(model: Model, folder: Path, *options: str) -> None:
            words = [
                *("run", "--bundle_root", str(model.path), "--config_file", str(model.path / "configs/inference.json")),
                *(
                    "--meta_file",
                    str(model.path / "configs/metadata.json"),
                    "--output_dir",
                    str(folder / "out"),
                    *options,
                ),
            ]
            print(json.dumps(words), file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline()) == ""

        yield run
        process.stdin.close()


def assert_same_labels(model: Model, image: Path, bundle_output: Path) -> None:
    ours = segment_volume(
        read_image(image), model, device="cpu", precision="float32", runtime="pytorch"
    ).array.transpose(2, 1, 0)
    theirs = nibabel.load(bundle_output)
    # MONAI drops the third axis of an image of one slice.
    assert np.array_equal(np.asarray(theirs.dataobj).reshape(ours.shape), ours)
    assert np.allclose(theirs.affine, nibabel.load(image).affine, atol=1e-4)
    assert set(np.unique(ours)) == {0, *model.labels.ids}
