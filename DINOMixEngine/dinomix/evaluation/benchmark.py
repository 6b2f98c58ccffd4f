"""A whole published protocol on the user's copy of its data: check, train once per seed, segment, evaluate, compare.

Everything lies below one folder, and what is there already is taken up again, so that the same command continues:

    cohort.json  plan.json  benchmark.json  benchmark.txt  cache/
    seed-0/run/                       the run directory
    seed-0/predictions/resized/       on the protocol's grid, for dhc-compat
    seed-0/predictions/native/        on each image's own grid, for strict
    seed-0/metrics-dhc-compat.json    seed-0/metrics-strict.json    and their CSVs
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import nn

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.dhc_compat import SIZE
from dinomix.evaluation.evaluate import Protocol, evaluate_pairs
from dinomix.evaluation.layout import DATASETS, find_files, make_cohort
from dinomix.evaluation.splits import DatasetName, Split
from dinomix.events import Emit, Progress, silent
from dinomix.images.reading import read_geometry, read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_labels
from dinomix.inference.devices import choose_device
from dinomix.inference.native_grid import labels_on_native_grid
from dinomix.inference.sliding_window import predict_logits
from dinomix.models.folder import Model, load_model
from dinomix.planning.networks import basic_unet, relatives_vnet
from dinomix.planning.plan import Plan, SizeGrid
from dinomix.planning.planning import override_plan
from dinomix.planning.preprocessing import Preprocessed, preprocess
from dinomix.training.config import TrainConfig
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import resume, train

PROTOCOLS: tuple[Protocol, ...] = ("dhc-compat", "strict")
PROTOCOL_FIELDS = ("grid", "window", "patch", "overlap", "blend")
PUBLISHED_STEPS: dict[DatasetName, int] = {"synapse": 12_000, "amos": 154_500}
"""1500 epochs over the unlabeled cases in batches of 2, as SKCDF trains."""
PUBLISHED_SETTINGS: dict[str, Any] = {
    "augment": "off", "flips": ("x", "y"), "foreground_fraction": 0.0, "wait_until_found": False, "one_piece": False,
    "clean_up": False, "cheapest_overlap": False,
}  # fmt: skip
"""Patches as the code of DHC and SKCDF has them: cropped anywhere, and flipped along i and j; pseudo-labels as they come."""


@dataclass(frozen=True)
class Prepared:
    """A benchmark's folder with its cohort and plan in place.

    Attributes:
        deviations: fields of the plan that differ from the published protocol; numbers are then not comparable.
    """

    out: Path
    cohort: Cohort
    plan: Plan
    deviations: tuple[str, ...]


def protocol_plan(overrides: dict[str, Any] | None = None, *, as_published: bool = False) -> Plan:
    """The released code's preprocessing, patch and sliding window (stride 32/32/16 is an overlap of 3/4) as a plan.

    Args:
        as_published: with the released code's network too.
    """
    data: dict[str, Any] = {
        "modality": "CT",
        "grid": {"kind": "size", "size": SIZE},
        "window": {"kind": "range", "low": -75.0, "high": 275.0},
        "patch": (128, 128, 64),
        "overlap": (0.75, 0.75, 0.75),
        "blend": "constant",
        "network": relatives_vnet(32) if as_published else basic_unet(32),
        "reasons": dict.fromkeys(("grid", "window", "patch", "overlap", "blend"), "protocol dhc-compat"),
    }
    return override_plan(data, overrides or {})


def prepare(
    dataset: DatasetName, folder: Path, split: Split, out: Path, overrides: dict[str, Any] | None = None,
    emit: Emit = silent, *, as_published: bool = False,
) -> Prepared:  # fmt: skip
    """Check the user's data against the split, and write ``cohort.json`` and ``plan.json`` into ``out``.

    Raises:
        DinomixError: the data are incomplete or unreadable, or ``out`` holds another benchmark.
    """
    description = DATASETS[dataset]
    found = find_files(description, folder, split)
    plan = protocol_plan(overrides, as_published=as_published)
    cohort_path = out / "cohort.json"
    if cohort_path.exists():
        cohort = Cohort.read(cohort_path)
        expected = {description.case_name(case): (role, found.images[case]) for case, role in split.roles.items()}
        if {case.name: (case.role, case.image) for case in cohort.cases} != expected:
            raise DinomixError(f"{out} holds a benchmark of other cases.", "Choose another folder with --out.")
    else:
        cohort = make_cohort(description, found, split, emit)
        cohort.write(cohort_path)
    plan.write(out / "plan.json")
    published = protocol_plan()
    deviations = tuple(name for name in PROTOCOL_FIELDS if getattr(plan, name) != getattr(published, name))
    return Prepared(out, cohort, plan, deviations)


def run_benchmark(
    prepared: Prepared, seeds: Sequence[int], config_for: Callable[[int], TrainConfig], *, device: str = "auto",
    emit: Emit = silent,
) -> dict[int, dict[Protocol, dict[str, Any]]]:  # fmt: skip
    """Train, segment and evaluate once per seed; what an earlier call finished is not done again.

    Args:
        config_for: the training configuration of a seed.
        device: for segmenting; training takes the configuration's.

    Returns:
        Seed -> protocol -> what ``metrics.json`` holds.

    Raises:
        DinomixError: as ``train``; or the folder holds a run of a seed with other settings.
    """
    if PartialState().num_processes > 1:
        raise DinomixError(
            "A benchmark runs in one process.",
            f"Train on several with `accelerate launch -m dinomix train --cohort {prepared.out / 'cohort.json'} "
            f"--plan {prepared.out / 'plan.json'}` into {prepared.out / 'seed-N' / 'run'}, then repeat this command.",
        )
    results = {}
    for seed in seeds:
        folder = prepared.out / f"seed-{seed}"
        model_path = trained_model(prepared, folder / "run", config_for(seed), emit)
        segment_test_set(prepared, load_model(model_path), folder / "predictions", device, emit)
        results[seed] = evaluate_test_set(prepared, folder, emit)
    return results


def trained_model(prepared: Prepared, run: Path, config: TrainConfig, emit: Emit = silent) -> Path:
    """The model folder of a seed's run: trained, resumed or found finished."""
    if not (run / "config.json").exists():
        return train(prepared.cohort, run, config, prepared.plan, cache=prepared.out / "cache", emit=emit)
    earlier = RunDirectory.open(run)
    same_settings = earlier.config.model_copy(update={"device": config.device}) == config
    if not same_settings or earlier.plan != prepared.plan:
        raise DinomixError(
            f"{run} holds a run with other settings.", "Repeat the command with its settings, or choose another --out."
        )
    if (earlier.model / "manifest.json").exists():
        return earlier.model
    return resume(run, emit=emit)


def segment_test_set(prepared: Prepared, model: Model, folder: Path, device: str, emit: Emit = silent) -> None:
    """Write each test case's labels on the protocol's grid and on its own; cases that are there already are left out."""
    chosen, _ = choose_device(device)
    # The released code averages softmax over the windows, not logits.
    network = nn.Sequential(model.module(), nn.Softmax(dim=1)).eval()
    cases = prepared.cohort.with_role("test")
    progress = Progress(emit, "segment the test set", len(cases))
    for done, case in enumerate(cases, start=1):
        resized_path, native_path = (folder / kind / f"{case.name}.nii.gz" for kind in ("resized", "native"))
        if not (resized_path.exists() and native_path.exists()):
            resized, native = segment_case(read_image(case.image), model, network, chosen)
            write_labels(resized.array, resized.geometry, model.labels, resized_path)  # type: ignore[arg-type]
            # On the label's grid: where its header differs a little from the image's, voxels are what counts.
            assert case.label is not None
            write_labels(native.array, read_geometry(case.label), model.labels, native_path)  # type: ignore[arg-type]
        progress(done)


def segment_case(image: Volume, model: Model, network: nn.Module, device: torch.device) -> tuple[Volume, Volume]:
    """Labels (k, j, i) on the protocol's grid, in voxels without position, and on the image's own grid.

    Args:
        network: gives probabilities.
    """
    preprocessed = preprocess(image, model.plan)
    probabilities = predict_logits(network, preprocessed.tensor, model.plan, device)
    ids = np.array([0, *model.labels.ids], dtype=np.uint16)
    winners = ids[probabilities.argmax(0).numpy()].transpose(2, 1, 0)
    size = winners.shape[::-1]
    grid = Geometry((size[0], size[1], size[2]), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    native = labels_on_native_grid(probabilities, where_labels_were_taken(preprocessed), model.labels.ids)
    return Volume(winners, grid), Volume(np.ascontiguousarray(native.transpose(2, 1, 0)), image.geometry)


def where_labels_were_taken(preprocessed: Preprocessed) -> Preprocessed:
    """The way back to the native grid for a network that learned labels of the protocol's grid.

    Voxel g of the n along an axis got its label from native voxel floor(g * old / n). With n / old = p / q in lowest
    terms that is on average (p - 1) / (2 p) below g * old / n, so native voxel v lies at (v + (p - 1) / (2 p)) * n / old
    on that grid. The image, in contrast, was resized about the voxels' centers; without this correction every structure
    would come back up to half a resized voxel off.
    """
    shift = []
    for old, scale in zip(preprocessed.native_size, preprocessed.scale, strict=True):
        new = round(old * scale)
        p = new // gcd(new, old)
        shift.append(scale * (p - 1) / (2 * p))
    return replace(preprocessed, shift=(shift[0], shift[1], shift[2]))


def evaluate_test_set(prepared: Prepared, folder: Path, emit: Emit = silent) -> dict[Protocol, dict[str, Any]]:
    """Evaluate one seed's predictions with both protocols and write their metrics."""
    results: dict[Protocol, dict[str, Any]] = {}
    for protocol, kind in zip(PROTOCOLS, ("resized", "native"), strict=True):
        pairs = {}
        for case in prepared.cohort.with_role("test"):
            assert case.label is not None
            pairs[case.name] = (folder / "predictions" / kind / f"{case.name}.nii.gz", case.label)
        grid = prepared.plan.grid
        assert isinstance(grid, SizeGrid)
        results[protocol] = evaluate_pairs(
            pairs,
            prepared.cohort.labels,
            protocol=protocol,
            out=folder / f"metrics-{protocol}.json",
            compat_size=grid.size,
            emit=emit,
        )
    return results
