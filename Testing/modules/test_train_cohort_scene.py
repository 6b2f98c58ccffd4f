"""Cases of the open scene on the page "Cases": pairs, transforms, what changes in the scene, names and terminology."""

import json
import shutil
import unittest

import numpy as np
import slicer
import vtk
from cohort_cases import addSceneCase, image, labeledFolder, labels, unlabeledFolder
from cohort_window import CohortTestCase
from DINOMixTrainLib.cohort_logic import CohortLogic
from DINOMixTrainLib.name_matching import Concept, conceptOf, sameByTerminology
from DINOMixTrainLib.snapshot_view import SnapshotView
from segment_fakes import LIVER, SPLEEN, modelDict
from waiting import processEvents, waitUntil

from dinomix.images.reading import read_image, read_label
from dinomix_slicer.scene.segmentations import labelMapFrom, newSegmentation
from dinomix_slicer.scene.volumes import affineOf

SPLEEN_ENTRY = LIVER["terminology_entry"].replace("10200004^Liver", "78961009^Spleen")
RIGHT_KIDNEY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^64033007^Kidney~SCT^24028007^Right~Anatomic codes - DICOM master list~^^~^^"
)


class ChoosingTest(CohortTestCase):
    def test_volumes_come_with_their_segmentations_and_are_ticked_to_be_used(self):
        self.assertIn("The scene holds no volume", self.ui.sceneLabel.text)
        addSceneCase("CT 1", 1, "Organs 1")
        addSceneCase("CT 2", 2, None)
        self.settle()
        self.assertEqual(self.sceneNames(), ["CT 1", "CT 2"])
        self.assertEqual(self.segmentationBox("CT 1").currentText, "Organs 1")
        self.assertIn("drawn on this volume", self.segmentationBox("CT 1").toolTip)
        self.assertEqual(self.segmentationBox("CT 2").currentText, "none: unlabeled")
        self.assertIn("No volume is used yet", self.ui.sceneLabel.text)
        self.click(self.ui.sceneAllButton)
        self.assertEqual(self.ui.sceneLabel.text, "1 labeled, 1 unlabeled.")
        self.click(self.ui.sceneNoneButton)
        self.assertEqual(list(self.parameters.sceneLabeled), [])
        self.tick("CT 1")
        self.assertEqual(self.ui.sceneLabel.text, "1 labeled, 0 unlabeled.")

    def test_a_pair_is_corrected(self):
        volume, _organs = addSceneCase("CT", 1, "Organs")
        addSceneCase("other", 2, "By hand")
        self.settle()
        self.tick("CT")
        self.choose(self.segmentationBox("CT"), "By hand")
        other = slicer.util.getNode("By hand")
        self.assertEqual(list(self.parameters.sceneLabeled), [f"{volume.GetID()} {other.GetID()}"])
        self.choose(self.segmentationBox("CT"), "none: unlabeled")
        self.assertEqual(list(self.parameters.sceneLabeled), [])
        self.assertEqual(list(self.parameters.sceneUnlabeled), [volume.GetID()])
        self.tick("CT", False)
        self.assertEqual(self.segmentationBox("CT").currentText, "none: unlabeled", "the choice stays")

    def test_what_was_chosen_in_a_closed_scene_is_not_chosen_in_the_next(self):
        ids = self.addTwoCases()
        self.settle()
        self.choose(self.segmentationBox("CT"), "By hand")
        self.widget.exit()
        slicer.mrmlScene.Clear(False)
        self.assertEqual(self.addTwoCases(), ids)
        self.widget.enter()
        self.settle()
        self.assertEqual(self.segmentationBox("CT").currentText, "Organs")

    def addTwoCases(self):
        cases = addSceneCase("CT", 1, "Organs"), addSceneCase("other", 2, "By hand")
        return [node.GetID() for case in cases for node in case]

    def test_a_volume_that_leaves_the_scene_leaves_the_cases(self):
        volume, _organs = addSceneCase("CT", 1)
        self.settle()
        self.tick("CT")
        slicer.mrmlScene.RemoveNode(volume)
        self.settle()
        self.assertEqual(list(self.parameters.sceneLabeled), [])
        self.assertEqual(self.sceneNames(), [])

    def test_a_segmentation_that_leaves_the_scene_makes_no_unlabeled_case_in_silence(self):
        _volume, organs = addSceneCase("CT", 1)
        self.settle()
        self.tick("CT")
        slicer.mrmlScene.RemoveNode(organs)
        self.settle()
        self.assertEqual([*self.parameters.sceneLabeled, *self.parameters.sceneUnlabeled], [])
        self.assertIn("segmentation of CT is not in the scene any more", self.window.messageLabel.text)

    def test_renamed_nodes_are_shown_by_their_new_names(self):
        volume, organs = addSceneCase("CT", 1)
        self.settle()
        self.tick("CT")
        volume.SetName("Thorax")
        organs.SetName("Lungs")
        self.widget.exit()
        self.widget.enter()
        self.settle()
        self.assertEqual(self.sceneNames(), ["Thorax"])
        self.assertEqual(self.segmentationBox("Thorax").currentText, "Lungs")

    def test_choices_are_saved_with_the_scene(self):
        addSceneCase("CT", 1)
        self.settle()
        self.tick("CT")
        path = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear(False)
        slicer.util.loadScene(path)
        self.settle()
        self.assertEqual(self.ui.sceneLabel.text, "1 labeled, 0 unlabeled.")


class CheckTest(CohortTestCase):
    def files(self, name):
        return self.study / "scene" / f"{name}.nrrd", self.study / "scene" / f"{name}.seg.nrrd"

    def test_cases_of_the_scene_and_of_folders_are_one_cohort(self):
        volume, _organs = addSceneCase("Größe 例", 1)
        addSceneCase("MR", 2, None)
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled", 1))
        self.addFolder(self.ui.addUnlabeledButton, unlabeledFolder(self.folder / "unlabeled", 1))
        self.click(self.ui.sceneAllButton)
        self.check()
        self.assertReady()
        self.assertEqual(
            self.states(),
            {
                "Größe 例": ("Labeled", "Good"),
                "case0": ("Labeled", "Good"),
                "MR": ("Unlabeled", "Good"),
                "scan100": ("Unlabeled", "Good"),
            },
        )
        imageFile, label = self.files("Größe 例")
        self.assertTrue(np.array_equal(read_image(imageFile).array, slicer.util.arrayFromVolume(volume)))
        read, names = read_label(label)
        self.assertEqual(names, {1: "liver", 2: "spleen"})
        self.assertTrue(np.array_equal(read.array, labels(1)))
        # Shown by a double click, it is the scene's own nodes.
        self.selectCases("Größe 例")
        self.click(self.ui.loadCaseButton)
        self.assertIs(self.shownVolume(), volume)
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")), 2)

    def test_a_segmentation_under_another_transform_is_brought_to_its_volume(self):
        _volume, organs = addSceneCase("CT", 1)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 3.0)  # two voxels of 1.5 mm
        transform.SetMatrixTransformToParent(matrix)
        organs.SetAndObserveTransformNodeID(transform.GetID())
        self.chooseStudy()
        self.tick("CT")
        self.check()
        self.assertReady()
        read, _names = read_label(self.files("CT")[1])
        expected = np.zeros_like(labels(1))
        expected[:, :, 2:] = labels(1)[:, :, :-2]
        self.assertTrue(np.array_equal(read.array, expected))

    def test_a_common_transform_is_left_alone(self):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        turn = vtk.vtkTransform()
        turn.RotateZ(30)
        transform.SetMatrixTransformToParent(turn.GetMatrix())
        volume, _organs = addSceneCase("CT", 1, transform=transform)
        self.chooseStudy()
        self.tick("CT")
        self.check()
        self.assertReady()
        imageFile, label = self.files("CT")
        self.assertTrue(np.array_equal(read_label(label)[0].array, labels(1)))
        self.assertTrue(np.allclose(read_image(imageFile).geometry.origin, (-10, 20, 5)))
        self.assertEqual(volume.GetTransformNodeID(), transform.GetID(), "the scene stays as it is")

    def test_what_cannot_be_exported_is_said_in_a_sentence(self):
        _volume, organs = addSceneCase("CT", 1)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
        grid = vtk.vtkImageData()
        grid.SetDimensions(5, 5, 5)
        grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
        bending = slicer.vtkOrientedBSplineTransform()
        bending.SetCoefficientData(grid)
        transform.SetAndObserveTransformToParent(bending)
        organs.SetAndObserveTransformNodeID(transform.GetID())
        self.chooseStudy()
        self.tick("CT")
        self.check()
        self.assertIn("non-linear transform", self.status)
        self.assertEqual(self.cohort.state, "idle")
        self.assertFalse(self.ui.goToTrainingButton.enabled)

    def test_only_what_has_changed_is_written_again(self):
        volume, organs = addSceneCase("CT", 1)
        self.chooseStudy()
        self.tick("CT")
        self.check()
        before = [path.stat().st_mtime_ns for path in self.files("CT")]
        self.check()
        self.assertEqual([path.stat().st_mtime_ns for path in self.files("CT")], before)
        segments = organs.GetSegmentation()
        array = (labels(1) == 2).astype(np.uint8)
        array[9:11, 10:12, 13:15] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, organs, segments.GetNthSegmentID(1), volume)
        self.check()
        after = [path.stat().st_mtime_ns for path in self.files("CT")]
        self.assertEqual(after[0], before[0])
        self.assertNotEqual(after[1], before[1])
        self.assertIn(f"spleen {int(array.sum())} voxels", self.detail("CT"))

    def detail(self, name):
        self.selectCases(name)
        return self.ui.caseDetailLabel.text

    def test_cases_of_a_scene_that_is_closed_are_still_the_studys(self):
        addSceneCase("CT", 1)
        addSceneCase("MR", 2, None)
        self.chooseStudy()
        self.click(self.ui.sceneAllButton)
        self.check()
        slicer.mrmlScene.Clear(False)
        processEvents(30)
        other, _organs = addSceneCase("CT", 3)
        self.chooseStudy()
        self.settle()
        self.assertEqual(self.sceneNames(), ["CT", "CT", "MR"], "the one in the scene, and the copies in the study")
        self.assertReady()
        later = CohortLogic()
        self.addCleanup(later.close)
        later.openStudy(self.parameters)
        self.assertTrue(later.isReady(self.parameters), "as after this scene was saved and loaded")
        self.selectCases("CT")
        self.click(self.ui.loadCaseButton)
        self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(self.shownVolume()), image(1)))
        self.assertEqual(self.sceneNames(), ["CT", "CT", "MR"])
        self.tick("CT")
        self.assertEqual(self.ui.sceneLabel.text, "2 labeled, 1 unlabeled.")
        self.check()
        self.assertReady()
        self.assertEqual(set(self.states()), {"CT", "CT_2", "MR"})
        self.assertTrue(np.array_equal(read_image(self.files("CT_2")[0]).array, slicer.util.arrayFromVolume(other)))

    def test_cancel_while_volumes_are_copied(self):
        array = np.random.default_rng(0).integers(-1000, 1000, (150, 300, 300), np.int16)
        slicer.util.addVolumeFromArray(array, name="large")
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled", 1))
        self.tick("large")
        self.click(self.ui.checkButton)
        self.assertEqual(self.cohort.state, "exporting")
        self.click(self.ui.checkButton)
        self.assertEqual(self.cohort.state, "idle")
        self.settle()
        self.assertEqual(self.status, "The check was cancelled.")
        self.check()
        self.assertReady()

    def test_scene_closed_while_volumes_are_copied(self):
        array = np.random.default_rng(0).integers(-1000, 1000, (150, 300, 300), np.int16)
        slicer.util.addVolumeFromArray(array, name="large")
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled", 1))
        self.tick("large")
        self.click(self.ui.checkButton)
        self.assertEqual(self.cohort.state, "exporting")
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertEqual(self.cohort.state, "idle")
        self.assertIn("Choose a study folder", self.status)


class SnapshotTest(CohortTestCase):
    def test_labels_of_other_volumes_do_not_lie_over_the_validation_case(self):
        _other, drawn = addSceneCase("other", 1)
        volume, organs = addSceneCase("validation", 2)
        view = SnapshotView()
        self.show(view, self.makeRun(volume, organs), 7)
        self.assertEqual(self.shownVolume(), volume)
        self.assertTrue(view.segmentation.GetDisplayVisibility())
        self.assertFalse(drawn.GetDisplayVisibility())
        self.assertTrue(organs.GetDisplayVisibility())

    def test_a_node_of_the_next_scene_with_the_same_id_is_left_alone(self):
        view = self.widget.pages["run"]._snapshots
        run = self.makeRun(*addSceneCase("validation", 1))
        self.show(view, run, 7)
        id = view.segmentation.GetID()
        self.widget.exit()
        slicer.mrmlScene.Clear(False)
        volume, _organs = addSceneCase("CT", 2)
        structures = [{**LIVER, "id": 1}, {**SPLEEN, "id": 2}]
        organs = newSegmentation("segmented", volume, labelMapFrom(labels(2), affineOf(volume)), structures)
        self.assertEqual(organs.GetID(), id)
        self.show(view, run, 8)
        self.assertIsNot(view.segmentation, organs)
        segment = organs.GetSegmentation().GetNthSegmentID(0)
        liver = slicer.util.arrayFromSegmentBinaryLabelmap(organs, segment, volume)
        self.assertTrue(np.array_equal(liver, labels(2) == 1))

    def makeRun(self, volume, organs):
        """The folder of a run whose validation case is this volume, and its newest segmentation these organs."""
        run = self.folder / "run"
        run.mkdir()
        slicer.util.saveNode(volume, str(run / "validation.nrrd"))
        slicer.util.saveNode(organs, str(run / "now.seg.nrrd"))
        structures = [{"id": 1, "name": "liver", "color": [9, 9, 9]}]
        case = {"name": "validation", "role": "validation", "image": "validation.nrrd"}
        (run / "cohort.json").write_text(
            json.dumps({"modality": "CT", "labels": {"structures": structures}, "cases": [case]})
        )
        return run

    def show(self, view, run, step):
        """Let a view show the newest segmentation of a run."""
        heard = []
        view.shown.connect(lambda *told: heard.append(told))
        view.failed.connect(lambda *told: heard.append(told))
        view.show(run, {"case": "validation", "step": step, "path": "now.seg.nrrd"})
        waitUntil(lambda: heard, what="the case")
        self.assertEqual(heard, [("validation", step)])


class NamesTest(CohortTestCase):
    def prepare(self):
        self.models = [modelDict(self.makeFolder("abdomen"), "Abdomen", structures=(LIVER, {**SPLEEN, "id": 2}))]

    def makeFolder(self, name):
        path = self.folder / name
        path.mkdir()
        return str(path)

    def useModel(self):
        self.parameters.startModel = self.models[0]["path"]
        self.settle()

    def tag(self, segmentation, number, entry):
        segment = segmentation.GetSegmentation().GetNthSegment(number)
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)

    def test_names_are_matched_to_the_models_by_their_terminology(self):
        _volume, organs = addSceneCase("CT", 1, names=("Leber", "Spleen"))
        self.tag(organs, 0, LIVER["terminology_entry"])
        self.chooseStudy()
        self.tick("CT")
        self.useModel()
        self.check()
        self.assertEqual(json.loads(self.parameters.renames), {"Leber": "liver"})
        self.assertIn("Leber as liver", self.window.messageLabel.text)
        self.assertIn("The choices have changed", self.status)
        self.check()
        self.assertReady()
        self.assertEqual(
            sorted(s["name"].casefold() for s in self.cohortFile()["labels"]["structures"]), ["liver", "spleen"]
        )
        self.assertIn("knows all structures", self.ui.namesLabel.text)

    def test_without_a_model_names_of_one_meaning_become_one(self):
        for name, names in (("one", ("liver", "spleen")), ("two", ("liver", "spleen")), ("three", ("Foie", "spleen"))):
            _volume, organs = addSceneCase(name, len(name), names=names)
            self.tag(organs, 0, LIVER["terminology_entry"])
        self.chooseStudy()
        self.click(self.ui.sceneAllButton)
        self.check()
        self.assertEqual(json.loads(self.parameters.renames), {"Foie": "liver"})

    def test_what_the_model_does_not_know_is_mapped_in_the_table(self):
        addSceneCase("CT", 1, names=("lobes", "spleen"))
        self.chooseStudy()
        self.tick("CT")
        self.useModel()
        self.check()
        self.assertEqual(self.parameters.renames, "")
        self.assertIn("does not know 1 of these structures", self.ui.namesLabel.text)
        self.rename("lobes", "liver")
        self.check()
        self.assertReady()
        self.assertIn("knows all structures", self.ui.namesLabel.text)
        self.assertIn("liver", [s["name"] for s in self.cohortFile()["labels"]["structures"]])

    def test_segments_that_overlap_can_be_left_out(self):
        volume, organs = addSceneCase("CT", 1)
        id = organs.GetSegmentation().AddEmptySegment("body", "body")
        slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones(labels().shape, np.uint8), organs, id, volume)
        self.chooseStudy()
        self.tick("CT")
        self.check()
        self.assertIn("overlap", self.status)
        self.assertIn("leave one of them out", self.status)
        self.rename("body", "(left out)")
        self.check()
        self.assertReady()

    def test_concepts(self):
        self.assertEqual(conceptOf(RIGHT_KIDNEY), Concept("64033007", "24028007"))
        self.assertIsNone(conceptOf("rubbish"))
        self.assertIsNone(conceptOf(RIGHT_KIDNEY.replace("64033007", "85756007")), "tissue of no particular kind")
        liver, spleen = conceptOf(LIVER["terminology_entry"]), conceptOf(SPLEEN_ENTRY)
        concepts = {"leber": liver, "foie": liver, "milz": spleen, "kidney left": Concept("64033007", "7771000")}
        found = [("Leber", 2), ("Foie", 5), ("Milz", 1), ("kidney left", 1)]
        self.assertEqual(sameByTerminology(found, concepts, {}), {"Leber": "Foie"})
        wanted = {"liver": liver, "kidney_right": conceptOf(RIGHT_KIDNEY)}
        self.assertEqual(sameByTerminology(found, concepts, wanted), {"Foie": "liver", "Leber": "liver"})

    def test_structures_of_one_file_or_of_different_organs_stay_apart(self):
        tumor = RIGHT_KIDNEY.replace("64033007^Kidney", "86049000^Neoplasm, Primary").replace("24028007^Right", "^")
        of_liver, of_kidney = (
            tumor.removesuffix("~^^~^^") + f"~SCT^{code}^Organ~^^" for code in ("10200004", "64033007")
        )
        self.assertNotEqual(conceptOf(of_liver), conceptOf(of_kidney))
        concepts = dict.fromkeys(("first", "second", "erster"), conceptOf(of_liver))
        found = [("first", 3), ("second", 2), ("erster", 1)]
        self.assertEqual(sameByTerminology(found, concepts, {}, [{"first", "second"}]), {"erster": "first"})
        wanted = {"tumor": conceptOf(of_liver)}
        self.assertEqual(sameByTerminology(found[:2], concepts, wanted, [{"first", "second"}]), {"first": "tumor"})

    def test_another_patients_volume_takes_not_the_place_of_one_whose_labels_were_corrected(self):
        volume, _none = addSceneCase("CT", 1, None)
        addSceneCase("other", 3)
        self.chooseStudy()
        self.tick("CT")
        self.tick("other")
        self.check()
        self.assertReady()
        copied = self.study / "scene" / "CT.nrrd"
        before = copied.read_bytes()
        corrected = self.study / "corrected"
        corrected.mkdir()
        shutil.copy(copied.with_name("other.seg.nrrd"), corrected / "CT.seg.nrrd")
        (corrected / "cases.json").write_text(
            json.dumps([{"image": "../scene/CT.nrrd", "label": "CT.seg.nrrd", "name": "CT"}]), encoding="utf-8"
        )
        self.check()  # the same volume
        self.assertReady()
        slicer.mrmlScene.RemoveNode(volume)
        volume, _organs = addSceneCase("CT", 2)
        self.settle()
        self.tick("CT")
        self.check()
        self.assertIn("belong to another volume that was called CT", self.status)
        self.assertEqual(copied.read_bytes(), before)
        volume.SetName("CT of another patient")
        self.check()
        self.assertReady()
        self.assertEqual(copied.read_bytes(), before)

    def test_a_segmentation_that_is_corrected_after_the_check_is_to_be_checked_again(self):
        volume, organs = addSceneCase("CT", 1)
        self.chooseStudy()
        self.tick("CT")
        self.check()
        self.assertReady()
        self.widget.exit()
        id = organs.GetSegmentation().GetNthSegmentID(0)
        drawn = slicer.util.arrayFromSegmentBinaryLabelmap(organs, id, volume).copy()
        drawn[np.nonzero(drawn)[0][0]] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, organs, id, volume)
        self.widget.enter()
        self.settle()
        self.assertIn("The choices have changed", self.status)
        self.assertFalse(self.cohort.isReady(self.parameters))
        self.check()
        self.assertReady()


if __name__ == "__main__":
    unittest.main()
