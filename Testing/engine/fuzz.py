"""Break inputs by the thousand and see that the promise is kept (``fuzzing/promise.py``).

python Testing/engine/fuzz.py --count 20000
python Testing/engine/fuzz.py --seed 0 --number 1234 --keep broken   # one of them again, and its files
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

# Imported before the processes are forked, so that each need not; the others come with the inputs' own imports.
from fuzzing import documents, drawn_on_series, images, streams, zips
from fuzzing.mutations import Rng
from fuzzing.promise import Act, Verdict, verdicts

import dinomix.commands.segment
import dinomix.importing.converted
import dinomix.importing.source
import dinomix.inference.segment
import dinomix.worker.jobs  # noqa: F401
from dinomix.models.light_monai import import_monai_for_networks

Maker = Callable[[Rng, Path, Path], Act]
KINDS: dict[str, tuple[int, Maker]] = {
    "nifti": (10, images.nifti),
    "nrrd": (10, images.nrrd),
    "metaimage": (8, images.metaimage),
    "document": (9, documents.document),
    "zip": (1, zips.zip_file),
    "stream": (2, streams.stream),
    "drawn": (3, drawn_on_series.drawn),
}
"""How many of 43 are of each kind, and what makes one: it puts the input into a folder, given a model folder that is whole."""


@dataclass(frozen=True)
class Tried:
    """One input: it is made anew by (seed, number)."""

    number: int
    kind: str
    verdict: Verdict


def tried(seed: int, numbers: Iterable[int], only: str | None = None, keep: Path | None = None) -> Iterator[Tried]:
    """Try inputs; the files of broken ones go to ``keep``."""
    with tempfile.TemporaryDirectory(prefix="dinomix-fuzz-") as scratch:
        import_monai_for_networks()
        model = Path(scratch) / "model"
        documents.write_whole_model(model)

        def make(number: int, folder: Path) -> Act:
            rng, kind = drawn(seed, number)
            return KINDS[kind][1](rng, folder, model)

        wanted = [number for number in numbers if only in (None, drawn(seed, number)[1])]
        for number, verdict in verdicts(make, wanted, Path(scratch) / "tried", keep):
            yield Tried(number, drawn(seed, number)[1], verdict)


def drawn(seed: int, number: int) -> tuple[Rng, str]:
    """The generator of one input, and its kind."""
    rng = np.random.default_rng((seed, number))
    kinds = [kind for kind, (share, _) in KINDS.items() for _ in range(share)]
    return rng, kinds[int(rng.integers(len(kinds)))]


def report(seed: int, attempts: Iterator[Tried], every: float = 60.0) -> int:
    """Print what breaks the promise, and the figures; the number of broken inputs."""
    counts: Counter[tuple[str, str]] = Counter()
    slowest = largest = 0.0
    began = told = time.monotonic()
    for attempt in attempts:
        verdict = attempt.verdict
        counts[attempt.kind, verdict.kind] += 1
        slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.memory)
        if verdict.kind == "broken":
            print(f"--seed {seed} --number {attempt.number} ({attempt.kind}): {verdict.told}", flush=True)
        if time.monotonic() - told > every:
            told = time.monotonic()
            print(f"{sum(counts.values())} inputs, {_of(counts, 'broken')} broken, {told - began:.0f} s", flush=True)
    for kind in KINDS:
        row = [counts[kind, outcome] for outcome in ("right", "refused", "broken")]
        print(f"{kind:10s} {sum(row):6d} inputs: {row[0]:6d} right, {row[1]:6d} refused, {row[2]:4d} broken")
    total = sum(counts.values())
    print(f"{total} inputs of seed {seed} in {time.monotonic() - began:.0f} s: {_of(counts, 'broken')} broken; the slowest took "
          f"{slowest:.1f} s, the largest {largest / 2**20:.0f} MB")  # fmt: skip
    return _of(counts, "broken")


def _of(counts: Counter[tuple[str, str]], outcome: str) -> int:
    return sum(count for (_, found), count in counts.items() if found == outcome)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--number", type=int, help="this input alone")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--keep", type=Path, help="folder for the files of inputs that break the promise")
    asked = parser.parse_args()
    numbers = (
        range(asked.first, asked.first + asked.count) if asked.number is None else range(asked.number, asked.number + 1)
    )
    attempts = tried(asked.seed, numbers, asked.only, asked.keep)
    if asked.number is not None:
        attempts = _told(attempts)
    sys.exit(1 if report(asked.seed, attempts) else 0)


def _told(attempts: Iterator[Tried]) -> Iterator[Tried]:
    for attempt in attempts:
        print(attempt)
        yield attempt


if __name__ == "__main__":
    main()
