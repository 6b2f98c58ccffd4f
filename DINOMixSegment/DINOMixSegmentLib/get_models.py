"""The window in which models are got: published ones after agreeing to their license, and the user's own."""

from __future__ import annotations

import html
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.models.info import modelInfo
from dinomix_slicer.models.store import ModelStore, sizeText
from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import rowsAsHtml
from dinomix_slicer.window.duration import duration
from dinomix_slicer.window.progress_bar import showPart
from dinomix_slicer.window.widgets import loadDialog

MOST_ORGANS = 150


class GetModelsDialog:
    """
    Attributes:
        ui: the parts of the window.
        store: what does the work.

    Signals:
        changed(): models were installed, imported or removed.
    """

    def __init__(self, file: str, store: ModelStore | None = None) -> None:
        """``file`` is the ``.ui`` file."""
        self.changed = Signal()
        self.store = store or ModelStore()
        self._dialog = loadDialog(file)
        self.ui = ui = slicer.util.childWidgetVariables(self._dialog)
        ui.modelsList.connect("itemSelectionChanged()", self._showSelected)
        ui.installButton.connect("clicked()", self._onInstall)
        ui.removeButton.connect("clicked()", self._onRemove)
        ui.importFileButton.connect("clicked()", self._onImportFile)
        ui.importFolderButton.connect("clicked()", self._onImportFolder)
        ui.cancelButton.connect("clicked()", self.store.cancel)
        ui.closeButton.connect("clicked()", self._dialog.hide)
        ui.mirrorEdit.text = self.store.mirror()
        ui.mirrorEdit.connect("editingFinished()", self._onMirror)
        self.store.listed.connect(self._onListed)
        self.store.progress.connect(self._onProgress)
        self.store.changed.connect(self._onChanged)
        self.store.failed.connect(self._onFailed)
        self.store.cancelled.connect(self._onCancelled)

    def show(self) -> None:
        """Open the window and list the models; what runs goes on when it is closed."""
        self._dialog.show()
        self._dialog.raise_()
        if not self.store.doing:
            self._tell("")
            self.store.refresh()
        self._showState()

    def close(self) -> None:
        """For when the module goes."""
        self.store.end()
        self._dialog.close()
        self._dialog.deleteLater()

    # -- What is there

    def _onListed(self) -> None:
        box, selected = self.ui.modelsList, self._selectedKey()
        box.clear()
        for key, text in self._rows():
            item = qt.QListWidgetItem(text)
            item.setData(qt.Qt.UserRole, key)
            box.addItem(item)
            if key == selected:
                box.setCurrentItem(item)
        if box.currentItem() is None and box.count:
            box.setCurrentRow(0)
        self._showSelected()

    def _rows(self) -> list[tuple[str, str]]:
        """(key, text) of each row: what is installed by its folder, what is not by its name in the catalog."""
        rows = []
        for model in self.store.installed:
            size = _("{megabytes:.0f} MB").format(megabytes=model["bytes"] / 1e6)
            state = _("cannot be used") if model["problem"] else _("installed, {size}").format(size=size)
            rows.append((model["path"], f"{model['title']}\n    {state}"))
        for entry in self.store.catalog:
            if not entry["installed"]:
                rows.append((entry["name"], f"{entry['title']}\n    {sizeText(entry)}"))
        return rows

    def _selectedKey(self) -> str:
        item = self.ui.modelsList.currentItem()
        return str(item.data(qt.Qt.UserRole)) if item is not None else ""

    def _selectedModel(self) -> dict[str, Any] | None:
        return next((model for model in self.store.installed if model["path"] == self._selectedKey()), None)

    def _selectedEntry(self) -> dict[str, Any] | None:
        key = self._selectedKey()
        return next((e for e in self.store.catalog if e["name"] == key and not e["installed"]), None)

    def _showSelected(self) -> None:
        model, entry = self._selectedModel(), self._selectedEntry()
        self.ui.detailsBrowser.setHtml(installedAsHtml(model) if model else publishedAsHtml(entry) if entry else "")
        self._showState()

    def _showState(self) -> None:
        """What can be clicked now."""
        ui, isIdle = self.ui, not self.store.doing
        isWorking = self.store.doing in ("install", "import")
        ui.installButton.enabled = isIdle and self._selectedEntry() is not None
        ui.removeButton.enabled = isIdle and self._selectedModel() is not None
        ui.importFileButton.enabled = ui.importFolderButton.enabled = isIdle
        ui.cancelButton.visible = ui.progressBar.visible = isWorking
        ui.mirrorEdit.enabled = isIdle

    # -- What the user does

    def _onInstall(self) -> None:
        entry = self._selectedEntry()
        if entry is None or not slicer.util.confirmYesNoDisplay(self._question(entry), windowTitle=_("Install model")):
            return
        self._begin(_("{title} is being installed.").format(title=entry["title"]))
        self.store.install(entry["name"])
        self._showState()

    def _question(self, entry: dict[str, Any]) -> str:
        question = _(
            "{title} will be fetched from {place} ({size}) and converted once.\n\n"
            "Its license: {license} {url}\nIts publisher: {publisher}\n\n"
            "It has not been evaluated by DINOMix, and it is not a medical device.\n\n"
            "Do you agree to its license, and shall it be fetched?"
        )
        return question.format(
            title=entry["title"], place=self.store.mirror() or entry["download"]["url"], size=sizeText(entry),
            license=entry["license"], url=entry["license_url"], publisher=entry["publisher"],
        )  # fmt: skip

    def _onRemove(self) -> None:
        model = self._selectedModel()
        question = _("{title} will be removed from the disk:\n{path}")
        if model is None or not slicer.util.confirmYesNoDisplay(
            question.format(title=model["title"], path=model["path"]), windowTitle=_("Remove model")
        ):
            return
        self._begin("")
        self.store.remove(model["path"])
        self._showState()

    def _onImportFile(self) -> None:
        kinds = _("Models") + " (*.zip *.pt *.pth *.safetensors)"
        path = qt.QFileDialog.getOpenFileName(self._dialog, _("Choose a model's zip or weights"), "", kinds)
        self._import(path)

    def _onImportFolder(self) -> None:
        title = _("Choose a model's folder: of DINOMix, MONAI or nnU-Net")
        self._import(qt.QFileDialog.getExistingDirectory(self._dialog, title))

    def _import(self, path: str) -> None:
        if path:
            self._begin(_("{path} is being imported.").format(path=path))
            self.store.importFrom(path)
            self._showState()

    def _onMirror(self) -> None:
        self.store.setMirror(self.ui.mirrorEdit.text)

    # -- What the store announces

    def _begin(self, text: str) -> None:
        self._tell(text)
        showPart(self.ui.progressBar, 0, 0)

    def _onProgress(self, stage: str, step: int, total: int) -> None:
        showPart(self.ui.progressBar, step, total)

    def _onChanged(self, name: str) -> None:
        self._tell(_("{name} is installed.").format(name=name) if name else _("The model was removed."))
        self._showState()
        self.changed.emit()

    def _onFailed(self, problem: str, remedy: str) -> None:
        self._tell(f"{problem} {remedy}".strip())
        self._showState()

    def _onCancelled(self) -> None:
        self._tell(_("Cancelled. What was fetched is kept: Install goes on from there."))
        self._showState()

    def _tell(self, text: str) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.visible = bool(text)


def publishedAsHtml(entry: dict[str, Any]) -> str:
    """Everything about a model of the catalog, as rich text."""
    times = [
        _("{time} on a processor").format(time=duration(entry["seconds_cpu"])) if entry["seconds_cpu"] else "",
        _("{time} on a graphics card").format(time=duration(entry["seconds_gpu"])) if entry["seconds_gpu"] else "",
    ]
    organs = ", ".join(entry["organs"][:MOST_ORGANS])
    rows = [
        (_("Images"), ": ".join(filter(None, (entry["modality"], ", ".join(entry["images"]))))),
        (_("Size"), f"{sizeText(entry)}. {entry['size_note']}"),
        (_("Time"), ". ".join(filter(None, (", ".join(filter(None, times)), entry["seconds_note"])))),
        (_("License"), f"{entry['license']} {entry['license_url']}".strip()),
        (_("Publisher"), f"{entry['publisher']}, {entry['homepage']}"),
        (_("To cite"), entry["citation"]),
        (_("Try it on"), ", ".join(entry["sample_data"])),
        (_("Structures"), organs),
    ]
    title, text = html.escape(entry["title"]), html.escape(entry["description"])
    return f"<h3>{title}</h3><p>{text}</p>{rowsAsHtml(rows)}"


def installedAsHtml(model: dict[str, Any]) -> str:
    """Everything about a model that is there, as rich text."""
    info = modelInfo(model)
    structures = ", ".join(organ.name for organ in info.organs[:MOST_ORGANS])
    problem = f"<p>{html.escape(info.problem)}</p>" if info.problem else ""
    return f"<h3>{html.escape(info.title)}</h3>{problem}{rowsAsHtml([*info.rows, (_('Structures'), structures)])}"
