"""Cases of several images on the page "Cases": their names, from folders and from the open scene."""

import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk
from cohort_cases import addSceneCase
from cohort_window import CohortTestCase
from DINOMixTrainLib.case_loading import showCase
from DINOMixTrainLib.cohort_report import CheckedCase
from DINOMixTrainLib.cohort_request import CohortRequest, SceneChoice, channelsOfText
from DINOMixTrainLib.logic import DINOMixTrainLogic
from DINOMixTrainLib.ranked_case import nodeOfCase, rankedCases, stepsOfOpening
from DINOMixTrainLib.study import cohortOf
from waiting import waitUntil

from dinomix.errors import DinomixError
from dinomix.files import LARGEST_JSON
from dinomix.images.channel_files import Channel
from dinomix.images.image_headers import read_header
from dinomix.images.reading import read_image
from dinomix_slicer.run.process import endRun
from dinomix_slicer.scene.volumes import affineOf


class NamesTest(CohortTestCase):
    def test_names_and_patterns(self):
        self.assertEqual(channelsOfText(" t1, t2=*T2*TRA* "), (Channel("t1"), Channel("t2", "*T2*TRA*")))
        self.assertEqual(channelsOfText(""), ())
        for text in ("t1,=x", "t1, T1", "a/b, c"):
            with self.assertRaises(DinomixError):
                channelsOfText(text)
        words = CohortRequest("/study", labeledFolders=("/cases",), channels="t1, t2=*T2*").arguments()
        self.assertEqual(
            [word for word in words if word.startswith("--channel")], ["--channel=t1", "--channel=t2=*T2*"]
        )

    def test_a_choice_of_several_volumes_as_text(self):
        for choice in (SceneChoice("a", "s", more=("b", "c")), SceneChoice("a", more=("",)), SceneChoice("a", "s")):
            self.assertEqual(SceneChoice.of(choice.text), choice)

    def test_what_cannot_be_a_name_is_told_before_a_check(self):
        self.chooseStudy()
        self.parameters.labeledFolders = [str(self.folder)]
        self.parameters.channels = "t1, t1"
        self.settle()
        self.assertFalse(self.ui.checkButton.enabled)
        self.assertIn("same name", self.ui.checkStatusLabel.text)


class CohortFileTest(unittest.TestCase):
    def test_a_large_file_that_windows_wrote_is_read(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "images").mkdir()
            for image in ("t1", "t2"):
                (folder / "images" / f"{image}.nrrd").touch()
            case = {"name": "a", "role": "labeled", "image": "images\\t1.nrrd", "more_images": ["images\\t2.nrrd"]}
            cohort = {
                "modality": "MR",
                "labels": {"structures": []},
                "cases": [{**case, "patient": "x" * LARGEST_JSON}],
            }
            (folder / "cohort.json").write_text(json.dumps(cohort))
            read = cohortOf(folder)
        self.assertEqual(read.images, {"a": folder / "images/t1.nrrd"})
        self.assertEqual(read.moreImages, {"a": [str(folder / "images/t2.nrrd")]})


class FoldersTest(CohortTestCase):
    def test_folders_with_a_file_for_each_image(self):
        for number in range(3):
            case = self.folder / "cases" / f"case {number}"
            case.mkdir(parents=True)
            volume, organs = addSceneCase(f"case {number}", number + 1)
            slicer.util.saveNode(volume, str(case / "MR_T1.nrrd"))
            slicer.util.updateVolumeFromArray(volume, 500 - slicer.util.arrayFromVolume(volume))
            slicer.util.saveNode(volume, str(case / "MR_T2_TRA.nrrd"))
            slicer.util.saveNode(organs, str(case / "label.seg.nrrd"))
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.chooseStudy()
        self.parameters.labeledFolders = [str(self.folder / "cases")]
        self.parameters.validationCount = 1
        self.ui.channelsLineEdit.text = "t1, t2=*T2*TRA*"
        self.settle()
        self.assertEqual(self.parameters.channels, "t1, t2=*T2*TRA*")
        self.check()
        self.assertTrue(self.cohort.report.isGood, self.ui.checkStatusLabel.text + self.ui.caseDetailLabel.text)
        cohort = json.loads((self.study / "cohort.json").read_text())
        self.assertEqual(cohort["channels"], ["t1", "t2"])
        self.selectCases("case 1")
        self.settle()
        self.assertIn("MR_T1.nrrd", self.ui.caseDetailLabel.text)
        self.assertIn("MR_T2_TRA.nrrd", self.ui.caseDetailLabel.text)


class SceneCases(CohortTestCase):
    def addCases(self, names):
        """T1 with organs, and T2 without, on another grid, moved with its volume."""
        for number, name in enumerate(names, start=1):
            first, _organs = addSceneCase(f"{name} t1", number, f"{name} organs")
            array = np.random.default_rng(number).uniform(0, 900, (20, 20, 20)).astype(np.float32)
            second = slicer.util.addVolumeFromArray(array, name=f"{name} t2")
            second.CopyOrientation(first)
        self.settle()


class SceneTest(SceneCases):
    def box(self, name, column=2):
        return self.ui.sceneTable.cellWidget(self.sceneRow(name), column)

    def headers(self):
        table = self.ui.sceneTable
        return [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]

    def test_a_column_for_each_further_image(self):
        self.addCases(["a", "b"])
        self.assertEqual(self.headers(), ["Volume", "Segmentation"])
        self.assertEqual(self.sceneNames(), ["a t1", "a t2", "b t1", "b t2"])
        self.parameters.channels = "t1, t2"
        self.settle()
        self.assertEqual(self.headers(), ["t1", "Segmentation", "t2"])
        self.assertEqual(self.sceneNames(), ["a t1", "b t1"])
        self.assertEqual([self.box(name).currentText for name in ("a t1", "b t1")], ["a t2", "b t2"])
        self.tick("a t1")
        first, second, other, organs = (slicer.util.getNode(n).GetID() for n in ("a t1", "a t2", "b t2", "a organs"))
        self.assertEqual(list(self.parameters.sceneLabeled), [f"{first}+{second} {organs}"])
        self.choose(self.box("a t1"), "b t2")
        self.assertEqual(list(self.parameters.sceneLabeled), [f"{first}+{other} {organs}"])
        self.parameters.channels = ""
        self.settle()
        self.assertEqual(list(self.parameters.sceneLabeled), [f"{first} {organs}"])
        self.assertEqual(self.headers(), ["Volume", "Segmentation"])

    def test_a_further_image_that_was_chosen_in_a_closed_scene_is_not_chosen_in_the_next(self):
        self.addCases(["a", "b"])
        self.parameters.channels = "t1, t2"
        self.settle()
        self.choose(self.box("a t1"), "b t2")
        self.widget.exit()
        slicer.mrmlScene.Clear(False)
        self.addCases(["a", "b"])
        self.parameters.channels = "t1, t2"
        self.widget.enter()
        self.settle()
        self.assertEqual(self.box("a t1").currentText, "a t2")

    def test_cases_of_the_scene_are_copied_with_all_images(self):
        self.addCases(["a", "b", "c"])
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 3)
        transform.SetMatrixTransformToParent(matrix)
        slicer.util.getNode("b t2").SetAndObserveTransformNodeID(transform.GetID())
        self.chooseStudy()
        self.parameters.channels = "t1, t2"
        self.parameters.validationCount = 1
        self.settle()
        self.click(self.ui.sceneAllButton)
        self.check()
        self.assertTrue(self.cohort.report.isGood, self.ui.checkStatusLabel.text + self.ui.caseDetailLabel.text)
        cohort = json.loads((self.study / "cohort.json").read_text())
        self.assertEqual(cohort["channels"], ["t1", "t2"])
        (case,) = (each for each in cohort["cases"] if each["name"] == "b t1")
        written = self.study / case["more_images"][0]
        expected = slicer.util.arrayFromVolume(slicer.util.getNode("b t2"))
        np.testing.assert_array_equal(read_image(written).array, expected)
        place = affineOf(slicer.util.getNode("b t2"))
        place[0, 3] += 3
        np.testing.assert_allclose(read_header(written).affine, place)
        self.assertIsNone(self.cohort.whyNotTrain(self.parameters))

    def test_a_case_that_lacks_an_image_is_told(self):
        self.addCases(["a"])
        self.chooseStudy()
        self.parameters.channels = "t1, t2"
        self.settle()
        self.tick("a t1")
        slicer.mrmlScene.RemoveNode(slicer.util.getNode("a t2"))
        self.settle()
        self.assertEqual(self.box("a t1").currentText, "choose a volume")
        self.check()
        self.assertIn("For a t1 not all images of the case are chosen.", self.ui.checkStatusLabel.text)


class ShowingTest(CohortTestCase):
    """A case of two images in the slice views."""

    def prepare(self):
        volume, organs = addSceneCase("a", 1)
        self.images = [str(self.folder / f"{name}.nrrd") for name in ("t1", "t2")]
        slicer.util.saveNode(volume, self.images[0])
        slicer.util.updateVolumeFromArray(volume, 500 - slicer.util.arrayFromVolume(volume))
        slicer.util.saveNode(volume, self.images[1])
        self.runFolder = self.folder / "run"
        self.runFolder.mkdir()
        slicer.util.saveNode(organs, str(self.runFolder / "a.seg.nrrd"))
        slicer.mrmlScene.Clear(False)

    def shown(self):
        """The files of the images behind and over, and how opaque the latter is."""
        view = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        nodes = map(slicer.mrmlScene.GetNodeByID, (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()))
        return [node.GetStorageNode().GetFileName() for node in nodes], view.GetForegroundOpacity()

    def test_a_ranked_case_is_opened_with_all_of_its_images(self):
        case = {"name": "a", "role": "unlabeled", "image": self.images[0], "more_images": [self.images[1]]}
        cohort = {"modality": "MR", "labels": {"structures": []}, "cases": [case]}
        (self.runFolder / "cohort.json").write_text(json.dumps(cohort))
        told = {"name": "a", "image": self.images[0], "disagreement": 0.5, "classes": {}, "pseudo_label": "a.seg.nrrd"}
        (case,) = rankedCases(self.runFolder, {"cases": [told]})
        list(stepsOfOpening(case))
        self.assertEqual(self.shown(), (self.images, 0.5))
        self.assertIsNotNone(nodeOfCase(case))
        list(stepsOfOpening(case))
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")), 2)
        Path(self.images[1]).unlink()
        with self.assertRaisesRegex(DinomixError, "t2.nrrd"):
            list(stepsOfOpening(case))

    def test_a_checked_case_is_shown_with_all_of_its_images(self):
        showCase(CheckedCase("a", "unlabeled", self.images[0], (self.images[1],)), "")
        self.assertEqual(self.shown(), (self.images, 0.5))


SHORT = {
    "method": "labeled-only", "steps": 4, "validate_every": 4, "checkpoint_every": 4, "plan.patch": [32, 32, 32],
    "plan.network": {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 8, 8, 8, 4]},
}  # fmt: skip
PATIENCE = 120


class TrainingTest(SceneCases):
    """From volumes of the scene to a model that sees both images of a case."""

    def makeLogic(self):
        return DINOMixTrainLogic(installer=self.installer)  # over a real worker

    def test_cases_of_the_scene_are_trained_on(self):
        self.addCases(["a", "b", "c"])
        self.chooseStudy()
        node = self.parameters
        node.channels, node.validationCount = "t1, t2", 1
        self.settle()
        self.click(self.ui.sceneAllButton)
        self.check()
        self.click(self.ui.goToTrainingButton)
        node.preset, node.device, node.settings = "quick-look", "cpu", json.dumps(SHORT)
        ui = self.widget.pages["training"].ui
        waitUntil(lambda: ui.startButton.enabled, PATIENCE, "what can be started")
        self.click(ui.startButton)
        run = Path(node.runPath)
        self.addCleanup(lambda: endRun(run))
        runs = self.logic.runs
        waitUntil(lambda: runs.state is not None and runs.state.name in ("finished", "failed"), PATIENCE, "the end")
        self.assertEqual(runs.state.name, "finished")
        plan = json.loads((run / "model" / "plan.json").read_text())
        self.assertEqual([plan["channel"], *(each["name"] for each in plan["more_channels"])], ["t1", "t2"])
