"""Takes the pictures of DINOMix Train in the documentation, from its real window, engine and scene.

    python Testing/screenshots/train_module.py [--data FOLDER] [--out Resources/Screenshots] [--only PAGE]

The cases are hippocampi of the Medical Segmentation Decathlon (Task04, CC-BY-SA 4.0) in the folder of test data, by default that
of the environment variable DINOMIX_TEST_DATA. Look at the pictures before they are committed.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "modules"), str(HERE.parents[1] / "DINOMixEngine")]

import host  # noqa: E402

host.start()

import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from phantom_cases import eraseSome, keepPancreas, makeModel, makePhantoms  # noqa: E402

from host import rendering  # noqa: E402

LEAST_HEIGHT = 900
PANEL_WIDTH = 500
VIEWS_WIDTH = 900
NAMES = {1: "hippocampus anterior", 2: "hippocampus posterior"}


def main() -> None:
    arguments = readArguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    host.loadModules()
    # The name can be read in the pictures.
    folder = Path(tempfile.gettempdir()) / "tutorial"
    if folder.exists():
        raise SystemExit(f"{folder} is there already; move it away")
    session = Pictures(arguments.out)
    try:
        study = Study(arguments.data / "hippocampus", folder)
        for page in arguments.only or PAGES:
            PAGES[page](session, study)
    finally:
        session.close()
        shutil.rmtree(folder, ignore_errors=True)


def readArguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("DINOMIX_TEST_DATA"), help="folder of test data")
    parser.add_argument("--out", type=Path, default=host.REPOSITORY / "Resources" / "Screenshots")
    parser.add_argument("--only", action="append", choices=PAGES, help="take the pictures of this page only")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of test data with --data or DINOMIX_TEST_DATA")
    arguments.data = Path(arguments.data)
    return arguments


class Study:
    """A study as a user has it: a folder of labeled cases, one of unlabeled ones, and two in the scene."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.folder = folder / "study"
        self.labeled, self.unlabeled = folder / "labeled", folder / "unlabeled"
        self.data = data
        self.names = [path.name for path in sorted((data / "images").glob("*.nii.gz"))]
        for name in self.names[:8]:
            for part in ("images", "labels"):
                copy(data / part / name, self.labeled / part / name)
        for name in self.names[10:24]:
            copy(data / "images" / name, self.unlabeled / name)
        (self.labeled / "dataset.json").write_text(
            '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "hippocampus anterior": 1, "hippocampus posterior": 2}}'
        )

    def loadIntoScene(self) -> list:
        """Two cases as a user has them open, one with its segmentation."""
        volumes = []
        for name in self.names[8:10]:
            volumes.append(slicer.util.loadVolume(str(self.data / "images" / name), {"name": name.split(".")[0]}))
        labels = slicer.util.loadVolume(
            str(self.data / "labels" / self.names[8]), {"name": "labels", "labelmap": True, "show": False}
        )
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Hippocampus by hand")
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
        slicer.mrmlScene.RemoveNode(labels)
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volumes[0])
        for number, name in enumerate(NAMES.values()):
            segmentation.GetSegmentation().GetNthSegment(number).SetName(name)
        return volumes


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


class Pictures:
    """Drives the window as a user does, and takes a picture at each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.panel = slicer.modules.dinomixtrain.widgetRepresentation()
        self.widget = self.panel.self()
        self.logic = self.widget.logic
        self.tabs = self.widget.ui.pagesTabWidget
        self.panel.resize(PANEL_WIDTH, 900)
        self.panel.show()
        self.panel.enter()

    def close(self) -> None:
        self.panel.exit()
        self.widget.cleanup()

    @property
    def parameters(self):
        return self.logic.getParameterNode()

    def page(self, name: str):
        """Show a page; returns its widgets."""
        self.widget.goTo(name)
        host.processEvents(50)
        return self.widget.pages[name].ui

    def takePanel(self, name: str) -> None:
        """The panel, as high as the page that is shown."""
        self.fitPanel()
        self.save(name, self.panel.grab().toImage().copy(0, 0, PANEL_WIDTH, self.usedHeight()))

    def takeAll(self, name: str) -> None:
        """The panel beside the views, as in Slicer's window."""
        self.fitPanel()
        height = max(self.usedHeight(), LEAST_HEIGHT)
        views = rendering.pictureOfScene(VIEWS_WIDTH, height)
        picture = qt.QImage(PANEL_WIDTH + VIEWS_WIDTH, height, qt.QImage.Format_RGB32)
        painter = qt.QPainter(picture)
        painter.drawImage(0, 0, self.panel.grab().toImage())
        painter.drawImage(PANEL_WIDTH, 0, imageOf(views))
        painter.end()
        self.save(name, picture)

    def takePart(self, name: str, first, last) -> None:
        """The panel from one widget down to another one."""
        self.fitPanel()
        top = first.mapTo(self.panel, qt.QPoint(0, 0)).y() - 6
        bottom = last.mapTo(self.panel, qt.QPoint(0, last.height)).y() + 6
        self.save(name, self.panel.grab().toImage().copy(0, top, PANEL_WIDTH, bottom - top))

    def takeSlices(self, name: str, width: int, height: int, ras: tuple[float, ...]) -> None:
        """The slices on the left of the views, through a place in mm."""
        rendering.pictureOfScene(2 * width, height)  # fits the views, which leads them to the middle
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *ras)
        picture = rendering.pictureOfScene(2 * width, height, fit=False)
        self.save(name, imageOf(picture).copy(0, 0, width, height))

    def usedHeight(self) -> int:
        """Pixels of the panel down to the last widget of the page: tabs are as high as the highest page."""
        page = self.tabs.currentWidget()
        bottoms = [
            child.mapTo(self.panel, qt.QPoint(0, child.height)).y()
            for child in page.children()
            if isinstance(child, qt.QWidget) and child.isVisible()
        ]
        return min(max(bottoms) + 16, self.panel.height)

    def fitPanel(self) -> None:
        # A hidden page must not make the panel higher than the one that is shown.
        for index in range(self.tabs.count):
            policy = qt.QSizePolicy.Preferred if index == self.tabs.currentIndex else qt.QSizePolicy.Ignored
            self.tabs.widget(index).setSizePolicy(policy, policy)
        # Texts that wrap need another height once they have their width.
        for _ in range(2):
            self.panel.resize(PANEL_WIDTH, 100)
            host.processEvents(50)
            layout = self.panel.layout()
            asWide = layout.totalHeightForWidth(PANEL_WIDTH) if layout.hasHeightForWidth() else 0
            self.panel.resize(PANEL_WIDTH, max(asWide, layout.totalMinimumSize().height()))
            host.processEvents(50)

    def save(self, name: str, picture) -> None:
        path = self.folder / f"{name}.png"
        if not picture.save(str(path)):
            raise OSError(f"{path} cannot be written")
        print(path)


def cases(session: Pictures, study: Study) -> None:
    """Page 1: from nothing to a checked cohort, with a case shown."""
    ui, node = session.page("cases"), session.parameters
    study.loadIntoScene()
    host.processEvents(50)
    node.studyFolder = str(study.folder)
    node.labeledFolders, node.unlabeledFolders = [str(study.labeled)], [str(study.unlabeled)]
    node.validationCount = 2
    host.processEvents(50)
    ui.sceneAllButton.click()
    broken = study.labeled / "labels" / study.names[3]
    good = broken.read_bytes()
    shutil.copy(study.data / "labels" / study.names[4], broken)
    check(session, ui)
    ui.casesTable.selectRow(0)
    session.takePanel("train_cases_problem")
    broken.write_bytes(good)
    check(session, ui)
    ui.casesTable.selectRow(0)
    ui.loadCaseButton.click()
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        segmentation.CreateClosedSurfaceRepresentation()
    host.processEvents(50)
    slicer.app.layoutManager().threeDWidget(0).threeDView().resetFocalPoint()
    session.takeAll("train_cases")


def check(session: Pictures, ui) -> None:
    host.processEvents(50)
    ui.checkButton.click()
    page = session.widget.pages["cases"]
    host.waitUntil(lambda: session.logic.cohort.state == "idle" and not page.cases.isFilling(), 300)
    host.processEvents(100)


def training(session: Pictures, study: Study) -> None:
    """Page 2: a preset with its cost, and the advanced settings."""
    checkedStudy(session, study)
    ui, node = session.page("training"), session.parameters
    page, logic = session.widget.pages["training"], session.logic.training
    host.waitUntil(lambda: session.logic.offers.presets and session.logic.offers.devices, 120)
    for preset in ("quick-look", "standard"):
        node.preset = preset
        host.processEvents(50)
        ui.estimateButton.click()
        host.waitUntil(lambda: logic.estimating is None, 600)
    node.startModel = ""
    ui.commandCollapsibleButton.collapsed = False
    page.show()
    session.takePanel("train_training")
    ui.commandCollapsibleButton.collapsed = True
    ui.settingsCollapsibleButton.collapsed = False
    session.takePanel("train_settings")
    ui.settingsCollapsibleButton.collapsed = True


def run(session: Pictures, study: Study) -> None:
    """Page 3: a short run with its curves, and a validation case beside it."""
    checkedStudy(session, study)
    ui, node = session.page("training"), session.parameters
    node.preset, node.device, node.runName = "quick-look", "cpu", "hippocampus"
    node.settings = json.dumps(SHORT)
    host.processEvents(50)
    host.waitUntil(lambda: ui.startButton.enabled, 60)
    ui.startButton.click()
    ui, runs = session.page("run"), session.logic.runs
    ui.snapshotCheckBox.checked = True
    ui.curvesComboBox.currentIndex = 1
    host.waitUntil(lambda: runs.follower.step >= 0.8 * SHORT["steps"], 1800)
    host.waitUntil(lambda: f"at step {runs.snapshot['step']:,}" in ui.snapshotLabel.text, 60)
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        segmentation.CreateClosedSurfaceRepresentation()
    host.processEvents(1200)
    session.takeAll("train_run")
    for row, name in ((0, "losses"), (3, "pic"), (4, "agreement")):
        ui.curvesComboBox.currentIndex = row
        host.processEvents(1200)
        session.takePanel(f"train_run_{name}")
    runs.pause()
    host.waitUntil(lambda: runs.state.name in ("paused", "finished"), 120)
    session.takePanel("train_run_paused")


def result(session: Pictures, study: Study) -> None:
    """Page 4: a run beside the one that it started from, and the unlabeled case to label next, opened to be corrected."""
    checkedStudy(session, study)
    node, runs, results = session.parameters, session.logic.runs, session.logic.results
    node.preset, node.device, node.settings = "quick-look", "cpu", json.dumps({**SHORT, "steps": 60})
    for name in ("first", "second"):
        ui = session.page("training")
        node.runName = name
        host.processEvents(50)
        host.waitUntil(lambda ui=ui: ui.startButton.enabled, 60)
        ui.startButton.click()
        host.waitUntil(lambda name=name: runs.path is not None and runs.path.name == name, 60)
        host.waitUntil(lambda: runs.state is not None and runs.state.name == "finished", 1800)
        node.startModel = str(runs.path / "model")
    ui = session.page("result")
    for button in (ui.compareButton, ui.rankButton):
        host.waitUntil(lambda button=button: button.enabled, 60)
        button.click()
        host.waitUntil(lambda: results.state == "idle", 600)
    host.processEvents(500)
    ui.rankingTable.selectRow(0)
    ui.openCaseButton.click()
    host.waitUntil(lambda: results.state == "idle" and ui.addCaseButton.enabled, 120)
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        segmentation.CreateClosedSurfaceRepresentation()
    host.processEvents(500)
    session.takeAll("train_result")


def partly(session: Pictures, study: Study) -> None:
    """Page 1 with labels that leave something open: what is undecided, and a case in which every fifth slice was drawn."""
    ui, node = session.page("cases"), session.parameters
    folder = study.folder.parent / "abdomens"
    makePhantoms(folder, eraseSome)
    node.studyFolder, node.labeledFolders = str(study.folder.parent / "abdomen study"), [str(folder)]
    node.unlabeledFolders, node.validationCount, node.modality = [], 1, "CT"
    check(session, ui)
    select(ui.casesTable, "patient2")
    session.takePart("train_partly_drawn", ui.checkedCollapsibleButton, ui.labelsCollapsibleButton)
    select(ui.casesTable, "patient5")
    ui.loadCaseButton.click()
    *_earlier, volume = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    middle = [size // 2 for size in volume.GetImageData().GetDimensions()]
    middle[2] -= middle[2] % 5  # a slice that was drawn
    toRas = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(toRas)
    session.takeSlices("train_every_fifth_slice", 420, 560, toRas.MultiplyPoint([*middle, 1])[:3])


def addOrgan(session: Pictures, study: Study) -> None:
    """Page 2 for cases in which only the pancreas is drawn, and a model that knows the twelve other organs."""
    ui, node = session.page("cases"), session.parameters
    folder, model = study.folder.parent / "pancreas", study.folder.parent / "twelve organs"
    makePhantoms(folder, keepPancreas)
    makeModel(model, without="pancreas")
    node.studyFolder, node.labeledFolders = str(study.folder.parent / "pancreas study"), [str(folder)]
    node.unlabeledFolders, node.validationCount, node.modality = [], 1, "CT"
    check(session, ui)
    ui = session.page("training")
    node.startModel = str(model)
    host.processEvents(50)
    ui.keepStructuresCheckBox.click()
    host.processEvents(50)
    session.takePart("train_add_organ", ui.cohortFactsLabel, ui.overlapLabel)


def select(table, name: str) -> None:
    rows = [row for row in range(table.rowCount) if table.item(row, 0).text() == name]
    table.selectRow(rows[0])
    host.processEvents(50)


SHORT = {
    "steps": 100, "validate_every": 10, "checkpoint_every": 30, "record_every": 3, "learning_rate": 0.003,
    "plan.patch": [32, 48, 32],
    "plan.network": {"_target_": "monai.networks.nets.BasicUNet", "features": [8, 8, 16, 32, 64, 8]},
}  # fmt: skip
"""A run of a small network that is over in minutes on a processor, for the pictures alone."""


def checkedStudy(session: Pictures, study: Study) -> None:
    """The folders of the study, checked as page 1 does."""
    ui, node = session.page("cases"), session.parameters
    if session.logic.cohort.report is not None:
        return
    node.studyFolder = str(study.folder)
    node.labeledFolders, node.unlabeledFolders = [str(study.labeled)], [str(study.unlabeled)]
    node.validationCount = 2
    check(session, ui)


PAGES = {"cases": cases, "partly": partly, "add organ": addOrgan, "training": training, "run": run, "result": result}


def imageOf(array: np.ndarray):
    """A ``QImage`` of a picture (height, width, 3)."""
    height, width, _ = array.shape
    return qt.QImage(np.ascontiguousarray(array).tobytes(), width, height, 3 * width, qt.QImage.Format_RGB888).copy()


if __name__ == "__main__":
    main()
