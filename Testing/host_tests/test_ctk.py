"""The widgets of ``ctk``."""

import unittest
from pathlib import Path

import ctk
import qt

import host
from host.qt import dialogs


class CollapsibleTest(unittest.TestCase):
    def setUp(self):
        self.panel = qt.QWidget()
        layout = qt.QVBoxLayout(self.panel)
        self.section = ctk.ctkCollapsibleButton()
        self.section.text = "Advanced"
        layout.addWidget(self.section)
        form = qt.QFormLayout(self.section)
        self.edit, self.hidden = qt.QLineEdit(), qt.QLabel("hidden on purpose")
        form.addRow("Name", self.edit)
        form.addRow("Hint", self.hidden)
        self.hidden.visible = False
        self.panel.show()
        host.processEvents()

    def test_closes_and_opens(self):
        heard = []
        self.section.connect("contentsCollapsed(bool)", heard.append)
        openHeight = self.section.height
        self.section.collapsed = True
        host.processEvents()
        self.assertFalse(self.edit.isVisible())
        self.assertLess(self.section.height, openHeight)
        self.section.click()
        host.processEvents()
        self.assertTrue(self.edit.isVisible())
        self.assertFalse(self.hidden.isVisible())
        self.assertEqual(heard, [True, False])

    def test_what_is_shown_in_a_closed_section_waits(self):
        self.section.collapsed = True
        self.hidden.visible = True
        self.assertFalse(self.hidden.isVisible())
        self.section.collapsed = False
        self.assertTrue(self.hidden.isVisible())

    def test_group_box(self):
        box = ctk.ctkCollapsibleGroupBox(self.panel)
        box.title = "Batch"
        label = qt.QLabel("inside")
        qt.QVBoxLayout(box).addWidget(label)
        box.show()
        host.processEvents()
        box.collapsed = True
        self.assertFalse(label.isVisible())
        box.checked = True
        self.assertTrue(label.isVisible())


class NumbersTest(unittest.TestCase):
    def test_slider_and_spin_box_agree(self):
        heard = []
        slider = ctk.ctkSliderWidget()
        slider.connect("valueChanged(double)", heard.append)
        slider.decimals = 1
        slider.minimum, slider.maximum = -5, 5
        slider.value = 2.26
        self.assertEqual(slider.value, 2.3)
        slider.maximum = 1
        self.assertEqual(slider.value, 1.0)
        self.assertEqual(heard, [2.3, 1.0])

    def test_range_keeps_its_order_and_limits(self):
        widget = ctk.ctkRangeWidget()
        heard = []
        widget.connect("valuesChanged(double,double)", lambda low, high: heard.append((low, high)))
        widget.minimum, widget.maximum = 0, 10
        widget.setValues(8, 3)
        widget.maximumValue = 50
        self.assertEqual((widget.minimumValue, widget.maximumValue), (3, 10))
        self.assertEqual(heard, [(0, 10), (3, 8), (3, 10)])


class ChoicesTest(unittest.TestCase):
    def test_checkable_items(self):
        box = ctk.ctkCheckableComboBox()
        heard = []
        box.connect("checkedIndexesChanged()", lambda: heard.append(len(box.checkedIndexes())))
        box.addItems(["liver", "spleen"])
        heard.clear()
        self.assertTrue(box.noneChecked())
        for row in range(2):
            box.setCheckState(box.checkableModel().index(row, 0), qt.Qt.Checked)
        self.assertTrue(box.allChecked())
        self.assertEqual(heard, [1, 2])

    def test_user_data_as_text(self):
        box = ctk.ctkComboBox()
        box.addItem("Automatic", "auto")
        box.addItem("Processor", "cpu")
        box.currentUserDataAsString = "cpu"
        self.assertEqual((box.currentIndex, box.currentUserDataAsString), (1, "cpu"))

    def test_color(self):
        button = ctk.ctkColorPickerButton()
        heard = []
        button.connect("colorChanged(QColor)", lambda color: heard.append(color.name()))
        dialogs.answer(qt.QColor("red"), None)
        button.click()
        button.click()
        self.assertEqual(heard, ["#ff0000"])


class PathTest(unittest.TestCase):
    def test_path(self):
        edit = ctk.ctkPathLineEdit()
        heard = []
        edit.connect("currentPathChanged(QString)", heard.append)
        edit.filters = ctk.ctkPathLineEdit.Dirs
        dialogs.answer("/models", None)
        edit.browse()
        edit.browse()
        self.assertEqual(edit.currentPath, "/models")
        self.assertEqual(heard, ["/models"])
        self.assertEqual(dialogs.asked[0].kind, "QFileDialog.getExistingDirectory")
        edit.filters = ctk.ctkPathLineEdit.Files
        dialogs.answer("/models/a.json")
        edit.browse()
        self.assertEqual(dialogs.asked[-1].kind, "QFileDialog.getOpenFileName")

    def test_only_acceptable_paths_are_announced(self):
        edit = ctk.ctkPathLineEdit()
        paths, states = [], []
        edit.connect("currentPathChanged(QString)", paths.append)
        edit.connect("validInputChanged(bool)", states.append)
        edit.currentPath = "/models"
        edit.currentPath = ""
        self.assertEqual((paths, states), (["/models"], [True, False]))
        edit.nameFilters = ["Tables (*.csv *.json)"]
        edit.currentPath = "/models/a.txt"
        edit.currentPath = "/models/a.csv"
        self.assertEqual((paths, states), (["/models", "/models/a.csv"], [True, False, True]))

    def test_paths_used_before_are_offered_again(self):
        edit = ctk.ctkPathLineEdit()
        edit.settingKey = "Models"
        edit.currentPath = "/models"
        edit.addCurrentPathToHistory()
        other = ctk.ctkPathLineEdit()
        self.assertEqual(other.currentPath, "")
        other.settingKey = "Models"
        self.assertEqual(other.currentPath, "/models")

    def test_directory_is_absolute_once_it_is_chosen(self):
        button = ctk.ctkDirectoryButton()
        heard = []
        button.connect("directoryChanged(QString)", heard.append)
        button.directory = "some/where"
        self.assertEqual(Path(button.directory), Path("some/where").absolute())
        self.assertEqual(len(heard), 1)
