"""Mean teacher, and DINO-Mix, which is the same with PIC and FKD on.

``L = L_sup + lambda_u(t) L_u + lambda_f L_FKD``: on unlabeled patches the student follows the labels of the EMA teacher, which
sees them as they are, while the student sees them mixed by PIC and changed in intensity. ``L_u`` is also of the voxels of labeled
patches whose label leaves open what they are.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.training import pic
from dinomix.training.batches import Batch, labeled_counts
from dinomix.training.config import TrainConfig
from dinomix.training.filling import Filled, filled
from dinomix.training.losses import loss_of_heads, pseudo_label_weight
from dinomix.training.merged_channels import MergedChannels
from dinomix.training.methods.method import Losses, Method, Term
from dinomix.training.methods.parts import (
    fkd_losses,
    kept_losses,
    loss_of_labels,
    nearness_of,
    student_sees,
    tell_pseudo_labels,
)
from dinomix.training.mixing import PseudoLabeled, labeled_by, mix_unlabeled, sightings_of
from dinomix.training.recording import by_name, record_draws
from dinomix.training.reliability import (
    FOUND,
    HOPELESS,
    MEASURED_EVERY,
    MEASUREMENTS,
    MEMORY,
    UNEQUAL,
    WEIGHED_UNTIL,
    Reliability,
    judged,
)
from dinomix.training.run import Run
from dinomix.training.sightings import Sightings

OFTEN = 75
"""Patches of each labeled case that labels alone are learned from at least: with many labeled cases, each still has much to
teach after half of a short run (docs/results.md)."""


class MeanTeacher(Method):
    """Keeps how often and where each structure was found in the unlabeled pool, after which PIC draws, and how right the
    teacher is."""

    fills_in = True

    def __init__(self, config: TrainConfig, cohort: Cohort) -> None:
        super().__init__(config, cohort)
        self.sightings: Sightings = Sightings(len(cohort.labels.structures), config.pic.count_decay, config.pic.places)
        self.reliability = Reliability(cohort.labels.channels)
        self.draws: list[pic.Draw] = []
        self._waits = config.wait_until_found
        self._has_unlabeled = len(cohort.with_role("unlabeled")) > 0
        self._labeled = len(cohort.with_role("labeled"))
        self._counts = labeled_counts(cohort)

    def losses(self, run: Run, batch: Batch) -> Losses:
        config, step = self.config, run.state.step
        unlabeled: PseudoLabeled | None = None
        shown, features = batch.unlabeled, batch.unlabeled_features
        open_labels: Filled | None = None
        has_use = len(batch.unlabeled) > 0 or run.candidates is not None
        self._measure(run, batch)
        merged = MergedChannels.of(self.reliability)
        if has_use and step >= run.schedule.teaching_from:
            open_labels = self._filled(run, batch, merged)
            if len(batch.unlabeled):
                unlabeled = self._pseudo_labeled(run, batch, merged)
                shown, features = unlabeled.images, unlabeled.features
        if unlabeled is None and run.keeping is None:
            # Before pseudo-labels count, the unlabeled patches are there for what is kept alone: for FKD they would take as long
            # as the labeled ones once more, in which the labels teach faster (docs/results.md).
            shown, features = shown[:0], None
        images = student_sees(run, batch.labeled, shown)
        with run.accelerator.autocast():
            heads, projected = run.state.student(images)
        of_labeled, of_unlabeled = heads.split([len(batch.labeled), len(shown)])
        of_voxels = self._weight_of_labels(run, batch)
        losses = {"supervised": Term(loss_of_labels(run, of_labeled, batch.labels, of_voxels), 1.0)}
        learned = []
        if unlabeled is not None:
            of_merged = merged.logits(of_unlabeled, 2, apart=unlabeled.is_true[:, None])
            learned.append(loss_of_labels(run, of_merged, unlabeled.labels, unlabeled.weight))
            tell_pseudo_labels(run, unlabeled, of_merged[:, 0])
        if open_labels is not None:
            of_open = merged.logits(of_labeled, 2, apart=open_labels.weight[:, None] == 0)
            learned.append(loss_of_heads(of_open, open_labels.labels, open_labels.weight))
        if learned:
            weight = pseudo_label_weight(run.schedule.progress(step), config.lambda_max)
            losses["unsupervised"] = Term(torch.stack(learned).sum(), weight)
        labels = unlabeled.labels if unlabeled is not None else None
        kept = kept_losses(run, ([of_labeled], batch.labeled, batch.labels), ([of_unlabeled], shown, labels))
        return losses | kept | fkd_losses(run, images, projected, batch.labeled_features, features)

    def record(self, run: Run) -> None:
        record_draws(run, "unlabeled", self.draws, run.batches.groups.probabilities(run.state.step - 1))
        if self.reliability.confusion.any() and any(self._is_measured(run)):
            told = by_name(self.cohort, self.reliability.dice())
            waits = run.state.step <= run.schedule.teaching_from
            run.emit("reliability", step=run.state.step, dice=told, waits=waits)

    def saved(self) -> dict[str, Any]:
        return {"sightings": self.sightings.state(), "reliability": self.reliability.state()}

    def restore(self, saved: dict[str, Any]) -> None:
        self.sightings.restore(saved["sightings"])
        self.reliability.restore(saved["reliability"])

    def labels_alone(self, processes: int) -> int:
        return math.ceil(OFTEN * self._labeled / (self.config.batch_labeled * processes)) if self._waits else 0

    def waits(self, run: Run) -> bool:
        return self._waits and self._can_teach(run) and not self.reliability.may_teach(self._expected(run))

    def doubts(self, run: Run) -> str:
        dice, names, schedule = self.reliability.dice(), self.cohort.labels.names, run.schedule
        if not self._can_teach(run):
            return ""
        none = "At the end of this run pseudo-labels did not count."
        if self.config.uses_unlabeled and run.labels_alone >= schedule.steps == run.state.step:
            return (
                f"{none} Labels alone teach more until each labeled case was seen {OFTEN} times, that is for "
                f"{run.labels_alone} steps. Train for longer to learn from pseudo-labels, too, or add "
                "--set wait_until_found=false."
            )
        if run.state.step <= schedule.pseudo_labels_from:
            return ""
        if not schedule.waits:
            told = [f"{names[n]} ({dice[n]:.2f})" for n in np.flatnonzero(self.reliability.hopeless)]
            return self._left_open(told) if told else ""
        awaited = self.reliability.awaited(self._expected(run))
        if not awaited.any():
            return f"{none} Labels alone still taught much. Train for longer to learn from unlabeled cases."
        lowest = int(np.where(awaited, dice, 1.0).argmin())
        return (
            f"{none} The teacher's Dice on labeled patches came to {dice[lowest]:.2f} for {names[lowest]}, which needs {FOUND}. "
            f"Train for longer, or draw {names[lowest]} in more cases; where no better can be hoped for, add "
            "--set wait_until_found=false."
        )

    def _left_open(self, told: list[str]) -> str:
        return (
            f"At the end of this run pseudo-labels said nothing about {', '.join(told)}: the teacher's Dice on labeled patches, "
            f"now as in brackets, was below {HOPELESS} when labels alone taught little more. To learn from unlabeled cases "
            "there, too, train for longer, or draw it in more cases."
        )

    def wait_no_more(self) -> None:
        self._waits = False

    def _measure(self, run: Run, batch: Batch) -> None:
        """How right the teacher is, now and then while it matters."""
        remembered = round(MEMORY * run.schedule.steps)
        every = min(max(remembered // MEASUREMENTS, 1), MEASURED_EVERY)
        if run.state.step % every:
            return
        weighs, is_judged = self._is_measured(run)
        if not (weighs or is_judged):
            return
        with run.accelerator.autocast():
            counted = judged(run.state.teacher, batch.labeled, batch.labels, run.candidates)
        counted = run.accelerator.reduce(counted, "sum").cpu().numpy().astype(np.float64)
        self.reliability.update(counted)
        if is_judged:
            self.reliability.judge(self._expected(run), self._weighed(run) > 0, remembered // every)

    def _is_measured(self, run: Run) -> tuple[bool, bool]:
        """Whether weights go by how right the teacher is, and whether it is judged what it has found.

        The former from the first step on. The latter from as long before pseudo-labels could count as its Dice is looked at; and
        where there are weights from as long before half of the steps at the latest, since what is hopeless weighs no more.
        """
        if not (self._waits and self.config.uses_unlabeled):
            return False, False
        weighs, begins, ends = self._weighs(run), run.schedule.pseudo_labels_from, run.schedule.steps
        if weighs:
            begins = min(begins, round(self.config.pseudo_label_start * ends))
        is_asked = weighs or (self._can_teach(run) and begins < ends)
        return weighs, is_asked and run.state.step >= begins - round(MEMORY * ends)

    def _can_teach(self, run: Run) -> bool:
        """Whether there is anything that pseudo-labels could teach."""
        return self._has_unlabeled or run.candidates is not None

    def _weighs(self, run: Run) -> bool:
        """Whether structures are of so unequal size that rare ones may be overlooked for long, and there is time to see them."""
        if self.config.unseen_weight == 1 or run.schedule.progress(run.state.step) >= WEIGHED_UNTIL:
            return False
        counts = self._weighed(run)
        counts = counts[counts > 0]
        return len(counts) > 0 and bool(counts.max() >= UNEQUAL * counts.min())

    def _weighed(self, run: Run) -> NDArray[np.float64]:
        """(C,) voxels of what is expected; 0 for the rest, and for what is kept of a start model, which labels do not teach."""
        counts = np.where(self._expected(run), self._counts, 0)
        if run.keeping is not None:
            counts[[channel - 1 for channel in run.keeping.kept.tolist() if channel]] = 0
        return counts

    def _weight_of_labels(self, run: Run, batch: Batch) -> Tensor | None:
        """(B, x, y, z) of the voxels of the labeled patches; None where all count alike."""
        if not self._waits or not self._weighs(run):
            return None
        weights = self.reliability.weights(self._weighed(run), self.config.unseen_weight)
        if (weights == 1).all():
            return None
        # What a label leaves open counts as the background does.
        table = torch.ones(len(weights) if run.candidates is None else len(run.candidates))
        table[: len(weights)] = torch.from_numpy(weights)
        return table.to(batch.labels.device)[batch.labels]

    def _expected(self, run: Run) -> NDArray[np.bool_]:
        """(C,) what the teacher can find: the labeled cases have it, and no second stage refines it, being too thin here."""
        refined = run.plan.second.structures if run.plan.second is not None else ()
        return (self._counts > 0) & [name not in refined for name in self.cohort.labels.names]

    def _filled(self, run: Run, batch: Batch, merged: MergedChannels) -> Filled | None:
        """The labeled patches with the EMA teacher's labels where theirs leave something open; None where no case does.

        Of a batch in which nothing is open too, so that all processes have the same terms.
        """
        if run.candidates is None:
            return None
        is_known = batch.labels < self.cohort.labels.channels
        if bool(is_known.all()):
            return Filled(batch.labels, torch.zeros_like(batch.labels, dtype=torch.float32))
        with torch.no_grad(), run.accelerator.autocast():
            logits = run.state.teacher(batch.labeled)
        possible = merged.logits(logits, apart=is_known)
        said = filled(possible, batch.labels, run.candidates, self.config.confidence, run.one_piece)
        return replace(said, weight=said.weight * ~merged.may_be(batch.labels, run.candidates)) if merged.into else said

    def _pseudo_labeled(self, run: Run, batch: Batch, merged: MergedChannels) -> PseudoLabeled:
        """The unlabeled patches with the EMA teacher's labels, mixed by PIC, in which what is not found is merged."""
        config, accelerator = self.config, run.accelerator
        with torch.no_grad(), accelerator.autocast():
            logits = run.state.teacher(batch.unlabeled)
            said = labeled_by(merged.logits(logits), batch, config.confidence, run.one_piece, nearness_of(run, batch))
        weight = said.weight * ~merged.calls(logits) if merged.into else said.weight
        return self._mixed(run, batch, replace(said, weight=weight, counts=accelerator.reduce(said.counts, "sum")))

    def _mixed(self, run: Run, batch: Batch, unlabeled: PseudoLabeled) -> PseudoLabeled:
        """Unlabeled patches into which PIC has pasted its boxes."""
        config, step, accelerator = self.config, run.state.step, run.accelerator
        if not config.pic.enabled:
            return unlabeled
        first = accelerator.process_index * config.batch_unlabeled
        sizes = [run.batches.unlabeled_cases[case].size for case in batch.cases]
        seen = sightings_of(unlabeled, batch, sizes, config, step, first) if config.pic.places else []
        seen = gather_object(seen) if accelerator.num_processes > 1 else seen
        mixed, draws = mix_unlabeled(unlabeled, batch, run.batches.groups.probabilities(step), config, step, first)
        counts = unlabeled.counts.cpu().numpy().astype(np.float64)
        if not config.pic.across:
            # No unlabeled patch shows what is merged, so that a box around it would be a random one.
            counts = np.where(self.reliability.hopeless, counts.max(), counts)
        self.sightings.add(step, counts, seen)
        self.draws += draws
        return mixed
