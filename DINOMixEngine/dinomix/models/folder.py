"""The model folder: a MONAI bundle with safetensors weights, label set, plan, training record, card and manifest.

It is read without PyTorch; weights are only where a network of PyTorch's is made of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomix.arrays import has_torch
from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix.labels import LabelSet
from dinomix.models.averaged import Averaged
from dinomix.models.calibration import KEY, KEY_OF_BOXES, Calibration
from dinomix.models.graph import graph_network, remember_graph
from dinomix.models.manifest import (
    COPY_AGAIN,
    MANIFEST,
    MORE_WEIGHTS,
    SECOND_WEIGHTS,
    WEIGHTS,
    check_hash,
    check_present,
    read_manifest,
    read_record,
    title_of_folder,
)
from dinomix.models.networks import Network
from dinomix.models.weights import WeightsFile
from dinomix.planning.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class Model:
    """A model folder that was found whole.

    Attributes:
        path: the folder.
        labels: channel k of the network's output is ``labels.ids[k - 1]``; channel 0 is the background.
        plan: how an image becomes the network's input.
        weights: the network's state, on the CPU; of a folder, a file that is read once a tensor is asked for.
        record: how the model was trained.
        second_weights: of the second stage's network; None where the plan has none.
        more_weights: of an ensemble, the states of the further networks, in the plan's order.
        key_of_calibration: in ``record``; a second stage has one of its own.
        weights_file: in the folder, that of ``weights``.
    """

    path: Path
    labels: LabelSet
    plan: Plan
    weights: "Mapping[str, Tensor]"
    record: dict[str, Any]
    second_weights: "Mapping[str, Tensor] | None" = None
    more_weights: "tuple[Mapping[str, Tensor], ...]" = ()
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
    def warm_network(self) -> Network:
        """``network()``, made once."""
        return self.network()

    def network(self) -> Network:
        """The network with these weights, on the CPU, in evaluation mode; of an ensemble, all of them as one.

        Where PyTorch is not installed, it is the graph that the folder carries.

        Raises:
            DinomixError: the plan's network is not allowed or does not fit the weights; there is neither PyTorch nor a graph.
        """
        if self.more_weights:
            return Averaged(member.network() for member in self.members)
        if not has_torch():
            return graph_network(self.path / self.weights_file, self.labels.channels)
        return self.module()

    def module(self) -> "Module":
        """The network with these weights as PyTorch's, as ``network``; of an ensemble, the first."""
        from dinomix.models.network import build_network, footprint

        # Before the network is built: what the plan claims costs nothing until the weights are as large.
        if misfit := misfit_of(self.weights, footprint(self.plan, self.labels.channels).shapes):
            raise DinomixError(f"The weights in {self.path} do not fit its network ({misfit}).", COPY_AGAIN)
        network = build_network(self.plan, self.labels.channels)
        network.load_state_dict(self.weights)
        if isinstance(self.weights, WeightsFile):
            self.weights.unmap()
        remember_graph(network, self.path / self.weights_file)
        return network.eval().requires_grad_(False)

    def network_in_turns(self) -> Averaged:
        """``network()`` of an ensemble, whose networks are in memory one after the other, for as long as each computes.

        Only of PyTorch's networks: graphs are compiled, and stay.
        """
        from dinomix.models.from_file import FromFile
        from dinomix.models.network import network_on_paper

        return Averaged(
            FromFile(network_on_paper(member.plan, self.labels.channels), self.path / member.weights_file)
            for member in self.members
        )


def misfit_of(weights: "Mapping[str, Tensor]", shapes: dict[str, tuple[int, ...]]) -> str:
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
    weights = WeightsFile(path / WEIGHTS)
    labels, plan = LabelSet.read(path / "labels.json"), Plan.read(path / "plan.json")
    spoken_of = (*plan.one_piece.channels, *(rule.channel for rule in plan.clean_up))
    if max(spoken_of, default=0) >= labels.channels:
        raise DinomixError(
            f"{path / 'plan.json'} speaks of structure number {max(spoken_of)}; labels.json has {labels.channels - 1}.",
            COPY_AGAIN,
        )
    if (plan.second is None) != (SECOND_WEIGHTS not in hashes):
        raise DinomixError(f"The plan in {path} and its weights have not as many stages.", COPY_AGAIN)
    second = WeightsFile(path / SECOND_WEIGHTS) if plan.second is not None else None
    more = [name for name in MORE_WEIGHTS if name in hashes]
    if len(more) != len(plan.more_networks):
        raise DinomixError(
            f"The plan in {path} has {len(plan.networks)} networks, and there are weights of {1 + len(more)}.",
            COPY_AGAIN,
        )
    return Model(
        path, labels, plan, weights, read_record(path), second, tuple(WeightsFile(path / name) for name in more)
    )
