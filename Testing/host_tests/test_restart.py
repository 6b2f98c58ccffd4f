"""Restarting and quitting: as in Slicer nobody is asked, and what is not saved is gone."""

import importlib
import shutil
import sys
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import qt
import slicer

from host import pip_record
from host.qt import dialogs


class RestartTest(unittest.TestCase):
    def setUp(self):
        slicer.app.commandOptions().testingEnabled = False
        self.volume = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)), name="unsaved")

    def test_nobody_is_asked_and_data_is_lost(self):
        slicer.util.restart()
        self.assertEqual(dialogs.asked, [])
        self.assertEqual(slicer.app.restarts, [["unsaved"]])

    def test_confirmation_says_nothing_of_data_and_can_be_silenced(self):
        dialogs.answer(qt.QMessageBox.Cancel)
        slicer.app.confirmRestart("Restart?")
        self.assertEqual(slicer.app.restarts, [])
        self.assertEqual([asked.text for asked in dialogs.asked], ["Restart?"])
        qt.QSettings().setValue("MainWindow/DontConfirmRestart", int(qt.QMessageBox.Ok))
        slicer.app.confirmRestart()
        self.assertEqual(len(dialogs.asked), 1)
        self.assertEqual(slicer.app.restarts, [["unsaved"]])

    @unittest.skipIf(not hasattr(slicer, "packaging"), "this Slicer has no slicer.packaging")
    def test_the_restart_that_pip_ensure_offers_loses_data_too(self):
        with TemporaryDirectory() as site:
            self.addPackage(site, "1.0")
            sys.path.insert(0, site)
            self.addCleanup(sys.path.remove, site)
            importlib.import_module("replaced_in_use")
            self.addCleanup(sys.modules.pop, "replaced_in_use")
            pip_record.answer.effect = lambda arguments: self.addPackage(site, "2.0")
            dialogs.answer(qt.QMessageBox.Ok, qt.QMessageBox.Yes)
            slicer.packaging.pip_ensure("replaced_in_use>=2", show_progress=False)
        self.assertEqual(slicer.app.restarts, [["unsaved"]])

    def addPackage(self, site, version):
        for old in Path(site).glob("*.dist-info"):
            shutil.rmtree(old)
        folder = Path(site) / f"replaced_in_use-{version}.dist-info"
        folder.mkdir()
        (Path(site) / "replaced_in_use.py").write_text("")
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: replaced_in_use\nVersion: {version}\n")
        (folder / "RECORD").write_text("replaced_in_use.py,,\n")
