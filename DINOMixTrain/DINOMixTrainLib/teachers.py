"""Whose features are distilled: none, a weight file's, or DINOv3's, fetched only once its licence is accepted."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import qt
from slicer.i18n import tr as _

from dinomix.files import open_file, parse_json
from dinomix_slicer.stored_text import jsonIn

OFF, RANDOM = "off", "random"
DINOV3 = "vit_base_patch16_dinov3"
FILE_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
ACCEPTED_SETTING = "DINOMix/AcceptedTeachers"
LARGEST_HEADER = 2**24


def isFile(teacher: str) -> bool:
    """Whether a teacher is named by a file."""
    return Path(teacher).suffix.lower() in FILE_ENDINGS


def isNamed(teacher: str) -> bool:
    """Whether a teacher is a backbone that timm knows by this name."""
    return teacher not in ("", OFF) and not teacher.startswith(RANDOM) and not isFile(teacher)


def whyNotFile(path: Path) -> str | None:
    """The sentence that says why a file cannot be a teacher's weights; None when it may. The weights are not read."""
    if not path.is_file():
        return _("There is no file {path}. Choose the teacher's weights again.").format(path=path)
    if path.suffix.lower() not in FILE_ENDINGS:
        return _("{path} is no file of weights. Choose a .safetensors or .pth file.").format(path=path)
    try:
        isTensors = path.suffix.lower() == ".safetensors"
        fits = path.is_file() and (_isSafetensors(path) if isTensors else zipfile.is_zipfile(path))
    except (OSError, ValueError, TypeError):
        fits = False
    if not fits:
        return _("{path} holds no weights of a DINOv3 vision transformer. Choose the file as it was published.").format(
            path=path
        )
    return None


def cachedFile(teacher: str) -> Path | None:
    """The weights of a timm backbone in the user's own Hugging Face cache; None where they are not."""
    try:
        found = sorted(_cache().glob(f"models--timm--{teacher}*/snapshots/*/model.safetensors"))
    except OSError:
        return None
    return found[0] if found else None


def isAccepted(teacher: str) -> bool:
    """Whether the user has read and accepted the licence of these weights."""
    return teacher in jsonIn(qt.QSettings().value(ACCEPTED_SETTING), list)


def accept(teacher: str) -> None:
    """Remember that the user has accepted it."""
    accepted = jsonIn(qt.QSettings().value(ACCEPTED_SETTING), list)
    qt.QSettings().setValue(ACCEPTED_SETTING, json.dumps(sorted({*accepted, teacher})))


def whyNotTeacher(teacher: str) -> str | None:
    """The sentence that says why a run cannot begin with this teacher; None when it can."""
    if isFile(teacher):
        return whyNotFile(Path(teacher))
    if isNamed(teacher) and cachedFile(teacher) is None and not isAccepted(teacher):
        return _("Read and accept the licence of the DINOv3 weights first, or train without distillation.")
    return None


def teacherOptions(teacher: str, mode: str) -> list[str]:
    """Options of ``dinomix train``; ``mode`` is "on-the-fly" or "cached"."""
    if teacher in ("", OFF):
        return ["--fkd", "off"]
    options = ["--teacher", teacher, *(["--fkd", mode] if mode != "on-the-fly" else [])]
    if isNamed(teacher) and cachedFile(teacher) is None and isAccepted(teacher):
        options.append("--download-teacher")
    return options


def _cache() -> Path:
    """As huggingface_hub finds it, which Slicer's Python may not have."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable])
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]) / "hub"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "huggingface" / "hub"


def _isSafetensors(path: Path) -> bool:
    """Whether the header names a vision transformer's class token."""
    with open_file(path) as file:
        size = int.from_bytes(file.read(8), "little")
        return size < LARGEST_HEADER and any("cls_token" in name for name in parse_json(file.read(size)))
