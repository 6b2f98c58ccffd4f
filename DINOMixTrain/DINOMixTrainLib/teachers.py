"""Whose features are distilled: none, a weight file's, or DINOv3's, fetched only once its licence is accepted.

A file is named alone where it is a DINOv3's, and as NAME=FILE where it is that of another backbone, NAME being timm's.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import qt
from slicer.i18n import tr as _

from dinomix.files import open_file, parse_json
from dinomix_slicer.paths import isFile
from dinomix_slicer.stored_text import jsonIn

OFF, RANDOM = "off", "random"
DINOV3 = "vit_base_patch16_dinov3"
FILE_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
ACCEPTED_SETTING = "DINOMix/AcceptedTeachers"
LARGEST_HEADER = 2**24
_NAME = re.compile(r"[A-Za-z0-9_.]+")
_NAMED_FILE = re.compile(r"([A-Za-z0-9_.]+)=(.+)")


def fileOf(teacher: str) -> tuple[str, Path]:
    """The backbone that a teacher's file is named with, empty for DINOv3's, and the file."""
    named = _NAMED_FILE.fullmatch(teacher)
    return (named[1], Path(named[2])) if named and not isFile(Path(teacher)) else ("", Path(teacher))


def namesFile(teacher: str) -> bool:
    """Whether a teacher is named by a file."""
    return Path(teacher).suffix.lower() in FILE_ENDINGS


def isNamed(teacher: str) -> bool:
    """Whether a teacher is a backbone that timm knows by this name."""
    return teacher not in ("", OFF) and not teacher.startswith(RANDOM) and not namesFile(teacher)


def whyNotName(name: str) -> str | None:
    """The sentence that says why a text cannot be the name of a backbone; whether timm knows it is seen at the start."""
    if _NAME.fullmatch(name):
        return None
    return _("{name} is no name of a backbone. Write it as timm has it, such as resnet50.").format(name=name or "''")


def whyNotFile(teacher: str) -> str | None:
    """The sentence that says why a teacher's file cannot be its weights; None when it may. The weights are not read."""
    name, path = fileOf(teacher)
    if not isFile(path):
        return _("There is no file {path}. Choose the teacher's weights again.").format(path=path)
    if path.suffix.lower() not in FILE_ENDINGS:
        return _("{path} is no file of weights. Choose a .safetensors or .pth file.").format(path=path)
    try:
        isTensors = path.suffix.lower() == ".safetensors"
        fits = _isSafetensors(path, "" if name else "cls_token") if isTensors else zipfile.is_zipfile(path)
    except (OSError, ValueError, TypeError):
        fits = False
    if fits:
        return None
    if name:
        return _("{path} holds no weights. Choose the file as it was published.").format(path=path)
    return _(
        "{path} holds no weights of a DINOv3 vision transformer. Choose the file as it was published, or name its backbone with "
        "the last choice of the list."
    ).format(path=path)


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
    if namesFile(teacher):
        return whyNotFile(teacher)
    if isNamed(teacher) and cachedFile(teacher) is None and not isAccepted(teacher):
        return _("Read and accept the licence of the DINOv3 weights first, or train without distillation.")
    return None


def teacherOptions(teacher: str, mode: str, *, byDefault: bool) -> list[str]:
    """Options of ``dinomix train``.

    Args:
        mode: "auto", "on-the-fly" or "cached".
        byDefault: whether the method distils unless it is told otherwise.
    """
    if teacher in ("", OFF):
        return ["--fkd", "off"]
    options = ["--teacher", teacher, *(["--fkd", mode] if mode != "auto" or not byDefault else [])]
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


def _isSafetensors(path: Path, tensor: str) -> bool:
    """Whether the header can be read and names such a tensor."""
    with open_file(path) as file:
        size = int.from_bytes(file.read(8), "little")
        return size < LARGEST_HEADER and any(tensor in name for name in parse_json(file.read(size)))
