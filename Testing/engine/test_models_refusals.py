"""What comes from strangers and does harm: refused in one line, nothing executed, nothing written outside."""

import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import change_json, spleen_config, write_auto3dseg, write_bundle, write_nnunet, zipped

from dinomix import cli
from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix.importing import opened
from dinomix.importing.hints import Hints
from dinomix.importing.installing import import_model
from dinomix.importing.weights import read_checkpoint
from dinomix.unpacking import unpack


class Harm:
    """Unpickled by Python's own reader, this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def refusal(tmp_path: Path, source: Path, problem: str, hints: Hints | None = None) -> None:
    """The import is refused in one line that names the problem; nothing is left but what was there."""
    before = everything(tmp_path)
    with pytest.raises(DinomixError, match=problem) as caught:
        import_model(source, name="imported", hints=hints, folder=tmp_path / "models")
    assert "\n" not in str(caught.value) and caught.value.remedy
    assert everything(tmp_path) == before


def everything(folder: Path) -> set[Path]:
    """All files and folders but the lock of installations, which stays."""
    return {path for path in folder.rglob("*") if path.name != ".installing.lock" and path != folder / "models"}


def archive_of(path: Path, *entries: tuple[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (modes or {}).get(name, 0o644) << 16
            archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    "name",
    ["../outside.txt", "a/../../outside.txt", "/tmp/outside.txt", "C:/outside.txt", "..\\outside.txt", "a\\..\\b"],
)
def test_an_archive_that_climbs_out(name: str, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "model.zip", ("good.txt", b"1"), (name, b"2"))
    if "\\" in name:
        # zipfile itself mends the names that it writes.
        content = archive.read_bytes()
        archive.write_bytes(content.replace(name.replace("\\", "/").encode(), name.encode()))
    refusal(tmp_path, archive, "outside of its folder")


def test_an_archive_with_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    archive = archive_of(
        tmp_path / "model.zip", ("plan.json", str(secret).encode()), modes={"plan.json": stat.S_IFLNK | 0o777}
    )
    refusal(tmp_path, archive, "is a link")


def test_an_archive_with_two_files_of_one_name(tmp_path: Path) -> None:
    refusal(tmp_path, archive_of(tmp_path / "model.zip", ("Plan.json", b"1"), ("plan.json", b"2")), "appears twice")


def test_an_archive_that_swells(tmp_path: Path) -> None:
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file, file.open("model.pt", "w") as entry:
        for _ in range(300):
            entry.write(bytes(2**20))
    assert archive.stat().st_size < 2**20
    refusal(tmp_path, archive, "would unpack to")


def test_an_archive_that_lies_about_its_size(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "model.zip", ("model.pt", b"0" * 5000))
    content = archive.read_bytes()
    size = (5000).to_bytes(4, "little")
    archive.write_bytes(content[:1000] + content[1000:].replace(size, (10).to_bytes(4, "little")))
    refusal(tmp_path, archive, "damaged or cut short")


def test_an_archive_of_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LIMITS", replace(opened.LIMITS, files=3))
    refusal(tmp_path, archive_of(tmp_path / "model.zip", *((f"{i}", b"") for i in range(4))), "4 files")


def test_an_archive_that_was_cut_short(tmp_path: Path) -> None:
    archive = zipped(write_auto3dseg(tmp_path / "model", ["Liver"]))
    archive.write_bytes(archive.read_bytes()[:-3000])
    refusal(tmp_path, archive, "not a zip archive, or was cut short")


def test_an_archive_whose_directory_is_damaged(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "model.zip", ("model.pt", b"0" * 50), ("xx.txt", b"1"))
    content, directory = archive.read_bytes(), archive.read_bytes().rindex(b"PK\1\2")
    # The place of an entry is said relative to the directory's; its name and the name's length are changed with it.
    for at, changed in ((42, b"\xfe\xff\xff\xff"), (42, b"\x00\x00\x00\x80"), (28, b"\0\0")):
        place = directory + at
        archive.write_bytes(content[:place] + changed + content[place + len(changed) :])
        refusal(tmp_path, archive, "model.zip")
    end = content.rindex(b"PK\5\6") + 16
    archive.write_bytes(content[:end] + b"\xff\xff\xff\x7f" + content[end + 4 :])
    refusal(tmp_path, archive, "model.zip")


def test_an_archive_with_a_damaged_entry(tmp_path: Path) -> None:
    archive = zipped(write_auto3dseg(tmp_path / "model", ["Liver"]))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    refusal(tmp_path, archive, "damaged or cut short")


def test_a_disk_too_small_for_what_is_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    archive = zipped(write_auto3dseg(tmp_path / "model", ["Liver"]))
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1000))
    refusal(tmp_path, archive, rf"model\.zip unpacks to 0\.\d MB, but {tmp_path / 'models'} has 0\.0 MB free")


@pytest.mark.parametrize("archived", [False, True])
def test_a_disk_that_takes_no_more_while_a_model_is_imported(
    archived: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system itself refuses to write on: what the archive holds, or else the converted weights."""
    import resource
    import signal

    monkeypatch.setenv("DINOMIX_MODELS", str(tmp_path / "models"))
    source = write_auto3dseg(tmp_path / "model", ["Liver"])
    source = zipped(source) if archived else source
    before = everything(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(SystemExit) as left:
            cli.main(["models", "import", str(source), "--name", "imported"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert left.value.code == 2 and told.startswith("Error: File too large") and "on a disk that takes" in told
    assert everything(tmp_path) == before


def test_a_good_archive_is_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "into"
    folder.mkdir()
    unpack(archive_of(tmp_path / "a.zip", ("deep/er/file", b"content"), ("empty", b"")), folder, opened.LIMITS)
    assert (folder / "deep/er/file").read_bytes() == b"content" and (folder / "empty").read_bytes() == b""


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("place", ["alone", "in the configuration", "beside the weights"])
def test_a_pickle_that_runs_code(place: str, old_format: bool, tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "model", ["Liver"])
    checkpoint = torch.load(source / "model.pt", weights_only=False)
    harm = Harm(tmp_path / "harmed")
    if place == "alone":
        checkpoint = harm
    elif place == "in the configuration":
        checkpoint["config"]["extra"] = harm
    else:
        checkpoint["state_dict"]["extra"] = harm
    torch.save(checkpoint, source / "model.pt", _use_new_zipfile_serialization=not old_format)
    refusal(tmp_path, source, "would run code")
    assert not (tmp_path / "harmed").exists()


def test_a_plain_pickle_and_a_script_under_the_name_of_weights(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "model").mkdir()
    path = tmp_path / "model/model.pt"
    path.write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    with pytest.raises(DinomixError):
        import_model(tmp_path / "model", folder=tmp_path / "models")
    path.write_text("import os; os.mkdir('harmed')")
    refusal(tmp_path, tmp_path / "model", "cannot be read as weights")
    assert not (tmp_path / "harmed").exists()


def test_a_torchscript_program(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    torch.jit.save(torch.jit.script(torch.nn.Conv3d(1, 2, 1)), str(tmp_path / "model/model.pt"))
    refusal(tmp_path, tmp_path / "model", "TorchScript|run code")


def test_weights_that_are_cut_short(tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "model", ["Liver"])
    content = (source / "model.pt").read_bytes()
    (source / "model.pt").write_bytes(content[: len(content) // 2])
    refusal(tmp_path, source, "cannot be read as weights")


def test_weights_in_an_archive_that_swells(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    with pytest.raises(DinomixError, match="would swell"):
        read_checkpoint(path)


CODE = "$__import__('os').mkdir('harmed')"


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("network_def", "channels"), CODE, "more than describe"),
        (("network_def", "channels"), "$[4 * i for i in range(1, 6)]", "it is code"),
        (("network_def", "norm"), "$print('x')", "it is code"),
        (("network_def", "_target_"), "os.mkdir", "more than describe"),
        (("network_def", "_target_"), "scripts.my_network.Net", "cannot be used"),
        (("network_def", "_target_"), "HoVerNet", "HoVerNet"),
        (("network_def", "strides"), "@strides_that_are_not_there", "not there"),
        (("network_def", "norm"), "%other.json", "another file"),
        (("imports", 0), "$import os; os.system('mkdir harmed')", "more than describe"),
        (("imports", 0), "$import subprocess", "more than describe"),
        (("initialize", 0), CODE, "more than describe"),
        (("dataset", "data"), "$[open(i) for i in @datalist]", "more than describe"),
        (("inferer", "overlap"), "$max(0.5, 0.25)", "it is code"),
        (("inferer", "_target_"), "SimpleInferer", "sliding window"),
        (("preprocessing", "transforms", 3, "pixdim"), "$list(range(3))", "it is code"),
        (("preprocessing", "transforms", 4, "_target_"), "HistogramNormalized", "HistogramNormalized"),
        (("network_def", "in_channels"), 4, "takes 4 images of a patient at once, configs/metadata.json says 1"),
        (("network_def", "in_channels"), 40, "takes 40 images"),
        (("network_def", "spatial_dims"), 2, "2 dimensions"),
        (("network_def", "channels"), [4, 8, 16, 32, 48], "do not fit"),
        (("network_def", "channels"), "@network_def", "refers to itself"),
    ],
)
def test_a_bundle_with_code_or_what_cannot_be_done(
    place: tuple, value: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    change_json(source / "configs/inference.json", place, value)
    refusal(tmp_path, source, problem)
    assert not (tmp_path / "harmed").exists()


def test_a_message_names_the_archive_and_not_where_it_was_unpacked(tmp_path: Path) -> None:
    archive = zipped(write_auto3dseg(tmp_path / "model", ["Liver"], input_channels=17), "inner")
    refusal(tmp_path, archive, rf"^{archive}/inner/model\.pt takes 17 images")


def test_weights_with_more_input_channels_than_the_configuration_says(tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "model", ["Liver"], input_channels=2)
    checkpoint = torch.load(source / "model.pt", weights_only=False)
    checkpoint["config"]["input_channels"] = 1
    torch.save(checkpoint, source / "model.pt")
    refusal(tmp_path, source, "takes 2 images of a patient at once, its configuration says 1")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"extra_modalities": {"image2": "meanstd"}}, "its network takes 1 images"),
        ({"input_channels": 2, "extra_modalities": {"image2": "pet"}}, "'pet'"),
        ({"normalize_mode": "pet"}, "'pet'"),
        ({"modality": "pet"}, "model for pet"),
        ({"roi_size": [63, 64, 48]}, "multiple of 4"),
        ({"roi_size": "$[64, 64, 64]"}, "not 3 numbers"),
        ({"sigmoid": True, "output_classes": 2, "class_index": [[1, 2], [2, 3]]}, "regions that overlap"),
    ],
)
def test_an_auto3dseg_model_that_cannot_be_used(changes: dict, problem: str, tmp_path: Path) -> None:
    names = ["Liver"] if changes.get("output_classes") is None else ["Liver", "Spleen"]
    refusal(tmp_path, write_auto3dseg(tmp_path / "model", names, **changes), problem)


def test_weights_that_are_not_finite_or_lack_a_tensor(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", {"liver": 1})
    path = source / "fold_0/checkpoint_final.pth"
    whole = torch.load(path, weights_only=False)
    whole["network_weights"]["decoder.seg_layers.1.bias"] = torch.tensor([0.0, torch.nan])
    torch.save(whole, path)
    refusal(tmp_path, source, "not finite")
    del whole["network_weights"]["encoder.stages.1.0.convs.0.norm.weight"]
    torch.save(whole, path)
    refusal(tmp_path, source, r"has no 'encoder\.stages\.1\.0\.convs\.0\.norm\.weight'")


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("plans.json", ("configurations", "3d_fullres", "spacing"), ["a", "b", "c"]),
        ("plans.json", ("configurations", "3d_fullres", "architecture", "arch_kwargs"), []),
        ("plans.json", ("configurations", "3d_fullres", "architecture", "arch_kwargs", "strides"), [None]),
        ("plans.json", ("transpose_forward",), None),
        ("plans.json", ("configurations",), None),
        ("dataset.json", ("labels",), None),
        ("dataset.json", ("channel_names",), [3]),
    ],
)
def test_damaged_plans_give_one_line(file: str, place: tuple, value: Any, tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", {"liver": 1})
    data = json.loads((source / file).read_text())
    target: Any = data
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    (source / file).write_text(json.dumps(data))
    refusal(tmp_path, source, "")


def test_files_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refusal(tmp_path, tmp_path / "empty", "no model that can be read")
    refusal(tmp_path, tmp_path / "nowhere", "no file or folder")
    (tmp_path / "some.txt").write_text("text")
    refusal(tmp_path, tmp_path / "some.txt", "cannot be read as weights")
    torch.save({"a": torch.zeros(3)}, tmp_path / "bare.pt")
    refusal(tmp_path, tmp_path / "bare.pt", "not what network they belong to")
    refusal(tmp_path, tmp_path / "bare.pt", "do not say what they segment", Hints(plan=tmp_path / "plan.json"))


def test_a_changed_model_folder_in_an_archive(tmp_path: Path) -> None:
    first = import_model(write_auto3dseg(tmp_path / "abdominal", ["Liver"]), folder=tmp_path / "others")
    plan = json.loads((first / "plan.json").read_text())
    plan["network"] = {"_target_": "os.makedirs", "name": str(tmp_path / "harmed")}
    (first / "plan.json").write_text(json.dumps(plan))
    archive = zipped(first)
    refusal(tmp_path, archive, "not what the manifest says")
    manifest = json.loads((first / "manifest.json").read_text())
    manifest["files"]["plan.json"] = sha256(first / "plan.json")
    (first / "manifest.json").write_text(json.dumps(manifest))
    archive.unlink()
    refusal(tmp_path, zipped(first), r"os\.makedirs")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["x" * 300], "has a name that no disk takes"),
        (["/".join(["d"] * 2000)], r"its entry 'd/d/.*\.\.\.' has a name that no disk takes"),
        (["a\x01b"], "has a name that no disk takes"),
        (["a", "a/b"], "its entry 'a/b' lies in a file"),
    ],
)
def test_an_archive_whose_names_no_disk_takes(names: list[str], problem: str, tmp_path: Path) -> None:
    refusal(tmp_path, archive_of(tmp_path / "model.zip", *((name, b"1") for name in names)), problem)


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"files": 5}', "[" * 100_000, '{"format": "dinomix-model"}', '{"version": 1e5}']
)
def test_an_archive_of_a_damaged_manifest(manifest: str, tmp_path: Path) -> None:
    refusal(
        tmp_path, archive_of(tmp_path / "model.zip", ("model/manifest.json", manifest.encode())), "no model|is damaged"
    )
