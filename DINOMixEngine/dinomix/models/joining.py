"""Two label sets as one, and a model under the ids and names of such a set."""

from itertools import count

from dinomix.errors import DinomixError
from dinomix.events import silent
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.matching import matched_channels, matched_weights
from dinomix.names import normalized_name
from dinomix.planning.plan import OnePiece, Plan, SecondStage

ALIKE = "Rename one of them with `dinomix check --rename`, so that it is clear which structure is meant."


def joined_labels(kept: LabelSet, others: LabelSet) -> tuple[LabelSet, dict[int, int]]:
    """All of ``kept`` as it is, and what it lacks of ``others``: a new structure keeps its id too, where that is free.

    Structures are the same by name, or by terminology, as ``matched_channels`` has it; they then go by the name in ``kept``.
    Regions come along, but for those of ``others`` whose names are taken.

    Returns:
        The label set, and for each id of ``others`` the id in it.

    Raises:
        DinomixError: two names of one set differ only in case, separators or the order of words, so that neither can be told.
    """
    for labels in (kept, others):
        _refuse_alike(labels)
    ids = {others.ids[own - 1]: kept.ids[known - 1] for own, known in matched_channels(others, kept).items()}
    new = [structure for structure in others.structures if structure.id not in ids]
    taken = {*kept.ids, *(structure.id for structure in new)}
    free = (number for number in count(1) if number not in taken)
    for structure in new:
        ids[structure.id] = structure.id if structure.id not in kept.ids else next(free)
    renumbered = (structure.model_copy(update={"id": ids[structure.id]}) for structure in new)
    joined = LabelSet(structures=(*kept.structures, *renumbered), regions=kept.regions)
    taken_names = {normalized_name(name) for name in (*joined.names, *(region.name for region in kept.regions))}
    regions = {
        region.name: region.structures for region in others.regions if normalized_name(region.name) not in taken_names
    }
    return joined.with_regions({name: [ids[id] for id in of_region] for name, of_region in regions.items()}), ids


def _refuse_alike(labels: LabelSet) -> None:
    seen: dict[str, str] = {}
    for name in labels.names:
        other = seen.setdefault(normalized_name(name), name)
        if other != name:
            raise DinomixError(
                f'"{other}" and "{name}" differ only in case, separators or the order of their words.',
                ALIKE,
                "structures",
            )


def model_under(labels: LabelSet, model: Model) -> Model:
    """The same model with its structures under the ids and names of a label set that has exactly them.

    It segments as before; only the output channels of its networks are in another order. Its folder is still that of ``model``.
    """
    pairs = {known: own for own, known in matched_channels(labels, model.labels).items()}
    assert len(pairs) == len(model.labels.ids) == len(labels.ids)
    names = {name: labels.names[pairs[channel] - 1] for channel, name in enumerate(model.labels.names, 1)}
    second = model.plan.second
    plan = _renumbered(model.plan, pairs).model_copy(
        update={"second": _renamed(second, names, pairs) if second is not None else None}
    )
    weights, *more_weights = (
        matched_weights(member, labels, plan_of_it, 0, silent)
        for member, plan_of_it in zip(model.members, plan.members, strict=True)
    )
    of_second = model.second
    second_weights = None
    if of_second is not None and plan.second is not None:
        second_weights = matched_weights(of_second, labels, plan.second.plan, 0, silent)
    return Model(model.path, labels, plan, weights, model.record, second_weights, tuple(more_weights))


def _renumbered(plan: Plan, pairs: dict[int, int]) -> Plan:
    channels = tuple(sorted(pairs[channel] for channel in plan.one_piece.channels))
    rules = tuple(rule.model_copy(update={"channel": pairs[rule.channel]}) for rule in plan.clean_up)
    one_piece = OnePiece(channels=channels, together=plan.one_piece.together)
    return plan.model_copy(update={"one_piece": one_piece, "clean_up": rules})


def _renamed(second: SecondStage, names: dict[str, str], pairs: dict[int, int]) -> SecondStage:
    places = {
        names.get(name, name): place.model_copy(update={"landmark": names.get(place.landmark, place.landmark)})
        for name, place in second.places.items()
    }
    structures = tuple(names.get(name, name) for name in second.structures)
    return second.model_copy(
        update={"plan": _renumbered(second.plan, pairs), "structures": structures, "places": places}
    )
