"""What the parts of a running training share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from accelerate import Accelerator

from dinomix.cohort.cohort import Cohort
from dinomix.events import Emit
from dinomix.planning.cache import AnyCase
from dinomix.planning.plan import Plan
from dinomix.training.batches import Batches
from dinomix.training.config import TrainConfig
from dinomix.training.control import Control
from dinomix.training.foundation import FoundationModel
from dinomix.training.methods import method_class
from dinomix.training.methods.method import Method
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import Schedule
from dinomix.training.state import State


@dataclass
class Run:
    """One process's part in a run.

    Attributes:
        foundation: FKD's teacher on the run's device; None without FKD.
        control: hears what the run is asked to do.
        method: with what it keeps from step to step.
        cases: the prepared cases by their names, once ``preparing.prepare`` has made them.
        state: how far it is; and the batches of the steps that are left, likewise.
    """

    directory: RunDirectory
    accelerator: Accelerator
    foundation: FoundationModel | None
    control: Control
    emit: Emit
    method: Method = field(init=False)
    cases: Mapping[str, AnyCase] = field(init=False)
    state: State = field(init=False)
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        self.method = method_class(self.config.method)(self.config, self.cohort)

    @property
    def config(self) -> TrainConfig:
        return self.directory.config

    @property
    def cohort(self) -> Cohort:
        return self.directory.cohort

    @property
    def schedule(self) -> Schedule:
        """How far the run is at each step."""
        return self.state.schedule

    @property
    def plan(self) -> Plan:
        return self.directory.plan
