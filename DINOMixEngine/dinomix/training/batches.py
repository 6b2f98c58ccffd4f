"""Batches: labeled patches, already mixed by PIC, and unlabeled patches, for each step of a run."""

import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinomix.cohort.cohort import Cohort
from dinomix.images.volume import thick_axis
from dinomix.planning.cache import AnyCase
from dinomix.planning.plan import Plan
from dinomix.planning.size_grid import spacing_on
from dinomix.training import pic
from dinomix.training.alignment import Bodies, aligned, at_same_share
from dinomix.training.augmentation import WIDTHS
from dinomix.training.candidates import Candidates
from dinomix.training.config import TrainConfig
from dinomix.training.groups import Group, Groups
from dinomix.training.patches import Placement, cut, random_placement, sample_features
from dinomix.training.randomness import generator
from dinomix.training.schedule import Schedule
from dinomix.training.sightings import LAG, Sightings
from dinomix.training.unlabeled_slices import NOWHERE, beyond_volume

Signs = tuple[int, int, int]
"""Along (x, y, z); -1 where a patch runs the other way than its volume."""


@dataclass(frozen=True)
class FeatureSource:
    """Where cached teacher features are, and the student's grid (x, y, z) that they are sampled on."""

    key: str
    stride: int
    grid: tuple[int, int, int]


@dataclass
class Batch:
    """What one process needs for one step; patches are (B, channels, x, y, z) in [0, 1], not changed in intensity yet.

    Attributes:
        labeled: mixed by PIC.
        labels: (B, x, y, z) channel numbers or, where the label leaves it open, numbers of ``Candidates``; mixed alike.
        unlabeled: not mixed, as the teacher sees them, group after group; empty where they are not needed.
        labeled_features, unlabeled_features: (B, width, x, y, z) cached teacher features, mixed where the patch is.
        placements: of the unlabeled patches.
        groups: of the unlabeled patches that PIC mixes.
        donors, donor_labels, donor_features: (D, ...) labeled patches for the groups that a labeled case gives to, in order.
        draws: PIC's boxes among the labeled patches.
    """

    labeled: Tensor
    labels: Tensor
    unlabeled: Tensor
    labeled_features: Tensor | None = None
    unlabeled_features: Tensor | None = None
    placements: list[Placement] = field(default_factory=list)
    groups: tuple[Group, ...] = ()
    donors: Tensor | None = None
    donor_labels: Tensor | None = None
    donor_features: Tensor | None = None
    draws: list[pic.Draw] = field(default_factory=list)

    @property
    def cases(self) -> list[int]:
        """The number of each unlabeled patch's case."""
        return [case for group in self.groups for case in group.cases]

    def to(self, device: torch.device) -> "Batch":
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return Batch(**{**vars(self), **moved})


@dataclass(frozen=True)
class Wanted:
    """What a batch is made from that its step alone does not tell."""

    step: int
    groups: tuple[Group, ...]


class Batches(Dataset[Batch]):
    """The batches of steps ``first_step`` to ``schedule.steps - 1`` for one process of ``ranks``.

    Every sample is drawn by a generator of its own, numbered over all processes: two processes see together what one
    process with twice the batch sees. Volumes stay on disk; a patch reads only its own region.
    """

    def __init__(self, cohort: Cohort, cached: Mapping[str, AnyCase], plan: Plan, config: TrainConfig,
                 schedule: Schedule, *, rank: int, first_step: int, features: FeatureSource | None,
                 sightings: Sightings | None = None) -> None:  # fmt: skip
        self.plan, self.config, self.schedule = plan, config, schedule
        self.rank, self.first_step, self.features = rank, first_step, features
        self.labeled_cases = [cached[case.name] for case in cohort.with_role("labeled")]
        self.unlabeled_cases = [cached[case.name] for case in cohort.with_role("unlabeled")]
        channel_of = cohort.labels.channel_of
        self.candidates = Candidates.of_cohort(cohort)
        self.beyond = {
            case.name: beyond_volume(cached[case.name].label, cohort.labels.channels + 1, plan.patch)
            for case in cohort.with_role("labeled")
            if case.labeled_slices is not None
        }
        self.bodies = Bodies(self.labeled_cases)
        self.channels = {
            number: {channel_of[i] for i, count in case.voxels.items() if count}
            for number, case in enumerate(cohort.with_role("labeled"))
        }
        self.counts = labeled_counts(cohort)
        self.groups = Groups(len(self.unlabeled_cases), self.channels, self.counts, config, schedule, sightings)
        self.has_sides = cohort.labels.has_sides
        cases = (*cohort.with_role("labeled"), *cohort.with_role("unlabeled"))
        self.spacings = {case.name: spacing_on(plan.grid, case) for case in cases}
        self.thick = thick_axis(np.median(list(self.spacings.values()), axis=0).tolist())

    def of_schedule(self, schedule: Schedule, first_step: int) -> "Batches":
        """The batches of another schedule from its step ``first_step`` on."""
        others = copy(self)
        others.schedule, others.first_step, others.groups = schedule, first_step, copy(self.groups)
        others.groups.schedule = schedule
        return others

    def __len__(self) -> int:
        return self.schedule.steps - self.first_step

    def wanted(self, step: int) -> Wanted:
        """What the batch of ``step`` is made from; asked for where the run trains, at most ``sightings.LAG`` steps ahead."""
        return Wanted(step, self.groups.of(step, self.rank) if self._needs_unlabeled(step) else ())

    def __getitem__(self, wanted: Wanted) -> Batch:
        step, config = wanted.step, self.config
        labeled = [self._labeled(step, self.rank * config.batch_labeled + i, i) for i in range(config.batch_labeled)]
        batch = Batch(
            labeled=_stacked(labeled, "image"),
            labels=_stacked(labeled, "label"),
            unlabeled=torch.empty(0, len(self.plan.channels), *self.plan.patch),
            draws=[patch["draw"] for patch in labeled if patch["draw"] is not None],
            groups=wanted.groups,
        )
        if self.features:
            batch.labeled_features = _stacked(labeled, "features")
        if wanted.groups:
            first = self.rank * len(wanted.groups)
            cut = [self._group(step, first + i, group) for i, group in enumerate(wanted.groups)]
            unlabeled = [patch for patches, _ in cut for patch in patches]
            donors = [donor for _, donor in cut if donor is not None]
            batch.unlabeled = _stacked(unlabeled, "image")
            batch.placements = [patch["placement"] for patch in unlabeled]
            if donors:
                batch.donors, batch.donor_labels = _stacked(donors, "image"), _stacked(donors, "label")
            if self.features:
                batch.unlabeled_features = _stacked(unlabeled, "features")
                batch.donor_features = _stacked(donors, "features") if donors else None
        return batch

    def _needs_unlabeled(self, step: int) -> bool:
        """Before pseudo-labels count, what is kept of a start model alone has a use for unlabeled patches."""
        if not self.config.uses_unlabeled or not self.unlabeled_cases:
            return False
        return step >= self.schedule.teaching_from or self.config.keeps_by_patches

    def _labeled(self, step: int, number: int, receiver: int) -> dict[str, Any]:
        rng = generator(self.config.seed, "labeled", step, number)
        own = int(rng.integers(len(self.labeled_cases)))
        case = self.labeled_cases[own]
        signs = self._signs("labeled", step, number)
        pic_rng = generator(self.config.seed, "pic labeled", step, number)
        mixes = self.config.pic.enabled and self.schedule.progress(step) >= self.config.pic.start
        if mixes and len(self.labeled_cases) > 1 and pic_rng.random() < self.config.pic.probability:
            return self._pasted(own, step, receiver, pic_rng, signs)
        around = None
        if rng.random() < self.config.foreground_fraction:
            locations = case.locations()
            if locations:
                voxels = locations[int(rng.choice(list(locations)))]
                around = voxels[int(rng.integers(len(voxels)))]
        return {**self._cut(case, self._placed(case, rng, around, signs), with_label=True), "draw": None}

    def _pasted(self, own: int, step: int, receiver: int, pic_rng: np.random.Generator, signs: Signs) -> dict[str, Any]:
        """A patch of case ``own`` with a box of a donor: any other labeled case of the cohort that contains the class drawn.

        Both patches show the same part of the body alike, so that a box pasted at the same coordinates stays where it belongs,
        however small the patches are.
        """
        config = self.config.pic
        probabilities = pic.class_probabilities(
            self.counts, config.progress(self.schedule.progress(step)), config.kappa
        )
        others = {number: channels for number, channels in self.channels.items() if number != own}
        channel, number = pic.draw_donor(others, probabilities, config.tries, pic_rng)
        case, donor_case = self.labeled_cases[own], self.labeled_cases[number]
        voxels = donor_case.locations().get(channel) if channel is not None else None
        size = np.array(donor_case.size)
        around = voxels[int(pic_rng.integers(len(voxels)))] if voxels is not None else pic_rng.integers(size)
        placement = self._placed(donor_case, pic_rng, around, signs)
        donor = self._cut(donor_case, placement, with_label=True)
        there = self.bodies.same_place(number, own, channel, around)
        patch = self._cut(case, aligned(placement, around, there, case.size, self.plan.patch), with_label=True)
        channel, box = pic.draw_box(donor["label"], channel, config.box, pic_rng)
        patch["image"][(slice(None), *box)] = donor["image"][(slice(None), *box)]
        patch["label"][box] = donor["label"][box]
        if self.features:
            mask = pic.feature_mask(box, self.plan.patch, self.features.grid)
            patch["features"] = torch.lerp(patch["features"], donor["features"], mask)
        return {**patch, "draw": pic.Draw(channel, number, receiver, box)}

    def _group(self, step: int, number: int, group: Group) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """The patches of a group, which show the same part of the body alike, and the labeled patch that gives to them."""
        seed, cases = self.config.seed, [self.unlabeled_cases[case] for case in group.cases]
        signs = self._signs("unlabeled", step, number)
        rng = generator(seed, "unlabeled place", step, number)
        first, voxel, donor = cases[group.donor or 0], group.voxel, None
        if group.labeled is not None:
            first = self.labeled_cases[group.labeled]
            voxels = first.locations().get(group.channel or 0)
            voxel = tuple(voxels[int(rng.integers(len(voxels)))]) if voxels is not None else None
        size = np.array(first.size)
        around = (rng.random(3) * size).astype(np.int64) if voxel is None else np.array(voxel)
        lies_anywhere = len(cases) == 1 and group.labeled is None
        placement = self._placed(first, rng, None if lies_anywhere else around, signs)
        if group.labeled is not None:
            donor = self._cut(first, placement, with_label=True)
        patches = []
        for case in cases:
            there = at_same_share(around, size, np.array(case.size))
            own = placement if case is first else aligned(placement, around, there, case.size, self.plan.patch)
            patches.append(self._cut(case, own, with_label=False))
        return patches, donor

    def _signs(self, subset: str, step: int, number: int) -> Signs:
        """Along which axes patch ``number`` is reversed; alike in all that are mixed with each other."""
        axes = {*self.config.flips, *("x" if self.config.mirror and not self.has_sides else "")}
        rng = generator(self.config.seed, f"mirror {subset}", step, number)
        x, y, z = (-1 if axis in axes and rng.random() < 0.5 else 1 for axis in "xyz")
        return x, y, z

    def _placed(
        self, case: AnyCase, rng: np.random.Generator, around: NDArray[np.int64] | None, signs: Signs
    ) -> Placement:
        width, spacing = WIDTHS[self.config.augment], self.spacings[case.name]
        beyond = self.beyond.get(case.name, NOWHERE)
        return random_placement(case.size, self.plan.patch, rng, width, around, spacing, signs, beyond)

    def _cut(self, case: AnyCase, placement: Placement, *, with_label: bool) -> dict[str, Any]:
        image, size = case.image, case.size
        patch: dict[str, Any] = {"image": cut(image, placement, self.plan.patch, "bilinear"), "placement": placement}
        if with_label:
            label = cut(case.label, placement, self.plan.patch, "nearest")[0].long()
            numbers = self.candidates.numbers.get(case.name) if self.candidates is not None else None
            patch["label"] = label if numbers is None else numbers[label]
        if self.features:
            features = case.features(self.features.key)
            patch["features"] = sample_features(
                features,
                self.features.stride,
                size[2],
                placement,
                self.plan.patch,
                size,
                self.features.grid,
            )
        return patch


def in_order(batches: Batches) -> Iterable[Batch]:
    """The batches one after the other, prepared beside the steps: by as many processes as ``workers`` says, else by a thread.

    All are the same batches: each sample has its own seed, and what groups go by is as old for all.
    """
    steps = range(batches.first_step, batches.schedule.steps)
    wanted = (batches.wanted(step) for step in steps)
    workers = batches.config.workers
    if workers == 0:
        return _one_ahead(batches, wanted)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        prefetch_factor=LAG // 8,
        worker_init_fn=_ignore_interrupts,
    )


def _one_ahead(batches: Batches, wanted: Iterator[Wanted]) -> Iterator[Batch]:
    """A thread prepares the next batch while a step computes; it holds no lock of the run, as a forked process would."""
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(batches.__getitem__, first) for first in islice(wanted, 1)]
        while coming:
            batch = coming[0].result()
            coming = [pool.submit(batches.__getitem__, following) for following in islice(wanted, 1)]
            yield batch


def _ignore_interrupts(worker: int) -> None:
    """Workers get the terminal's Ctrl-C and a job's end too; only the process that trains decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stacked(patches: list[dict[str, Any]], name: str) -> Tensor:
    return torch.stack([patch[name] for patch in patches])


def labeled_counts(cohort: Cohort) -> NDArray[np.float64]:
    """(C,) voxels of each structure in the labeled cases, in the order of the channels 1..C.

    A structure that was not drawn in some of them counts as if these had as much of it as the others: it is not rare for that.
    """
    cases = cohort.with_role("labeled")

    def count(id: int) -> float:
        drawn = [case.voxels.get(id, 0) for case in cases if case.has_drawn(id)]
        # Without any, what there is of it.
        return sum(drawn) * len(cases) / len(drawn) if drawn else sum(case.voxels.get(id, 0) for case in cases)

    return np.array([count(id) for id in cohort.labels.ids], dtype=np.float64)
