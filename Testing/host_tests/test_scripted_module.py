"""A scripted module from its file: made, shown, entered, left, reloaded and unloaded."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import qt
import slicer

import host
from host.application import completeStartup
from host.module_loader import loadScriptedModule
from host.module_manager import unloadModule

SOURCE = """
import qt
import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import *

heard = []


class HostSample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Host sample")
        self.parent.categories = ["Testing"]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["A"]
        self.parent.helpText = _("Help")
        slicer.app.connect("startupCompleted()", lambda: heard.append("startup"))


@parameterNodeWrapper
class HostSampleParameters:
    text: str = "first"


class HostSampleWidget(ScriptedLoadableModuleWidget, slicer.util.VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        slicer.util.VTKObservationMixin.__init__(self)

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = HostSampleLogic()
        panel = qt.QWidget()
        self.layout.addWidget(panel)
        self.edit = qt.QLineEdit(panel)
        self.edit.setProperty("SlicerParameterName", "text")
        self.parameters = HostSampleParameters(self.logic.getParameterNode())
        self.tag = self.parameters.connectGui(panel)
        heard.append("setup")

    def enter(self):
        heard.append("enter")

    def exit(self):
        heard.append("exit")

    def cleanup(self):
        self.parameters.disconnectGui(self.tag)
        self.removeObservers()
        heard.append("cleanup")


class HostSampleLogic(ScriptedLoadableModuleLogic):
    number = 1


class HostSampleTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.setUp()
        heard.append("test")
"""


class ScriptedModuleTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "Resources").mkdir()
        self.path = self.folder / "HostSample.py"
        self.path.write_text(SOURCE)
        self.addCleanup(self.forget)

    def forget(self):
        if slicer.app.moduleManager().module("HostSample"):
            unloadModule("HostSample")
        sys.modules.pop("HostSample", None)
        if str(self.folder) in sys.path:
            sys.path.remove(str(self.folder))

    def load(self):
        module = loadScriptedModule(self.path)
        return module, sys.modules["HostSample"].heard

    def test_module(self):
        module, heard = self.load()
        self.assertIs(slicer.modules.hostsample, module)
        self.assertIs(slicer.util.getModule("HostSample"), module)
        self.assertIsInstance(module, slicer.qSlicerScriptedLoadableModule)
        self.assertEqual((module.title, module.categories, module.name), ("Host sample", ["Testing"], "HostSample"))
        self.assertEqual(slicer.util.modulePath("HostSample"), str(self.path))
        self.assertEqual(
            Path(slicer.modules.HostSampleInstance.resourcePath("x.png")), self.folder / "Resources" / "x.png"
        )
        self.assertEqual(heard, [], "the window was made before it was asked for")
        completeStartup()
        completeStartup()
        self.assertEqual(heard, ["startup"])

    def test_window(self):
        module, heard = self.load()
        panel = module.widgetRepresentation()
        self.assertIs(panel, module.widgetRepresentation())
        widget = slicer.util.getModuleWidget("HostSample")
        self.assertIs(widget, slicer.modules.HostSampleWidget)
        self.assertIs(panel._scene, slicer.mrmlScene)
        self.assertIs(slicer.util.getModuleLogic("HostSample"), widget.logic)
        panel.enter()
        self.assertIs(panel.isEntered, True)
        panel.exit()
        self.assertIs(panel.isEntered, False)
        self.assertEqual(heard, ["setup", "enter", "exit"])
        with self.assertRaises(RuntimeError):
            panel.exit()

    def test_parameters_and_widgets_follow_each_other(self):
        module, _ = self.load()
        module.widgetRepresentation()
        widget = slicer.modules.HostSampleWidget
        self.assertEqual(widget.edit.text, "first")
        widget.edit.text = "second"
        self.assertEqual(widget.parameters.text, "second")
        widget.parameters.text = "third"
        self.assertEqual(widget.edit.text, "third")

    def test_reload(self):
        module, heard = self.load()
        panel = module.widgetRepresentation()
        old = slicer.modules.HostSampleWidget
        # Longer, since byte code of the same second and length would be taken for that of the new file.
        self.path.write_text(SOURCE.replace("number = 1", "number = 12"))
        slicer.util.reloadScriptedModule("HostSample")
        new = slicer.modules.HostSampleWidget
        self.assertIsNot(new, old)
        self.assertEqual(new.logic.number, 12)
        self.assertIs(panel, module.widgetRepresentation())
        self.assertIs(slicer.util.getModuleWidget("HostSample"), new)
        self.assertEqual(heard, ["setup", "cleanup"])
        self.assertEqual(sys.modules["HostSample"].heard, ["setup"])
        panel.show()
        host.processEvents(10)
        self.assertFalse(old.edit.visible)
        self.assertTrue(new.edit.visible)
        panel.hide()

    def test_unload_cleans_up_once(self):
        module, heard = self.load()
        module.widgetRepresentation()
        unloadModule("HostSample")
        self.assertEqual(heard, ["setup", "cleanup"])
        self.assertFalse(hasattr(slicer.modules, "hostsample"))
        with self.assertRaises(RuntimeError):
            slicer.util.getModule("HostSample")

    def test_self_test(self):
        _, heard = self.load()
        slicer.selfTests["HostSample"]()
        self.assertEqual(heard, ["test"])

    def test_parameter_node_is_a_singleton(self):
        self.load()
        logic = sys.modules["HostSample"].HostSampleLogic()
        node = logic.getParameterNode()
        self.assertIs(node, logic.getParameterNode())
        self.assertEqual(node.GetAttribute("ModuleName"), "HostSample")
        slicer.mrmlScene.Clear(False)
        self.assertEqual(len(logic.getAllParameterNodes()), 0)
        self.assertEqual(logic.getParameterNode().GetAttribute("ModuleName"), "HostSample")
        self.assertEqual(len(logic.getAllParameterNodes()), 1)

    def test_mistakes_of_a_module(self):
        for change, error in (
            (('parent.title = _("Host sample")', "parent.titel = 'x'"), AttributeError),
            (('parent.categories = ["Testing"]', "parent.categories = 'Testing'"), TypeError),
            (('["Segmentations"]', '["NoSuchModule"]'), RuntimeError),
            (("import qt", "import qt, nothing_like_this"), ModuleNotFoundError),
        ):
            self.path.write_text(SOURCE.replace(*change))
            with self.assertRaises(error, msg=change[1]):
                loadScriptedModule(self.path)
            self.forget()

    def test_module_without_window(self):
        self.path.write_text(SOURCE.replace("class HostSampleWidget", "class Other"))
        module, _ = self.load()
        self.assertIsNone(module.widgetRepresentation())
        with self.assertRaises(RuntimeError):
            slicer.util.getModuleWidget("HostSample")


class CoreModulesTest(unittest.TestCase):
    def test_logics_have_scene_and_application(self):
        for name in ("volumes", "segmentations", "terminologies", "sequences", "colors", "plots", "subjecthierarchy"):
            logic = getattr(slicer.modules, name).logic()
            self.assertIs(logic.GetMRMLScene(), slicer.mrmlScene, name)
            self.assertIs(logic.GetMRMLApplicationLogic(), slicer.app.applicationLogic(), name)
        self.assertIs(slicer.util.getModuleLogic("Volumes"), slicer.modules.volumes.logic())
        self.assertFalse(hasattr(slicer.modules, "segmentstatistics"))
        with self.assertRaises(NotImplementedError):
            slicer.modules.volumes.widgetRepresentation()

    def test_terminology_file(self):
        logic = slicer.modules.terminologies.logic()
        path = Path(tempfile.mkdtemp()) / "Host.term.json"
        self.addCleanup(shutil.rmtree, path.parent)
        path.write_text(TERMINOLOGY)
        self.assertTrue(logic.LoadTerminologyFromFile(str(path)))
        entry = slicer.vtkSlicerTerminologyEntry()
        structure = "SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
        text = f"Host terminology~{structure}~Anatomic codes - DICOM master list~^^~^^"
        self.assertTrue(logic.DeserializeTerminologyEntry(text, entry))
        self.assertEqual(entry.GetTypeObject().GetCodeMeaning(), "Liver")

    def test_settings_are_empty_and_shared(self):
        self.assertIsNone(slicer.util.settingsValue("DINOMix/WorkerCommand", None))
        qt.QSettings().setValue("DINOMix/WorkerCommand", "x y")
        self.assertEqual(slicer.app.userSettings().value("DINOMix/WorkerCommand"), "x y")

    test_settings_are_empty_before_the_next = test_settings_are_empty_and_shared

    def test_only_what_slicer_has(self):
        self.assertFalse(hasattr(slicer, "loadVolume"))
        for unknown in ("applicationDirPath2", "mainWindowe"):
            with self.assertRaises(AttributeError):
                getattr(slicer.app, unknown)
        with self.assertRaises(ValueError):
            slicer.app.connect("startupComplete()", print)
        for name in ("majorVersion", "processEvents", "somethingNew"):
            with self.assertRaises(AttributeError):
                setattr(slicer.app, name, 1)


TERMINOLOGY = """{
  "SegmentationCategoryTypeContextName": "Host terminology",
  "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#",
  "SegmentationCodes": {"Category": [{
    "CodeMeaning": "Anatomical Structure", "CodingSchemeDesignator": "SCT", "CodeValue": "123037004", "showAnatomy": false,
    "Type": [{"CodeMeaning": "Liver", "CodingSchemeDesignator": "SCT", "CodeValue": "10200004",
              "recommendedDisplayRGBValue": [221, 130, 101]}]}]}
}"""
