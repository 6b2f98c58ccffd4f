"""What a run will take of the disk, reckoned before anything is written: its cache and its files of weights."""

import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from torch import nn

from dinomix.cohort.cohort import Case, Cohort
from dinomix.events import Emit
from dinomix.images.volume import Geometry
from dinomix.planning.cache import LOCATIONS, cached_case, is_cached
from dinomix.planning.plan import Plan
from dinomix.planning.preprocessing import grid_size
from dinomix.training import fkd
from dinomix.training.config import TrainConfig
from dinomix.training.control import RunPaused
from dinomix.training.foundation import FoundationModel
from dinomix.training.methods import method_class

_HEADER = 128
"""Of an array's file."""
_MEMBER = _HEADER + 260
"""Of a structure's member in the file of locations, with its entries in the archive's directory."""
_AXES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "S": (2, 1), "I": (2, -1)}
"""Codes of directions: axis of LPS and sign."""


@dataclass(frozen=True)
class Needed:
    """Bytes that a run will add to its cache."""

    cases: int
    features: int


def needed(
    cohort: Cohort, config: TrainConfig, plan: Plan, cache: Path | None, foundation: FoundationModel | None
) -> Needed:
    """What is missing in ``cache`` (None: all) of the cases that a run reads, and of the teacher's cached features."""
    missing = [
        case for case in cohort.only(*config.roles).cases if cache is None or not is_cached(case, cohort, plan, cache)
    ]
    cases = sum(bytes_of_case(case, cohort, plan) for case in missing)
    if foundation is None or config.fkd.mode != "cached":
        return Needed(cases, 0)
    key = fkd.features_key(foundation, config.fkd)
    without = [
        case for case in cases_with_features(cohort, config)
        if cache is None or not cached_case(case, cohort, plan, cache).has_features(key)
    ]  # fmt: skip
    return Needed(cases, sum(bytes_of_features(case, plan, foundation, config.fkd.slice_stride) for case in without))


def tell_needed(needed: Needed, cache: Path, weights: int, emit: Emit) -> None:
    """Announce what the cache will take, before it is filled.

    Args:
        weights: bytes of the run's files of weights, for which there must be room too where they lie on the same disk.

    Raises:
        RunPaused: the disk has less.
    """
    total = needed.cases + needed.features
    if not total:
        return
    free = shutil.disk_usage(next(path for path in (cache, *cache.absolute().parents) if path.exists())).free
    emit("disk", cases=needed.cases, features=needed.features, free=free, path=str(cache))
    if total + weights > free:
        raise RunPaused(
            f"The run will take {(total + weights) / 1e9:.1f} GB of disk, and {cache} has {free / 1e9:.1f} GB left.",
            "Free some space and resume the run; or begin one with --cache on another disk, or with --fkd on-the-fly.",
            code="disk",
        )


def bytes_of_weights(network: nn.Module, config: TrainConfig) -> int:
    """Bytes of a run's files of weights, about: two checkpoints, the best weights and the model."""
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    # A checkpoint holds students, teacher and the optimizer's momenta.
    moments = 1 if config.optimizer == "sgd" else 2
    return weights * (2 * (method_class(config.method).students * (1 + moments) + 1) + 2)


def cases_with_features(cohort: Cohort, config: TrainConfig) -> list[Case]:
    """The cases that a run draws patches from."""
    return [case for case in cohort.only(*config.roles).cases if case.role != "validation"]


def bytes_of_case(case: Case, cohort: Cohort, plan: Plan) -> int:
    """Bytes of a case's entry: image and label to the byte, the voxels that are kept of each structure about."""
    voxels = prod(cached_size(case, plan))
    image = _HEADER + 2 * voxels * len(case.images)
    if case.role == "unlabeled":
        return image
    numbers = cohort.labels.channels + (0 if case.is_whole else 2)
    label = _HEADER + voxels * (1 if numbers <= 256 else 2)
    share = voxels / prod(case.size)
    points = (min(LOCATIONS, max(round(count * share), 1)) for count in case.voxels.values() if count)
    return image + label + sum(_MEMBER + 6 * count for count in points)


def bytes_of_features(case: Case, plan: Plan, foundation: FoundationModel, stride: int) -> int:
    """Bytes of the teacher's features of a case."""
    x, y, z = cached_size(case, plan)
    return _HEADER + 2 * len(fkd.slice_numbers(z, stride)) * prod(foundation.tokens_of(x, y)) * foundation.width


def cached_size(case: Case, plan: Plan) -> tuple[int, int, int]:
    """Voxels along (x, y, z) of a case on the plan's grid."""
    direction = np.zeros((3, 3))
    for column, code in enumerate(case.orientation):
        axis, sign = _AXES[code]
        direction[axis, column] = sign
    return grid_size(Geometry(case.size, case.spacing, (0.0, 0.0, 0.0), direction), plan)
