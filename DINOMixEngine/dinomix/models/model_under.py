"""A model under the ids and names of another label set, such as one that ``joining`` has made."""

from dinomix.events import silent
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.matched_weights import matched_weights
from dinomix.models.matching import matched_channels
from dinomix.planning.plan import Plan, SecondStage


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
    one_piece = plan.one_piece.model_copy(update={"channels": channels})
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
