"""What a run still says of the structures that it keeps from its start model, in validation cases that nobody drew them in.

Compared is the network with the start model's own predictions. That is no Dice: there is no ground truth. A number that falls
is a sign that a structure is being forgotten, or corrected; it never counts when the best weights are chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from dinomix.evaluation.matched_model import Dice, means
from dinomix.evaluation.metrics import dice
from dinomix.models.matching import matched_channels
from dinomix.planning.array_files import mapped
from dinomix.training.kept_structures import kept_names
from dinomix.training.run_directory import RunDirectory
from dinomix.training.snapshot import shown_first
from dinomix.training.start_model import StartModel


@dataclass
class Forgetting:
    """
    Attributes:
        names: of the kept structures, by their channel in the run's network.
        predicted: for each validation case, the smallest first, the start model's labels on the run's grid: its channel numbers.
        known: channel in the run's network -> channel of the start model, of the kept structures.
    """

    names: dict[int, str]
    predicted: Sequence[Path]
    known: dict[int, int]
    _compared: list[tuple[int, Dice]] = field(default_factory=list)

    @classmethod
    def of(cls, directory: RunDirectory, start: StartModel) -> "Forgetting":
        """That of a run whose labels hold the start model's predictions."""
        cohort, kept = directory.cohort, set(kept_names(directory.cohort))
        matched = matched_channels(cohort.labels, start.model.labels)
        names = {channel: cohort.labels.names[channel - 1] for channel in matched}
        known = {channel: there for channel, there in matched.items() if names[channel] in kept}
        predicted = [start.on_grid(case, directory.plan) for case in shown_first(cohort.with_role("validation"))]
        return cls({channel: names[channel] for channel in known}, predicted, known)

    def compare(self, number: int, labels: NDArray[np.integer]) -> None:
        """Take the labels (x, y, z), channel numbers, of the validation case ``number``."""
        by_start = mapped(self.predicted[number])
        values: Dice = {}
        for channel, name in self.names.items():
            there = np.asarray(by_start == self.known[channel])
            values[name] = dice(labels == channel, there) if there.any() else None
        self._compared.append((number, values))

    def agreement(self, accelerator: Accelerator) -> Dice:
        """Of each structure, the mean over the cases of all processes since it was last asked; None where the start sees none."""
        gathered = gather_object(self._compared) if accelerator.num_processes > 1 else self._compared
        cases = [values for _, values in sorted(gathered, key=lambda pair: pair[0])]
        self._compared = []
        return means(tuple(self.names.values()), cases)
