"""Models are listed, imported, refused and removed by the real engine, in the background."""

import shutil

import pytest
import qt
from workers import REPOSITORY  # puts the engine's test helpers on Python's path

from dinomix_slicer.models.store import MIRROR_SETTING, ModelStore
from host import waitUntil


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOMIX_MODELS", str(tmp_path / "models"))
    store = ModelStore()
    yield store
    store.end()


class Heard:
    def __init__(self, store):
        self.words = []
        for name in ("listed", "progress", "changed", "failed", "cancelled"):
            getattr(store, name).connect(lambda *arguments, name=name: self.words.append((name, *arguments)))

    def of(self, name):
        return [words[1:] for words in self.words if words[0] == name]


def published(folder):
    """A zip under the name of a catalog's file, which its publisher's hash cannot be of."""
    from foreign_models import spleen_config, write_bundle, zipped

    source = write_bundle(folder / "spleen_ct_segmentation", spleen_config(), ["spleen"])
    return zipped(source, "spleen_ct_segmentation").rename(folder / "spleen_ct_segmentation_v0.5.9.zip")


def test_import_list_refuse_and_remove(store, tmp_path):
    assert REPOSITORY.is_dir()
    heard = Heard(store)
    store.refresh()
    assert store.doing == "list"
    waitUntil(lambda: heard.of("listed"), 300)
    assert store.installed == [] and "spleen-ct" in [entry["name"] for entry in store.catalog]

    archive = published(tmp_path)
    store.importFrom(str(archive))
    store.install("spleen-ct")  # nothing, while something runs
    waitUntil(lambda: len(heard.of("listed")) == 2, 300)
    assert heard.of("changed") == [("spleen_ct_segmentation_v0.5.9",)] and not heard.of("failed")
    assert heard.of("progress")[0][0] == "unpack"
    (model,) = store.installed
    assert model["problem"] is None and [structure["name"] for structure in model["structures"]] == ["spleen"]

    store.setMirror(str(tmp_path))
    store.install("spleen-ct")
    waitUntil(lambda: heard.of("failed"), 300)
    problem, remedy = heard.of("failed")[0]
    assert "its hash is not the catalog's" in problem and remedy and store.doing == ""

    store.remove(model["path"])
    waitUntil(lambda: len(heard.of("listed")) == 3, 300)
    assert heard.of("changed")[-1] == ("",) and store.installed == []
    qt.QSettings().remove(MIRROR_SETTING)


def test_cancel_leaves_no_model(store, tmp_path):
    heard = Heard(store)
    store.importFrom(str(published(tmp_path)))
    waitUntil(lambda: heard.of("progress"), 300)
    store.cancel()
    waitUntil(lambda: heard.of("cancelled"))
    assert store.doing == "" and not list((tmp_path / "models").glob("[!.]*"))
    shutil.rmtree(tmp_path / "models", ignore_errors=True)


def test_a_command_that_runs_no_engine_here(tmp_path):
    from dinomix.errors import DinomixError

    def refuse(arguments):
        raise DinomixError("The worker command runs on another computer.", "Clear it.")

    store = ModelStore(refuse)
    heard = Heard(store)
    store.refresh()
    assert heard.words == [("failed", "The worker command runs on another computer.", "Clear it.")]
