"""Rehearses an installation without a network: the wheels are fetched once, then everything is installed from their folder.

    python Testing/packaging/offline_install.py download WHEELS     with a network: the dependencies, and dinomix itself
    python Testing/packaging/offline_install.py rehearse WHEELS     without: install, `dinomix --help`, segment a small volume
    python Testing/packaging/offline_install.py segment VENV        the last of these alone, in an environment that has dinomix

The wheels fit the Python and the system that fetch them; about 3 GB on Linux, most of it PyTorch with CUDA. The installed
environment (about 7 GB) is made in a temporary folder, or in --work, and removed afterwards.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLOSED_PROXY = "http://127.0.0.1:9"  # the port "discard", where nothing listens

MAKE_INPUT = """
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from random_models import labels_with_ids, random_model, small_plan

folder = Path(sys.argv[1])
array = np.random.default_rng(0).normal(100, 30, (24, 28, 32)).astype(np.int16)
image = sitk.GetImageFromArray(array)
image.SetSpacing((0.9, 0.9, 1.5))
sitk.WriteImage(image, str(folder / "scan.nrrd"))
random_model(folder / "model", small_plan(), labels_with_ids(1, 2), folder / "scan.nrrd")
"""
CHECK_OUTPUT = """
import sys

import numpy as np
import SimpleITK as sitk

image, labels = (sitk.ReadImage(name) for name in sys.argv[1:])
assert labels.GetSize() == image.GetSize(), labels.GetSize()
assert np.allclose(labels.GetSpacing(), image.GetSpacing()), labels.GetSpacing()  # NIfTI keeps them as float32
found = set(np.unique(sitk.GetArrayFromImage(labels)).tolist())
assert len(found) > 1 and found <= {0, 1, 2}, found
print("labels", sorted(found), "on the scan's own grid")
"""


def dependencies() -> list[str]:
    """The one list, as pip takes it."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]


def download(wheels: Path) -> None:
    """Fetch the wheels of all dependencies and build that of dinomix."""
    wheels.mkdir(parents=True, exist_ok=True)
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--only-binary",
            ":all:",
            "--dest",
            wheels,
            *dependencies(),
        ]
    )
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT])


def rehearse(wheels: Path, work: Path) -> None:
    """Install into a new environment from the wheels alone, and segment with it; CalledProcessError if something fails.

    Args:
        work: an empty folder; the environment, a small scan, a model with random weights and the result are made in it.
    """
    run([sys.executable, "-m", "venv", work / "venv"])
    python = programs(work / "venv") / "python"
    run_offline([python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels, "dinomix"])
    dinomix = programs(work / "venv") / "dinomix"
    run_offline([dinomix, "--help"])
    segment(python, [dinomix], work)


def segment(python: Path, dinomix: list[str | Path], work: Path, packages: str = "") -> None:
    """Make a small scan and a model, and segment the one with the other, by an environment's own programs.

    Args:
        dinomix: the command of the engine in that environment.
        packages: a folder to put on Python's path, where the engine is not installed in the environment.
    """
    helpers = os.pathsep.join(filter(None, [str(ROOT / "Testing" / "engine"), packages]))
    run_offline([python, "-c", MAKE_INPUT, work], PYTHONPATH=helpers)
    scan, result = work / "scan.nrrd", work / "labels.nii.gz"
    arguments = ["segment", "--model", work / "model", scan, "--out", result, "--device", "cpu"]
    run_offline([*dinomix, *arguments], PYTHONPATH=packages)
    run_offline([python, "-c", CHECK_OUTPUT, scan, result])


def programs(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin")


def offline_environment() -> dict[str, str]:
    """This process's environment with no settings of pip, and a proxy that answers nothing for whoever asks the network."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PIP_")}
    for name in [name for name in kept if name.upper().endswith("_PROXY")] + ["PYTHONPATH"]:
        kept.pop(name, None)
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), CLOSED_PROXY)
    return {**kept, **proxies, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def without_network() -> list[str]:
    """A prefix for commands that takes all network interfaces away; empty where the system has none (see the proxy)."""
    if not shutil.which("unshare"):
        return []
    prefix = ["unshare", "--map-root-user", "--net"]
    seen = [sys.executable, "-c", "import socket; print([name for _, name in socket.if_nameindex()])"]
    done = subprocess.run([*prefix, *seen], capture_output=True, text=True, check=False)
    return prefix if done.stdout.strip() in ("['lo']", "[]") else []


def run_offline(command: list, **environment: str) -> None:
    run([*without_network(), *command], env={**offline_environment(), **environment})


def run(command: list, **options) -> None:
    shown = " ".join(str(part).strip().split("\n")[0] for part in command)
    print("+", shown, flush=True)
    subprocess.run([str(part) for part in command], check=True, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["download", "rehearse", "segment"])
    parser.add_argument("wheels", type=Path, help="The folder of wheels; for segment, an environment that has dinomix.")
    parser.add_argument("--work", type=Path, help="An empty folder for the environment; it is kept.")
    arguments = parser.parse_args()
    if arguments.what == "download":
        download(arguments.wheels)
        return
    print(
        "The network is taken away from every command."
        if without_network()
        else "Only a closed proxy refuses the network."
    )
    if arguments.what == "segment":
        with tempfile.TemporaryDirectory(prefix="dinomix-offline-") as work:
            programs_of = programs(arguments.wheels)
            segment(programs_of / "python", [programs_of / "dinomix"], Path(work))
        return
    if arguments.work:
        rehearse(arguments.wheels, arguments.work)
        return
    with tempfile.TemporaryDirectory(prefix="dinomix-offline-") as work:
        rehearse(arguments.wheels, Path(work))


if __name__ == "__main__":
    main()
