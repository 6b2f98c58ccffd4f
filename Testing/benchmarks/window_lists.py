"""How long Slicer's window cannot answer while long lists are filled, a flood of events is read and a large case is exported.

    python Testing/benchmarks/window_lists.py

1,000 cases come from a check into the page Cases of DINOMix Train, 3,000 ranked cases into its page Result; 10,000 events of an
engine process come at once, each of which costs its listener 0.1 ms; a case of 160 x 320 x 320 voxels with three organs is
written out of the scene. Printed for each is the longest gap between two ticks of a 5 ms timer (gaps.py).
"""

import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTING = HERE.parent
sys.path[:0] = [
    str(path) for path in (TESTING, TESTING / "bridge", TESTING / "modules", TESTING.parent / "DINOMixEngine")
]

import host  # noqa: E402

host.start()
host.loadModules()

import many_cases  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from gaps import Gaps  # noqa: E402
from large_case import SHAPE, largeCase  # noqa: E402
from workers import TEN_THOUSAND_EVENTS  # noqa: E402

from dinomix_slicer.engine_process import EngineProcess  # noqa: E402
from dinomix_slicer.scene.scene_export import SceneExport  # noqa: E402
from dinomix_slicer.task import Steps  # noqa: E402
from dinomix_slicer.worker.command import WorkerCommand  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        panel = slicer.modules.dinomixtrain.widgetRepresentation()
        window = panel.self()
        panel.resize(480, 900)
        panel.show()
        window.enter()
        host.processEvents(500)
        check(window, Path(folder))
        rank(window, Path(folder))
        flood(Path(folder))
        export(Path(folder))
        window.exit()
        window.cleanup()


def check(window, folder: Path) -> None:
    (folder / "labeled").mkdir()
    program = folder / "many.py"
    program.write_text(many_cases.CHECK)
    qt.QSettings().setValue("DINOMix/WorkerCommand", f'"{sys.executable}" "{program}" worker')
    node, page = window.logic.getParameterNode(), window.pages["cases"]
    window.goTo("cases")
    node.studyFolder, node.labeledFolders = str(folder / "study"), [str(folder / "labeled")]
    # Off-screen, VTK draws the chart without a graphics card.
    page.ui.structuresCollapsibleButton.collapsed = True
    host.processEvents(500)
    gaps = Gaps()
    page.ui.checkButton.click()
    table = page.ui.casesTable
    host.waitUntil(lambda: table.item(999, 0) is not None and not page.cases.isFilling(), 60)
    host.processEvents(200)
    print(f"1,000 checked cases: {gaps.take()}", flush=True)


def rank(window, folder: Path) -> None:
    run = folder / "run"
    many_cases.rankedRun(run)
    gaps = Gaps()
    window.goTo("result")
    window.logic.getParameterNode().runPath = str(run)
    table = window.pages["result"].ui.rankingTable
    host.waitUntil(lambda: table.item(2999, 3) is not None, 60)
    host.processEvents(200)
    print(f"3,000 ranked cases: {gaps.take()}", flush=True)


def flood(folder: Path) -> None:
    program = folder / "flood.py"
    program.write_text(TEN_THOUSAND_EVENTS)
    process = EngineProcess(["anything"], WorkerCommand([sys.executable, str(program)], dict(os.environ)))
    ends, steps = [], []
    process.finished.connect(ends.append)
    process.event.connect(lambda event: (steps.append(event["step"]), busyFor(0.0001)))
    gaps = Gaps()
    process.start()
    host.waitUntil(lambda: ends, 60)
    print(f"{len(steps):,} events at once: {gaps.take()}", flush=True)


def busyFor(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def export(folder: Path) -> None:
    case = largeCase()
    exporting, ends = Steps(SceneExport().steps([case], folder)), []
    exporting.finished.connect(ends.append)
    gaps = Gaps()
    host.waitUntil(lambda: ends, 120)
    print(f"exporting a case of {' x '.join(map(str, SHAPE[::-1]))} voxels: {gaps.take()}", flush=True)


if __name__ == "__main__":
    main()
