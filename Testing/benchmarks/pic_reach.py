"""Which boxes PIC would paste if the EMA teacher were always right: the draws of a run that trains nothing.

    python Testing/benchmarks/pic_reach.py --data DATA/ct_multiorgan --out runs/reach

Cases are those of ``ablation.py deformed-ct``; pseudo-labels are the true labels of the unlabeled patches.
"""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from dinomix.cohort.cohort import Case, Cohort
from dinomix.demo.deformed import deformed_case, field_of_view
from dinomix.images.reading import read_image, read_label
from dinomix.labels import LabelSet
from dinomix.planning.plan import Plan
from dinomix.planning.planning import override_plan
from dinomix.planning.preprocessing import labels_to_plan_grid
from dinomix.training import pic
from dinomix.training.batches import Batches, labeled_counts
from dinomix.training.config import make_config
from dinomix.training.mixing import PseudoLabeled, mix_unlabeled, sightings_of
from dinomix.training.patches import cut
from dinomix.training.schedule import schedule_of_steps
from dinomix.training.sightings import Sightings

LABELED, UNLABELED, MARGIN = 4, 12, 15.0


def plan_of(side: int) -> Plan:
    data = {
        "modality": "CT", "grid": {"kind": "spacing", "spacing": [3.0, 3.0, 3.0]}, "patch": [side, side, side],
        "window": {"kind": "range", "low": -150, "high": 250}, "fkd_stage": "down_3", "reasons": {},
        "network": {"_target_": "monai.networks.nets.UNet", "channels": [8, 16], "strides": [2]},
    }  # fmt: skip
    return override_plan(data, {})


def label_maps(data: Path, out: Path, channel_of: dict[int, int], seed: int) -> list[np.ndarray]:
    """Channel numbers of each case at 3 mm, (x, y, z), labeled ones first; made once and kept."""
    out.mkdir(parents=True, exist_ok=True)
    image = read_image(data / "ct.nii.gz")
    labels, _ = read_label(data / "labels_synapse13.nii.gz", like=image.geometry)
    maps = []
    for number in range(LABELED + UNLABELED):
        path = out / f"labels-{seed}-{number}.npy"
        if not path.exists():
            _, bent = field_of_view(*deformed_case(image, labels, (seed, number)), MARGIN)
            values = labels_to_plan_grid(bent, plan_of(32))
            channels = np.zeros(values.shape, np.uint8)
            for value, channel in channel_of.items():
                channels[values == value] = channel
            np.save(path, channels)
        maps.append(np.load(path))
    return maps


def cohort_of(maps: list[np.ndarray], labels: LabelSet) -> Cohort:
    channel_of, nowhere = labels.channel_of, Path("nowhere")
    cases = []
    for number, values in enumerate(maps):
        labeled = number < LABELED
        voxels = {i: int((values == channel).sum()) for i, channel in channel_of.items()} if labeled else {}
        cases.append(
            Case(name=str(number), role="labeled" if labeled else "unlabeled", image=nowhere, label=nowhere if labeled else None,
                 patient=str(number), image_sha256="", label_sha256="" if labeled else None, size=values.shape,
                 spacing=(3.0, 3.0, 3.0), orientation="RAS", intensity=(0.0, 0.0, 0.0), foreground_intensity=None,
                 voxels=voxels, label_values={})
        )  # fmt: skip
    return Cohort(modality="CT", labels=labels, seed=0, cases=tuple(cases))


def case_of(label: np.ndarray) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    points = {int(c): rng.permutation(np.argwhere(label == c))[:2000] for c in np.unique(label) if c}
    return SimpleNamespace(image=np.zeros(label.shape, np.float16), label=label, locations=lambda: points)


def boxes(
    maps: list[np.ndarray], cohort: Cohort, side: int, places: int, steps: int, seed: int
) -> dict[str, list[int | None]]:
    """Subset -> the class of each box of a run, None for random ones."""
    config = make_config("mean-teacher", pic=True, **{"steps": steps, "seed": seed, "pic.places": places})
    schedule = schedule_of_steps(config, steps)
    sightings = Sightings(len(cohort.labels.structures), config.pic.count_decay, places)
    cases = {str(number): case_of(values) for number, values in enumerate(maps)}
    batches = Batches(
        cohort, cases, plan_of(side), config, schedule, rank=0, first_step=0, features=None, sightings=sightings
    )  # type: ignore[arg-type]
    drawn: dict[str, list[int | None]] = {"labeled": [], "unlabeled": []}
    for step in range(schedule.pseudo_labels_from, steps):
        batch = batches[batches.wanted(step)]
        chosen = [batches.unlabeled_cases[case] for case in batch.cases]
        patches = [
            cut(c.label, where, (side,) * 3, "nearest") for c, where in zip(chosen, batch.placements, strict=True)
        ]
        labels = torch.cat(patches).long()
        counts = torch.bincount(labels.flatten(), minlength=cohort.labels.channels)[1:]
        nowhere = torch.zeros(labels.shape, dtype=torch.bool)
        truth = PseudoLabeled(batch.unlabeled, labels, torch.ones(labels.shape), nowhere, None, counts, counts.double())
        sizes = [case.image.shape for case in chosen]
        seen = sightings_of(truth, batch, sizes, config, step, 0) if places else []
        _, draws = mix_unlabeled(truth, batch, batches.groups.probabilities(step), config, step, 0)
        sightings.add(step, counts.numpy().astype(np.float64), seen)
        drawn["labeled"] += [draw.channel for draw in batch.draws]
        drawn["unlabeled"] += [draw.channel for draw in draws]
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sides", type=int, nargs="+", default=[24, 32])
    arguments = parser.parse_args()
    names = json.loads((arguments.data / "labels_synapse13.json").read_text())
    labels = LabelSet.from_names({int(i): name for i, name in names.items()})
    maps = label_maps(arguments.data, arguments.out, labels.channel_of, arguments.seed)
    cohort = cohort_of(maps, labels)
    rare = pic.rarest(labeled_counts(cohort))
    print("| patch, voxels of 3 mm | pic.places | subset | boxes | random | four rarest |\n|---|---|---|---|---|---|")
    for side in arguments.sides:
        for places in (0, 16):
            drawn = boxes(maps, cohort, side, places, arguments.steps, arguments.seed)
            for subset, channels in drawn.items():
                random, few = (np.mean([c is None for c in channels]), np.mean([c in rare for c in channels]))
                print(f"| {side} | {places} | {subset} | {len(channels)} | {random:.0%} | {few:.0%} |", flush=True)


if __name__ == "__main__":
    main()
