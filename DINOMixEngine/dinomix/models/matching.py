"""Which structures and which images of two models are the same: by name, then by terminology, never by number."""

from collections import Counter
from collections.abc import Sequence

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet, Structure
from dinomix.models.folder import Model
from dinomix.names import listed, normalized_name
from dinomix.planning.plan import Plan


def matched_inputs(names: Sequence[str], known: Sequence[str]) -> dict[int, int]:
    """Numbers of images of a case -> those of ``known`` that are the same: by name, and one without a name is the first."""
    by_name = {normalized_name(name): number for number, name in enumerate(known)}
    if "" in (*names, *known):
        return {0: 0}
    return {
        number: by_name[normalized_name(name)] for number, name in enumerate(names) if normalized_name(name) in by_name
    }


def can_see(plan: Plan, cohort: Cohort) -> bool:
    """Whether a model of ``plan`` can be asked about a cohort's cases: they have all its channels, of the same kinds."""
    pairs = matched_inputs(plan.channels, cohort.channel_names)
    same = all(plan.modalities[here] == cohort.modalities[there] for here, there in pairs.items())
    return same and len(pairs) == len(plan.channels)


def images_for(model: Model, names: Sequence[str], images: Sequence[Volume]) -> list[Volume]:
    """Those of a case's images, whose names are ``names``, that a model sees, in its order.

    Raises:
        DinomixError: it sees one that is not among them.
    """
    pairs = matched_inputs(model.plan.channels, names)
    if missing := [name for number, name in enumerate(model.plan.channels) if number not in pairs]:
        raise DinomixError(
            f"{model.path} also sees {listed(missing)}, which the cases do not have ({listed(names)}).",
            "Take a model for these images.",
            "channels",
        )
    return [images[pairs[number]] for number in range(len(pairs))]


def matched_channels(labels: LabelSet, known: LabelSet) -> dict[int, int]:
    """Channels (1, 2, ...) of ``labels`` -> those of ``known`` that are the same structure.

    By name; where no name fits, by terminology, if only one structure on either side has it.
    """
    by_name = {normalized_name(name): channel for channel, name in enumerate(known.names, 1)}
    pairs = {
        channel: by_name[normalized_name(name)]
        for channel, name in enumerate(labels.names, 1)
        if normalized_name(name) in by_name
    }
    here, there = _unique_codes(labels), _unique_codes(known)
    for codes in here.keys() & there.keys():
        if here[codes] not in pairs and there[codes] not in pairs.values():
            pairs[here[codes]] = there[codes]
    return dict(sorted(pairs.items()))


def _unique_codes(labels: LabelSet) -> dict[tuple[str, ...], int]:
    """What terminology each structure has, if no other of the set has it -> its channel."""
    codes = [_codes(structure) for structure in labels.structures]
    count = Counter(codes)
    return {code: channel for channel, code in enumerate(codes, 1) if code and count[code] == 1}


def _codes(structure: Structure) -> tuple[str, ...]:
    if structure.terminology is None:
        return ()
    kind, side = structure.terminology.type, structure.terminology.modifier
    return kind.scheme, kind.value, side.value if side else ""
