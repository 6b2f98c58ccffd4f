"""What the parts of a running training share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import monotonic

import torch
from accelerate import Accelerator
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.events import Emit
from dinomix.planning.cache import AnyCase, structures_in
from dinomix.planning.connected_components import measured
from dinomix.planning.plan import OnePiece, Plan, SpacingGrid
from dinomix.planning.whereabouts import measured_whereabouts
from dinomix.training.batches import Batches
from dinomix.training.budget import Budget
from dinomix.training.candidates import Candidates, not_drawn
from dinomix.training.cleaning import is_decided
from dinomix.training.config import TrainConfig
from dinomix.training.control import Control
from dinomix.training.forgetting import Forgetting
from dinomix.training.foundation import FoundationModel
from dinomix.training.keeping import Keeping, keeping_of
from dinomix.training.methods import method_class
from dinomix.training.methods.method import Method
from dinomix.training.overlapping_windows import is_open
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import Schedule
from dinomix.training.state import State
from dinomix.training.unlabeled_slices import without_gaps

MOST_MEASURED = 50
"""Labeled cases in which the pieces of the structures are looked at; more tell no more."""


def one_piece_of(config: TrainConfig, cohort: Cohort, plan: Plan, cases: Mapping[str, AnyCase]) -> OnePiece:
    """Which structures are one piece in the labeled cases, and where it lies; none where ``config`` does not want to know.

    Args:
        cases: the prepared cases by their names.
    """
    if not config.one_piece:
        return OnePiece()
    labeled = [case for case in cohort.with_role("labeled") if not case.ignored]
    chosen = labeled[:: max(len(labeled) // MOST_MEASURED, 1)]
    channels = cohort.labels.channels
    drawn = [cases[case.name].label for case in chosen]
    shown = (structures_in(without_gaps(label, channels + 1), channels) for label in drawn)
    found = measured(shown, channels, [not_drawn(case, cohort.labels) for case in chosen])
    if not found.together or not isinstance(plan.grid, SpacingGrid):
        return found
    whereabouts = measured_whereabouts((structures_in(label, channels) for label in drawn), plan.grid.spacing)
    return found.model_copy(update={"whereabouts": whereabouts})


def asks_at_end(config: TrainConfig, plan: Plan, cohort: Cohort, start_model: Path | None) -> int:
    """How often a run's model is asked about all validation cases at the end, each time about as long as a validation.

    Args:
        start_model: with which it is compared; the file of an encoder is none.
    """
    compares = start_model is not None and start_model.is_dir() and bool(cohort.with_role("validation"))
    # 8 bits in float32, and up to three times with them.
    bits = config.eight_bits and is_decided(cohort)
    # Overlaps are tried with windows as they are, and with fewer that cost about as much together.
    overlaps = config.cheapest_overlap and is_open(plan, cohort)
    return 1 + compares + (config.clean_up and is_decided(cohort)) + 2 * overlaps + 3 * bits


@dataclass
class Run:
    """One process's part in a run.

    Attributes:
        foundation: FKD's teacher on the run's device; None without FKD.
        began: when this process began to work on the run, by ``time.monotonic``.
        control: hears what the run is asked to do.
        forgetting: watches the structures that the run keeps from its start model; None where there are none.
        method: with what it keeps from step to step.
        cases: the prepared cases by their names, once ``preparing.prepare`` has made them.
        budget: the time of a run whose configuration gives one; its clock began at ``began``.
        state: how far it is; and the batches of the steps that are left, likewise.
    """

    directory: RunDirectory
    accelerator: Accelerator
    foundation: FoundationModel | None
    control: Control
    emit: Emit
    began: float = field(default_factory=monotonic)
    forgetting: Forgetting | None = None
    method: Method = field(init=False)
    cases: Mapping[str, AnyCase] = field(init=False)
    state: State = field(init=False)
    batches: Batches = field(init=False)
    budget: Budget | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.method = method_class(self.config.method)(self.config, self.cohort)
        if self.config.time is not None:
            asks = asks_at_end(self.config, self.plan, self.cohort, self.directory.start_model)
            self.budget = Budget(
                self.config, self.config.time, self.began, asks_at_end=asks, labels_alone=self.labels_alone
            )

    @property
    def config(self) -> TrainConfig:
        return self.directory.config

    @cached_property
    def cohort(self) -> Cohort:
        """The cases that the run reads."""
        return self.directory.read_cohort

    @property
    def schedule(self) -> Schedule:
        """How far the run is at each step."""
        return self.state.schedule

    @property
    def labels_alone(self) -> int:
        """Steps that learn from labels alone at least, before pseudo-labels count."""
        return self.method.labels_alone(self.accelerator.num_processes)

    @cached_property
    def one_piece(self) -> OnePiece:
        """Which structures are one piece in the labeled cases."""
        return one_piece_of(self.config, self.cohort, self.plan, self.cases)

    @cached_property
    def candidates(self) -> Tensor | None:
        """The table of ``Candidates`` on the run's device; None where all labels are whole."""
        found = Candidates.of_cohort(self.cohort)
        return found.table.to(self.accelerator.device) if found is not None else None

    @cached_property
    def keeping(self) -> Keeping | None:
        """What teaches the structures that are kept from the start model; None where labels do."""
        return keeping_of(self)

    @property
    def table_of_labels(self) -> Tensor:
        """(N, C) bool: what a label may be, that of ``candidates``, or each channel itself."""
        if self.candidates is not None:
            return self.candidates
        return torch.eye(self.cohort.labels.channels, dtype=torch.bool, device=self.accelerator.device)

    @property
    def plan(self) -> Plan:
        return self.directory.plan
