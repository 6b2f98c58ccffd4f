"""Does dinomix know where bfloat16 changes labels? The Dice that it expects between bfloat16 and float32, beside the one found.

    python Testing/benchmarks/inference_certainty.py --data FOLDER [--cache FOLDER] [--write docs/performance.md]

With the network of inference.py, which has to be in the cache, on its own scan and on changed copies of it, some of which the
network segments badly. FOLDER is that of the test data (by default DINOMIX_TEST_DATA).
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from inference import dice, write_between_marks

from dinomix.images.reading import read_image
from dinomix.inference.certainty import LabelChanges
from dinomix.inference.noise import border_noise
from dinomix.inference.sliding_window import predict_logits, ways_to_compute
from dinomix.models.folder import Model, load_model
from dinomix.planning.preprocessing import preprocess

CPU = torch.device("cpu")
LARGE = 600
"""Voxels of the network's grid from which on a structure's Dice says something about less than a thousandth."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("DINOMIX_TEST_DATA"), help="folder of test data")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "dinomix-benchmark")
    parser.add_argument("--write", type=Path, help="put the table into this file")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of test data with --data or DINOMIX_TEST_DATA")
    model = load_model(arguments.cache / "model")
    scan = preprocess(read_image(arguments.data / "ct_multiorgan/ct.nii.gz"), model.plan).tensor
    lines = [
        "| scan | noise along borders | structure with the lowest Dice: voxels, Dice found, expected "
        f"| largest error of an expected Dice, of {LARGE} voxels or more | voxels that changed, expected | bfloat16 |",
        "|---|---|---|---|---|---|",
    ]
    for name, tensor in changed_copies(scan).items():
        lines.append(f"| {name} | {measured(model, tensor)} |")
        print(lines[-1], flush=True)
    if arguments.write:
        write_between_marks(arguments.write, "certainty", "\n".join(lines) + "\n")


def changed_copies(scan: torch.Tensor) -> dict[str, torch.Tensor]:
    """The scan (1, x, y, z), intensities in [0, 1], as it is and changed in ways that leave it a scan."""
    noise = torch.randn(scan.shape, generator=torch.Generator().manual_seed(0))
    body = scan > 0
    return {
        "as learned": scan,
        "noisy, 20 HU": (scan + 0.05 * noise * body).clamp(0, 1),
        "noisy, 60 HU": (scan + 0.15 * noise * body).clamp(0, 1),
        "darker by 15%": 0.85 * scan,
        "moved by 5, 3 and 7 voxels": scan[:, 5:, 3:, 7:].contiguous(),
        "left and right exchanged": scan.flip(1).contiguous(),
        "head and feet exchanged": scan.flip(3).contiguous(),
    }


def measured(model: Model, tensor: torch.Tensor) -> str:
    """The cells of one scan's row."""
    network = model.network().eval()
    exact = predict_logits(network, tensor, model.plan, "cpu").argmax(0)
    noise = border_noise(network, tensor, model.plan, CPU)
    if noise is None:
        return "| | | | not tried further"
    ways = ways_to_compute(CPU, "bfloat16")
    fast = predict_logits(network, tensor, model.plan, "cpu", ways=ways)
    changes = LabelChanges(noise, len(fast))
    changes.add(fast)
    here, there = fast.argmax(0).numpy().astype(np.uint8), exact.numpy().astype(np.uint8)
    found = dice(here, there, len(fast) - 1)
    expected = {n: float(changes.dice()[n]) for n in found}
    lowest = min(found, key=lambda n: found[n])
    errors = [abs(found[n] - expected[n]) for n in expected if changes.all[n] >= LARGE]
    used = "computed again in float32" if changes.structures() else "used"
    name = model.labels.names[lowest - 1]
    return (
        f"{noise:.3f} | {name}: {int(changes.all[lowest])}, {found[lowest]:.4f}, {expected[lowest]:.4f} | "
        f"{max(errors):.4f} | {int((here != there).sum())}, {float(changes.left.sum()):.0f} | {used}"
    )


if __name__ == "__main__":
    main()
