"""The model folder: a MONAI bundle with safetensors weights, label set, plan, training record, card and manifest."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit, silent
from dinomix.files import folder_written_aside, sha256, write_json, write_text, written_aside
from dinomix.labels import LabelSet
from dinomix.models.averaged import Averaged, FromFile
from dinomix.models.bundle import inference_config, metadata
from dinomix.models.calibration import KEY, KEY_OF_BOXES, Calibration
from dinomix.models.card import model_card
from dinomix.models.graph import remember_graph, write_graph
from dinomix.models.manifest import (
    COPY_AGAIN,
    GRAPHS,
    MANIFEST,
    MORE_WEIGHTS,
    PREVIEW,
    SECOND_WEIGHTS,
    WEIGHTS,
    check_hash,
    check_present,
    graph_files,
    read_manifest,
    read_record,
    renew_manifest,
    title_of_folder,
    write_manifest,
)
from dinomix.models.network import build_network, footprint, network_on_paper
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan


@dataclass(frozen=True)
class Model:
    """A model folder that was found whole.

    Attributes:
        path: the folder.
        labels: channel k of the network's output is ``labels.ids[k - 1]``; channel 0 is the background.
        plan: how an image becomes the network's input.
        weights: the network's state, on the CPU.
        record: how the model was trained.
        second_weights: of the second stage's network; None where the plan has none.
        more_weights: of an ensemble, the states of the further networks, in the plan's order.
        key_of_calibration: in ``record``; a second stage has one of its own.
        weights_file: in the folder, that of ``weights``.
    """

    path: Path
    labels: LabelSet
    plan: Plan
    weights: dict[str, torch.Tensor]
    record: dict[str, Any]
    second_weights: dict[str, torch.Tensor] | None = None
    more_weights: tuple[dict[str, torch.Tensor], ...] = ()
    key_of_calibration: str = KEY
    weights_file: str = WEIGHTS

    @cached_property
    def calibration(self) -> Calibration | None:
        """What its record says of how sure it is; None of a model that was not calibrated."""
        return Calibration.of_record(self.record, self.key_of_calibration)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest, which holds the hashes of all files: equal models have equal fingerprints."""
        return sha256(self.path / MANIFEST)

    @property
    def title(self) -> str:
        """What the model is called: by its record, else by its folder; that of a run lies in RUN/model."""
        return str(self.record.get("title") or title_of_folder(self.path))

    @cached_property
    def second(self) -> "Model | None":
        """The second stage as a model of its own; None where there is none."""
        if self.plan.second is None or self.second_weights is None:
            return None
        return Model(
            self.path,
            self.labels,
            self.plan.second.plan,
            self.second_weights,
            self.record,
            key_of_calibration=KEY_OF_BOXES,
            weights_file=SECOND_WEIGHTS,
        )

    def calibration_of(self, structure: str) -> Calibration | None:
        """That of the stage which has the last word on a structure."""
        thin = self.plan.second.structures if self.plan.second is not None else ()
        return self.second.calibration if structure in thin and self.second is not None else self.calibration

    def is_unsure(self, structure: str, predicted_dice: float) -> bool:
        """Whether a structure with this predicted Dice should be looked at first."""
        calibration = self.calibration_of(structure)
        return calibration is not None and calibration.is_unsure(structure, predicted_dice)

    @cached_property
    def members(self) -> tuple["Model", ...]:
        """The networks of an ensemble as models of their own; of other models, the model itself."""
        if not self.more_weights:
            return (self,)
        states = (self.weights, *self.more_weights)
        return tuple(
            Model(self.path, self.labels, plan, weights, self.record, weights_file=file)
            for plan, weights, file in zip(self.plan.members, states, (WEIGHTS, *MORE_WEIGHTS), strict=False)
        )

    @property
    def stages(self) -> tuple["Model", ...]:
        """What has weights of its own: ``members`` and ``second``."""
        return (*self.members, *([self.second] if self.second is not None else []))

    def check_networks(self) -> None:
        """Build all networks once, one after the other. Raises DinomixError as ``network``."""
        for stage in self.stages:
            stage.network()

    @cached_property
    def warm_network(self) -> torch.nn.Module:
        """``network()``, made once."""
        return self.network()

    def network(self) -> torch.nn.Module:
        """The network with these weights, on the CPU, in evaluation mode; of an ensemble, all of them as one.

        Raises:
            DinomixError: the plan's network is not allowed or does not fit the weights.
        """
        if self.more_weights:
            return Averaged(member.network() for member in self.members)
        # Before the network is built: what the plan claims costs nothing until the weights are as large.
        if misfit := misfit_of(self.weights, footprint(self.plan, self.labels.channels).shapes):
            raise DinomixError(f"The weights in {self.path} do not fit its network ({misfit}).", COPY_AGAIN)
        network = build_network(self.plan, self.labels.channels)
        network.load_state_dict(self.weights)
        remember_graph(network, self.path / self.weights_file)
        return network.eval().requires_grad_(False)

    def network_in_turns(self) -> torch.nn.Module:
        """``network()`` of an ensemble, whose networks are in memory one after the other, for as long as each computes."""
        return Averaged(
            FromFile(network_on_paper(member.plan, self.labels.channels), self.path / member.weights_file)
            for member in self.members
        )


def misfit_of(weights: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]]) -> str:
    """The first thing by which weights are not those of a network with tensors of these shapes, in words; empty if none."""
    for name in shapes:
        if name not in weights:
            return f"{name} is missing"
    for name, tensor in weights.items():
        if name not in shapes:
            return f"{name} is too much"
        if tuple(tensor.shape) != shapes[name]:
            return f"{name} is {tuple(tensor.shape)} instead of {shapes[name]}"
    return ""


def write_model(
    path: Path,
    *,
    plan: Plan,
    labels: LabelSet,
    weights: dict[str, torch.Tensor],
    record: dict[str, Any],
    preview: bytes | None = None,
    second_weights: dict[str, torch.Tensor] | None = None,
    more_weights: Sequence[dict[str, torch.Tensor]] = (),
    graphs: bool = False,
    emit: Emit = silent,
) -> None:
    """Write a model folder beside ``path``, load it again, and only then put it in ``path``'s place.

    Args:
        weights: the network's state dict; copied to the CPU.
        record: plain JSON data. The keys ``author``, ``copyright``, ``license``, ``data_source`` go into the card.
        preview: a small PNG picture of the structures; None for none.
        second_weights: of the second stage's network, where the plan has one.
        more_weights: of an ensemble, those of ``plan.more_networks``.
        graphs: write those of its networks, too, where OpenVINO is installed and takes them; ``emit`` is told where it does not.

    Raises:
        DinomixError: the weights do not fit the plan's network, or are not finite.
    """
    states = {WEIGHTS: weights} | ({SECOND_WEIGHTS: second_weights} if second_weights is not None else {})
    states |= dict(zip(MORE_WEIGHTS, more_weights, strict=False))
    bad = [name for state in states.values() for name, weight in state.items() if not torch.isfinite(weight).all()]
    if bad:
        raise DinomixError(
            f"The weights are not finite ({bad[0]}), so the training has diverged; no model is written to {path}.",
            "Train with a lower learning rate.",
        )
    with folder_written_aside(path) as aside:
        write_json(aside / "configs/inference.json", inference_config(plan, labels))
        write_json(aside / "configs/metadata.json", metadata(plan, labels, record))
        for file_name, state in states.items():
            # Aside, for the permissions: safetensors lets nobody but the writer read, and model folders are shared.
            with written_aside(aside / file_name) as file:
                # Clones: tensors that share memory are refused by safetensors, and must not be tied in the file either.
                save_file({name: w.detach().cpu().contiguous().clone() for name, w in state.items()}, file)
        labels.write(aside / "labels.json")
        plan.write(aside / "plan.json")
        write_json(aside / "record.json", record)
        write_text(aside / "README.md", model_card(plan, labels, record))
        if preview is not None:
            (aside / PREVIEW).write_bytes(preview)
        write_manifest(
            aside,
            channels_or_regions=len(plan.channels) > 1 or bool(labels.regions),
            ensemble_or_clean_up=bool(plan.more_networks or plan.clean_up),
        )
        model = load_model(aside)
        model.check_networks()
        if graphs and is_installed() and not (problem := write_graphs(model)):
            renew_manifest(aside)
        elif graphs and is_installed():
            emit("notice", message=f"The model goes without a graph for OpenVINO: {problem}.")


def write_graphs(model: Model) -> str:
    """Write the graphs of all networks of a model into its folder, or of none where one cannot be: why not, in words."""
    for stage in model.stages:
        try:
            write_graph(model.path / stage.weights_file, stage.network(), stage.plan)
        except Exception as error:  # of many kinds: what a library says of a network that it does not know
            for written in model.stages:
                for file in graph_files(model.path / written.weights_file):
                    file.unlink(missing_ok=True)
            return reason_of(error)
    return ""


def add_graphs(folder: Path, emit: Emit = silent) -> int:
    """Write the graphs of its networks into a model folder, or write them anew.

    Returns:
        Their bytes.

    Raises:
        DinomixError: no model folder, or a damaged one; OpenVINO is not installed, or cannot take a network.
    """
    if not is_installed():
        raise DinomixError("OpenVINO is not installed.", "Install it (pip install openvino).", "runtime")
    load_model(folder).check_networks()
    emit("progress", stage="write the graph", step=0, total=1, eta=None)
    with changed_aside(folder) as aside:
        if problem := write_graphs(load_model(aside)):
            raise DinomixError(f"{folder} cannot be given a graph ({problem}).", "PyTorch goes on computing it.")
    emit("progress", stage="write the graph", step=1, total=1, eta=0.0)
    return sum((folder / name).stat().st_size for name in GRAPHS if (folder / name).is_file())


@contextmanager
def changed_aside(path: Path) -> Iterator[Path]:
    """A copy of a model folder, all of which but the manifest may be changed within; it takes its place once it is whole."""
    with folder_written_aside(path) as aside:
        shutil.copytree(path, aside, dirs_exist_ok=True)
        yield aside
        renew_manifest(aside)
        load_model(aside)


def load_model(path: str | Path) -> Model:
    """Read a model folder after comparing every file with the manifest; nothing in it is executed.

    Raises:
        DinomixError: the folder is missing, not a model folder, of a later version, incomplete or changed.
    """
    path = Path(path)
    hashes = read_manifest(path)
    check_present(path, list(hashes))
    for name, expected in hashes.items():
        check_hash(path, name, expected)
    weights = _read_weights(path / WEIGHTS)
    labels, plan = LabelSet.read(path / "labels.json"), Plan.read(path / "plan.json")
    spoken_of = (*plan.one_piece.channels, *(rule.channel for rule in plan.clean_up))
    if max(spoken_of, default=0) >= labels.channels:
        raise DinomixError(
            f"{path / 'plan.json'} speaks of structure number {max(spoken_of)}; labels.json has {labels.channels - 1}.",
            COPY_AGAIN,
        )
    if (plan.second is None) != (SECOND_WEIGHTS not in hashes):
        raise DinomixError(f"The plan in {path} and its weights have not as many stages.", COPY_AGAIN)
    second = _read_weights(path / SECOND_WEIGHTS) if plan.second is not None else None
    more = [name for name in MORE_WEIGHTS if name in hashes]
    if len(more) != len(plan.more_networks):
        raise DinomixError(
            f"The plan in {path} has {len(plan.networks)} networks, and there are weights of {1 + len(more)}.",
            COPY_AGAIN,
        )
    # They are mapped, so that the weights of an ensemble take memory only once they are used.
    return Model(
        path, labels, plan, weights, read_record(path), second, tuple(_read_weights(path / name) for name in more)
    )


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", COPY_AGAIN) from error
