"""Takes the pictures of DINOMix Segment in the documentation, from its real window, worker and scene.

    python Testing/screenshots/segment_module.py --model MODEL_FOLDER [--data FOLDER] [--out Resources/Screenshots]

The scan is ``ct_multiorgan/ct.nii.gz`` (TotalSegmentator's test data, Apache-2.0) in the folder of test data, by default
that of the environment variable DINOMIX_TEST_DATA. Look at the pictures before they are committed.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "modules")]

import host  # noqa: E402

host.start()

import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402

from dinomix_slicer.scene.unsure import unsureSegments  # noqa: E402
from host import rendering  # noqa: E402

PANEL_WIDTH, HEIGHT = 470, 900
VIEWS_WIDTH = 1080
SOFT_TISSUE = (350, 50)  # window, level
NOISE = 150  # HU
PELVIS = 45  # slices of the scan below the organs; a scan of the abdomen has none


def main() -> None:
    arguments = readArguments()
    os.environ["DINOMIX_MODELS"] = str(arguments.model.resolve().parent)
    arguments.out.mkdir(parents=True, exist_ok=True)
    host.loadModules()
    session = Pictures(arguments.out)
    try:
        session.firstRun()
        session.load(arguments.data / "ct_multiorgan" / "ct.nii.gz")
        session.ready()
        session.running()
        session.result()
        session.sections()
        session.batch()
        session.modelCard()
        session.getModels()
    finally:
        session.close()


def readArguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder that has learned something")
    parser.add_argument("--data", type=Path, default=os.environ.get("DINOMIX_TEST_DATA"), help="folder of test data")
    parser.add_argument("--out", type=Path, default=host.REPOSITORY / "Resources" / "Screenshots")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of test data with --data or DINOMIX_TEST_DATA")
    return arguments


class Pictures:
    """Drives the window as a user does, and takes a picture at each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.panel = slicer.modules.dinomixsegment.widgetRepresentation()
        self.widget = self.panel.self()
        self.ui, self.logic = self.widget.ui, self.widget.logic
        self.panel.resize(PANEL_WIDTH, HEIGHT)
        self.panel.show()
        self.panel.enter()

    def close(self) -> None:
        self.panel.exit()
        self.widget.cleanup()

    # -- Steps

    def firstRun(self) -> None:
        host.waitUntil(lambda: self.logic.models(), 120)
        self.takePanel("segment_first_run")

    def load(self, file: Path) -> None:
        self.volume = slicer.util.loadVolume(str(file), {"name": "Abdomen CT"})
        removeLowest(self.volume, PELVIS)
        display = self.volume.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(*SOFT_TISSUE)
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
        host.processEvents(50)

    def ready(self) -> None:
        host.waitUntil(lambda: "about" in self.ui.statusLabel.text, 120)
        self.takePanel("segment_ready")

    def running(self) -> None:
        self.ui.applyButton.click()
        host.waitUntil(lambda: "left" in self.ui.statusLabel.text and self.ui.progressBar.value > 300, 300)
        self.takePanel("segment_running")

    def result(self) -> None:
        host.waitUntil(lambda: self.logic.state == "idle" and not self.logic.makesSurfaces(), 600)
        host.processEvents(100)
        self.takeAll("segment")

    def sections(self) -> None:
        sections = (
            ("organs", self.ui.organsCollapsibleButton),
            ("output", self.ui.outputCollapsibleButton),
            ("advanced", self.ui.advancedCollapsibleButton),
        )
        self.ui.resultsCollapsibleButton.collapsed = True
        for name, section in sections:
            section.collapsed = False
            if name == "advanced":
                self.ui.cleanUpComboBox.activated(2)  # pieces of at least a size
                self.ui.logText.clear()
            host.processEvents(100)
            self.takePanel(f"segment_{name}")
            section.collapsed = True
        self.ui.cleanUpComboBox.activated(0)

    def batch(self) -> None:
        """The scan, a part of it, and the same with much noise, of which the model is unsure."""
        unsure = [name for name, _dice in unsureSegments(self.ui.segmentsTableView.segmentationNode())]
        organs = [each["name"] for each in self.logic.structures(self.logic.getParameterNode().modelPath)]
        self.logic.getParameterNode().keep = [name for name in organs if name not in unsure]
        array = slicer.util.arrayFromVolume(self.volume)
        noise = np.random.default_rng(0).normal(0, NOISE, array.shape)
        for name, voxels in (("Low dose CT", array + noise), ("Upper abdomen CT", array[len(array) // 4 :])):
            part = slicer.util.addVolumeFromArray(voxels.astype(np.int16), name=name)
            part.SetSpacing(self.volume.GetSpacing())
        self.ui.batchCollapsibleButton.collapsed = False
        host.processEvents(100)
        self.ui.batchButton.click()
        host.waitUntil(lambda: self.logic.state == "running", 60)
        host.waitUntil(lambda: self.logic.state == "idle", 1200)
        host.processEvents(100)
        self.takePanel("segment_batch")
        self.ui.batchCollapsibleButton.collapsed = True
        self.logic.getParameterNode().keep = []

    def modelCard(self) -> None:
        self.ui.modelMoreButton.click()
        host.processEvents(50)
        self.save("segment_model", self.widget.modelPage._dialog.grab().toImage())

    def getModels(self) -> None:
        """The window in which models are got, with the first published one chosen."""
        self.ui.getModelsButton.click()
        dialog = self.widget.getModels
        host.waitUntil(lambda: dialog.store.catalog and not dialog.store.doing, 120)
        published = [
            row for row in range(dialog.ui.modelsList.count) if "installed" not in dialog.ui.modelsList.item(row).text()
        ]
        dialog.ui.modelsList.setCurrentRow(published[0])
        host.processEvents(50)
        self.save("segment_get_models", dialog._dialog.grab().toImage())
        dialog._dialog.hide()

    # -- Pictures

    def takePanel(self, name: str) -> None:
        """The panel, as high as what it shows."""
        self.panel.resize(PANEL_WIDTH, 100)
        host.processEvents(30)
        self.panel.resize(PANEL_WIDTH, self.heightOfPanel())
        host.processEvents(30)
        self.save(name, self.panel.grab().toImage())

    def takeAll(self, name: str) -> None:
        """The panel beside the views, as in Slicer's window."""
        self.panel.resize(PANEL_WIDTH, HEIGHT)
        host.processEvents(30)
        view = slicer.app.layoutManager().threeDWidget(0).mrmlViewNode()
        view.SetBoxVisible(False)
        view.SetAxisLabelsVisible(False)
        slicer.app.layoutManager().threeDWidget(0).threeDView().rotateToViewAxis(3)
        rendering.pictureOfScene(
            VIEWS_WIDTH, HEIGHT
        )  # fits the views; that leads the slices through the volume's middle
        showMiddleOf(self.ui.segmentsTableView.segmentationNode())
        views = rendering.pictureOfScene(VIEWS_WIDTH, HEIGHT, fit=False)
        picture = qt.QImage(PANEL_WIDTH + VIEWS_WIDTH, HEIGHT, qt.QImage.Format_RGB32)
        painter = qt.QPainter(picture)
        painter.drawImage(0, 0, self.panel.grab().toImage())
        painter.drawImage(PANEL_WIDTH, 0, imageOf(views))
        painter.end()
        self.save(name, picture)

    def heightOfPanel(self) -> int:
        layout = self.panel.layout()
        if layout.hasHeightForWidth():
            return layout.totalHeightForWidth(PANEL_WIDTH)
        return layout.totalSizeHint().height()

    def save(self, name: str, picture) -> None:
        path = self.folder / f"{name}.png"
        if not picture.save(str(path)):
            raise OSError(f"{path} cannot be written")
        print(path)


def imageOf(array: np.ndarray):
    """A ``QImage`` of a picture (height, width, 3)."""
    height, width, _ = array.shape
    return qt.QImage(np.ascontiguousarray(array).tobytes(), width, height, 3 * width, qt.QImage.Format_RGB888).copy()


def removeLowest(volume, slices: int) -> None:
    """Take away the first slices of a volume; the others stay where they are."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    origin = matrix.MultiplyPoint((0, 0, slices, 1))[:3]
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume)[slices:].copy())
    volume.SetOrigin(origin)


def showMiddleOf(segmentation) -> None:
    """Move the slices to the middle of what was found."""
    voxels = [
        np.argwhere(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier))
        for identifier in segmentation.GetSegmentation().GetSegmentIDs()
    ]
    k, j, i = np.concatenate(voxels).mean(axis=0)
    image = segmentation.GetBinaryLabelmapInternalRepresentation(segmentation.GetSegmentation().GetSegmentIDs()[0])
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    extent = image.GetExtent()
    center = matrix.MultiplyPoint((i + extent[0], j + extent[2], k + extent[4], 1))[:3]
    for name in slicer.app.layoutManager().sliceViewNames():
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*center)


if __name__ == "__main__":
    main()
