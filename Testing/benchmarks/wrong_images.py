"""How many images that a model cannot know are refused, and how many that it knows: see dinomix.inference.suitability.

    python Testing/benchmarks/wrong_images.py --data FOLDER [--write docs/reliability.md]

The wrong ones are the CTs as exports and other programs spoil their values, MR given to a model for CT, and CT given to one for
MR; the right ones are all scans of a kind, of every scanner at hand, and CTs cropped, padded and clipped as people do. Each model
comes without a record of its training cases, so that nothing but the intensities can tell. FOLDER is that of the test data (by
default DINOMIX_TEST_DATA).
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from inference import write_between_marks
from numpy.typing import NDArray

from dinomix.images.reading import read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.suitability import doubts_of_image
from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]
CTS = ("ct_multiorgan/ct.nii.gz", "ct_spleen/ct.nii.gz")
SPOILED: dict[str, Change] = {
    "0 to 1": lambda hu: _between(hu, hu.min(), hu.max()),
    "-1 to 1": lambda hu: 2 * _between(hu, hu.min(), hu.max()) - 1,
    "0 to 1, of a soft tissue window": lambda hu: _between(hu, -160, 240),
    "0 to 255, of a soft tissue window": lambda hu: np.rint(255 * _between(hu, -160, 240)),
    "0 to 255, of a lung window": lambda hu: np.rint(255 * _between(hu, -1350, 150)),
    "0 to 255, of all": lambda hu: np.rint(255 * _between(hu, hu.min(), hu.max())),
    "stored values, 1024 added": lambda hu: hu + 1024,
    "stored values, 1024 added, cut off at 0 and 4095": lambda hu: np.clip(hu + 1024, 0, 4095),
    "stored values, 1000 added": lambda hu: hu + 1000,
    "z-scored": lambda hu: (hu - hu.mean()) / hu.std(),
    "divided by 1000": lambda hu: hu / 1000,
}
AS_PEOPLE_DO: dict[str, Change] = {
    "as it is": lambda hu: hu,
    "cut off at -1024 and 3071": lambda hu: np.clip(hu, -1024, 3071),
    "cut off at -200 and 300": lambda hu: np.clip(hu, -200, 300),
    "padded with -2048": lambda hu: np.pad(hu, 12, constant_values=-2048),
    "its middle third": lambda hu: hu[_middle(hu.shape)],
    "each third voxel": lambda hu: hu[::3, ::3, ::3],
    "noise of 40 HU": lambda hu: hu + 40 * np.random.default_rng(0).standard_normal(hu.shape, np.float32),
}
FOR_CT = Plan.model_validate({
    "modality": "CT", "grid": {"kind": "spacing", "spacing": [1.5, 1.5, 1.5]}, "patch": [32, 32, 32],
    "window": RangeWindow(low=-160, high=240).model_dump(),
    "network": {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "strides": [2]},
})  # fmt: skip
FOR_MR = FOR_CT.model_copy(update={"modality": "MR", "window": PercentileWindow()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("DINOMIX_TEST_DATA"), help="folder of test data")
    parser.add_argument("--write", type=Path, help="put the table into this file")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of test data with --data or DINOMIX_TEST_DATA")
    lines = ["| images | model for | how many | refused |", "|---|---|---|---|"]
    totals = {"wrong": [0, 0], "right": [0, 0]}
    for kind, name, plan, arrays in groups(arguments.data):
        refused = [is_refused(array, plan) for array in arrays]
        totals[kind][0] += len(refused)
        totals[kind][1] += sum(refused)
        lines.append(f"| {kind}: {name} | {plan.modality} | {len(refused)} | {sum(refused)} |")
        print(lines[-1], flush=True)
    for kind, (count, refused) in totals.items():
        lines.append(f"| **all {kind} ones** | | **{count}** | **{refused}** |")
        print(lines[-1])
    if arguments.write:
        write_between_marks(arguments.write, "wrong images", "\n".join(lines) + "\n")


def groups(data: Path) -> Iterator[tuple[str, str, Plan, Iterator[NDArray[np.float32]]]]:
    """("wrong" or "right", what the images are, the model's plan, the images (k, j, i))."""
    for name, change in SPOILED.items():
        yield "wrong", f"CT, {name}", FOR_CT, (change(voxels(data / ct)) for ct in CTS)
    cardiac, hippocampus = (sorted((data / folder / "images").iterdir()) for folder in ("cardiac", "hippocampus"))
    heads = sorted((data / "orientations").glob("*.nii.gz"))
    others = [data / "geometry/anisotropic_lefthanded_t2s.nii.gz"]
    yield "wrong", "MR of the heart, one of each patient", FOR_CT, map(voxels, cardiac[::2])
    yield "wrong", "MR of the hippocampus, of as many scales as there are", FOR_CT, map(voxels, hippocampus[::13])
    yield "wrong", "MR of the head and the spinal cord", FOR_CT, map(voxels, [heads[0], *others])
    for name in ("as it is", "cut off at -1024 and 3071"):
        yield "wrong", f"CT, {name}", FOR_MR, (AS_PEOPLE_DO[name](voxels(data / ct)) for ct in CTS)
    for name, change in AS_PEOPLE_DO.items():
        yield "right", f"CT, {name}", FOR_CT, (change(voxels(data / ct)) for ct in CTS)
    yield "right", "MR of the heart", FOR_MR, map(voxels, cardiac)
    yield "right", "MR of the hippocampus", FOR_MR, map(voxels, hippocampus)
    yield (
        "right",
        "MR of the head in twelve orders of axes, and the spinal cord",
        FOR_MR,
        map(voxels, [*heads, *others]),
    )


def voxels(path: Path) -> NDArray[np.float32]:
    return read_image(path).array.astype(np.float32)


def is_refused(array: NDArray[np.float32], plan: Plan) -> bool:
    """Whether ``dinomix segment`` would refuse an image (k, j, i) of these intensities."""
    grid = Geometry(array.shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    return any(doubt.grave for doubt in doubts_of_image(Volume(array, grid), plan, None))


def _between(hu: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """From 0 at ``low`` to 1 at ``high``, cut off there."""
    return np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)


def _middle(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(size // 3, size - size // 3) for size in shape)


if __name__ == "__main__":
    main()
