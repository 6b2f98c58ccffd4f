"""The peer of the training benchmark: a plain loop with the procedure of SSL4MIS's 3D mean teacher, on our network and cases.

What https://github.com/HiLab-git/SSL4MIS does in ``code/train_mean_teacher_3D.py`` (read in 2026), in our words: whole volumes
from the disk, a random quarter turn and flip, a random crop; a batch of labeled and unlabeled crops through the student; the
teacher labels the unlabeled ones with noise of 0.1 added; cross-entropy and Dice of the labeled, mean squared difference of the
probabilities of the unlabeled ones; SGD; an EMA of the weights with at most 0.99. Batches are prepared by processes beside the
step. Its logging and its pictures are left out. Written anew; no line is theirs.
"""

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinomix.cohort.cohort import Cohort
from dinomix.models.network import build_network
from dinomix.planning.cache import AnyCase
from dinomix.planning.plan import Plan

LABELED, UNLABELED, WORKERS = 2, 2, 4
STEPS = 30_000


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """One batch per step: labeled crops first, then unlabeled ones, whose labels are not looked at."""

    def __init__(self, cohort: Cohort, cached: Mapping[str, AnyCase], patch: tuple[int, int, int]) -> None:
        self.pools = [[cached[case.name] for case in cohort.with_role(role)] for role in ("labeled", "unlabeled")]  # type: ignore[arg-type]
        self.patch = patch

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(step)
        crops = []
        for pool, count in zip(self.pools, (LABELED, UNLABELED), strict=True):
            for _ in range(count):
                case = pool[int(rng.integers(len(pool)))]
                image = np.array(case.image[0])
                label = np.array(case.label) if pool is self.pools[0] else np.zeros(image.shape, np.uint8)
                crops.append(self._crop(image, label, rng))
        images, labels = zip(*crops, strict=True)
        return torch.stack(images)[:, None], torch.stack(labels)

    def _crop(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        turns, axis = int(rng.integers(4)), int(rng.integers(2))
        image, label = (np.flip(np.rot90(array, turns), axis).copy() for array in (image, label))
        missing = [max(side - have, 0) for side, have in zip(self.patch, image.shape, strict=True)]
        if any(missing):
            image, label = (np.pad(array, [(0, gap) for gap in missing]) for array in (image, label))
        starts = [int(rng.integers(have - side + 1)) for side, have in zip(self.patch, image.shape, strict=True)]
        box = tuple(slice(start, start + side) for start, side in zip(starts, self.patch, strict=True))
        return torch.from_numpy(image[box].astype(np.float32)), torch.from_numpy(label[box].astype(np.int64))


class PlainMeanTeacher:
    """Student, teacher and optimizer of the plain loop."""

    def __init__(self, cohort: Cohort, cached: Mapping[str, AnyCase], plan: Plan, device: torch.device) -> None:
        self.classes, self.device = cohort.labels.channels, device
        self.crops = Crops(cohort, cached, plan.patch)
        self.student = build_network(plan, self.classes).to(device).train()
        self.teacher = build_network(plan, self.classes).to(device).train().requires_grad_(False)
        self.optimizer = torch.optim.SGD(self.student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        self.step = 0

    def steps(self) -> Iterator[tuple[float, float]]:
        """Seconds of waiting and of all, of one step after the other."""
        began = time.perf_counter()
        loader = DataLoader(self.crops, batch_size=None, num_workers=WORKERS, pin_memory=self.device.type == "cuda")
        for images, labels in loader:
            came = time.perf_counter()
            self._take(images.to(self.device), labels.to(self.device))
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            ended = time.perf_counter()
            yield came - began, ended - began
            began = time.perf_counter()

    def _take(self, images: Tensor, labels: Tensor) -> None:
        logits = self.student(images)
        probabilities = logits.softmax(1)
        with torch.no_grad():
            noise = (0.1 * torch.randn_like(images[LABELED:])).clamp(-0.2, 0.2)
            target = self.teacher(images[LABELED:] + noise).softmax(1)
        one_hot = F.one_hot(labels[:LABELED], self.classes).movedim(-1, 1).float()
        axes = (0, 2, 3, 4)
        overlap = (probabilities[:LABELED] * one_hot).sum(axes)
        sizes = (probabilities[:LABELED] ** 2).sum(axes) + one_hot.sum(axes)
        dice = 1 - ((2 * overlap + 1e-5) / (sizes + 1e-5)).mean()
        supervised = 0.5 * (F.cross_entropy(logits[:LABELED], labels[:LABELED]) + dice)
        loss = supervised + 0.1 * ((probabilities[LABELED:] - target) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            decay = min(1 - 1 / (self.step + 1), 0.99)
            for held, current in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                held.mul_(decay).add_(current, alpha=1 - decay)
        self.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.01 * (1 - self.step / STEPS) ** 0.9
        float(loss)
