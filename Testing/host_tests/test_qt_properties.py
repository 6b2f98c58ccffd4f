"""Qt properties as attributes, as PythonQt has them, and what is refused."""

import unittest

import ctk
import qt
import slicer

from host.qt.properties import declaredTypes


class PropertyTest(unittest.TestCase):
    def test_properties_are_attributes(self):
        button = qt.QPushButton("Apply")
        self.assertEqual(button.text, "Apply")
        button.text = "Cancel"
        button.enabled = False
        self.assertEqual((button.text, button.enabled), ("Cancel", False))
        button.setText("Stop")
        self.assertEqual(button.text, "Stop")

    def test_objects_made_by_qt_have_the_same_habits(self):
        box = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok)
        button = box.button(qt.QDialogButtonBox.Ok)
        button.text = "Go"
        self.assertEqual(button.text, "Go")
        with self.assertRaises(AttributeError):
            button.nothing = 1

    def test_a_property_hides_the_method_of_its_name_also_in_derived_classes(self):
        self.assertNotIsInstance(qt.QPushButton().sizeHint, type(len))
        self.assertGreater(qt.QPushButton("x").sizeHint.width(), 0)
        self.assertEqual(qt.QSpinBox().minimum, 0)

    def test_static_function_and_property_of_one_name(self):
        timer = qt.QTimer()
        timer.singleShot = True
        self.assertIs(timer.singleShot, True)
        self.assertTrue(callable(qt.QTimer.singleShot))

    def test_name_is_the_object_name(self):
        label = qt.QLabel()
        label.name = "status"
        self.assertEqual((label.objectName, label.name), ("status", "status"))

    def test_dynamic_properties_and_children_are_attributes(self):
        panel = qt.QWidget()
        panel.setProperty("SlicerParameterName", "device")
        child = qt.QLabel("inside", panel)
        child.objectName = "hint"
        self.assertEqual(panel.SlicerParameterName, "device")
        panel.SlicerParameterName = "model"
        self.assertEqual(panel.property("SlicerParameterName"), "model")
        self.assertEqual(panel.hint.text, "inside")

    def test_enums_are_flat_and_numbers(self):
        self.assertEqual(qt.Qt.Checked, 2)
        self.assertEqual(qt.Qt.AlignRight | qt.Qt.AlignTop, 34)
        label = qt.QLabel()
        label.alignment = qt.Qt.AlignRight
        self.assertEqual(label.alignment, 2)
        label.alignment = 4
        self.assertEqual(label.alignment, qt.Qt.AlignHCenter)

    def test_what_does_not_fit_is_refused(self):
        button, spinBox = qt.QPushButton(), qt.QSpinBox()
        for owner, name, value in (
            (button, "text", 5),
            (button, "text", None),
            (button, "enabled", 1),
            (button, "enabled", "yes"),
            (button, "icon", "icon.png"),
            (spinBox, "value", 2.5),
            (spinBox, "value", True),
        ):
            with self.subTest(name=name, value=value), self.assertRaises(ValueError):
                setattr(owner, name, value)

    def test_what_does_not_exist_is_refused(self):
        button = qt.QPushButton()
        for name in ("colour", "setText", "clicked", "width"):
            with self.subTest(name=name), self.assertRaises(AttributeError):
                setattr(button, name, 1)
        with self.assertRaises(AttributeError):
            _ = button.colour
        with self.assertRaises(AttributeError):
            qt.QColor("red").shade = 1
        with self.assertRaises(AttributeError):
            _ = qt.QPushbutton

    def test_classes_derived_in_python_take_attributes(self):
        class Panel(qt.QWidget):
            def __init__(self):
                super().__init__()
                self.title = "mine"

            def sizeHint(self):
                return qt.QSize(321, 45)

        panel = Panel()
        layout = qt.QVBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(panel)
        outer = qt.QWidget()
        outer.setLayout(layout)
        self.assertEqual(panel.title, "mine")
        self.assertEqual(layout.sizeHint(), qt.QSize(321, 45))

    def test_the_hosts_own_widgets_take_only_what_they_declare(self):
        for widget in (ctk.ctkCollapsibleButton(), slicer.qMRMLNodeComboBox()):
            with self.subTest(widget=widget.className()), self.assertRaises(AttributeError):
                widget.nothing = 1
        slider = ctk.ctkSliderWidget()
        with self.assertRaises(ValueError):
            slider.maximum = "10"

    def test_class_names(self):
        self.assertEqual(qt.QPushButton().className(), "QPushButton")
        self.assertEqual(slicer.qMRMLNodeComboBox().className(), "qMRMLNodeComboBox")


class ClassesTest(unittest.TestCase):
    expectsQtErrors = True  # some widgets of Qt warn that they cannot be drawn off-screen

    def test_process_gives_bytes(self):
        process = qt.QProcess()
        process.start("PythonSlicer", ["-c", "print('out')"])
        self.assertTrue(process.waitForFinished(20000))
        self.assertEqual(process.readAllStandardOutput().data(), b"out\n")
        self.assertEqual(process.state(), qt.QProcess.NotRunning)

    def test_settings_are_private_and_emptied(self):
        settings = qt.QSettings()
        self.assertIsNone(settings.value("DINOMix/Test"))
        self.assertIn("slicer-host-", settings.fileName())
        settings.setValue("DINOMix/Test", "kept")
        self.assertEqual(qt.QSettings().value("DINOMix/Test"), "kept")

    def test_every_property_of_every_widget_can_be_read(self):
        unread = []
        for name in dir(qt):
            cls = getattr(qt, name)
            if not (isinstance(cls, type) and issubclass(cls, qt.QWidget)):
                continue
            try:
                widget = cls()
            except (TypeError, NotImplementedError):
                continue
            for property_ in declaredTypes[cls]:
                try:
                    getattr(widget, property_)
                except Exception as error:
                    unread.append(f"{name}.{property_}: {error}")
        self.assertEqual(unread, [])
