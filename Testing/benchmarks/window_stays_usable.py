"""How long Slicer's window cannot answer while a volume is segmented: the longest gap between ticks of a 5 ms timer.

    python Testing/benchmarks/window_stays_usable.py [--size 512 512 400]

The worker is the real one, with a tiny random model; the volume travels once through memory-mapped files and once, as to a
computer that does not share the disk, through the pipe. Beside the gaps while the job runs, it measures those while the labels
are put into the scene and while surfaces are made, and prints one line a mode.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "bridge"), str(HERE.parents[1] / "DINOMixEngine")]

import host  # noqa: E402

host.start()

import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from workers import elsewhere, ownWorker, run, tinyModel  # noqa: E402

from dinomix_slicer.segmentations import addSegmentation  # noqa: E402
from dinomix_slicer.surfaces import surfaceSteps  # noqa: E402
from dinomix_slicer.volumes import imageOfNode  # noqa: E402
from dinomix_slicer.worker_client import WorkerClient  # noqa: E402


class Gaps:
    """The times between ticks of a 5 ms timer, in ms."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = qt.QTimer()
        self._timer.setInterval(5)
        self._timer.connect("timeout()", self._onTick)
        self._timer.start()

    def _onTick(self) -> None:
        now = time.perf_counter()
        self.gaps.append((now - self._last) * 1000)
        self._last = now

    def take(self) -> str:
        """The longest and the 99th percentile since the last call."""
        gaps, self.gaps = self.gaps or [0.0], []
        return f"longest {max(gaps):.0f} ms, 99% below {np.percentile(gaps, 99):.0f} ms, {len(gaps)} ticks"


def makeVolume(size: list[int]) -> object:
    """A volume of noise whose millimeters are few, so that the network has little to do."""
    array = np.random.default_rng(0).integers(-1000, 1000, size[::-1], np.int16)
    node = slicer.util.addVolumeFromArray(array, name="large")
    node.SetSpacing(0.1, 0.1, 0.1)
    return node


def balls(shape: tuple[int, ...]) -> np.ndarray:
    """Labels (k, j, i) of two balls, as large as a liver and as a kidney."""
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint8)
    for label, center, radius in ((1, 0.35, 0.3), (2, 0.75, 0.12)):
        distance = sum(((axis / n - center) / radius) ** 2 for axis, n in zip((k, j, i), shape, strict=True))
        labels[distance < 1] = label
    return labels


def measure(client: WorkerClient, volume: object, model: str, mode: str) -> None:
    run(client, client.load(model), 300)
    gaps = Gaps()
    host.processEvents(200)
    gaps.take()
    heard = run(client, client.segment(imageOfNode(volume), model), 1200)
    whileRunning = gaps.take()
    assert heard.last()[0] == "finished", heard.last()
    result = heard.last()[1]
    began = time.perf_counter()
    slicer.mrmlScene.RemoveNode(addSegmentation(volume, result.labels, result.structures))
    placing = (time.perf_counter() - began) * 1000
    # The random model's labels are noise; organs are smooth.
    segmentation = addSegmentation(volume, balls(result.labels.shape), result.structures)
    longest = 0.0
    steps = surfaceSteps(segmentation)
    while True:
        began = time.perf_counter()
        if next(steps, None) is None:
            break
        longest = max(longest, (time.perf_counter() - began) * 1000)
    slicer.mrmlScene.RemoveNode(segmentation)
    client.stop()
    print(
        f"{mode}: while the job ran, {result.seconds:.1f} s: {whileRunning}; placing the labels once {placing:.0f} ms; "
        f"longest step of surfaces {longest:.0f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 400], metavar=("I", "J", "K"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = tinyModel(Path(folder))
        volume = makeVolume(arguments.size)
        measure(ownWorker(), volume, model, "memory-mapped files")
        measure(WorkerClient(elsewhere(Path(folder))), volume, model, "through the pipe")


if __name__ == "__main__":
    main()
