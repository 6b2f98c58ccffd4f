"""Nothing of a segmentation stays in memory after its end: without the help of the cycle collector, which runs too seldom."""

import gc
import tempfile
import unittest
import weakref

import numpy as np
import slicer
from DINOMixSegmentLib.batch_items import itemsOfScene
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeClient, FakeInstaller, Heard, addVolume, modelDict
from segment_window import WindowTestCase
from waiting import processEvents, waitUntil


def voxelsOf(volume):
    return volume.GetImageData().GetPointData().GetScalars()


def deletionsOf(*objects):
    """A list that grows by one for each of these VTK objects when VTK deletes it."""
    gone = []
    for each in objects:
        each.AddObserver("DeleteEvent", lambda caller, event: gone.append(event))
    return gone


def remove(volume):
    """Remove a volume, and what else of Slicer would keep its voxels: its display nodes, and the views that showed it last."""
    displays = [volume.GetNthDisplayNode(number) for number in range(volume.GetNumberOfDisplayNodes())]
    for node in (volume, *displays):
        slicer.mrmlScene.RemoveNode(node)
    slicer.util.setSliceViewerLayers(background=addVolume("another"))


class Collectorless(unittest.TestCase):
    """Runs tests without the cycle collector."""

    def setUp(self):
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)


class RunMemoryTest(Collectorless):
    def setUp(self):
        super().setUp()
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.client = FakeClient([modelDict(folder.name)])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.parameters = self.logic.getParameterNode()
        self.parameters.inputVolume = addVolume()
        self.parameters.modelPath = folder.name
        self.voxels = []
        self.parameters.show3D = False

    def start(self):
        """Start a run; returns its job, and notes what it works on."""
        self.logic.startSegmentation(self.parameters)
        job = self.client.jobs.pop()
        self.voxels = [weakref.ref(job.arguments["image"].array), weakref.ref(self.logic._run)]
        return job

    def finish(self, job):
        labels = np.full(job.arguments["image"].array.shape, 1, np.uint8)
        self.voxels.append(weakref.ref(labels))
        job.finishWithLabels(labels)

    def assertNothingIsKept(self):
        processEvents(20)
        self.assertEqual([ref() for ref in self.voxels if ref() is not None], [])

    def test_finished(self):
        self.finish(self.start())
        self.assertNothingIsKept()

    def test_failed(self):
        self.start().fail()
        self.assertNothingIsKept()

    def test_cancelled(self):
        job = self.start()
        self.logic.cancel()
        job.confirmCancel()
        del job
        self.assertNothingIsKept()

    def test_labels_that_do_not_fit(self):
        job = self.start()
        labels = np.ones((2, 2, 2), np.uint8)
        self.voxels.append(weakref.ref(labels))
        job.finishWithLabels(labels)
        del job, labels
        self.assertNothingIsKept()

    def test_scene_closed(self):
        job = self.start()
        slicer.mrmlScene.Clear(False)
        job.confirmCancel()
        del job
        self.assertNothingIsKept()

    def test_batch(self):
        addVolume("second")
        self.logic.startBatch(itemsOfScene(), self.parameters)
        for _turn in range(2):
            waitUntil(lambda: self.client.jobs, what="a job")
            job = self.client.jobs.pop()
            self.voxels += [weakref.ref(job.arguments["image"].array), weakref.ref(self.logic._run)]
            self.finish(job)
            del job
        waitUntil(lambda: self.logic.state == "idle", what="the end of the batch")
        self.assertNothingIsKept()

    def test_the_logic_itself(self):
        self.finish(self.start())
        processEvents(20)
        logic = weakref.ref(self.logic)
        self.logic.cleanup()
        self.doCleanups()
        del self.logic, self.client  # the client was handed in, and knows the logic
        gc.collect()
        self.assertIsNone(logic())

    def test_a_removed_volume_and_its_undone_segmentation(self):
        heard = Heard(self.logic, "finished")
        self.parameters.show3D = True
        self.finish(self.start())
        waitUntil(lambda: not self.logic.makesSurfaces(), what="the surfaces")
        ((segmentation,),) = heard.of("finished")
        heard.events.clear()
        segment = segmentation.GetSegmentation().GetNthSegment(0)
        gone = deletionsOf(
            segmentation,
            segment.GetRepresentation("Binary labelmap").GetPointData().GetScalars(),
            segment.GetRepresentation("Closed surface").GetPoints(),
            self.parameters.inputVolume,
            voxelsOf(self.parameters.inputVolume),
        )
        del segmentation, segment
        self.logic.undo()
        remove(self.parameters.inputVolume)
        processEvents(20)
        self.assertEqual(len(gone), 5, gone)


class WindowMemoryTest(Collectorless, WindowTestCase):
    def setUp(self):
        Collectorless.setUp(self)
        WindowTestCase.setUp(self)

    def test_a_volume_that_was_chosen_and_removed(self):
        gone = []
        for name in ("first", "second"):
            volume = addVolume(name)
            gone.append(deletionsOf(volume, voxelsOf(volume)))
            self.parameters.inputVolume = volume
            del volume
            self.settle()
        self.ui.batchCollapsibleButton.collapsed = False  # lists both
        self.settle()
        for name in ("first", "second"):
            remove(slicer.util.getFirstNodeByName(name))
            self.settle()
        self.assertEqual([len(deleted) for deleted in gone], [2, 2])

    def test_volumes_of_a_closed_scene_that_a_batch_listed(self):
        volume = addVolume()
        gone = deletionsOf(volume, voxelsOf(volume))
        del volume
        self.ui.batchCollapsibleButton.collapsed = False
        self.settle()
        self.ui.batchCollapsibleButton.collapsed = True
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertEqual(len(gone), 2)

    def test_a_volume_that_was_segmented_and_removed(self):
        volume = addVolume()
        gone = deletionsOf(volume, voxelsOf(volume))
        del volume
        self.parameters.show3D = False
        self.settle()
        self.apply().finishWithLabels()
        self.settle()
        self.client.jobs.clear()
        self.logic.undo()
        remove(slicer.util.getFirstNodeByName("CT"))
        self.settle()
        self.assertEqual(len(gone), 2)
