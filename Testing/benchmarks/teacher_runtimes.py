"""What a frozen teacher takes of one core for the slices of a patch of 48 voxels a side, by PyTorch and by OpenVINO.

    python Testing/benchmarks/teacher_runtimes.py [--teacher NAME_OR_NAME=FILE ...]

Processor seconds of one thread, the least of some turns in which all alternate. ``ONEDNN_MAX_CPU_ISA=AVX2`` measures as without
AVX-512; there nothing is computed in bfloat16.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ENGINE = Path(__file__).resolve().parents[2] / "DINOMixEngine"
sys.path.insert(0, str(ENGINE))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from dinomix.training import foundation  # noqa: E402
from dinomix.training.config import FkdConfig  # noqa: E402
from dinomix.training.foundation import FoundationModel, load_foundation  # noqa: E402
from dinomix.training.view import View  # noqa: E402

TEACHERS = ("random:vit_small_patch16_dinov3", "random:vit_base_patch16_dinov3", "random:tf_efficientnet_lite0")
SIDE, STRIDE, CELL, TURNS = 48, 2, 8, 5
"""Voxels of the patch, of which every second slice is seen, and of a cell of the student's stage; how often each is timed."""
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", action="append")
    names = parser.parse_args().teacher or TEACHERS
    precisions = ["fp32"] if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2" else ["fp32", "auto"]
    titles = [f"{runtime}, {numbers}" for numbers in ("float32", "bfloat16")[: len(precisions)]
              for runtime in ("PyTorch", "OpenVINO")]  # fmt: skip
    print(f"| teacher, pixels of a slice | {' | '.join(titles)} | least cosine |")
    print("|---" * (len(titles) + 2) + "|")
    for name in names:
        for scale in (1, None):
            print(row(name, scale, precisions), flush=True)


def row(name: str, scale: int | None, precisions: list[str]) -> str:
    """Seconds of one teacher; ``scale`` None: such that a token is as large as a cell, as ``fkd.scale=auto`` has it."""
    slices = torch.rand(SIDE // STRIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    teachers = [ready(name, scale, precision, by_openvino) for precision in precisions for by_openvino in (False, True)]
    exact, *others = [teacher.tokens(slices) for teacher in teachers]
    least = min(float(F.cosine_similarity(tokens, exact, dim=1).mean()) for tokens in others)
    taken = [[seconds(teacher, slices) for teacher in teachers] for _ in range(TURNS)]
    best = [f"{min(turn):.3f}" for turn in zip(*taken, strict=True)]
    pixels = round(SIDE * teachers[0].view.scale[0])
    return f"| {name.removeprefix('random:').partition('=')[0]}, {pixels} | {' | '.join(best)} | {least:.6f} |"


def ready(name: str, scale: int | None, precision: str, by_openvino: bool) -> FoundationModel:
    teacher = load_foundation(FkdConfig(teacher=name))
    enlarged = float(scale or teacher.coarsest / CELL)
    teacher.view = View(scale=(enlarged, enlarged))
    foundation.can_compile = lambda: by_openvino
    return teacher.on(CPU, precision)


def seconds(teacher: FoundationModel, slices: torch.Tensor) -> float:
    began = time.process_time()
    teacher.tokens(slices)
    return time.process_time() - began


if __name__ == "__main__":
    main()
