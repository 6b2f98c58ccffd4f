"""Zip files of models, right and broken: names, links, sizes and bytes."""

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dinomix.importing.installing import import_model
from dinomix.models.folder import load_model
from fuzzing.documents import LABELS
from fuzzing.mutations import Rng, broken_bytes, pick
from fuzzing.promise import Act, WrongResult

NAMES = (
    "../outside", "../../outside", "/tmp/dinomix-fuzz-outside", "model/../../outside", "model\\..\\..\\outside",
    "C:\\outside", "", "/", ".", "..", "model/", "a" * 300, "a/" * 200 + "b", "model/labels.json", "MODEL/LABELS.JSON",
    "\u202egpj.exe", "é" * 130, "NUL", "model/manifest.json/x", "a\x00b",
)  # fmt: skip


def zip_file(rng: Rng, folder: Path, model: Path) -> Act:
    """A zip of a model folder, with up to two changes."""
    path, changes = folder / "model.zip", int(rng.integers(3))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(file for file in model.rglob("*") if file.is_file()):
            archive.write(file, f"model/{file.relative_to(model)}")
        if changes:
            pick(rng, CHANGES)(archive, rng)
    data = buffer.getvalue()
    for _ in range(changes - 1):
        # The directory at the end, which says where all is, and of what size.
        at = max(len(data) - 3000, 0) if rng.random() < 0.7 else 0
        data = data[:at] + broken_bytes(rng, data[at:])
    path.write_bytes(data)

    def act(out: Path) -> None:
        imported = load_model(import_model(path, name="imported", folder=out))
        if imported.labels != LABELS:
            raise WrongResult("the imported model has other labels")
        if changes == 0 and imported.fingerprint != load_model(model).fingerprint:
            raise WrongResult("another model than was packed")

    return act


def _named(archive: zipfile.ZipFile, rng: Rng) -> None:
    archive.writestr(_entry(pick(rng, NAMES)), b"x")


def _link(archive: zipfile.ZipFile, rng: Rng) -> None:
    kind = pick(rng, (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR))
    entry = _entry("model/link")
    entry.external_attr = (kind | 0o777) << 16
    archive.writestr(entry, pick(rng, ("/etc/passwd", "../../..", "labels.json")))


def _bomb(archive: zipfile.ZipFile, rng: Rng) -> None:
    with archive.open(_entry("model/zeros"), "w", force_zip64=True) as file:
        for _ in range(int(pick(rng, (1, 40, 300)))):
            file.write(bytes(2**20))


def _many(archive: zipfile.ZipFile, rng: Rng) -> None:
    for number in range(int(pick(rng, (100, 3000)))):
        archive.writestr(f"model/{number}", b"")


def _false(archive: zipfile.ZipFile, rng: Rng) -> None:
    """What an entry says of itself is changed in the directory."""
    entry = pick(rng, archive.filelist)
    field = pick(rng, ("file_size", "compress_size", "CRC", "header_offset", "compress_type", "flag_bits"))
    small, large = (0, 1, 7, 8, 2**16 - 1), (0, 1, 10**6, 2**32 - 2)
    setattr(entry, field, int(pick(rng, small if field in ("compress_type", "flag_bits") else large)))


def _nothing(archive: zipfile.ZipFile, rng: Rng) -> None:
    archive.comment = rng.bytes(20)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("x")
    entry.filename = name
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


CHANGES: tuple[Callable[[zipfile.ZipFile, Rng], Any], ...] = (
    _named,
    _named,
    _link,
    _bomb,
    _many,
    _false,
    _false,
    _nothing,
)
