"""How fast a scan becomes a label file: dinomix beside MONAI's bundle pipeline and nnU-Net v2, with the same network.

    python Testing/benchmarks/inference.py --data FOLDER [--nnunet-python PYTHON] [--runs 3] [--write docs/performance.md]
    python Testing/benchmarks/inference.py --data FOLDER --model FOLDER --skip "MONAI bundle" --skip "nnU-Net v2"
    python Testing/benchmarks/inference.py --large

FOLDER is that of the test data (by default DINOMIX_TEST_DATA); the work is made from ``ct_multiorgan`` once and kept in
--cache, where the network is fitted to the scan for some minutes first, unless --model names a trained one with the same
structures. Each contender runs in a process of its own, from file
to label file; "cold" counts from the start of the process, "warm" is the second volume in it. Contenders take turns, so that
whatever else the machine does hits all alike; medians are given. Beside other programs, seconds of the processor say more than
those of the clock. What is not installed is skipped and named. nnU-Net may be in
another environment: its python must have dinomix's dependencies too.

--large segments a volume of 1024 x 1024 x 1000 voxels with 100 classes within 8 GB.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parents[1] / "DINOMixEngine"
sys.path[:0] = [str(ENGINE), str(HERE)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from inference_work import SIZE, make_model, make_scan, make_truth  # noqa: E402

from dinomix.images.reading import read_label  # noqa: E402
from dinomix.inference.devices import has_bfloat16  # noqa: E402
from dinomix.inference.runtimes.graphs import carries_eight_bits  # noqa: E402
from dinomix.labels import LabelSet  # noqa: E402
from dinomix.models.folder import load_model  # noqa: E402

PEERS = ("MONAI bundle", "nnU-Net v2")
PEERS_AT_BEST = ("MONAI bundle, OpenVINO", "nnU-Net v2, fast recipe", "nnU-Net v2, fast recipe, OpenVINO")
"""With what a user who knows them well would choose; in float32."""
OWN = ("dinomix", "dinomix --precision float32")
IN_PYTORCH = tuple(f"{name} --runtime pytorch" for name in OWN)
WITHOUT_PYTORCH = "dinomix, PyTorch not installed"
IN_EIGHT_BITS = ("dinomix --precision int8", "dinomix --precision int8, PyTorch not installed")
"""Of a model that carries a graph of 8 bits, as ``dinomix models quantize`` makes it."""
SHORTCUTS = ("overlap 0.25", "one window")
Times = dict[str, list[dict[str, float]]]


def main() -> None:
    arguments = read_arguments()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    if arguments.large:
        from inference_large import segment_large

        segment_large(arguments.cache)
        return
    scan, truth, model = (arguments.cache / name for name in ("ct.nii.gz", "truth.nii.gz", "model"))
    model = arguments.model or model
    shutil.rmtree(arguments.cache / "runtimes", ignore_errors=True)  # so that the first run has a trial to make
    data = arguments.data / "ct_multiorgan"
    if not scan.exists() or not truth.exists():
        make_scan(data / "ct.nii.gz", scan)
        make_truth(data / "labels_synapse13.nii.gz", truth)
    if not model.exists():
        make_model(data, model, arguments.fit_minutes)
    text = [f"Measured on {machine()}, {arguments.runs} runs each, taken in turns.\n"]
    text += measure("cpu", model, scan, truth, arguments)
    if torch.cuda.is_available():
        text += [f"### On {torch.cuda.get_device_name(0)}\n", *measure("cuda", model, scan, truth, arguments)]
    else:
        text.append("There was no GPU: its part is skipped.\n")
    report = "\n".join(text)
    print(report)
    if arguments.write:
        write_between_marks(arguments.write, "inference", report)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("DINOMIX_TEST_DATA"), help="folder of test data")
    parser.add_argument("--model", type=Path, help="a trained model's folder, instead of one fitted to the scan")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "dinomix-benchmark")
    parser.add_argument("--nnunet-python", default=sys.executable, help="a Python that has nnunetv2")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--fit-minutes", type=float, default=23, help="how long the network is fitted, once")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="leave this contender out")
    parser.add_argument("--write", type=Path, help="put the table into this file, and the plot beside it")
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None and not arguments.large:
        parser.error("name the folder of test data with --data or DINOMIX_TEST_DATA")
    return arguments


def measure(device: str, model: Path, scan: Path, truth: Path, arguments: argparse.Namespace) -> list[str]:
    """All contenders on one device; lines of Markdown."""
    pythons = {
        name: arguments.nnunet_python if name.startswith("nnU-Net") else sys.executable
        for name in (*PEERS, *PEERS_AT_BEST, *OWN, *IN_PYTORCH, WITHOUT_PYTORCH, *IN_EIGHT_BITS)
    }
    pythons |= dict.fromkeys(SHORTCUTS, sys.executable)
    skipped = {name: "left out" for name in pythons if name in arguments.skip}
    needed = [*((name, "ignite" if "MONAI" in name else "nnunetv2") for name in PEERS + PEERS_AT_BEST)]
    needed += [
        (name, "openvino")
        for name in (*PEERS_AT_BEST, WITHOUT_PYTORCH, *IN_EIGHT_BITS)
        if name != "nnU-Net v2, fast recipe"
    ]
    for name, package in needed:
        if name not in skipped and not has_package(pythons[name], package):
            skipped[name] = f"{package} is not installed"
    if not carries_eight_bits(load_model(model).network()):
        skipped |= dict.fromkeys(IN_EIGHT_BITS, "the model carries no graph of 8 bits")
    if device != "cpu":
        skipped |= dict.fromkeys((name for name, package in needed if package == "openvino"), "it computes on the CPU")
    for name, reason in skipped.items():
        print(f"SKIPPED: {name}: {reason}", file=sys.stderr, flush=True)
    times: Times = {name: [] for name in pythons if name not in skipped}
    parts: list[dict[str, float]] = []
    labels: dict[str, Path] = {}
    for number in range(arguments.runs):
        for name in times:
            if name in SHORTCUTS and number > 0:
                continue
            out = arguments.cache / "out" / device / name.replace(" ", "-").replace(",", "")
            out.mkdir(parents=True, exist_ok=True)
            labels[name], result = run_contender(name, pythons[name], model, scan, out, device)
            times[name].append(result)
            print(f"run {number + 1}, {name}: {describe(result)}", file=sys.stderr, flush=True)
        parts.append(run_bare_parts(model, scan, next(iter(labels.values())), device))
        print(f"run {number + 1}, bare parts: {parts[-1]}", file=sys.stderr, flush=True)
    picture = []
    if arguments.write:
        plot(times, arguments.write.with_name(f"performance_{device}.png"))
        picture = [f"![Seconds and memory of each program](performance_{device}.png)\n"]
    return [
        *picture,
        *times_table(times),
        *runtimes_table(times),
        *floor_table(times, parts, has_bfloat16(torch.device(device))),
        *labels_table(labels, truth, load_model(model).labels),
        *[f"{name} was skipped: {reason}." for name, reason in skipped.items()],
        "",
    ]


def run_contender(
    name: str, python: str, model: Path, scan: Path, out: Path, device: str
) -> tuple[Path, dict[str, float]]:
    """One process: cold, then warm."""
    began = time.perf_counter()
    with subprocess.Popen(
        contender_command(name, python, model, scan, out, device),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(out / "log.txt", "w"), text=True,
        env={**environment(device), "DINOMIX_CACHE": str(out.parent.parent.parent / "runtimes")},
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        answer = process.stdout.readline()
        if not answer:
            sys.exit(f"{name} failed: see {out / 'log.txt'}")
        cold, labels = time.perf_counter() - began, Path(json.loads(answer)["labels"])
        process.stdin.write("again\n")
        process.stdin.flush()
        warm = json.loads(process.stdout.readline())
        process.stdin.close()
    result = {"cold": cold, "warm": warm["seconds"], "cpu": warm["cpu"], "peak": warm["peak"]}
    return labels, {**result, "bytes": labels.stat().st_size}


def run_bare_parts(model: Path, scan: Path, labels: Path, device: str) -> dict[str, float]:
    command = contender_command("bare parts", sys.executable, model, scan, labels, device)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment(device))
    result: dict[str, float] = json.loads(done.stdout)
    return result


def contender_command(name: str, python: str, model: Path, scan: Path, out: Path, device: str) -> list[str]:
    script = str(HERE / "inference_contenders.py")
    return [python, "-W", "ignore", script, name, str(model), str(scan), str(out), device]


def environment(device: str) -> dict[str, str]:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    return {**os.environ, "PYTHONPATH": str(ENGINE), **hidden}


def has_package(python: str, name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def times_table(times: Times) -> list[str]:
    """Medians, and how many times slower each peer was."""
    lines = [
        "| from file to label file | warm, s | cold, s | peak memory, GB | label file, kB | dinomix is | in float32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in times:
        if name in SHORTCUTS:
            continue
        row = [name, *(f"{middle(times, name, key):.1f}" for key in ("warm", "cold"))]
        row += [f"{middle(times, name, 'peak') / 2**30:.2f}", f"{middle(times, name, 'bytes') / 1000:.0f}"]
        is_peer = name in PEERS + PEERS_AT_BEST
        row += [as_many_times(times[name], times[own]) if is_peer and own in times else "" for own in OWN]
        lines.append("| " + " | ".join(row) + " |")
    return [*lines, ""]


def as_many_times(peer: list[dict[str, float]], own: list[dict[str, float]]) -> str:
    warm, cold, peak = (
        median(a[key] / b[key] for a, b in zip(peer, own, strict=True)) for key in ("warm", "cold", "peak")
    )
    return f"{warm:.1f} x faster (cold {cold:.1f}), 1/{peak:.1f} of the memory"


def runtimes_table(times: Times) -> list[str]:
    """What OpenVINO takes, where it computes, beside PyTorch in the same runs."""
    lines = [
        "| warm | seconds of the processor, PyTorch | chosen here | PyTorch takes | peak memory, GB, PyTorch | chosen here "
        "| cold, s, with a trial | without |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, in_pytorch in zip(OWN, IN_PYTORCH, strict=True):
        if name not in times or in_pytorch not in times:
            continue
        pairs = list(zip(times[in_pytorch], times[name], strict=True))
        row = [name, *(f"{middle(times, which, 'cpu'):.1f}" for which in (in_pytorch, name))]
        row.append(f"{median(slow['cpu'] / fast['cpu'] for slow, fast in pairs):.1f} x as long")
        row += [f"{middle(times, which, 'peak') / 2**30:.2f}" for which in (in_pytorch, name)]
        row += [f"{times[name][0]['cold']:.1f}", f"{median(run['cold'] for run in times[name][1:] or times[name]):.1f}"]
        lines.append("| " + " | ".join(row) + " |")
    return [*lines, ""]


def floor_table(times: Times, parts: list[dict[str, float]], fast: bool) -> list[str]:
    """What cannot be done without, and how many times that the whole takes."""
    part = {key: median(run[key] for run in parts) for key in parts[0]}
    lines = [
        f"Bare parts in the same runs: {part['windows']:.0f} forwards {part['forwards, float32']:.2f} s in float32"
        + (f" and {part['forwards, bfloat16']:.2f} s in bfloat16" if fast else "")
        + f", unpacking the scan {part['unpacking']:.2f} s, packing the labels {part['packing']:.2f} s.",
    ]
    for name, kind in zip(IN_PYTORCH, ("bfloat16" if fast else "float32", "float32"), strict=True):
        if name not in times:
            continue
        ratios = [
            run["warm"] / (bare[f"forwards, {kind}"] + bare["unpacking"] + bare["packing"])
            for run, bare in zip(times[name], parts, strict=True)
        ]
        lines.append(f"{name}, warm, is {median(ratios):.2f} times the sum of its bare parts.")
    return [" ".join(lines), ""]


def labels_table(labels: dict[str, Path], truth: Path, structures: LabelSet) -> list[str]:
    """How far labels agree with those of the reference, and with the ground truth."""
    reference_name = "MONAI bundle" if "MONAI bundle" in labels else OWN[0]
    ids = np.array([0, *structures.ids])
    arrays = {
        # nnU-Net numbers structures by their channels.
        name: ids[array] if name.startswith("nnU-Net") else array
        for name, array in ((name, read_label(path)[0].array) for name, path in labels.items())
    }
    names = dict(zip(structures.ids, structures.names, strict=True))
    reference, expected = arrays[reference_name], read_label(truth)[0].array
    lines = [
        f"| labels | foreground voxels equal to {reference_name}'s | lowest Dice of a class against it "
        "| mean Dice against the truth |",
        "|---|---|---|---|",
    ]
    for name, array in arrays.items():
        foreground = (array > 0) | (reference > 0)
        same = float((array == reference)[foreground].mean())
        scores = dice(array, reference, names)
        lowest = min(scores, key=lambda number: scores[number])
        truth_mean = float(np.mean(list(dice(array, expected, names).values())))
        lines.append(f"| {name} | {100 * same:.3f} % | {scores[lowest]:.4f} ({names[lowest]}) | {truth_mean:.4f} |")
    return [*lines, ""]


def dice(array: np.ndarray, reference: np.ndarray, ids: Iterable[int]) -> dict[int, float]:
    """Dice of each of these classes that the reference contains."""
    size = 1 + max(int(array.max()), int(reference.max()), *ids)
    both = np.bincount(array[array == reference], minlength=size)
    here, there = np.bincount(array.ravel(), minlength=size), np.bincount(reference.ravel(), minlength=size)
    return {n: float(2 * both[n] / (here[n] + there[n])) for n in ids if there[n]}


def middle(times: Times, name: str, key: str) -> float:
    return median(run[key] for run in times[name])


def describe(result: dict[str, float]) -> str:
    warm = f"warm {result['warm']:.1f} s ({result['cpu']:.1f} s of the processor)"
    return f"{warm}, cold {result['cold']:.1f} s, peak {result['peak'] / 2**30:.2f} GB"


def machine() -> str:
    """Processor and cores, without anything that names this very machine."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields: dict[str, Any] = dict(
            map(str.strip, line.split(":", 1)) for line in cpuinfo.read_text().splitlines() if ":" in line
        )
        name = fields.get("model name", name)
        if "avx512_bf16" in fields.get("flags", ""):
            name += " with AVX512-BF16"
    return f"{os.cpu_count()} cores of {name}, PyTorch {torch.__version__.split('+')[0]}"


def plot(times: Times, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = [name for name in times if name not in SHORTCUTS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True, layout="constrained")
    places = np.arange(len(names))
    left.barh(places - 0.2, [middle(times, name, "warm") for name in names], 0.4, label="warm", color="#2a6f97")
    left.barh(places + 0.2, [middle(times, name, "cold") for name in names], 0.4, label="cold", color="#a9d6e5")
    left.set_xlabel("seconds from file to label file")
    left.legend()
    right.barh(places, [middle(times, name, "peak") / 2**30 for name in names], 0.5, color="#bc6c25")
    right.set_xlabel("peak memory, GB")
    left.set_yticks(places, names)
    left.invert_yaxis()
    figure.suptitle(f"A scan of {SIZE[0]} x {SIZE[1]} x {SIZE[2]} voxels, {len(names)} programs, the same network")
    figure.savefig(path, dpi=120)


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace what stands between two marks in a Markdown file."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    old = path.read_text(encoding="utf-8")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    if not rest or not after:
        raise SystemExit(f"{path} has no marks {begin.strip()} and {end}.")
    path.write_text(before + begin + text + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
