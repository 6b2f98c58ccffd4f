"""What an ensemble, mirror images and clean-up are worth in Dice; for docs/results.md.

    python Testing/benchmarks/averaging.py --cases FOLDER MODEL [MODEL ...]

FOLDER holds images/ and labels/ with equal names and the models' numbers. Each case is segmented by each model alone, with mirror
images too where no structure has a side, and by all together as an ensemble; float32 on a CPU. Of each result all pieces
are kept, those that the models' plan keeps, or the largest of each structure.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dinomix.evaluation.metrics import dice
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume
from dinomix.inference.segment import segment_volume
from dinomix.models.ensemble import join_models
from dinomix.models.folder import Model, load_model
from dinomix.models.light_monai import import_monai_for_networks
from dinomix.models.mirror_axes import mirror_axes
from dinomix.planning.connected_components import clean_up, remove_stray_pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import_monai_for_networks()
    cases = [(image, image.parents[1] / "labels" / image.name) for image in sorted(arguments.cases.glob("images/*"))]
    print(f"{len(cases)} cases\n\n| model | all pieces | as the plan has it | largest pieces | seconds a case |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models_of(arguments.models, Path(folder)):
            print(row(name, model, False, cases), flush=True)
            if not model.labels.has_sides:
                trained = (
                    "" if mirror_axes(model.record, model.plan, model.labels) else ", without having been trained so"
                )
                seeing = replace(model, record={**model.record, "mirrored_axes": ["x"]})
                print(row(f"{name}, mirrored{trained}", seeing, True, cases), flush=True)


def models_of(folders: list[Path], scratch: Path) -> Iterator[tuple[str, Model]]:
    for folder in folders:
        yield str(folder), load_model(folder)
    if len(folders) > 1:
        join_models(folders, scratch / "ensemble")
        yield f"ensemble of {len(folders)}", load_model(scratch / "ensemble")


def row(name: str, model: Model, mirror: bool, cases: list[tuple[Path, Path]]) -> str:
    """The means over structures of the means over cases, and the time."""
    values, began = [], time.process_time()
    for image, label in cases:
        found = segment_volume(
            read_image(image),
            model,
            device="cpu",
            precision="float32",
            runtime="pytorch",
            all_pieces=True,
            mirror=mirror,
        )
        reference, _names = read_label(label)
        values.append([of_case(kept, reference, model) for kept in ways_of_keeping(found, model)])
    seconds = (time.process_time() - began) / len(cases)
    dices = np.nanmean(np.array(values), axis=0).mean(axis=1)
    return f"| {name} | " + " | ".join(f"{each:.4f}" for each in dices) + f" | {seconds:.1f} |"


def ways_of_keeping(found: Volume, model: Model) -> Iterator[np.ndarray]:
    """The labels (k, j, i) with all pieces, with those that the plan keeps, and with the largest of each structure."""
    yield found.array
    planned, ids = found.array.copy(), np.array([0, *model.labels.ids])
    if model.plan.one_piece.channels:
        remove_stray_pieces(planned, model.plan.one_piece, ids)
    voxel = float(np.prod(found.geometry.spacing)) / 1000
    clean_up(planned, {model.labels.ids[rule.channel - 1]: rule.smallest for rule in model.plan.clean_up}, voxel)
    yield planned
    largest = found.array.copy()
    clean_up(largest, dict.fromkeys(model.labels.ids), voxel)
    yield largest


def of_case(labels: np.ndarray, reference: Volume, model: Model) -> list[float]:
    """The Dice of each structure; NaN where neither has it."""
    pairs = [(labels == id, reference.array == id) for id in model.labels.ids]
    return [dice(found, drawn) if found.any() or drawn.any() else float("nan") for found, drawn in pairs]


if __name__ == "__main__":
    main()
