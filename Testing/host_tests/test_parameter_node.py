"""Typed parameters over a real node; with SLICER_SOURCE, the same of Slicer's own wrapper."""

import os
import tempfile
import unittest
from enum import Enum
from pathlib import Path
from typing import Annotated

import slicer
import vtk
from slicer.parameterNodeWrapper import (
    Choice,
    Default,
    Minimum,
    WithinRange,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

STAND_IN = not os.environ.get("SLICER_SOURCE")


class Speed(Enum):
    SLOW = 1
    FAST = 2


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode | None
    segmentation: slicer.vtkMRMLSegmentationNode
    path: str
    keep: list[str]
    device: str = "auto"
    memory: Annotated[float, WithinRange(0, 1024)]
    count: Annotated[int, Minimum(1), Default(3)]
    mode: Annotated[str, Choice(["a", "b"]), Default("b")]
    show: bool = True
    speed: Speed = Speed.FAST
    folder: Path = Path("models")
    weights: dict[str, float]

    def sentence(self) -> str:
        return f"{self.device} {self.count}"


def makeParameters():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Parameters")
    return Parameters(node)


class ParameterNodeTest(unittest.TestCase):
    def test_defaults(self):
        parameters = makeParameters()
        self.assertIsNone(parameters.volume)
        self.assertIsNone(parameters.segmentation)
        self.assertEqual(parameters.path, "")
        self.assertEqual(list(parameters.keep), [])
        self.assertEqual((parameters.device, parameters.memory, parameters.count), ("auto", 0, 3))
        self.assertEqual((parameters.mode, parameters.show, parameters.speed), ("b", True, Speed.FAST))
        self.assertEqual(parameters.folder, Path("models"))
        self.assertEqual(dict(parameters.weights), {})
        self.assertEqual(parameters.sentence(), "auto 3")
        self.assertTrue(isParameterNodeWrapper(parameters))

    def test_values_are_read_back_through_another_wrapper(self):
        parameters = makeParameters()
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        values = {
            "volume": volume,
            "path": "/models/Ünï",
            "keep": ["liver, left", 'a"b', ""],
            "device": "cpu",
            "memory": 2.5,
            "count": 7,
            "mode": "a",
            "show": False,
            "speed": Speed.SLOW,
            "folder": Path("x") / "y",
            "weights": {"dice": 0.25},
        }
        for name, value in values.items():
            setattr(parameters, name, value)
        again = Parameters(parameters.parameterNode)
        for name, value in values.items():
            read = getattr(again, name)
            self.assertEqual(type(value)(read) if isinstance(value, list | dict) else read, value, name)

    def test_values_survive_saving_the_scene(self):
        parameters = makeParameters()
        parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        parameters.keep = ["spleen", "a|b;c d", "<ü>&\"'"]
        parameters.path = "C:\\models\\käse & <brot>; 100%"
        parameters.memory = 0.1
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrml")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear(False)
            slicer.util.loadScene(path)
        again = Parameters(slicer.util.getNode("Parameters"))
        self.assertEqual(again.volume.GetName(), "CT")
        self.assertEqual(list(again.keep), ["spleen", "a|b;c d", "<ü>&\"'"])
        self.assertEqual(again.path, "C:\\models\\käse & <brot>; 100%")
        self.assertEqual(again.memory, 0.1)

    def test_bad_values_are_refused(self):
        parameters = makeParameters()
        model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
        for name, value in (("count", 0), ("memory", -1), ("mode", "c")):
            with self.assertRaises(ValueError, msg=name):
                setattr(parameters, name, value)
        bad = [("device", 3), ("show", "yes"), ("count", 2.5), ("count", None), ("path", None), ("keep", ["a", 1])]
        for name, value in [*bad, ("volume", model)]:
            with self.assertRaises((TypeError, ValueError), msg=name):
                setattr(parameters, name, value)
        with self.assertRaises(ValueError):
            parameters.setValue("devise", "cpu")
        self.assertEqual((parameters.count, parameters.mode, parameters.device), (3, "b", "auto"))

    @unittest.skipUnless(STAND_IN, "Slicer's own wrapper lets these pass")
    def test_what_only_the_stand_in_refuses(self):
        parameters = makeParameters()
        with self.assertRaises(AttributeError):
            parameters.devise = "cpu"
        with self.assertRaises(TypeError):
            parameters.count = True
        with self.assertRaises(ValueError):
            parameters.volume = slicer.vtkMRMLScalarVolumeNode()
        with self.assertRaises(AttributeError):
            parameters.keep.append("liver")
        with self.assertRaises(TypeError):

            @parameterNodeWrapper
            class Unknown:
                what: bytes

    def test_observers_hear_of_changes(self):
        parameters = makeParameters()
        heard = []
        tag = parameters.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda caller, event: heard.append(parameters.device)
        )
        parameters.device = "cpu"
        parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        self.assertIn("cpu", heard)
        self.assertGreaterEqual(len(heard), 2)
        parameters.RemoveObserver(tag)
        heard.clear()
        parameters.device = "cuda"
        self.assertEqual(heard, [])

    def test_changes_can_be_bundled(self):
        parameters = makeParameters()
        heard = []
        parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: heard.append(1))
        with slicer.util.NodeModify(parameters):
            parameters.device = "cpu"
            parameters.count = 9
        self.assertEqual(len(heard), 1)

    def test_removed_node_reads_as_none(self):
        parameters = makeParameters()
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        parameters.volume = volume
        slicer.mrmlScene.RemoveNode(volume)
        self.assertIsNone(parameters.volume)

    def test_mixin_observes_a_wrapper(self):
        class Watcher(slicer.util.VTKObservationMixin):
            heard = 0

            def onModified(self, caller, event):
                self.heard += 1

        parameters, watcher = makeParameters(), Watcher()
        watcher.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, watcher.onModified)
        parameters.count = 8
        self.assertEqual(watcher.heard, 1)
        watcher.removeObservers()
