"""Two label sets as one."""

from itertools import count

from dinomix.errors import DinomixError
from dinomix.labels import LabelSet, Structure
from dinomix.models.matching import matched_channels
from dinomix.names import normalized_name
from dinomix.terminology import color_for

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
    renumbered = (_with_id(structure, ids[structure.id]) for structure in new)
    joined = LabelSet(structures=(*kept.structures, *renumbered), regions=kept.regions)
    taken_names = {normalized_name(name) for name in (*joined.names, *(region.name for region in kept.regions))}
    regions = {
        region.name: region.structures for region in others.regions if normalized_name(region.name) not in taken_names
    }
    return joined.with_regions({name: [ids[id] for id in of_region] for name, of_region in regions.items()}), ids


def _with_id(structure: Structure, id: int) -> Structure:
    """Also in the color of its new number, where it had that of its old one: another structure has that now."""
    by_number = structure.color == color_for(structure.name, structure.id)
    color = color_for(structure.name, id) if by_number else structure.color
    return structure.model_copy(update={"id": id, "color": color})


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
