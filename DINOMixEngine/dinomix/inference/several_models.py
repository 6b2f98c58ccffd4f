"""Several models, one result: which structure is whose, and which model wins a voxel.

Models are asked in the order in which they are given. A structure that two of them know, by its name or its terminology, is that
of the earlier one. Where an earlier model has found a structure of its own, a later one changes nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.asked_clean_up import asked_rules
from dinomix.inference.boxes import Slices
from dinomix.inference.channels import refuse_swapped
from dinomix.inference.devices import choose_device
from dinomix.inference.inside import BoxFor, at_the_border, box_around, quick_box
from dinomix.inference.options import DEFAULTS, Options
from dinomix.inference.segment import cleaned, kept_labels, named, segment_taken
from dinomix.inference.suitability import Doubt, doubts_of_image, doubts_of_result
from dinomix.inference.sureness import Sureness
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.joining import joined_labels
from dinomix.models.networks import Network
from dinomix.models.training_cases import TrainingCases
from dinomix.names import listed
from dinomix.planning.preprocessing import Preprocessed

Ids = dict[int, int]


@dataclass(frozen=True)
class Models:
    """The models of one call, the first of which goes before the others.

    Attributes:
        labels: the structures of all, with names and ids of their own; as the model has them where there is only one.
        ids: for each model, its ids of the structures that are its own in the result -> their ids there.
        inside: structures around which there is a box in which alone is computed; empty for the whole image.
        found_by: the model that finds them, which gives nothing else; None for the first, or for a quick pass of the only one.
    """

    models: tuple[Model, ...]
    labels: LabelSet
    ids: tuple[Ids, ...]
    inside: tuple[str, ...] = ()
    found_by: Model | None = None

    @classmethod
    def of(
        cls, models: "Model | Sequence[Model]", inside: Sequence[str] = (), found_by: Model | None = None
    ) -> "Models":
        """
        Raises:
            DinomixError: there is no model; one sees other images of a case than the first; or the one that is to find what
                ``inside`` names does not know it.
        """
        several = (models,) if isinstance(models, Model) else tuple(models)
        if not several:
            raise DinomixError("No model was given.", "Name one or more.")
        labels, ids = several[0].labels, [{id: id for id in several[0].labels.ids}]
        for model in (*several[1:], *((found_by,) if found_by is not None else ())):
            if model.plan.channels != several[0].plan.channels:
                raise DinomixError(
                    f"{model.path} and {several[0].path} see other images of a case "
                    f"({_images(model)}; {_images(several[0])}).",
                    "Segment with one after the other, into folders of their own.",
                    "channels",
                )
        for model in several[1:]:
            known = set(labels.ids)
            labels, of_model = joined_labels(labels, model.labels)
            ids.append({own: id for own, id in of_model.items() if id not in known})
        if found_by is not None and not inside:
            raise DinomixError(
                "It is not said what the model that finds a box is to look for.",
                "Name a structure.",
            )
        kept_labels((found_by or several[0]).labels, tuple(inside))  # refuses what it does not know
        return cls(several, labels, tuple(ids), tuple(inside), found_by)

    @cached_property
    def fingerprint(self) -> str:
        """That of the one model; of several, one that is theirs together."""
        if len(self.models) == 1:
            return self.models[0].fingerprint
        return hashlib.sha256("".join(model.fingerprint for model in self.models).encode()).hexdigest()

    @property
    def title(self) -> str:
        return " + ".join(model.title for model in self.models)

    @property
    def first(self) -> Model:
        return self.models[0]

    @property
    def channels(self) -> tuple[str, ...]:
        """The images of a case, for all models."""
        return self.first.plan.channels

    @property
    def modality(self) -> Modality:
        """Of the first image of a case."""
        return self.first.plan.modality

    @property
    def owners(self) -> dict[str, str]:
        """Structure -> title of its model; empty where there is only one."""
        if len(self.models) == 1:
            return {}
        names = dict(zip(self.labels.ids, self.labels.names, strict=True))
        return {names[id]: model.title for model, ids in zip(self.models, self.ids, strict=True) for id in ids.values()}

    @property
    def uncalibrated(self) -> list[str]:
        """The titles of the models that are not calibrated."""
        return [model.title for model in self.models if model.calibration is None]

    def is_unsure(self, structure: str, predicted_dice: float) -> bool:
        """Whether a structure with this predicted Dice should be looked at first."""
        id = self.labels.ids[self.labels.names.index(structure)]
        for model, ids in zip(self.models, self.ids, strict=True):
            for own, joined in ids.items():
                if joined == id:
                    return model.is_unsure(model.labels.names[model.labels.channel_of[own] - 1], predicted_dice)
        return False

    def refuse_swapped(self, volumes: Sequence[Volume]) -> None:
        """Raises DinomixError where the images of a case are plainly in each other's place, for any of the models."""
        for model in self.models:
            refuse_swapped(volumes, model.plan)

    def doubts_of_image(self, image: Volume, modality: str | None = None, channel: int = 0) -> list[Doubt]:
        """What speaks against the image of a channel, for any of the models; each doubt once."""
        found = [
            doubt
            for model in self.models
            for doubt in doubts_of_image(image, model.plan, TrainingCases.of_record(model.record), modality, channel)
        ]
        return list({doubt.message: doubt for doubt in found}.values())

    def doubts_of_result(self, result: Volume, kept: LabelSet) -> list[Doubt]:
        """What a result makes doubtful, for each model that has given something that was kept."""
        found: list[Doubt] = []
        for number, model in enumerate(self.models):
            own = [id for id in self.ids[number].values() if id in kept.ids]
            if own:
                found += doubts_of_result(result, kept.only(own), TrainingCases.of_record(model.record))
        return list({doubt.message: doubt for doubt in found}.values())


def segment_by_all(
    volumes: list[Volume],
    given_back: int,
    models: Models,
    options: Options = DEFAULTS,
    *,
    keep: LabelSet | None = None,
    emit: Emit = silent,
    networks: Sequence[Network | None] | None = None,
    sureness: Sureness | None = None,
) -> Volume:
    """Segment the images of a case with each model, and join what they find.

    Args:
        volumes: as ``segment_taken`` takes them, and ``given_back``.
        keep: the structures that are wanted; a model that has none of them is not asked, unless it finds the box.
        networks: of each model, where it is at hand.
        sureness: what is asked beside the labels; it is answered there.

    Returns:
        Ids of ``models.labels`` (k, j, i), on the grid of the first image.

    Raises as ``segment_volume``.
    """
    wanted = set((keep or models.labels).ids)
    of_models = networks or [None] * len(models.models)
    run = _Run(models, volumes, given_back, wanted, options, emit, of_models, sureness or Sureness())
    result = run.result()
    if run.sureness.wants_map and run.sureness.uncertainty is None:  # no model was asked
        run.sureness.uncertainty = np.zeros(result.array.shape, np.uint8)
    rules = asked_rules(options.clean_up, models.labels)
    if removed := cleaned(result.array, result.geometry, rules, options.max_memory):
        names = [structure.name for structure in models.labels.structures if structure.id in removed]
        emit("notice", message=f"As asked, pieces of {listed(names)} were removed.")
    return result


@dataclass
class _Run:
    """The models at work on one case."""

    models: Models
    volumes: list[Volume]
    given_back: int
    wanted: set[int]
    options: Options
    emit: Emit
    networks: Sequence[Network | None]
    sureness: Sureness

    def result(self) -> Volume:
        """Ids of the joined labels, (k, j, i)."""
        if len(self.models.models) == 1 and self.models.found_by is None:
            return self._by_one()
        models, geometry = self.models, self.volumes[0].geometry
        asked = [n for n in range(len(models.models)) if self.wanted & set(models.ids[n].values())]
        array = np.zeros(geometry.size[::-1], np.uint8 if max(models.labels.ids) < 256 else np.uint16)
        box = None
        if models.found_by is not None:
            found = self._asked(models.found_by, models.found_by.warm_network, None, last=False, sureness=Sureness())
            box = self._box_in(found, models.found_by)
            if box is None:
                return Volume(array, geometry)
        elif models.inside:
            asked = [0, *(n for n in asked if n)]  # the first finds the box
        for number in asked:
            last = number == asked[-1]
            sureness = self.sureness.of_another_model()
            part = self._asked(models.models[number], self.networks[number], _always(box), last, sureness)
            before = array.copy() if sureness.wants_map else array
            add_labels(array, part.array, models.ids[number])
            self._join(sureness, number, before, array)
            if models.inside and models.found_by is None and number == 0 and not last:
                box = self._box_in(part, models.first)
                if box is None:
                    break
        if box is not None:
            self._tell_cut(array, box, [n for n in asked if n or models.found_by is not None])
        return Volume(array, geometry)

    def _by_one(self) -> Volume:
        """What the only model finds, perhaps in the box that a quick pass of it finds."""
        boxes: list[Slices] = []
        geometry = self.volumes[0].geometry
        result = self._asked(self.models.first, self.networks[0], self._quick(boxes, geometry), True, self.sureness)
        if boxes:
            self._tell_cut(result.array, boxes[0], [0])
        return result

    def _join(self, sureness: Sureness, number: int, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Take over what one of the models says of what it has added."""
        self.sureness.join(sureness, before, after)
        names = dict(zip(self.models.labels.ids, self.models.labels.names, strict=True))
        own = self.models.models[number].labels
        for name, dice in sureness.predicted_dice.items():
            if (id := self.models.ids[number].get(own.ids[own.names.index(name)])) is not None:
                self.sureness.predicted_dice[names[id]] = dice

    def _asked(
        self, model: Model, network: Network | None, box_for: BoxFor | None, last: bool, sureness: Sureness
    ) -> Volume:
        """What one model finds, by its own ids; the last one takes the images away."""
        volumes = self.volumes if last else list(self.volumes)
        emit = (
            named(self.emit, f"by {model.title}") if len(self.models.models) > 1 or self.models.found_by else self.emit
        )
        given_back = self.given_back if last else 0
        return segment_taken(
            volumes, given_back, model, self.options, emit=emit, network=network, box_for=box_for, sureness=sureness
        )

    def _quick(self, boxes: list[Slices], geometry: Geometry) -> BoxFor | None:
        """Finds the box, and puts it into ``boxes``; None for the whole image."""
        if not self.models.inside:
            return None
        model = self.models.first
        channels = [model.labels.channel_of[id] for id in kept_labels(model.labels, self.models.inside).ids]
        device = choose_device(self.options.device)[0]
        find = quick_box(model, channels, geometry, device, self.options.precision, self.emit)

        def found(network: Network, image: Preprocessed) -> Slices | None:
            box = find(network, image)
            boxes.extend([box] if box is not None else [])
            return box

        return found

    def _box_in(self, found: Volume, finder: Model) -> Slices | None:
        ids = kept_labels(finder.labels, self.models.inside).ids
        box = box_around(found.array, ids, found.geometry)
        if box is None:
            missing = listed(self.models.inside)
            self.emit("notice", message=f"{finder.title} has not found {missing}, so nothing was looked for inside.")
        return box

    def _tell_cut(self, array: NDArray[Any], box: Slices, inside: list[int]) -> None:
        ids = {id for n in inside for id in self.models.ids[n].values()} & self.wanted
        if cut := at_the_border(array, box, ids):
            self.emit("notice", message=cut_at_the_box(self.models.labels, cut, self.models.inside))


def cut_at_the_box(labels: LabelSet, ids: set[int], inside: Sequence[str]) -> str:
    """What is said of structures that reach the border of the box in which they were computed."""
    names = [structure.name for structure in labels.structures if structure.id in ids]
    return f"Only a box around {listed(inside)} was computed, and {listed(names)} may be cut at its border."


def add_labels(result: NDArray[Any], array: NDArray[Any], ids: Ids) -> None:
    """Write a later model's structures (k, j, i) where no earlier one has any, in place.

    Args:
        ids: its own ids -> those in the result; others are left out.
    """
    table = np.zeros(65536, result.dtype)
    table[list(ids)] = list(ids.values())
    for slab, own in zip(result, array, strict=True):
        np.copyto(slab, table[own], where=slab == 0)


def _always(box: Slices | None) -> BoxFor:
    return lambda network, image: box


def _images(model: Model) -> str:
    return ", ".join(model.plan.channels) if any(model.plan.channels) else "one image"
