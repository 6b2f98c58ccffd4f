"""How long Slicer's window cannot answer while 10,000 events of a run arrive, and what memory they take.

    python Testing/benchmarks/run_follower.py [--events 10000] [--seconds 10]

A process of its own writes the events of a long run, of 16 structures with all kinds of curves, in so many seconds; the window
of DINOMix Train follows with its page Run open. Printed are the longest gaps between ticks of a 5 ms timer while the events
arrive, and again while the page is opened on all of them: by the clock, and as processor time of the main thread, which other
programs do not disturb (drawing included); the longest tick of the follower and update of the chart; and the memory after each
fifth of the events.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "DINOMixEngine")]

CLASSES = 16
PER_RECORD = 5  # events that a step leaves which is recorded


def write(run: Path, count: int, seconds: float) -> None:
    """Write the events, evenly over the time; in the process of its own."""
    names = [f"structure {number}" for number in range(CLASSES)]
    began = time.perf_counter()
    with open(run / "events.jsonl", "a", encoding="utf-8", buffering=1) as file:
        for number in range(count):
            file.write(json.dumps({"time": time.time(), **eventOf(number, names)}) + "\n")
            if number % 20 == 0:
                time.sleep(max(0.0, began + seconds * number / count - time.perf_counter()))


def eventOf(number: int, names: list[str]) -> dict:
    step = 10 * (number // PER_RECORD + 1)
    by_name = {name: (step * (index + 1) % 977) / 977 for index, name in enumerate(names)}
    kind = number % PER_RECORD
    if kind == 0:
        losses = {"total": 1 + 100 / step, "supervised": 0.5, "unsupervised": 0.3, "fkd": 0.2, "lambda_u": 1.0}
        return {"kind": "loss", "step": step, **losses, "learning_rate": 0.01, "gradient_norm": 1.0}
    if kind in (1, 2):
        subset = "labeled" if kind == 1 else "unlabeled"
        return {"kind": "pic", "step": step, "subset": subset, "probabilities": by_name, "draws": names[:8]}
    if kind == 3:
        voxels = {"voxels": by_name, "confidence": by_name, "agreement": by_name}
        return {"kind": "pseudo_label", "step": step, **voxels}
    if step % 100 == 0:
        return {"kind": "validation", "step": step, "dice": by_name, "mean": 0.5, "seconds": 1.0}
    return {"kind": "progress", "stage": "train", "step": step, "total": 100_000, "eta": 100.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write is not None:
        write(arguments.write, arguments.events, arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.events, arguments.seconds)


def measure(study: Path, count: int, seconds: float) -> None:
    import host

    host.start()
    host.loadModules()
    import psutil
    import slicer
    from gaps import Gaps

    run = study / "runs" / "long"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"train": {"steps": 100_000}}))
    work = Work()
    panel = slicer.modules.dinomixtrain.widgetRepresentation()
    window = panel.self()
    panel.resize(480, 900)
    panel.show()
    window.enter()
    window.goTo("run")
    node = window.logic.getParameterNode()
    node.studyFolder, node.runPath = str(study), str(run)
    host.processEvents(1500)

    gaps = Gaps()
    heard = [0]
    window.logic.runs.follower.event.connect(lambda event: heard.__setitem__(0, heard[0] + 1))
    command = [sys.executable, __file__, "--write", run, "--events", count, "--seconds", seconds]
    memory, process = [], psutil.Process()
    gaps.take()
    writer = subprocess.Popen([str(word) for word in command])
    for part in range(1, 6):
        host.waitUntil(lambda part=part: heard[0] >= count * part // 5, 600)
        memory.append(process.memory_info().rss / 2**20)
    writer.wait()
    print(f"{count} events in {seconds:.0f} s: {gaps.take()}")
    print(f"longest work, processor time: {work.take()}")
    print(f"memory after each fifth, MiB: {', '.join(f'{value:.1f}' for value in memory)}")

    window.logic.runs.follow(None)
    host.processEvents(200)
    gaps.take()
    began = time.perf_counter()
    window.logic.runs.follow(run)
    host.waitUntil(lambda: window.logic.runs.follower.isCaughtUp, 600)
    host.processEvents(1500)
    print(f"opened with all of them, read in {time.perf_counter() - began - 1.5:.1f} s: {gaps.take()}")
    print(f"longest work, processor time: {work.take()}")
    points = max(len(curve.steps) for curve in window.logic.runs.curves.curves.values())
    print(f"points of the longest curve: {points}")
    window.exit()
    window.cleanup()


class Work:
    """The longest that one call takes, in ms of this thread's processor time."""

    def __init__(self) -> None:
        from DINOMixTrainLib.run_page import RunPage

        from dinomix_slicer.run.follower import RunFollower

        self._longest: dict[str, float] = {}
        self._measure(RunFollower, "_onTick", "follower")
        self._measure(RunPage, "_showCurves", "chart")
        self._measure(RunPage, "_onTimer", "page")

    def _measure(self, owner: type, method: str, name: str) -> None:
        original = getattr(owner, method)

        def timed(*arguments):
            began = time.thread_time()
            try:
                return original(*arguments)
            finally:
                self._longest[name] = max(self._longest.get(name, 0.0), (time.thread_time() - began) * 1000)

        setattr(owner, method, timed)

    def take(self) -> str:
        longest, self._longest = self._longest, {}
        return ", ".join(f"{name} {value:.1f} ms" for name, value in longest.items())


if __name__ == "__main__":
    main()
