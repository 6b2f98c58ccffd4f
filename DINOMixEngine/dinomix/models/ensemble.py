"""Several models that see the same as one model folder: an ensemble, whose networks' probabilities are averaged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.models import training_cases
from dinomix.models.folder import Model, load_model
from dinomix.models.manifest import PREVIEW
from dinomix.models.matching import matched_channels
from dinomix.models.model_under import model_under
from dinomix.models.training_cases import TrainingCases
from dinomix.models.writing import write_model
from dinomix.names import listed
from dinomix.planning.plan import MOST_NETWORKS, OnePiece, Plan

SAME = "Train them with the same plan (`dinomix train --plan FIRST/plan.json`), or segment with each and compare."


def join_models(folders: Sequence[Path], out: Path, emit: Emit = silent) -> None:
    """Write a model folder that holds the networks of several, of which some may be ensembles themselves.

    Structures are those of the first, matched by name or terminology; stray pieces are removed as all of them have it.

    Raises:
        DinomixError: there is only one, a folder is damaged, the models do not see the same or know the same structures, or
            one has two stages; or ``out`` is there.
    """
    if len(folders) < 2:
        raise DinomixError("One model is no ensemble.", "Name two or more.")
    if out.exists():
        raise DinomixError(f"{out} exists.", "Give another --out, or remove it first.", "exists")
    models = [load_model(folder) for folder in folders]
    first = models[0]
    for model in models:
        _check_alike(first, model)
    members = [member for model in models for member in _ordered_as(first, model).members]
    if len(members) > MOST_NETWORKS:
        raise DinomixError(f"These are {len(members)} networks.", f"Join up to {MOST_NETWORKS}.")
    plan = first.plan.model_copy(
        update={
            "network": members[0].plan.network,
            "more_networks": tuple(member.plan.network for member in members[1:]),
            # Of what each member's validation cases allow, what none loses by.
            "overlap": tuple(max(axis) for axis in zip(*(member.plan.overlap for member in members), strict=True)),
            "one_piece": _agreed([member.plan.one_piece for member in members]),
            "clean_up": tuple(
                rule for rule in members[0].plan.clean_up if all(rule in member.plan.clean_up for member in members)
            ),
        }
    )
    preview = first.path / PREVIEW
    write_model(
        out,
        plan=plan,
        labels=first.labels,
        weights=members[0].weights,
        more_weights=[member.weights for member in members[1:]],
        record=_record(models),
        preview=preview.read_bytes() if preview.is_file() else None,
        graphs=True,
        emit=emit,
    )


def _check_alike(first: Model, model: Model) -> None:
    """Raises DinomixError where two models cannot be averaged window by window."""
    if model.second is not None:
        raise DinomixError(
            f"{model.path} has two stages, of which the second sees boxes of its own.", "Join models of one stage."
        )
    if differing := [name for name, here, there in _seen(first.plan, model.plan) if here != there]:
        raise DinomixError(
            f"{model.path} and {first.path} do not see the same: they differ in {listed(differing)}.", SAME, "ensemble"
        )
    pairs = matched_channels(first.labels, model.labels)
    here = [name for channel, name in enumerate(first.labels.names, 1) if channel not in pairs]
    there = [name for channel, name in enumerate(model.labels.names, 1) if channel not in pairs.values()]
    if here or there:
        raise DinomixError(
            f"{model.path} and {first.path} do not know the same structures: only one of them has {listed(here + there)}.",
            "Join models of the same structures; others are given to `dinomix segment` as several --model.",
            "ensemble",
        )


def _ordered_as(first: Model, model: Model) -> Model:
    """A model whose channels are the structures of the first, in its order."""
    pairs = matched_channels(first.labels, model.labels)
    return model if all(here == there for here, there in pairs.items()) else model_under(first.labels, model)


def _seen(one: Plan, other: Plan) -> list[tuple[str, Any, Any]]:
    """What decides the windows that a network sees, by names for a reader."""
    return [
        ("the images of a case", (one.channels, one.modalities), (other.channels, other.modalities)),
        ("the grid", one.grid, other.grid),
        ("the intensities", one.windows, other.windows),
        ("the patch", one.patch, other.patch),
        ("how windows are averaged", one.blend, other.blend),
    ]


def _agreed(rules: Sequence[OnePiece]) -> OnePiece:
    channels = set.intersection(*(set(rule.channels) for rule in rules))
    together, first = all(rule.together for rule in rules), rules[0].whereabouts
    whereabouts = first if together and all(rule.whereabouts == first for rule in rules) else None
    return OnePiece(channels=tuple(sorted(channels)), together=together, whereabouts=whereabouts)


def _record(models: Sequence[Model]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "ensemble_of": [
            {"title": model.title, "networks": len(model.members), "fingerprint": model.fingerprint} for model in models
        ]
    }
    for key in ("license", "license_url", "author", "copyright", "data_source", "citation", "homepage"):
        values = dict.fromkeys(str(model.record[key]) for model in models if model.record.get(key))
        record |= {key: "; ".join(values)} if values else {}
    axes = [model.record.get("mirrored_axes", []) for model in models]
    if common := [axis for axis in axes[0] if all(axis in others for others in axes)]:
        record["mirrored_axes"] = common
    cases = [TrainingCases.of_record(model.record) for model in models]
    if known := [each for each in cases if each is not None]:
        record[training_cases.KEY] = TrainingCases.of_all(known).model_dump(mode="json")
    return record
