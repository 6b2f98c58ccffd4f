"""How long Slicer's window cannot answer while a volume is segmented: the longest gap between ticks of a 5 ms timer (gaps.py).

    python Testing/benchmarks/window_stays_usable.py [--size 512 512 400]

The worker is the real one, with a tiny random model; the volume travels once through memory-mapped files and once, as to a
computer that does not share the disk, through the pipe. Beside the gaps while the job runs, it measures the steps in which the
labels are put into the scene and surfaces are made, and prints a few lines a mode.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "bridge"), str(HERE.parents[1] / "DINOMixEngine")]

import host  # noqa: E402

host.start()

from gaps import Gaps  # noqa: E402
from window_volumes import balls, noise_volume  # noqa: E402
from workers import elsewhere, noise, ownWorker, run, tinyModel  # noqa: E402

from dinomix_slicer.scene.segmentations import LabelMap, addSegmentation, writeIntoSegmentation  # noqa: E402
from dinomix_slicer.scene.surfaces import surfaceSteps  # noqa: E402
from dinomix_slicer.scene.undo import undo  # noqa: E402
from dinomix_slicer.scene.volumes import imageOfNode  # noqa: E402
from dinomix_slicer.worker.client import WorkerClient  # noqa: E402

ORGANS = 60


def longestStep(steps: Iterator[object]) -> str:
    """Take all steps of an iterator; how long the longest took, and how long it computed."""
    longest = computed = 0.0
    while True:
        began, beganComputing = time.perf_counter(), time.thread_time()
        if next(steps, None) is None:
            return f"{longest:.0f} ms (computed {computed:.0f} ms)"
        longest = max(longest, (time.perf_counter() - began) * 1000)
        computed = max(computed, (time.thread_time() - beganComputing) * 1000)


def measure(client: WorkerClient, volume: object, model: str, mode: str) -> None:
    run(client, client.segment(noise(), model), 300)  # the model is loaded then
    gaps = Gaps()
    host.processEvents(200)
    gaps.take()
    heard = run(client, client.segment(imageOfNode(volume), model), 1200)
    whileRunning = gaps.take()
    assert heard.last()[0] == "finished", heard.last()
    result = heard.last()[1]
    labelMap = LabelMap(volume, result.labels, [])
    copying = longestStep(labelMap.steps())
    # As many as a large model has; most are not in these labels.
    organs = [{**result.structures[0], "id": n, "name": f"organ {n}", "voxels": 1} for n in range(1, ORGANS + 1)]
    added, adding = timed(lambda: addSegmentation(volume, labelMap, organs))
    # The random model's labels are noise; organs are smooth.
    smooth = LabelMap(volume, balls(result.labels.shape, (0.35, 0.3), (0.75, 0.12)), [])
    list(smooth.steps())
    _written, writing = timed(lambda: writeIntoSegmentation(added, volume, smooth, organs))
    surfaces = longestStep(surfaceSteps(added))
    _undone, undoing = timed(lambda: undo(added))
    client.stop()
    print(f"{mode}: while the job ran, {result.fields['seconds']:.1f} s: {whileRunning}", flush=True)
    print(f"  longest step of copying the labels {copying}", flush=True)
    print(f"  adding {len(organs)} segments {adding}, writing them anew {writing}, undo {undoing}", flush=True)
    print(f"  longest step of surfaces, the largest as large as a liver, {surfaces}", flush=True)


def timed(work: Callable[[], object]) -> tuple[object, str]:
    """What ``work`` returns, and how long that took and computed."""
    began, beganComputing = time.perf_counter(), time.thread_time()
    done = work()
    elapsed, computed = time.perf_counter() - began, time.thread_time() - beganComputing
    return done, f"{elapsed * 1000:.0f} ms (computed {computed * 1000:.0f} ms)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 400], metavar=("I", "J", "K"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = tinyModel(Path(folder))
        volume = noise_volume("large", arguments.size, 0.1)
        measure(ownWorker(), volume, model, "memory-mapped files")
        measure(WorkerClient(elsewhere(Path(folder))), volume, model, "through the pipe")


if __name__ == "__main__":
    main()
