"""Parameters and widgets that follow each other; with SLICER_SOURCE, by Slicer's own connectors."""

import os
import unittest
from enum import Enum
from typing import Annotated

import qt
import slicer
from slicer.parameterNodeWrapper import Choice, Decimals, Default, WithinRange, parameterNodeWrapper

STAND_IN = not os.environ.get("SLICER_SOURCE")


class Speed(Enum):
    SLOW = 1
    FAST = 2


@parameterNodeWrapper
class Parameters:
    flag: bool = True
    toggled: bool = False
    count: Annotated[int, WithinRange(2, 9), Default(4)]
    size: Annotated[float, WithinRange(0.5, 2.5), Decimals(3), Default(1.0)]
    device: Annotated[str, Choice(["auto", "cpu"]), Default("cpu")]
    speed: Speed = Speed.FAST
    text: str = "a"
    volume: slicer.vtkMRMLScalarVolumeNode


class GuiConnectorTest(unittest.TestCase):
    def setUp(self):
        self.panel = qt.QWidget()
        layout = qt.QVBoxLayout(self.panel)
        self.widgets = {
            "flag": qt.QCheckBox(),
            "toggled": qt.QPushButton(),
            "count": qt.QSpinBox(),
            "size": qt.QDoubleSpinBox(),
            "device": qt.QComboBox(),
            "speed": qt.QComboBox(),
            "text": qt.QLineEdit(),
            "volume": slicer.qMRMLNodeComboBox(),
        }
        self.widgets["toggled"].checkable = True
        self.widgets["volume"].setMRMLScene(slicer.mrmlScene)
        for name, widget in self.widgets.items():
            widget.setProperty("SlicerParameterName", name)
            widget.objectName = f"{name}Widget"
            layout.addWidget(widget)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Parameters")
        self.parameters = Parameters(node)

    def test_widgets_take_the_stored_values(self):
        self.parameters.connectGui(self.panel)
        widgets = self.widgets
        self.assertTrue(widgets["flag"].checked)
        self.assertFalse(widgets["toggled"].checked)
        self.assertEqual((widgets["count"].value, widgets["count"].minimum, widgets["count"].maximum), (4, 2, 9))
        self.assertEqual((widgets["size"].value, widgets["size"].decimals, widgets["size"].maximum), (1.0, 3, 2.5))
        self.assertEqual((widgets["device"].currentText, widgets["device"].count), ("cpu", 2))
        self.assertEqual(widgets["speed"].currentText, "FAST")
        self.assertEqual(widgets["text"].text, "a")

    def test_parameters_take_what_is_entered(self):
        self.parameters.connectGui(self.panel)
        self.widgets["flag"].click()
        self.widgets["toggled"].click()
        self.widgets["count"].value = 7
        self.widgets["size"].value = 2.25
        self.widgets["device"].currentIndex = 0
        self.widgets["speed"].currentIndex = 0
        self.widgets["text"].text = "b"
        read = self.parameters
        self.assertEqual((read.flag, read.toggled, read.count, read.size), (False, True, 7, 2.25))
        self.assertEqual((read.device, read.speed, read.text), ("auto", Speed.SLOW, "b"))

    def test_widgets_follow_the_parameters(self):
        self.parameters.connectGui(slicer.util.childWidgetVariables(self.panel))
        self.parameters.count = 5
        self.parameters.text = "c"
        self.parameters.speed = Speed.SLOW
        self.assertEqual((self.widgets["count"].value, self.widgets["text"].text), (5, "c"))
        self.assertEqual(self.widgets["speed"].currentText, "SLOW")

    def test_nodes(self):
        first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "First")
        second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Second")
        self.parameters.volume = second
        self.parameters.connectGui(self.panel)
        self.assertIs(self.widgets["volume"].currentNode(), second)
        self.widgets["volume"].setCurrentNode(first)
        self.assertIs(self.parameters.volume, first)
        self.parameters.volume = None
        self.assertIsNone(self.widgets["volume"].currentNode())

    def test_disconnected_widgets_are_left_alone(self):
        tag = self.parameters.connectGui(self.panel)
        self.parameters.disconnectGui(tag)
        self.widgets["text"].text = "d"
        self.assertEqual(self.parameters.text, "a")
        self.parameters.text = "e"
        self.assertEqual(self.widgets["text"].text, "d")

    def test_what_does_not_fit_is_refused(self):
        self.widgets["text"].setProperty("SlicerParameterName", "txt")
        with self.assertRaises(ValueError):
            self.parameters.connectGui(self.panel)
        with self.assertRaises(RuntimeError):
            self.parameters.connectParametersToGui({"count": qt.QLineEdit()})
        with self.assertRaises(RuntimeError):
            self.parameters.connectParametersToGui({"text": qt.QComboBox()})

    @unittest.skipUnless(STAND_IN, "Slicer's own wrapper lets these pass")
    def test_what_only_the_stand_in_refuses(self):
        self.widgets["device"].setProperty("SlicerParameterName", "text")
        with self.assertRaises(ValueError):
            self.parameters.connectGui(self.panel)
        with self.assertRaises(ValueError):
            self.parameters.connectGui(qt.QWidget())
