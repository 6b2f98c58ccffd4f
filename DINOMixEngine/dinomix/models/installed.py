"""The model folders on this computer, and what a window shows of each. Neither torch nor weights are loaded for this."""

import base64
import os
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError, reason_of
from dinomix.files import open_file, sha256
from dinomix.labels import LabelSet, Structure
from dinomix.models.front_matter import without_front_matter
from dinomix.models.manifest import (
    ALL_WEIGHTS,
    COPY_AGAIN,
    LARGEST_RECORD,
    MANIFEST,
    PREVIEW,
    WEIGHTS,
    check_hash,
    check_present,
    read_manifest,
    read_record,
    title_of_folder,
)
from dinomix.models.mirror_axes import mirror_axes
from dinomix.planning.plan import Plan
from dinomix.terminology import color_for, terminology_entry, terminology_for

LARGEST_PREVIEW = 2**20


def model_folders() -> list[Path]:
    """Where models are looked for unless told otherwise: the folders of DINOMIX_MODELS, else ~/.dinomix/models."""
    named = os.environ.get("DINOMIX_MODELS")
    if named:
        return [Path(folder).expanduser() for folder in named.split(os.pathsep) if folder]
    return [Path.home() / ".dinomix" / "models"]


def find_models(folders: list[Path]) -> list[Path]:
    """Model folders: ``folders`` themselves and what lies up to two levels below them, so that a folder of runs serves too.

    A folder that has weights or a manifest counts, so that a copy that was cut short is seen and not passed over.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        for depth in ("", "*/", "*/*/"):
            candidates = {path.parent for path in folder.glob(depth + MANIFEST)}
            candidates |= {path.parent.parent for path in folder.glob(depth + WEIGHTS)}
            for model in sorted(candidates):
                if not any(part.startswith(".") for part in model.relative_to(folder).parts):
                    found[Path(os.path.realpath(model))] = None
    return list(found)


def describe_model(path: Path) -> dict[str, Any]:
    """What there is to know of a model folder before it is used, as plain JSON data; see docs/worker.md, MODEL.

    A folder that is damaged is described as far as it goes; ``problem`` is then a sentence, else None. The weights' hash is
    compared only when the model is loaded, since weights are large.
    """
    model = undescribed_model(path, None)
    try:
        model["bytes"] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        hashes = read_manifest(path)
        model["fingerprint"] = sha256(path / MANIFEST)
        check_present(path, list(hashes))
        for name, expected in hashes.items():
            if name not in ALL_WEIGHTS:
                check_hash(path, name, expected)
        with open_file(path / "README.md") as card:
            model["card"] = without_front_matter(card.read(LARGEST_RECORD).decode("utf-8", "replace"))
        record = model["record"] = read_record(path)
        model.update({key: str(record.get(key) or "") for key in ("license", "author", "data_source")})
        model["title"] = str(record.get("title") or model["title"])
        labels = LabelSet.read(path / "labels.json")
        model["structures"], model["regions"] = structures_as_data(labels), regions_as_data(labels)
        plan = Plan.read(path / "plan.json")
        model["modality"] = plan.modality
        model["channels"] = [
            {"name": name, "modality": modality} for name, modality in zip(plan.channels, plan.modalities, strict=True)
        ]
        model["mirror_axes"] = list(mirror_axes(record, plan, labels))
        model["preview"] = _preview(path) if PREVIEW in hashes else None
    except DinomixError as error:
        model["problem"] = str(error)
    except (OSError, ValueError) as error:
        model["problem"] = f"This model folder is damaged ({reason_of(error)}). {COPY_AGAIN}"
    return model


def undescribed_model(path: Path, problem: str | None) -> dict[str, Any]:
    """A MODEL of which nothing is known but where it is, and what is wrong with it."""
    return {
        "path": str(path), "title": title_of_folder(path), "modality": "", "channels": [], "structures": [], "regions": [],
        "mirror_axes": [], "license": "", "author": "", "data_source": "", "record": {}, "card": "", "fingerprint": "",
        "preview": None, "problem": problem, "bytes": 0,
    }  # fmt: skip


def structures_as_data(labels: LabelSet) -> list[dict[str, Any]]:
    """Each structure as plain JSON data, with Slicer's text for its terminology."""
    return [_structure_as_data(structure) for structure in labels.structures]


def regions_as_data(labels: LabelSet) -> list[dict[str, Any]]:
    """Each region likewise: its name, a color, its terminology where the name is known, and the ids of its ``structures``."""
    first = max(labels.ids) + 1
    return [
        {
            **region.model_dump(mode="json"),
            "color": color_for(region.name, number),
            "terminology_entry": terminology_entry(terminology_for(region.name)),
        }
        for number, region in enumerate(labels.regions, first)
    ]


def _structure_as_data(structure: Structure) -> dict[str, Any]:
    return {**structure.model_dump(mode="json"), "terminology_entry": terminology_entry(structure.terminology)}


def _preview(path: Path) -> str | None:
    picture = path / PREVIEW
    if picture.stat().st_size > LARGEST_PREVIEW:
        return None
    return base64.b64encode(picture.read_bytes()).decode("ascii")
