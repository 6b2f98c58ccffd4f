"""DINOMix Train's window as a whole: the pages, the scene, leaving, reloading."""

import gc
import sys
import unittest
import weakref
from unittest.mock import patch

import slicer
from DINOMixTrainLib.logic import DINOMixTrainLogic
from segment_window import WindowInstaller
from train_window import TrainWindowTestCase
from waiting import processEvents

from dinomix_slicer.engine_process import EngineProcess


class PagesTest(TrainWindowTestCase):
    def test_tabs_are_in_order(self):
        tabs = self.ui.pagesTabWidget
        self.assertEqual(
            [tabs.tabText(index) for index in range(tabs.count)], ["1. Cases", "2. Training", "3. Run", "4. Result"]
        )
        self.assertEqual(tabs.currentIndex, 0)

    def test_a_page_leads_to_another(self):
        self.widget.pages["cases"].wantsPage.emit("run")
        self.assertEqual(self.ui.pagesTabWidget.currentIndex, 2)

    def test_what_a_page_could_not_do_is_shown(self):
        self.widget.pages["cases"].failed.emit("The disk is full.", "Make room.")
        self.assertEqual(self.ui.messageLabel.text, "The disk is full. Make room.")
        self.assertTrue(self.ui.messageFrame.isVisible())
        self.click(self.ui.messageCloseButton)
        self.assertFalse(self.ui.messageFrame.isVisible())


class SceneTest(TrainWindowTestCase):
    def test_closing_the_scene_empties_the_choices(self):
        self.parameters.preset = "thorough"
        slicer.mrmlScene.Clear(False)
        processEvents(20)
        self.assertEqual(self.parameters.preset, "standard")

    def test_leaving_and_coming_back(self):
        self.widget.exit()
        self.parameters.preset = "quick-look"
        self.widget.enter()
        self.assertEqual(self.parameters.preset, "quick-look")


class LettingGoTest(TrainWindowTestCase):
    def test_a_logic_that_was_closed_is_not_kept_by_its_timer(self):
        logic = DINOMixTrainLogic(WindowInstaller(), self.makeProcess)
        logic.runs.follow(self.folder)
        processEvents(20)
        held = [weakref.ref(part) for part in (logic, logic.runs, logic.offers)]
        logic.close()
        del logic
        gc.collect()
        self.assertEqual([part() for part in held], [None, None, None])

    def test_what_owns_the_installer_is_made_once(self):
        with patch("dinomix_slicer.setup.owner.sharedInstaller") as made:
            DINOMixTrainLogic().close()
        made.assert_called_once()

    def test_no_node_is_kept_that_was_observed(self):
        slicer.mrmlScene.Clear(False)
        processEvents(20)
        # The mixin never lets go of what it has observed once.
        self.assertEqual(list(self.widget._VTKObservationMixin__observations), [slicer.mrmlScene])
        self.parameters.preset = "quick-look"
        with patch.object(self.widget.pages["training"], "show") as shown:
            processEvents(20)
        self.assertTrue(shown.called)


class ReloadTest(unittest.TestCase):
    def test_reloading_loads_the_library_anew(self):
        panel = slicer.modules.dinomixtrain.widgetRepresentation()
        before, library = panel.self(), sys.modules["DINOMixTrainLib.page"]
        before.onReload()
        processEvents(20)
        self.assertIsNot(panel.self(), before)
        self.assertIsNot(sys.modules["DINOMixTrainLib.page"], library)
        self.assertEqual(panel.self().ui.pagesTabWidget.count, 4)
        self.assertFalse(any(page.isEntered for page in panel.self().pages.values()))

    def test_a_window_in_sight_goes_on_after_a_reload(self):
        panel = slicer.modules.dinomixtrain.widgetRepresentation()
        # The module's own window stays for other tests, and has to ask the engine anew for them.
        self.addCleanup(lambda: panel.self().onReload())
        self.addCleanup(panel.exit)
        with patch.object(EngineProcess, "start") as started:
            panel.enter()
            started.reset_mock()
            panel.self().onReload()
            processEvents(20)
        window = panel.self()
        self.assertTrue(started.called, "models are asked for")
        self.assertTrue(all(page.isEntered for page in window.pages.values()))
        window.pages["cases"].ui.validationSpinBox.value = 3
        self.assertEqual(window.logic.getParameterNode().validationCount, 3)


if __name__ == "__main__":
    unittest.main()
