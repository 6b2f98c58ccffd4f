"""What a cohort costs: memory with many cases, checking it again, preparing it, and the teacher's features on disk.

A part of Testing/benchmarks/training.py.
"""

import json
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_work import TEACHER, plan_for

from dinomix.cohort.cohort import Cohort
from dinomix.planning import cache as caching
from dinomix.planning.plan import Plan
from dinomix.training import fkd
from dinomix.training.augmentation import WIDTHS
from dinomix.training.config import FkdConfig
from dinomix.training.foundation import FoundationModel, load_foundation
from dinomix.training.patches import random_placement, sample_features

FEW, MANY, SIDE = 10, 1000, 32
RUN = """
import json, resource, sys
from dinomix.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""


def peaks_of_training(work: Path) -> dict[str, Any]:
    """Number of cases -> bytes."""
    return {str(count): _peaks(work, count) for count in (FEW, MANY)}


def write_small_cases(folder: Path, count: int, side: int) -> None:
    """A labeled folder of noise with a block in it, each image different; NIfTI without compression."""
    if len(list(folder.glob("labels/*.nii"))) == count:
        return
    header = np.zeros(352, np.uint8)
    header[:4] = np.frombuffer(np.int32(348).tobytes(), np.uint8)
    header[40:56] = np.frombuffer(np.array([3, side, side, side, 1, 1, 1, 1], np.int16).tobytes(), np.uint8)
    header[76:108] = np.frombuffer(np.ones(8, np.float32).tobytes(), np.uint8)
    header[108:112] = np.frombuffer(np.float32(352).tobytes(), np.uint8)
    header[254:256] = np.frombuffer(np.int16(1).tobytes(), np.uint8)
    header[280:328] = np.frombuffer(np.eye(3, 4, dtype=np.float32).tobytes(), np.uint8)
    header[344:348] = np.frombuffer(b"n+1\0", np.uint8)
    label = np.zeros((side, side, side), np.uint8)
    label[side // 4 : side // 2, side // 4 : side // 2, side // 4 : side // 2] = 1
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.random.default_rng(number).integers(-100, 200, label.shape).astype(np.int16)
        for part, array, kind, bits in (("images", image, 4, 16), ("labels", label, 2, 8)):
            header[70:74] = np.frombuffer(np.array([kind, bits], np.int16).tobytes(), np.uint8)
            (folder / part / f"case{number:05d}.nii").write_bytes(header.tobytes() + array.tobytes())


def dinomix(*arguments: object) -> int:
    """Run a verb in a fresh process; the most memory that it held."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"dinomix {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return int(json.loads(done.stdout.splitlines()[-1]))


def _peaks(work: Path, count: int) -> dict[str, int]:
    """Bytes that ``dinomix train`` held at most in a run of DINO-Mix whose cases were prepared before."""
    folder = work / f"small-{count}"
    write_small_cases(folder / "cases", count, SIDE)
    options = ["--labeled-count", count // 2, "--modality", "CT", "--overwrite", "--out", folder / "cohort.json"]
    dinomix("check", "--labeled", folder / "cases", *options)
    plan = plan_for(Cohort.read(folder / "cohort.json"), "cpu", SIDE)
    plan.write(folder / "plan.json")
    common = ["--cohort", folder / "cohort.json", "--plan", folder / "plan.json", "--cache", folder / "cache", "--device", "cpu",
              "--fkd", "cached", "--teacher", "random:vit_small_patch16_dinov3",
              "--set", "pseudo_label_start=0", "--set", "wait_until_found=false", "--set", "pic.start=0"]  # fmt: skip
    subprocess.run(["rm", "-rf", *(str(folder / name) for name in ("first", "second"))], check=True)
    preparing = dinomix("train", *common, "--steps", 1, "--out", folder / "first")
    return {"preparing": preparing, "training": dinomix("train", *common, "--steps", 60, "--out", folder / "second")}


def check_twice(work: Path, count: int) -> dict[str, float]:
    """Seconds of the first check of a cohort of so many cases, and of the same once more."""
    folder = work / f"check-{count}"
    write_small_cases(folder / "cases", count, 16)
    subprocess.run(["rm", "-f", str(folder / "cohort.json"), str(folder / ".cohort.json.facts")], check=True)
    times: dict[str, float] = {"cases": count}
    for name in ("first", "second"):
        began = time.perf_counter()
        dinomix("check", "--labeled", folder / "cases", "--modality", "CT", "--out", folder / "cohort.json")
        times[name] = time.perf_counter() - began
    return times


def seconds_to_prepare(work: Path, readers: int) -> float:
    """Of the cohort's cases, from files to arrays on disk, with so many at once."""
    cohort = Cohort.read(work / "cohort.json")
    target, usual = work / "prepared", caching.readers
    subprocess.run(["rm", "-rf", str(target)], check=True)
    caching.readers = lambda: readers
    began = time.perf_counter()
    try:
        caching.cache_cases(cohort, plan_for(cohort, "cpu"), target, lambda *_, **__: None)
    finally:
        caching.readers = usual
    return time.perf_counter() - began


def compare_formats(work: Path) -> dict[str, Any]:
    """Bytes, seconds and likeness of a scan's teacher features in some formats."""
    cohort = Cohort.read(work / "cohort.json")
    plan = plan_for(cohort, "cpu")
    case = caching.prepared_case(cohort.cases[0], cohort, plan)
    image = torch.from_numpy(np.array(case.image, dtype=np.float32))
    foundation = load_foundation(FkdConfig(teacher=TEACHER)).on(torch.device("cpu"), "auto")
    strides, whole = {}, None
    for stride in (1, 2, 4, 8):
        began = time.perf_counter()
        features = fkd.features_of_volume(foundation, image, stride)
        taken = time.perf_counter() - began
        whole = features if whole is None else whole
        strides[str(stride)] = {
            "bytes": features.nbytes,
            "seconds": taken,
            "cosine": _likeness(features, stride, whole, image.shape[1:], plan),
        }
    stored = fkd.features_of_volume(foundation, image, 2)
    return {"case_bytes": case.image.nbytes + case.label.nbytes, "strides": strides,
            "readers": {str(n): seconds_to_prepare(work, n) for n in (1, 2)},
            "formats": _formats(stored, work / "features", image.shape, plan, foundation)}  # fmt: skip


def _patches(shape: tuple[int, ...], plan: Plan) -> list[Any]:
    return [random_placement(shape, plan.patch, np.random.default_rng(seed), WIDTHS["narrow"]) for seed in range(20)]


def _grid(plan: Plan) -> tuple[int, int, int]:
    x, y, z = (side // 8 for side in plan.patch)
    return x, y, z


def _likeness(features: np.ndarray, stride: int, whole: np.ndarray, shape: tuple[int, ...], plan: Plan) -> float:
    """Mean cosine, at the student's cells in patches, to the features of all slices; what both have alike is taken off."""
    values = []
    mean = torch.from_numpy(whole.astype(np.float32).mean((0, 1, 2)))[:, None, None, None]
    for placement in _patches(shape, plan):
        one = sample_features(features, stride, shape[2], placement, plan.patch, shape, _grid(plan))
        other = sample_features(whole, 1, shape[2], placement, plan.patch, shape, _grid(plan))
        values.append(torch.nn.functional.cosine_similarity(one - mean, other - mean, dim=0).mean().item())
    return float(np.mean(values))


def _formats(
    features: np.ndarray, folder: Path, shape: tuple[int, ...], plan: Plan, foundation: FoundationModel
) -> dict[str, Any]:
    """Name -> bytes, seconds to write, milliseconds for the features of a patch from the file."""
    folder.mkdir(exist_ok=True)
    tokens_first = np.ascontiguousarray(features.transpose(0, 3, 1, 2))
    planes = np.ascontiguousarray(features.view(np.uint8).reshape(-1, 2).T)
    lowest, width = features.min((0, 1, 2)), np.ptp(features.astype(np.float32), (0, 1, 2)) / 255
    bytes8 = ((features.astype(np.float32) - lowest) / width).round().astype(np.uint8)

    def plain(array: np.ndarray) -> tuple[Any, Any]:
        return (lambda path: np.save(path, array)), (lambda path: np.load(path, mmap_mode="r"))

    def zipped(array: np.ndarray, back: Any) -> tuple[Any, Any]:
        def write(path: Path) -> None:
            path.write_bytes(zlib.compress(array.tobytes(), 1))

        return write, lambda path: back(
            np.frombuffer(zlib.decompress(path.read_bytes()), array.dtype).reshape(array.shape)
        )

    formats = {
        "fp16, channels last (used)": plain(features),
        "fp16, channels first": (plain(tokens_first)[0], lambda p: np.load(p, mmap_mode="r").transpose(0, 2, 3, 1)),
        "float32": plain(features.astype(np.float32)),
        "fp16, zlib": zipped(features, lambda array: array),
        "fp16, bytes apart, zlib": zipped(
            planes, lambda array: np.ascontiguousarray(array.T).view(np.float16).reshape(features.shape)
        ),
        "8 bits a channel": (plain(bytes8)[0], lambda p: np.load(p, mmap_mode="r")),
    }
    result = {}
    for name, (write, read) in formats.items():
        path = folder / "features.npy"
        began = time.perf_counter()
        write(path)
        writing = time.perf_counter() - began
        times = []
        for placement in _patches(shape, plan):
            began = time.perf_counter()
            sample_features(read(path), 2, shape[2], placement, plan.patch, shape, _grid(plan))
            times.append(time.perf_counter() - began)
        result[name] = {"bytes": path.stat().st_size, "writing": writing, "reading": float(np.median(times))}
    return result


def reported(results: dict[str, Any]) -> list[str]:
    """The report in Markdown, of the parts that were measured."""
    lines = []
    if "memory" in results:
        few, many = (results["memory"][str(count)] for count in (FEW, MANY))
        told = [
            f"{few[what] / 2**20:.0f} MB with {FEW} cases, {many[what] / 2**20:.0f} MB with {MANY:,} "
            f"({many[what] / few[what] - 1:+.1%})" for what in ("training", "preparing")
        ]  # fmt: skip
        lines.append(
            f"Peak memory of a run of 60 steps: {told[0]}; while cases and features are prepared: {told[1]}. Cases of {SIDE} "
            "voxels a side.\n"
        )
    if "check" in results:
        check = results["check"]
        lines.append(
            f"`dinomix check` on {check['cases']:,} labeled cases (files of 16 voxels a side): {check['first']:.0f} s the first "
            f"time, {check['second']:.0f} s when nothing had changed. Files that have not changed are not opened, so their size "
            "plays no part then.\n"
        )
    if "features" in results:
        lines += _features_tables(results["features"])
    return lines


def _features_tables(result: dict[str, Any]) -> list[str]:
    one, two = result["readers"]["1"], result["readers"]["2"]
    lines = [
        f"Preparing 8 cases of 122 x 101 x 112 voxels: {one:.2f} s one at a time, {two:.2f} s two at a time.\n",
        f"Features of ViT-B for one of these cases, whose image and label take {result['case_bytes'] / 1e6:.1f} MB:\n",
        "| every k-th slice | MB | seconds | cosine to all slices' |",
        "|---|---|---|---|",
    ]
    for stride, row in result["strides"].items():
        lines.append(f"| {stride} | {row['bytes'] / 1e6:.1f} | {row['seconds']:.1f} | {row['cosine']:.3f} |")
    lines += ["", "| format, every 2nd slice | MB | writing, ms | a patch's features, ms |", "|---|---|---|---|"]
    for name, row in result["formats"].items():
        cells = f"{row['bytes'] / 1e6:.1f} | {1000 * row['writing']:.0f} | {1000 * row['reading']:.1f}"
        lines.append(f"| {name} | {cells} |")
    return [*lines, ""]
