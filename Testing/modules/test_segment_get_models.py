"""The window in which models are got: what it shows, asks and does; the engine's end is played by the test."""

import html
from typing import ClassVar
from unittest.mock import patch

import qt
from DINOMixSegmentLib.get_models import GetModelsDialog, publishedAsHtml
from segment_fakes import Heard, modelDict
from segment_window import WindowTestCase

from dinomix_slicer.models.store import ModelStore
from dinomix_slicer.signal import Signal

ENTRY = {
    "name": "abdominal-organs-3mm", "title": "Abdominal organs, 3 mm", "description": "Organs <of> the abdomen.",
    "modality": "CT", "organs": ["liver", "spleen"], "license": "CC-BY-4.0",
    "license_url": "https://creativecommons.org/licenses/by/4.0/", "citation": "Somebody, 2026.", "publisher": "Somebody",
    "homepage": "https://example.org", "format": "auto3dseg",
    "download": {"url": "https://example.org/a.zip", "bytes": None, "sha256": None, "sha1": None, "hash_note": "unknown"},
    "approximate_bytes": 38_000_000, "size_note": "About.", "sample_data": ["CTLiver"], "seconds_cpu": 73.2,
    "seconds_gpu": None, "seconds_note": "As the publisher measured it.", "changes": {}, "weights": None,
    "orientation": None, "images": [], "regions": None, "structures": [], "installed": False,
}  # fmt: skip


class FakeProcess:
    """A verb of the engine whose events and end the test decides."""

    made: ClassVar[list] = []

    def __init__(self, arguments):
        self.arguments = arguments
        self.event, self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal(), Signal()
        self.isStarted = self.isEnded = False
        FakeProcess.made.append(self)

    def start(self):
        self.isStarted = True

    def cancel(self):
        self.cancelled.emit()

    def end(self):
        self.isEnded = True

    def finish(self, **result):
        if result:
            self.event.emit(result)
        self.finished.emit(0)


class GetModelsTest(WindowTestCase):
    def setUp(self):
        super().setUp()
        FakeProcess.made = []
        patcher = patch(
            "DINOMixSegmentLib.widget.GetModelsDialog",
            lambda file: GetModelsDialog(file, ModelStore(FakeProcess)),
        )
        patcher.start()
        self.addCleanup(patcher.stop)
        self.click(self.ui.getModelsButton)
        self.dialog = self.widget.getModels
        self.parts = self.dialog.ui
        self.list(ENTRY)

    @property
    def process(self):
        return FakeProcess.made[-1]

    def list(self, *catalog, installed=()):
        self.assertEqual(self.process.arguments, ["models", "list"])
        self.process.finish(kind="models", installed=list(installed), catalog=list(catalog), folder="/models")

    def rows(self):
        return [self.parts.modelsList.item(row).text() for row in range(self.parts.modelsList.count)]

    def test_the_catalog_is_listed_and_described(self):
        self.assertEqual(self.rows(), ["Abdominal organs, 3 mm\n    about 38 MB"])
        text = self.parts.detailsBrowser.toPlainText()
        for words in ("CC-BY-4.0", "Organs <of> the abdomen.", "Somebody, 2026.", "liver, spleen", "on a processor"):
            self.assertIn(words, text)
        self.assertTrue(self.parts.installButton.enabled)
        self.assertFalse(self.parts.removeButton.enabled)

    def test_a_model_of_several_images_names_them(self):
        text = html.unescape(publishedAsHtml({**ENTRY, "modality": "MR", "images": ["T2", "ADC"], "seconds_cpu": None}))
        self.assertIn("MR: T2, ADC", text)
        self.assertIn(">As the publisher measured it.", text)

    def test_nothing_is_fetched_before_the_user_agrees(self):
        self.answer = False
        self.click(self.parts.installButton)
        self.assertEqual(len(FakeProcess.made), 1)
        question = self.dialog._question(ENTRY)
        for words in ("CC-BY-4.0", "https://example.org/a.zip", "Somebody", "agree"):
            self.assertIn(words, question)

    def test_installing_shows_progress_and_ends_with_the_model_in_the_list(self):
        heard = Heard(self.logic, "modelsChanged")
        self.click(self.parts.installButton)
        self.assertEqual(self.process.arguments, ["models", "install", "abdominal-organs-3mm", "--yes"])
        self.assertFalse(self.parts.installButton.enabled)
        self.assertTrue(self.parts.cancelButton.isVisible() and self.parts.progressBar.isVisible())
        self.process.event.emit({"kind": "progress", "stage": "download, MB", "step": 12, "total": 38})
        self.assertEqual((self.parts.progressBar.value, self.parts.progressBar.maximum), (316, 1000))
        self.process.event.emit({"kind": "progress", "stage": "unpack", "step": 3_000_000_000, "total": 6_000_000_000})
        self.assertEqual((self.parts.progressBar.value, self.parts.progressBar.maximum), (500, 1000))
        self.process.finish(kind="result", model="/models/abdominal-organs-3mm")
        self.assertIn("installed", self.parts.statusLabel.text)
        self.assertFalse(self.parts.cancelButton.isVisible())
        path = self.makeFolder("abdominal-organs-3mm")
        self.list({**ENTRY, "installed": True}, installed=[modelDict(path, "Abdominal organs, 3 mm", bytes=38e6)])
        self.assertEqual(self.rows(), ["Abdominal organs, 3 mm\n    installed, 38 MB"])
        self.assertTrue(heard.of("modelsChanged"))  # the worker lists its models again

    def test_cancel_keeps_what_was_fetched(self):
        self.click(self.parts.installButton)
        self.click(self.parts.cancelButton)
        self.assertIn("goes on from there", self.parts.statusLabel.text)
        self.assertTrue(self.parts.installButton.enabled)

    def test_a_refusal_is_shown_in_the_engines_words(self):
        self.click(self.parts.installButton)
        self.process.failed.emit("a.zip is refused: its hash is not the catalog's.", "Get the file again.")
        self.assertIn("its hash is not the catalog's. Get the file again.", self.parts.statusLabel.text)
        self.assertTrue(self.parts.installButton.enabled)

    def test_the_mirror_is_kept_and_used(self):
        self.parts.mirrorEdit.text = " https://mirror.example.org/models "
        self.parts.mirrorEdit.editingFinished()
        self.click(self.parts.installButton)
        self.assertEqual(self.process.arguments[-2:], ["--from", "https://mirror.example.org/models"])
        self.assertIn("https://mirror.example.org/models", self.dialog._question(ENTRY))
        self.assertEqual(ModelStore(FakeProcess).mirror(), "https://mirror.example.org/models")

    def test_remove_asks_first(self):
        self.click(self.parts.installButton)
        self.process.finish(kind="result", model="/models/a")
        self.list(installed=[modelDict(str(self.folder / "a"), "A", bytes=1e6)])
        self.answer = False
        self.click(self.parts.removeButton)
        self.assertEqual(self.process.arguments, ["models", "list"])
        self.answer = True
        self.click(self.parts.removeButton)
        self.assertEqual(self.process.arguments, ["models", "remove", str(self.folder / "a"), "--yes"])
        self.process.finish(kind="result", model=str(self.folder / "a"))
        self.assertIn("removed", self.parts.statusLabel.text)

    def test_import_of_a_file_or_a_folder(self):
        for button, dialog in (
            (self.parts.importFileButton, "getOpenFileName"),
            (self.parts.importFolderButton, "getExistingDirectory"),
        ):
            with patch.object(qt.QFileDialog, dialog, lambda *arguments: ""):
                self.click(button)
            self.assertFalse(self.dialog.store.doing)
            with patch.object(qt.QFileDialog, dialog, lambda *arguments: "/data/my model"):
                self.click(button)
            self.assertEqual(self.process.arguments, ["models", "import", "/data/my model"])
            self.process.finish(kind="result", model="/models/my model")
            self.list(ENTRY)
            self.assertIn("my model is installed", self.parts.statusLabel.text)

    def test_what_runs_ends_with_the_module(self):
        self.click(self.parts.installButton)
        process = self.process
        self.widget.cleanup()
        self.assertTrue(process.isEnded)
