"""The interface of a method: what its students are, which losses a batch gives, what it keeps and what it tells.

All else is the same for every method and lies elsewhere: the loop (``train.py``), the optimizer's step (``step.py``), the moving
average of the first student that becomes the model (``ema.py``), checkpoints and events. So two methods differ only in what
they say they differ in.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from dinomix.cohort.cohort import Cohort
from dinomix.training.batches import Batch
from dinomix.training.config import TrainConfig
from dinomix.training.fkd import StudentWithProjector
from dinomix.training.run_directory import RunDirectory
from dinomix.training.sightings import Sightings

if TYPE_CHECKING:
    from dinomix.training.run import Run


@dataclass(frozen=True)
class Term:
    """One term of the loss, a scalar with its gradient, and what it is multiplied with in the sum."""

    value: Tensor
    weight: float


Losses = dict[str, Term]
"""By the names of the ``loss`` event: "supervised", and where there are such "unsupervised", "kept" and "fkd", in this order."""


class Method:
    """How a run learns from labeled and unlabeled patches; an object lives as long as the process trains its run.

    Attributes:
        students: networks that a step trains, with which memory and disk are reckoned.
        fills_in: whether pseudo-labels also teach what the labels of labeled cases leave open.
        sightings: what its teacher has seen in the unlabeled cases, by which their patches are cut; None where it keeps none.
    """

    students: ClassVar[int] = 1
    fills_in: ClassVar[bool] = False
    sightings: Sightings | None = None

    def __init__(self, config: TrainConfig, cohort: Cohort) -> None:
        self.config, self.cohort = config, cohort

    def student(
        self, network: nn.Module, directory: RunDirectory, foundation_width: int | None
    ) -> StudentWithProjector:
        """The module that a step trains, on the CPU; ``network`` is its first student.

        Args:
            foundation_width: channels of the foundation model's tokens; None without FKD.
        """
        return StudentWithProjector(network, directory.plan, self.cohort.labels.channels, foundation_width)

    def losses(self, run: "Run", batch: Batch) -> Losses:
        """The terms of step ``run.state.step``; ``batch`` is on the run's device. One forward of ``run.state.student``."""
        raise NotImplementedError

    def labels_alone(self, processes: int) -> int:
        """Steps of ``processes`` processes that learn from labels alone at least, before pseudo-labels count."""
        return 0

    def waits(self, run: "Run") -> bool:
        """Whether pseudo-labels wait, though the schedule would let them count; asked between steps."""
        return False

    def doubts(self, run: "Run") -> str:
        """Of a run that ends: what its unlabeled cases did not teach, why, and what to do; "" where they did as they should."""
        return ""

    def wait_no_more(self) -> None:
        """Take all that a step may cost from now on, so that it can be timed."""

    def record(self, run: "Run") -> None:
        """Announce what this method has to tell beside the losses, after each step whose losses are recorded."""

    def saved(self) -> dict[str, Any]:
        """What a checkpoint keeps of this method beside the students' weights: tensors and plain Python."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what ``saved`` gave. Raises ValueError or KeyError where it does not fit the cohort."""
