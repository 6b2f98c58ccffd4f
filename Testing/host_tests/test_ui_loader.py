"""Reading ``.ui`` files as ``slicer.util.loadUI`` does, and refusing what is wrong in them."""

import tempfile
import unittest
from pathlib import Path

import ctk
import numpy as np
import qt
import slicer

import host
from host.ui_loader import UiFileError

FILE = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Sample</class>
 <widget class="qMRMLWidget" name="Sample">
  <layout class="QVBoxLayout" name="verticalLayout">
   <item>
    <widget class="ctkCollapsibleButton" name="inputs">
     <property name="text"><string>Inputs</string></property>
     <property name="collapsed"><bool>false</bool></property>
     <layout class="QFormLayout" name="formLayout">
      <item row="0" column="0">
       <widget class="QLabel" name="label">
        <property name="text"><string>Volume:</string></property>
        <property name="alignment"><set>Qt::AlignRight|Qt::AlignVCenter</set></property>
       </widget>
      </item>
      <item row="0" column="1">
       <widget class="qMRMLNodeComboBox" name="inputSelector">
        <property name="nodeTypes"><stringlist notr="true"><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
        <property name="addEnabled"><bool>false</bool></property>
        <property name="removeEnabled"><bool>false</bool></property>
        <property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property>
       </widget>
      </item>
      <item row="1" column="1">
       <widget class="ctkPathLineEdit" name="folder">
        <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable</set></property>
       </widget>
      </item>
     </layout>
    </widget>
   </item>
   <item>
    <widget class="QPushButton" name="applyButton">
     <property name="enabled"><bool>false</bool></property>
     <property name="text"><string>Apply</string></property>
    </widget>
   </item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends></customwidget>
 </customwidgets>
 <connections>
  <connection>
   <sender>Sample</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
  </connection>
  <connection>
   <sender>inputs</sender><signal>contentsCollapsed(bool)</signal>
   <receiver>applyButton</receiver><slot>setEnabled(bool)</slot>
  </connection>
 </connections>
</ui>
"""


class UiLoaderTest(unittest.TestCase):
    def load(self, text: str = FILE):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "Sample.ui"
            path.write_text(text, encoding="utf-8")
            return slicer.util.loadUI(str(path))

    def test_widgets_with_their_classes_properties_and_names(self):
        widget = self.load()
        ui = slicer.util.childWidgetVariables(widget)
        self.assertIs(type(widget), slicer.qMRMLWidget)
        self.assertIs(type(ui.inputSelector), slicer.qMRMLNodeComboBox)
        self.assertIs(type(ui.applyButton), qt.QPushButton)
        self.assertEqual(ui.inputSelector.nodeTypes, ("vtkMRMLScalarVolumeNode",))
        self.assertIs(ui.inputSelector.addEnabled, False)
        self.assertEqual(ui.inputSelector.property("SlicerParameterName"), "inputVolume")
        self.assertEqual(ui.folder.filters, ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable)
        self.assertEqual(ui.label.alignment, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        self.assertEqual((ui.applyButton.text, ui.applyButton.enabled), ("Apply", False))

    def test_connections(self):
        widget = self.load()
        ui = slicer.util.childWidgetVariables(widget)
        volume = slicer.util.addVolumeFromArray(np.zeros((2, 3, 4)), name="CT")
        widget.setMRMLScene(slicer.mrmlScene)
        self.assertIs(ui.inputSelector.mrmlScene(), slicer.mrmlScene)
        self.assertIs(ui.inputSelector.currentNode(), volume)
        ui.inputs.collapsed = True
        self.assertTrue(ui.applyButton.enabled)

    def test_texts_are_drawn_with_a_font(self):
        widget = self.load()
        widget.show()
        host.processEvents()
        label = slicer.util.childWidgetVariables(widget).label
        self.assertTrue(qt.QFontInfo(label.font).family().startswith("DejaVu Sans"))
        pictures = []
        for text in ("Volume:", "Models:"):
            label.text = text
            pictures.append(label.grab().toImage())
        self.assertNotEqual(*pictures)  # without a font all letters are the same box

    def test_what_is_wrong_is_refused(self):
        for old, new, complaint in (
            ('class="QPushButton"', 'class="qMRMLPlotView"', "no widget class qMRMLPlotView in Qt, and no plugin"),
            ('class="QPushButton"', 'class="QPushbutton"', "no widget class QPushbutton"),
            ('class="ctkPathLineEdit" name', 'class="ctkPathEdit" name', "no widget class ctkPathEdit"),
            ("<class>ctkPathLineEdit</class>", "<class>ctkOther</class>", "not listed under <customwidgets>"),
            ('name="addEnabled"', 'name="addEnable"', "has no property addEnable"),
            (
                '<property name="enabled"><bool>false</bool>',
                '<property name="enabled"><string>no</string>',
                "takes bool",
            ),
            ("Qt::AlignRight|", "Qt::AlignmentFlag::AlignRight|", "not written as Qt 5 reads it"),
            ('name="folder"', 'name="label"', "occurs twice"),
            ("<receiver>applyButton", "<receiver>okButton", "okButton, which does not exist"),
            ("setEnabled(bool)", "setEnable(bool)", "has no slot"),
            ("contentsCollapsed(bool)", "collapsed(bool)", "has no signal"),
        ):
            self.assertIn(old, FILE)
            with self.subTest(new=new), self.assertRaisesRegex(ValueError, complaint):
                self.load(FILE.replace(old, new))

    def test_every_problem_is_named_at_once(self):
        text = FILE.replace('name="addEnabled"', 'name="addEnable"').replace('name="text"', 'name="txt"')
        with self.assertRaises(UiFileError) as caught:
            self.load(text)
        self.assertEqual(len(str(caught.exception).splitlines()), 4)
