"""Models of the Hugging Face Hub: from a small server that answers as it does, to a model folder; and back, its card."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, serving
from foreign_models import spleen_config, write_bundle, write_nnunet
from huggingface_hub import ModelCard

from dinomix import cli
from dinomix.importing import download as downloading
from dinomix.importing.hub import look_up
from dinomix.importing.installing import import_model
from dinomix.labels import LabelSet
from dinomix.models.card import model_card
from dinomix.models.folder import load_model
from dinomix.models.front_matter import without_front_matter
from dinomix.models.installed import describe_model
from dinomix.planning.plan import Plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".pt", ".pth", ".safetensors")
Push = Callable[..., None]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DINOMIX_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloading, "PAUSE", 0.01)
    return tmp_path / "models"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


@pytest.fixture
def push(server: FileServer) -> Push:
    """``push(folder, "owner/name")``: a repository with the files of a folder, large ones with Git LFS."""

    def push(folder: Path, repository: str, license: str = "") -> None:
        siblings = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, content = file.relative_to(folder).as_posix(), file.read_bytes()
            server.files[f"{repository}/resolve/{COMMIT}/{name}"] = content
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sibling = {"rfilename": name, "size": len(content), "blobId": git}
            if name.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(sibling)
        answer = {"id": repository, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False, "downloads": 0,
                  "cardData": {"license": license} if license else {}}  # fmt: skip
        for revision in ("", "/revision/v1"):
            server.files[f"api/models/{repository}{revision}?blobs=true"] = json.dumps(answer).encode()

    return push


def dinomix(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def test_a_model_folder_is_installed_as_it_was_pushed(
    push: Push, server: FileServer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_bundle(tmp_path / "spleen", spleen_config(), ["spleen"])
    own = import_model(source, folder=tmp_path / "mine")
    (own / "notes.bin").write_bytes(b"of no use")
    push(own, "acme/spleen-ct")
    assert dinomix("models", "install", "hf:acme/spleen-ct", "--yes") == 0
    assert load_model(models / "spleen-ct").fingerprint == load_model(own).fingerprint
    assert not (models / "spleen-ct/notes.bin").exists() and not list((models / ".downloads").iterdir())
    asked = len(server.requests)
    assert dinomix("models", "install", "hf:acme/spleen-ct@v1", "--yes") == 0
    assert [request["path"] for request in server.requests[asked:]] == [
        "/api/models/acme/spleen-ct/revision/v1?blobs=true"
    ]
    other = write_bundle(tmp_path / "other", spleen_config(), ["liver"])
    push(import_model(other, folder=tmp_path / "mine"), "rival/spleen-ct")
    assert dinomix("models", "install", "hf:rival/spleen-ct", "--yes") == 2
    assert "There is another model" in capsys.readouterr().err


def test_a_bundle_and_an_nnunet_folder(push: Push, server: FileServer, models: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    (bundle / "models/model.ts").write_bytes(b"TorchScript")
    push(bundle, "MONAI/spleen_ct_segmentation", "apache-2.0")
    assert dinomix("models", "install", "hf:MONAI/spleen_ct_segmentation", "--yes") == 0
    record = load_model(models / "spleen_ct_segmentation").record
    assert (record["license"], record["author"]) == ("apache-2.0", "MONAI")
    assert record["source"] == f"hf:MONAI/spleen_ct_segmentation@{COMMIT}"
    assert dinomix("models", "install", "hf:MONAI/spleen_ct_segmentation", "--yes") == 0
    write_nnunet(tmp_path / "nn/Dataset1_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres", {"liver": 1})
    write_nnunet(tmp_path / "nn/Dataset1_Liver/nnUNetTrainer__nnUNetPlans__2d", {"liver": 1})
    push(tmp_path / "nn", "acme/liver")
    assert [Path(file.name).name for file in look_up("hf:acme/liver").files] == [
        "plans.json", "dataset.json", "checkpoint_final.pth",
    ]  # fmt: skip
    assert dinomix("models", "install", "hf:acme/liver", "--yes", "--json") == 0
    assert load_model(models / "liver").labels.names == ("liver",)
    fetched = [request["path"] for request in server.requests if "/resolve/" in request["path"]]
    assert len(fetched) == len(set(fetched)) and not any("2d" in path or ".ts" in path for path in fetched)


def test_nothing_is_fetched_before_the_user_agrees(
    push: Push, server: FileServer, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    push(write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"]), "acme/spleen", "cc-by-nc-4.0")
    monkeypatch.setattr("click.confirm", lambda *arguments, **options: False)
    assert dinomix("models", "install", "hf:acme/spleen") == 2
    told = capsys.readouterr().err
    assert "cc-by-nc-4.0" in told and "3 files" in told and "nothing was fetched" in told
    asked = len(server.requests)
    assert dinomix("models", "install", "hf:acme/spleen", "--json") == 2
    assert len(server.requests) == asked and not any("/resolve/" in r["path"] for r in server.requests)
    assert not models.exists()


@pytest.mark.parametrize("name", ["models/model.pt", "configs/metadata.json"])
def test_a_file_of_another_hash_is_refused(
    name: str, push: Push, server: FileServer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"]), "acme/spleen")
    served = f"acme/spleen/resolve/{COMMIT}/{name}"
    whole = server.files[served]
    server.files[served] = whole[:-1] + b"?"
    assert dinomix("models", "install", "hf:acme/spleen", "--yes") == 2
    assert f"{name} is refused: its hash is not the Hub's" in capsys.readouterr().err
    assert not (models / "spleen").exists()
    server.files[served] = whole
    assert dinomix("models", "install", "hf:acme/spleen", "--yes") == 0


def test_what_cannot_be_installed_is_told(
    push: Push, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/config.json").write_text("{}")
    push(tmp_path / "text", "acme/text")
    server.files["api/models/acme/climbs?blobs=true"] = json.dumps({
        "id": "acme/climbs", "sha": COMMIT, "tags": [], "private": False, "downloads": 0,
        "siblings": [{"rfilename": f"../../{name}", "size": 1, "blobId": "0"}
                     for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")],
    }).encode()  # fmt: skip
    for name, problem in (("hf:acme/text", "holds no model"), ("hf:acme/climbs", "holds no model"),
                          ("hf:acme/missing", "has no model acme/missing"), ("hf:spleen", "names no model"),
                          ("hf:acme/../spleen", "names no model")):  # fmt: skip
        assert dinomix("models", "install", name, "--yes") == 2
        assert problem in capsys.readouterr().err
    server.fail = [503] * 20
    assert dinomix("models", "install", "hf:acme/text", "--yes") == 2
    assert "could not be asked" in capsys.readouterr().err
    assert dinomix("models", "install", "hf:acme/text", "--yes", "--from", "folder") == 2
    assert "HF_ENDPOINT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "expected"),
    [({"license": "CC-BY-4.0"}, ("cc-by-4.0", None, None)), ({}, ("unknown", None, None)),
     ({"license": 'Ours: "as is" # 1', "license_url": "https://a.org"}, ("other", 'Ours: "as is" # 1', "https://a.org"))],
)  # fmt: skip
def test_the_hub_reads_the_card(record: dict[str, str], expected: tuple) -> None:
    plan = Plan.model_validate({
        "modality": "MR", "grid": {"kind": "spacing", "spacing": [1, 1, 1]}, "window": {"kind": "percentiles"},
        "patch": [32, 32, 32], "network": {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "strides": [2]},
    })  # fmt: skip
    text = model_card(plan, LabelSet.from_names({1: "liver"}), record)
    card = ModelCard(text)
    data = card.data.to_dict()
    assert (data["license"], data.get("license_name"), data.get("license_link")) == expected
    assert (data["library_name"], data["pipeline_tag"]) == ("monai", "image-segmentation")
    assert {"dinomix", "medical", "mr"} <= set(data["tags"])
    assert card.text.lstrip().startswith("# MR model: liver")
    assert without_front_matter(text).startswith("# MR model: liver")


def test_a_window_shows_the_card_without_what_the_hub_reads(tmp_path: Path) -> None:
    path = import_model(write_bundle(tmp_path / "spleen", spleen_config(), ["spleen"]), folder=tmp_path / "mine")
    assert (path / "README.md").read_text(encoding="utf-8").startswith("---\n")
    assert describe_model(path)["card"].startswith("# CT model: spleen")
