"""Stand-ins for the worker's client and the installer, and what tests of DINOMix Segment share."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import slicer

from dinomix_slicer import task
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Task
from dinomix_slicer.worker.computing import AUTOMATIC

LIVER = {
    "id": 1,
    "name": "liver",
    "color": [221, 130, 101],
    "terminology": None,
    "terminology_entry": "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^",
}
SPLEEN = {"id": 4, "name": "spleen", "color": [157, 108, 162], "terminology": None, "terminology_entry": ""}


UPPER = {"name": "upper organs", "color": [10, 20, 30], "terminology_entry": "", "structures": [1, 4], "voxels": 120}
"""A region of liver and spleen."""


class FakeJob(Task):
    """A job whose end the test decides."""

    def __init__(self, client, kind, **arguments):
        super().__init__()
        self.client, self.kind, self.arguments = client, kind, arguments
        self.state = "computing"
        self.isCancelRequested = False

    def cancel(self):
        self.isCancelRequested = True

    def finish(self, result=None, **fields):
        super().finish(result or SimpleNamespace(structures=fields.pop("structures", ()), fields=fields))

    def fail(self, problem="The worker ended.", remedy="Start it again.", code=""):
        super().fail(problem, remedy, code)

    def refuse(self):
        """As the worker refuses what is plainly no image for the model."""
        self.fail("The image was scaled to a small range.", "Export the image again.", "other-image")

    def finishWithLabels(self, labels=None, structures=(LIVER, SPLEEN), notices=(), regions=()):
        """Finish as the worker does: labels in the image's shape; halves of liver and spleen unless given."""
        if labels is None:
            labels = np.full(self.arguments["image"].array.shape, 1, np.uint8)
            labels[len(labels) // 2 :] = 4
        result = SimpleNamespace(
            labels=labels, structures=list(structures), regions=list(regions), notices=list(notices)
        )
        # What takes less than a tick is in the scene at once; on a busy computer a tick may be over before anything is done.
        with patch.object(task, "TICK_SECONDS", 60):
            self.finish(result)


class Answered(Signal):
    """A signal that was emitted: whoever connects hears of it at once."""

    def __init__(self, value):
        super().__init__()
        self._value = value

    def connect(self, function):
        function(self._value)


class FakeClient:
    """A client that starts no process and keeps what it is asked."""

    def __init__(self, models=()):
        self.state, self.hello = "stopped", None
        self.stateChanged, self.failed = Signal(), Signal()
        self.jobs, self.modelList, self.starts = [], list(models), 0

    def start(self):
        self.starts += 1
        self.state = "ready"
        self.stateChanged.emit("ready")

    def stop(self):
        self.state = "stopped"
        self.stateChanged.emit("stopped")

    def die(self, problem, remedy):
        """The process ends by itself."""
        self.state = "failed"
        self.stateChanged.emit("failed")
        self.failed.emit(problem, remedy)

    def listModels(self, folder=""):
        listing = Task()
        listing.state, listing.finished = "finished", Answered(self.modelList)
        return listing

    def estimate(self, image, model, computing=AUTOMATIC, moreModels=()):
        return self._job("estimate", image=image, model=model, computing=computing, moreModels=moreModels)

    def segment(self, image, model, computing=AUTOMATIC, keep=(), more=(), moreModels=()):
        return self._job(
            "segment", image=image, model=model, computing=computing, keep=keep, more=more, moreModels=moreModels
        )

    def segmentFile(
        self, imagePath, outPath, model, computing=AUTOMATIC, keep=(), more=(), moreModels=(), regions=False
    ):
        return self._job(
            "segmentFile", imagePath=imagePath, outPath=outPath, model=model, computing=computing, keep=keep, more=more,
            moreModels=moreModels, regions=regions,
        )  # fmt: skip

    def _job(self, kind, **arguments):
        self.jobs.append(FakeJob(self, kind, **arguments))
        return self.jobs[-1]


class FakeInstaller:
    def __init__(self, missing=()):
        self.names = list(missing)
        self.wrong = []
        self.stage, self.needsRestart = "", False
        self.changed, self.logged, self.installed, self.failed = Signal(), Signal(), Signal(), Signal()

    def missing(self, purposes=()):
        return self.names

    def recheck(self):
        pass

    def notices(self):
        return self.wrong

    def cancel(self):
        pass


class Heard:
    """Remembers everything that signals of an object announce, in order, as (name, arguments...)."""

    def __init__(self, owner, *names):
        self.events = []
        for name in names:
            getattr(owner, name).connect(self._recorder(name))

    def _recorder(self, name):
        return lambda *arguments: self.events.append((name, *arguments))

    def of(self, name):
        """The arguments of each announcement of that signal."""
        return [event[1:] for event in self.events if event[0] == name]


def modelDict(path, title="Abdomen", structures=(LIVER, SPLEEN), **more):
    """What a worker says of a model."""
    return {
        "path": str(path),
        "title": title,
        "modality": "CT",
        "structures": list(structures),
        "license": "CC BY 4.0",
        "author": "",
        "data_source": "",
        "record": {},
        "card": "",
        "fingerprint": "0",
        "preview": None,
        "problem": None,
        "bytes": 1000,
        **more,
    }


def addVolume(name="CT", shape=(4, 5, 6)):
    """A volume node of numbers that differ."""
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    node = slicer.util.addVolumeFromArray(array, name=name)
    node.SetSpacing(1.5, 2.0, 2.5)
    node.SetOrigin(10, -20, 30)
    return node


def segmentNames(segmentation):
    segments = segmentation.GetSegmentation()
    return [segments.GetNthSegment(index).GetName() for index in range(segments.GetNumberOfSegments())]


def segmentVoxels(segmentation, name, volume):
    """Where a segment is, on the volume's grid, as a bool array (k, j, i)."""
    segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume) != 0
