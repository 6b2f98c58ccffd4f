"""How much memory Slicer's window keeps after the same volume was segmented again and again.

    python Testing/benchmarks/window_memory.py [--runs 50] [--size 160 160 128]

The worker is the real one, with a tiny random model; DINOMix Segment's window is open. Into each result, which is noise, two
balls are written instead, since surfaces of noise are hundreds of MiB that tear the heap; their surfaces are made, and all is
undone. Printed is the memory of this process (the worker has its own) after some runs that fill
caches, and how much it has grown after all others. The test host's ``connect`` keeps what is connected, as PythonQt's does.
"""

import argparse
import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTING = HERE.parent
sys.path[:0] = [
    str(path) for path in (TESTING, TESTING / "bridge", TESTING / "modules", TESTING.parent / "DINOMixEngine")
]

import host  # noqa: E402

host.start()
host.loadModules()

import psutil  # noqa: E402
import slicer  # noqa: E402
from window_volumes import balls, noise_volume  # noqa: E402

from dinomix_slicer.scene.segmentations import writeIntoSegmentation  # noqa: E402
from dinomix_slicer.scene.undo import saveState, undo  # noqa: E402

WARM_UP = 10
STRUCTURES = [{"id": n, "name": f"structure {n}", "color": [200, 80 * n, 0], "terminology_entry": ""} for n in (1, 2)]
MIB = 2**20


def makeModel(folder: Path) -> str:
    """A model folder with random weights, made by a process of its own: torch would be the larger part of the window's memory."""
    code = (
        "from random_models import labels_with_ids, random_model, small_plan; import pathlib, sys\n"
        "random_model(pathlib.Path(sys.argv[1]), small_plan(patch=(32, 32, 32)), labels_with_ids(1, 2, 9))\n"
    )
    paths = os.pathsep.join(map(str, (TESTING / "engine", TESTING.parent / "DINOMixEngine")))
    subprocess.run([sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONPATH": paths}, check=True)
    return str(folder)


def memory() -> int:
    """Bytes that this process holds; on Linux without what is free but kept, and without pages of files, which come and go."""
    status = Path("/proc/self/status")
    if not status.exists():
        return int(psutil.Process().memory_info().rss)
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[160, 160, 128], metavar=("I", "J", "K"))
    parser.add_argument("--runs", type=int, default=50)
    arguments = parser.parse_args()
    panel = slicer.modules.dinomixsegment.widgetRepresentation()
    panel.show()
    window = panel.self()
    logic = window.logic
    volume = noise_volume("scan", arguments.size, 0.2)
    with tempfile.TemporaryDirectory() as folder:
        model = makeModel(Path(folder) / "tiny")
        window.enter()
        for run in range(WARM_UP + arguments.runs):
            segmentation = logic.segment(volume, model, device="cpu")
            saveState(segmentation)
            writeIntoSegmentation(
                segmentation, volume, balls(arguments.size[::-1], (0.4, 0.35), (0.8, 0.15)), STRUCTURES
            )
            logic.makeSurfaces(segmentation)
            host.waitUntil(lambda: not logic.makesSurfaces(), 600)
            undo(segmentation)
            logic.undo()
            host.processEvents(50)
            used = memory()
            if run == WARM_UP - 1:
                before = used
                print(f"after {WARM_UP} runs: {before / MIB:.0f} MiB", flush=True)
            elif run >= WARM_UP and (run - WARM_UP + 1) % 10 == 0:
                grown = f"{(used - before) / MIB:+.1f} MiB, {(used / before - 1) * 100:+.1f}%"
                print(f"after {run - WARM_UP + 1} more: {used / MIB:.0f} MiB ({grown})", flush=True)
        window.exit()
        window.cleanup()
    voxels = slicer.util.arrayFromVolume(volume)
    print(f"the volume: {voxels.nbytes / MIB:.1f} MiB, its labels {voxels.size / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
