"""From the catalog to a model that segments and that a fine-tuning starts from; by the command line, as a user would."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from file_servers import FileServer, serving
from filelock import FileLock
from foreign_models import spleen_config, whole_body_config, write_auto3dseg, write_bundle, zipped

from dinomix import cli
from dinomix.errors import DinomixError
from dinomix.importing import catalog, installing
from dinomix.importing import download as downloading
from dinomix.models.folder import load_model
from tiny_cohort import make_cohort

Publish = Callable[..., str]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DINOMIX_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv(installing.MIRROR, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloading, "PAUSE", 0.01)
    return tmp_path / "models"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zipped(write_auto3dseg(tmp_path_factory.mktemp("published") / "organs-v1.0.0", ["Liver", "Spleen"]))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer) -> Iterator[Publish]:
    """``publish(archive, sha256=...)``: a catalog of one model, "organs", whose file the server has."""

    def publish(path: Path, format: str = "auto3dseg", fields: dict[str, Any] | None = None, **hashes: str) -> str:
        server.files[path.name] = path.read_bytes()
        entry = {
            "name": "organs", "title": "Organs", "description": "Some.", "modality": "CT", "organs": ["liver", "spleen"],
            "license": "CC-BY-4.0", "citation": "Somebody, 2026.", "publisher": "Somebody", "homepage": "https://a.org",
            "format": format, "download": {"url": f"{server.address}/{path.name}", **hashes}, **(fields or {}),
        }  # fmt: skip
        file = tmp_path / "Models.json"
        file.write_text(json.dumps({"models": [entry]}))
        monkeypatch.setattr(catalog, "CATALOG", file)
        catalog.read_catalog.cache_clear()
        return entry["download"]["url"]  # type: ignore[index]

    yield publish
    catalog.read_catalog.cache_clear()


def dinomix(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def test_install_segment_and_fine_tune_to_other_classes(
    publish: Publish, archive: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(archive)
    assert dinomix("models", "install", "organs", "--yes", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"kind": "result", "model": str(models / "organs")}
    stages = {line["stage"] for line in lines if line["kind"] == "progress"}
    assert stages == {"download, MB", "unpack"}
    record = load_model(models / "organs").record
    assert record["license"] == "CC-BY-4.0" and record["title"] == "Organs" and record["author"] == "Somebody"
    assert record["source_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()

    cohort = make_cohort(tmp_path / "data", labeled=1, unlabeled=1, validation=1)
    cohort.write(tmp_path / "cohort.json")
    image = cohort.cases[0].image
    assert (
        dinomix("segment", "--model", models / "organs", image, "--out", tmp_path / "out.nii.gz", "--device", "cpu")
        == 0
    )
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    assert labels.shape == (32, 32, 32) and set(np.unique(labels)) <= {0, 1, 2}

    train = ["train", "--cohort", tmp_path / "cohort.json", "--out", tmp_path / "run", "--start", models / "organs",
             "--steps", "2", "--device", "cpu", "--teacher", "random:vit_small_patch16_dinov3", "--set",
             "plan.patch=32,32,16", "--set", "fkd.slice_stride=8", "--set", "batch_labeled=1", "--set", "batch_unlabeled=2",
             "--set", "learning_rate=0.0000001"]  # fmt: skip
    assert dinomix(*train) == 0
    assert "does not know gallbladder" in capsys.readouterr().err
    started, tuned = load_model(models / "organs"), load_model(tmp_path / "run/model")
    assert tuned.labels.names == ("liver", "gallbladder") and tuned.plan.window == started.plan.window
    head = [name for name in tuned.weights if name.endswith("head.weight")][-1]
    assert np.allclose(tuned.weights[head][:2], started.weights[head][:2], atol=1e-3)
    assert not np.allclose(tuned.weights[head][2], started.weights[head][2], atol=1e-3)


def test_what_is_installed_is_not_asked_for_again(publish: Publish, archive: Path, server: FileServer) -> None:
    publish(archive)
    assert dinomix("models", "install", "organs", "--yes") == 0
    count = len(server.requests)
    assert dinomix("models", "install", "organs") == 0
    assert len(server.requests) == count


def test_nothing_is_fetched_before_the_user_agrees(
    publish: Publish, archive: Path, server: FileServer, models: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import io

    url = publish(archive)
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert dinomix("models", "install", "organs") == 2
        told = capsys.readouterr().err
        assert "CC-BY-4.0" in told and url in told and "Somebody, 2026." in told and "nothing was fetched" in told
    assert dinomix("models", "install", "organs", "--json") == 2
    with pytest.raises(DinomixError, match="nothing was fetched"):
        installing.install("organs")
    assert not server.requests and not models.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert dinomix("models", "install", "organs") == 0


def test_from_a_file_a_folder_a_mirror_and_a_variable(
    publish: Publish, archive: Path, server: FileServer, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(archive, fields={"download": {"url": f"https://unreachable.invalid/{archive.name}"}})
    server.files[f"mirror/{archive.name}"] = archive.read_bytes()
    mirror = f"{server.address}/mirror/"
    for origin in (str(archive), str(archive.parent), mirror):
        path = installing.install("organs", origin=origin, agreed=origin == mirror)
        assert load_model(path).record["source"] in (archive.name, mirror + archive.name)
        installing.remove("organs")
    for value in (mirror, str(archive.parent), archive.parent.as_uri()):
        monkeypatch.setenv(installing.MIRROR, value)
        assert installing.install("organs", agreed=True) == models / "organs"
        installing.remove("organs")
    monkeypatch.setenv(installing.MIRROR, str(tmp_path / "empty"))
    with pytest.raises(DinomixError, match="There is no file") as caught:
        installing.install("organs", agreed=True)
    assert archive.name in caught.value.remedy


@pytest.mark.parametrize("kind", ["sha256", "sha1"])
def test_a_wrong_hash(publish: Publish, archive: Path, models: Path, server: FileServer, kind: str) -> None:
    publish(archive, **{kind: "0" * (64 if kind == "sha256" else 40)})
    for origin in (None, str(archive)):
        with pytest.raises(DinomixError, match="its hash is not the catalog's"):
            installing.install("organs", origin=origin, agreed=True)
    assert archive.exists() and not list(models.glob("[!.]*")) and not list((models / ".downloads").iterdir())
    publish(archive, **{kind: hashlib.new(kind, archive.read_bytes()).hexdigest()})
    assert installing.install("organs", agreed=True).is_dir()


def test_a_hash_that_was_not_known_is_recorded_and_checked_ever_after(
    publish: Publish, archive: Path, models: Path, tmp_path: Path
) -> None:
    url = publish(archive)
    installing.install("organs", agreed=True)
    installing.remove("organs")
    recorded = json.loads((models / ".downloads/hashes.json").read_text())
    assert recorded[url]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    installing.install("organs", agreed=True)
    installing.remove("organs")
    other = tmp_path / "other" / archive.name
    other.parent.mkdir()
    other.write_bytes(zipped(write_auto3dseg(tmp_path / "changed", ["Spleen", "Liver"])).read_bytes())
    publish(other)
    with pytest.raises(DinomixError, match="that of the first download"):
        installing.install("organs", agreed=True)
    assert not (models / "organs").exists()


def test_a_truncated_download_of_unknown_length_records_no_hash(
    publish: Publish, archive: Path, server: FileServer, models: Path
) -> None:
    publish(archive)
    server.announce, server.break_after, server.breaks = False, 20_000, 1
    with pytest.raises(DinomixError, match="cut short"):
        installing.install("organs", agreed=True)
    assert not (models / ".downloads/hashes.json").exists()
    assert installing.install("organs", agreed=True).is_dir()


def test_a_disk_that_fills_leaves_one_line_and_no_model(
    publish: Publish, archive: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    publish(archive)
    real = shutil.disk_usage(archive)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1000))
    assert dinomix("models", "install", "organs", "--yes") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("Error: No space left on device") and "Free some disk space" in told
    assert not list(models.glob("[!.]*"))


def test_a_cancelled_installation_goes_on(publish: Publish, archive: Path, models: Path, server: FileServer) -> None:
    publish(archive)

    def cancel(kind: str, **fields: object) -> None:
        if fields.get("stage") == "unpack" and fields["step"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        installing.install("organs", agreed=True, emit=cancel)
    assert [path.name for path in models.iterdir() if path.name != ".installing.lock"] == [".downloads"]
    count = len(server.requests)
    assert installing.install("organs", agreed=True).is_dir() and len(server.requests) == count


def test_two_installations_do_not_mix(publish: Publish, archive: Path, models: Path) -> None:
    publish(archive)
    models.mkdir()
    with FileLock(models / ".installing.lock"), pytest.raises(DinomixError, match="Another process"):
        installing.install("organs", agreed=True)


def test_an_installation_leaves_what_others_write_there_and_finds_a_model_that_a_kill_has_hidden(models: Path) -> None:
    for place in (".partial-joined/configs", ".partial-killed-old/organs"):  # `models join` takes no lock
        (models / place).mkdir(parents=True)
    with installing.locked(models):
        assert (models / ".partial-joined/configs").is_dir() and (models / "organs").is_dir()


def test_bundles_of_the_catalog_with_changes(publish: Publish, tmp_path: Path) -> None:
    names = ["spleen", "kidney_right", "kidney_left", "liver"]
    source = write_bundle(tmp_path / "wholeBody_ct_segmentation", whole_body_config(), names)
    (source / "models/model.pt").rename(source / "models/model_lowres.pt")
    changes = {"changes": {"displayable_configs#highres": False}, "weights": "models/model_lowres.pt"}
    publish(zipped(source, "wholeBody_ct_segmentation"), "monai-bundle", changes)
    model = load_model(installing.install("organs", agreed=True))
    assert model.plan.grid.spacing == (3.0, 3.0, 3.0) and model.labels.names == tuple(names)


def test_list_verify_and_remove(
    publish: Publish, archive: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(archive)
    assert dinomix("models", "list") == 0
    assert "none" in capsys.readouterr().out
    installing.install("organs", agreed=True)
    assert dinomix("models", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["catalog"][0]["installed"] and listed["folder"] == str(models)
    assert listed["installed"][0]["title"] == "Organs" and listed["installed"][0]["bytes"] > 10_000
    (models / "organs").rename(models.with_name("elsewhere"))
    for options, count in (((), 0), (("--folder", str(models.with_name("elsewhere"))), 1)):
        assert dinomix("models", "list", "--json", *options) == 0
        assert len(json.loads(capsys.readouterr().out)["installed"]) == count
    models.with_name("elsewhere").rename(models / "organs")
    assert dinomix("models", "verify") == 0 and "organs: whole" in capsys.readouterr().out
    weights = models / "organs/models/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert dinomix("models", "verify", "organs", "--json") == 2
    out = capsys.readouterr().out.splitlines()
    assert "not what the manifest says" in json.loads(out[0])["problems"][str(models / "organs")]
    assert dinomix("models", "remove", "organs", "--json") == 2
    assert (models / "organs").exists()
    assert dinomix("models", "remove", "organs", "--yes") == 0
    assert not list(models.glob("organs")) and dinomix("models", "remove", "organs", "--yes") == 2


def test_the_result_of_a_run_is_not_removed(publish: Publish, archive: Path, models: Path) -> None:
    publish(archive)
    path = installing.install("organs", agreed=True)
    run = models / "run"
    run.mkdir()
    (run / "cohort.json").write_text("{}")
    path.rename(run / "model")
    with pytest.raises(DinomixError, match="result of a run"):
        installing.remove("run")
    assert (run / "model").is_dir()


def test_downloads_and_wrong_hashes_load_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "spleen_ct_segmentation_v0.5.9.zip").write_bytes(b"something else")
    script = (
        "import sys; from dinomix.errors import DinomixError; from dinomix.importing import installing\n"
        f"try: installing.install('spleen-ct', origin={str(tmp_path)!r})\n"
        "except DinomixError as error: assert 'hash' in str(error)\n"
        "else: raise AssertionError\n"
        "assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_import_by_the_command_line(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_bundle(tmp_path / "spleen_ct_segmentation", spleen_config(), ["spleen"])
    assert dinomix("models", "import", source, "--name", "spleen") == 0
    told = capsys.readouterr()
    assert str(models / "spleen") in told.out and "Note: Logits are brought back" in told.err
    assert dinomix("models", "import", source, "--name", "spleen") == 2
    assert "already" in capsys.readouterr().err
