"""Writing a model folder, and the graphs of its networks into it."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit, silent
from dinomix.files import folder_written_aside, write_json, write_text, written_aside
from dinomix.labels import LabelSet
from dinomix.models.bundle import inference_config, metadata
from dinomix.models.card import model_card
from dinomix.models.folder import Model, load_model
from dinomix.models.graph_writing import write_graph
from dinomix.models.manifest import (
    GRAPHS,
    MORE_WEIGHTS,
    PREVIEW,
    SECOND_WEIGHTS,
    WEIGHTS,
    graph_files,
    renew_manifest,
    write_manifest,
)
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan


def write_model(
    path: Path,
    *,
    plan: Plan,
    labels: LabelSet,
    weights: Mapping[str, torch.Tensor],
    record: dict[str, Any],
    preview: bytes | None = None,
    second_weights: Mapping[str, torch.Tensor] | None = None,
    more_weights: Sequence[Mapping[str, torch.Tensor]] = (),
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
        write_record(aside, plan, labels, record)
        if preview is not None:
            (aside / PREVIEW).write_bytes(preview)
        write_manifest(
            aside,
            channels_or_regions=len(plan.channels) > 1 or bool(labels.regions),
            ensemble_or_clean_up=bool(plan.more_networks or plan.clean_up),
            whereabouts=plan.one_piece.whereabouts is not None,
        )
        model = load_model(aside)
        model.check_networks()
        if graphs and is_installed() and not (problem := write_graphs(model)):
            renew_manifest(aside)
        elif graphs and is_installed():
            emit("notice", message=f"The model goes without a graph for OpenVINO: {problem}.")


def write_record(folder: Path, plan: Plan, labels: LabelSet, record: dict[str, Any]) -> None:
    """Write into a model folder how the model was made, and the card, which tells of it."""
    write_json(folder / "record.json", record)
    write_text(folder / "README.md", model_card(plan, labels, record))


def write_graphs(model: Model) -> str:
    """Write the graphs of all networks of a model into its folder, or of none where one cannot be: why not, in words."""
    for stage in model.stages:
        try:
            write_graph(model.path / stage.weights_file, stage.module(), stage.plan)
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
