"""The model folder: a MONAI bundle with safetensors weights, label set, plan, training record, card and manifest."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dinomix.errors import DinomixError
from dinomix.files import folder_written_aside, sha256, write_json, write_text
from dinomix.labels import LabelSet
from dinomix.models.bundle import inference_config, metadata
from dinomix.models.card import model_card
from dinomix.models.network import build_network
from dinomix.planning.plan import Plan

FORMAT = {"format": "dinomix-model", "version": 1}
MANIFEST = "manifest.json"
WEIGHTS = "models/model.safetensors"
FILES = (
    "configs/inference.json",
    "configs/metadata.json",
    WEIGHTS,
    "labels.json",
    "plan.json",
    "record.json",
    "README.md",
)
COPY_AGAIN = "Copy the model folder again from where it came from, or train it again."


@dataclass(frozen=True)
class Model:
    """A model folder that was found whole.

    Attributes:
        path: the folder.
        labels: channel k of the network's output is ``labels.ids[k - 1]``; channel 0 is the background.
        plan: how an image becomes the network's input.
        weights: the network's state, on the CPU.
        record: how the model was trained.
    """

    path: Path
    labels: LabelSet
    plan: Plan
    weights: dict[str, torch.Tensor]
    record: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest, which holds the hashes of all files: equal models have equal fingerprints."""
        return sha256(self.path / MANIFEST)

    def network(self) -> torch.nn.Module:
        """The network with these weights, on the CPU, in evaluation mode.

        Raises:
            DinomixError: the plan's network is not allowed or does not fit the weights.
        """
        network = build_network(self.plan, self.labels.channels)
        try:
            network.load_state_dict(self.weights, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise DinomixError(f"The weights in {self.path} do not fit its network ({reason}).", COPY_AGAIN) from error
        return network.eval().requires_grad_(False)


def write_model(
    path: Path, *, plan: Plan, labels: LabelSet, weights: dict[str, torch.Tensor], record: dict[str, Any]
) -> None:
    """Write a model folder beside ``path``, load it again, and only then put it in ``path``'s place.

    Args:
        weights: the network's state dict; copied to the CPU.
        record: plain JSON data. The keys ``author``, ``copyright``, ``license``, ``data_source`` go into the card.

    Raises:
        DinomixError: the weights do not fit the plan's network, or are not finite.
    """
    bad = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if bad:
        raise DinomixError(
            f"The weights are not finite ({bad[0]}), so the training has diverged; no model is written to {path}.",
            "Train with a lower learning rate.",
        )
    with folder_written_aside(path) as aside:
        write_json(aside / "configs/inference.json", inference_config(plan, labels))
        write_json(aside / "configs/metadata.json", metadata(plan, labels, record))
        (aside / "models").mkdir()
        # Clones: tensors that share memory are refused by safetensors, and must not be tied in the file either.
        save_file({name: w.detach().cpu().contiguous().clone() for name, w in weights.items()}, aside / WEIGHTS)
        labels.write(aside / "labels.json")
        plan.write(aside / "plan.json")
        write_json(aside / "record.json", record)
        write_text(aside / "README.md", model_card(plan, labels, record))
        write_json(aside / MANIFEST, {**FORMAT, "files": {name: sha256(aside / name) for name in FILES}})
        load_model(aside).network()


def load_model(path: Path) -> Model:
    """Read a model folder after comparing every file with the manifest; nothing in it is executed.

    Raises:
        DinomixError: the folder is missing, not a model folder, of a later version, incomplete or changed.
    """
    _check_manifest(path)
    try:
        weights = load_file(path / WEIGHTS)
        record = json.loads((path / "record.json").read_text(encoding="utf-8"))
    except (SafetensorError, ValueError) as error:
        raise DinomixError(f"The model folder {path} cannot be read ({error}).", COPY_AGAIN) from error
    return Model(path, LabelSet.read(path / "labels.json"), Plan.read(path / "plan.json"), weights, record)


def _check_manifest(path: Path) -> None:
    if not path.is_dir():
        raise DinomixError(
            f"There is no model folder {path}.", "Give the folder that holds manifest.json, such as RUN/model."
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        hashes = dict(manifest["files"])
        kind, version = manifest["format"], int(manifest["version"])
    except FileNotFoundError:
        raise DinomixError(
            f"{path} is not a model folder of DINOMix: it has no {MANIFEST}.",
            "Give the folder that `dinomix train` wrote, RUN/model.",
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DinomixError(f"{path / MANIFEST} is damaged ({error}).", COPY_AGAIN) from error
    if kind != FORMAT["format"]:
        raise DinomixError(f"{path} is not a model folder of DINOMix but {kind!r}.", "Give a folder RUN/model.")
    if version > 1:
        raise DinomixError(f"{path} was written by a later DINOMix (format {version}).", "Update dinomix.")
    for name in FILES:
        if not (path / name).is_file():
            raise DinomixError(f"The model folder {path} is incomplete: {name} is missing.", COPY_AGAIN)
        if hashes.get(name) != sha256(path / name):
            raise DinomixError(f"{path / name} is not what the manifest says: it was changed or cut short.", COPY_AGAIN)
