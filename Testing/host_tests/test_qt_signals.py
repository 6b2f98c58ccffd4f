"""Signals connected by text and by name, with PythonQt's rules about arguments."""

import gc
import unittest
import weakref

import ctk
import qt
import slicer

import host
from host import qt_errors


class SignalTest(unittest.TestCase):
    def setUp(self):
        self.heard = []
        self.button = qt.QPushButton()
        self.button.checkable = True

    def test_as_many_arguments_as_the_signature_says(self):
        self.button.connect("clicked()", lambda *arguments: self.heard.append(arguments))
        self.button.connect("clicked(bool)", lambda *arguments: self.heard.append(arguments))
        self.button.clicked.connect(lambda *arguments: self.heard.append(arguments))
        self.button.click()
        self.assertEqual(sorted(self.heard), [(), (True,), (True,)])

    def test_no_more_arguments_than_a_function_takes(self):
        self.button.clicked.connect(lambda: self.heard.append("none"))
        self.button.clicked.connect(self.onClicked)
        self.button.click()
        self.assertEqual(self.heard, ["none", True])

    def onClicked(self, checked):
        self.heard.append(checked)

    def test_default_of_a_lambda_is_overwritten_as_in_slicer(self):
        self.button.connect("clicked()", lambda name="mine": self.heard.append(name))
        self.button.connect("clicked(bool)", lambda name="mine": self.heard.append(name))
        self.button.click()
        self.assertEqual(sorted(self.heard, key=str), [True, "mine"])

    def test_disconnect(self):
        self.button.connect("clicked(bool)", self.onClicked)
        self.assertFalse(self.button.disconnect("clicked()", self.onClicked))
        self.assertTrue(self.button.clicked.disconnect(self.onClicked))
        self.assertFalse(self.button.disconnect("clicked(bool)", self.onClicked))
        self.button.click()
        self.assertEqual(self.heard, [])

    def test_disconnect_all(self):
        for _ in range(2):
            self.button.clicked.connect(self.onClicked)
        self.assertTrue(self.button.clicked.disconnect())
        self.button.click()
        self.assertEqual(self.heard, [])

    def test_receiver_and_slot_by_text(self):
        label = qt.QLabel()
        edit = qt.QLineEdit()
        edit.connect("textChanged(QString)", label, "setText(QString)")
        edit.text = "typed"
        self.assertEqual(label.text, "typed")
        self.assertTrue(qt.QObject.disconnect(edit, "textChanged(QString)", label, "setText(QString)"))
        edit.text = "later"
        self.assertEqual(label.text, "typed")

    def test_spaces_and_references_in_a_signature(self):
        edit = qt.QLineEdit()
        self.assertTrue(edit.connect("textChanged( const QString & )", self.heard.append))
        edit.text = "x"
        self.assertEqual(self.heard, ["x"])

    def test_what_does_not_exist_is_refused(self):
        label = qt.QLabel()
        for arguments in (
            ("clicky()", print),
            ("clicked(int)", print),
            ("clicked()", label, "nothing()"),
            ("clicked()",),
        ):
            with self.subTest(arguments=arguments), self.assertRaises((ValueError, TypeError)):
                self.button.connect(*arguments)
        with self.assertRaises(TypeError):
            self.button.clicked.connect("onClicked")

    def test_emit_and_call(self):
        self.button.clicked.connect(self.onClicked)
        self.button.clicked.emit(True)
        self.button.clicked(False)
        self.assertEqual(self.heard, [True, False])
        with self.assertRaises(ValueError):
            self.button.clicked.emit(1, 2)

    def test_a_plain_objects_method_is_kept_alive(self):
        class Listener:
            def __init__(self, heard):
                self.heard = heard

            def onClicked(self):
                self.heard.append("kept")

        self.button.clicked.connect(Listener(self.heard).onClicked)
        gc.collect()
        self.button.click()
        self.assertEqual(self.heard, ["kept"])

    def test_single_shot(self):
        qt.QTimer.singleShot(0, lambda: self.heard.append("now"))
        host.waitUntil(lambda: self.heard == ["now"])

    def test_signals_of_the_hosts_widgets_by_their_c_plus_plus_names(self):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLTextNode"]
        selector.setMRMLScene(slicer.mrmlScene)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
        for signature in (
            "currentNodeChanged(vtkMRMLNode*)",
            "currentNodeChanged(bool)",
            "currentNodeIDChanged(QString)",
        ):
            selector.connect(signature, self.heard.append)
        selector.setCurrentNode(node)
        self.assertEqual(self.heard, [node, True, node.GetID()])
        with self.assertRaises(ValueError):
            selector.connect("currentNodeChanged(PyObject)", self.heard.append)


class LifeTest(unittest.TestCase):
    def test_widgets_go_when_nobody_holds_them(self):
        classes = [getattr(ctk, name) for name in ctk.__all__]
        classes += [getattr(slicer, name) for name in dir(slicer) if name.startswith("qMRML")]
        held = {}
        for cls in classes:
            widget = cls()
            if hasattr(widget, "setMRMLScene"):
                widget.setMRMLScene(slicer.mrmlScene)
            held[cls.__name__] = weakref.ref(widget)
        del widget
        gc.collect()
        self.assertEqual([name for name, widget in held.items() if widget() is not None], [])

    def test_a_connection_to_ones_own_method_keeps_the_object_for_ever(self):
        """As in PythonQt, which holds what is connected where the cycle collector does not look."""

        class Owner:
            def __init__(self, ways):
                self.timer, self.process = qt.QTimer(), qt.QProcess()
                ways(self)

            def onSignal(self):
                pass

        ways = {
            "by text": lambda owner: owner.timer.connect("timeout()", owner.onSignal),
            "by name": lambda owner: owner.timer.timeout.connect(owner.onSignal),
            "a lambda": lambda owner: owner.timer.connect("timeout()", lambda: owner.onSignal()),
            "a process": lambda owner: owner.process.connect("readyReadStandardOutput()", owner.onSignal),
        }
        for name, connect in ways.items():
            with self.subTest(way=name):
                owner = weakref.ref(Owner(connect))
                gc.collect()
                alive = owner()
                self.assertIsNotNone(alive)
                alive.timer.disconnect("timeout()")
                alive.process.disconnect("readyReadStandardOutput()")
                del alive
                gc.collect()
                self.assertIsNone(owner())

    def test_what_is_connected_goes_with_the_sender(self):
        class Listener:
            def onClicked(self):
                pass

        def connected(parent=None):
            listener = Listener()
            qt.QPushButton(parent).connect("clicked()", listener.onClicked)
            return weakref.ref(listener)

        self.assertIsNone(connected()())
        panel = qt.QWidget()
        held = connected(panel)  # the button belongs to the panel, though Python knows it no more
        gc.collect()
        self.assertIsNotNone(held())
        del panel
        self.assertIsNone(held())

    def test_a_deleted_widget_hears_nothing(self):
        panel = qt.QWidget()
        slider = ctk.ctkSliderWidget(panel)
        selector = slicer.qMRMLNodeComboBox(panel)
        selector.setMRMLScene(slicer.mrmlScene)
        selector.nodeTypes = ["vtkMRMLTextNode"]
        panel.deleteLater()
        qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
        with self.assertRaises(RuntimeError):
            slider.show()


class ErrorTest(unittest.TestCase):
    expectsQtErrors = True

    def test_errors_in_slots_and_warnings_are_written_down(self):
        button = qt.QPushButton()
        button.connect("clicked()", lambda: 1 / 0)
        button.click()
        self.assertIn("ZeroDivisionError", qt_errors.messages[-1])
        qt.QTimer.singleShot(0, lambda: [][1])
        host.processEvents(10)
        self.assertIn("IndexError", qt_errors.messages[-1])
        panel = qt.QWidget()
        panel.setLayout(qt.QVBoxLayout())
        qt.QHBoxLayout(panel)
        self.assertIn("already has a layout", qt_errors.messages[-1])
