"""Kill what works, fill its disk, damage its files: what it ends with must be the same, or it must say what is wrong.

    python Testing/engine/kill_campaign.py --kills 100

Processes are killed at random moments by SIGKILL, which nothing can prepare for: while they train (and prepare cases), while
they write the model, and while they segment a batch. Each is begun again until it was killed so often, then let be to its end.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.inference.batch import segment_files
from dinomix.inference.options import Options
from dinomix.models.folder import load_model
from dinomix.models.light_monai import import_monai_for_networks
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import resume

sys.path.insert(0, str(Path(__file__).parent))

from tiny_cohort import make_cohort, make_plan, small_config

STEPS = 60
PATIENCE = 600.0
"""Seconds for anything that is not killed."""
Work = Callable[[], object]


class Disagreement(AssertionError):
    """What was killed ended otherwise than what was not, or left something broken behind."""


def kills_in_training(folder: Path, kills: int, dice: random.Random) -> int:
    """How often a run was killed, cases and checkpoints included; its weights and events are those of a whole run."""
    whole, run = folder / "whole", folder / "killed"
    for path in (whole, run):
        _begin_run(path, folder)
    began = time.monotonic()
    _undisturbed(lambda: resume(whole))
    usual = time.monotonic() - began
    killed = 0
    while killed < kills and _killed(lambda: resume(run), dice.uniform(0.02, 1.2) * usual * 3 / max(kills, 10)):
        killed += 1
    _undisturbed(lambda: resume(run))
    _compare_runs(run, whole)
    return killed


def kills_in_writing_the_model(folder: Path, kills: int, dice: random.Random) -> int:
    """How often a process was killed that only has the model to write; a model folder is whole or not there."""
    whole, run = folder / "whole", folder / "killed"
    _begin_run(whole, folder)
    _undisturbed(lambda: resume(whole))
    shutil.copytree(whole, run)
    killed = 0
    for _ in range(kills):
        if dice.random() < 0.5:
            shutil.rmtree(run / "model", ignore_errors=True)
        if _killed(lambda: resume(run), dice.uniform(0, 0.15), after=lambda: _writes_the_model(run)):
            killed += 1
        if (run / "model").exists():
            load_model(run / "model").network()
    _undisturbed(lambda: resume(run))
    _compare_runs(run, whole)
    return killed


def kills_in_a_batch(folder: Path, kills: int, dice: random.Random) -> int:
    """How often a batch was killed; each label file is whole or not there, and in the end all are those of a whole batch."""
    run, out, expected = folder / "whole", folder / "out", folder / "expected"
    _begin_run(run, folder)
    _undisturbed(lambda: resume(run))
    images = sorted((folder / "cases").glob("*-image.nii.gz"))

    def segment(into: Path) -> object:
        return segment_files(load_model(run / "model"), images, into, Options("cpu", precision="float32"))

    began = time.monotonic()
    _undisturbed(lambda: segment(expected))
    usual = time.monotonic() - began
    hashes = _hashes(expected)
    killed = 0
    for _ in range(kills):
        for done in sorted(out.glob("*.nii.gz")):
            if dice.random() < 0.7:
                done.unlink()
        killed += _killed(lambda: segment(out), dice.uniform(0, usual) / 2)
        for name, digest in _hashes(out).items():
            if hashes.get(name) != digest:
                raise Disagreement(f"{name} is not the file that an undisturbed batch writes")
    _undisturbed(lambda: segment(out))
    if _hashes(out) != hashes or list(out.glob(".partial-*")):
        raise Disagreement("the batch has ended with other files")
    return killed


def full_disks(folder: Path, times: int, dice: random.Random) -> int:
    """How often a run was paused by a disk that takes no more; it goes on and ends as one with room enough.

    A disk is made of memory where that is allowed (root, Linux); else no file may become as large as a checkpoint.
    """
    whole, disk = folder / "whole", folder / "disk"
    _begin_run(whole, folder)
    _undisturbed(lambda: resume(whole))
    size = (whole / "checkpoints/last.pt").stat().st_size
    disk.mkdir()
    with _small_disk(disk, 40 * size) as is_disk:
        run = disk / "run"
        _begin_run(run, folder, cache=folder / "cache")
        paused = 0
        for _ in range(times):
            filler = disk / "filler"
            if is_disk:
                filler.write_bytes(bytes(max(shutil.disk_usage(disk).free - dice.randrange(1, 3 * size), 0)))
            limit = None if is_disk else dice.randrange(2**10, size)
            code = _undisturbed(lambda limit=limit: _resumed_with_limit(run, limit), allowed=(0, 2))
            filler.unlink(missing_ok=True)
            if code == 2:
                paused += 1
                last = list(read_events(run / "events.jsonl"))[-1:]
                if last and last[0]["kind"] not in (
                    "paused",
                    "checkpoint",
                    "loss",
                    "progress",
                    "started",
                    "snapshot",
                    "validation",
                ):
                    raise Disagreement(f"a full disk ended the run with {last}")
        _undisturbed(lambda: resume(run))
        _compare_runs(run, whole, events=False)
    return paused


def damaged_files(folder: Path, times: int, dice: random.Random) -> tuple[int, int]:
    """How often a run with a damaged file went on and ended as the whole one, and how often it was refused in a line.

    Damaged best weights are looked for anew, so other ones may be found; that must be told.
    """
    whole, half = folder / "whole", folder / "half"
    for path in (whole, half):
        _begin_run(path, folder, cache=folder / "cache")
    _undisturbed(lambda: resume(whole))
    _killed(lambda: resume(half), 0.0, after=lambda: _last_step(half) >= STEPS // 2)
    same = refused = 0
    for number in range(times):
        run = folder / "damaged"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(half, run)
        files = sorted(file for file in run.rglob("*") if file.is_file() and file.name != ".lock")
        file = dice.choice(files)
        damage = dice.choice(
            [_cut, _empty, _overwritten, _flipped] if file.suffix != ".json" else [_cut, _empty, _overwritten]
        )
        damage(file, dice)
        code = _undisturbed(lambda run=run: _resumed_with_limit(run, None), allowed=(0, 2))
        if code == 2:
            refused += 1
            continue
        same += 1
        try:
            if file.name != "best.safetensors":
                _compare_runs(run, whole, events=False)
            elif not any("best.safetensors" in event["message"] for event in read_events(run / "events.jsonl")
                         if event["kind"] == "notice"):  # fmt: skip
                raise Disagreement("other weights became the best without a notice")
        except Disagreement as error:
            raise Disagreement(f"{number}: {damage.__name__} {file.relative_to(run)}: {error}") from error
    return same, refused


# -- What is killed


def _begin_run(run: Path, folder: Path, cache: Path | None = None) -> None:
    cohort = _cohort(folder)
    config = small_config("mean-teacher", steps=STEPS, checkpoint_every=2, validate_every=10)
    RunDirectory.create(run, config, cohort, make_plan(), cache, None)


def _cohort(folder: Path) -> Any:
    """The same each time; made in a process of its own, since ITK's threads do not outlive a fork."""
    return make_cohort(folder / "cases", labeled=2, unlabeled=2, validation=1)


def _resumed_with_limit(run: Path, largest_file: int | None) -> None:
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        resume(run)
    except DinomixError as error:
        if "\n" in str(error) or not error.remedy:
            raise Disagreement(f"no sentence: {error}") from error
        sys.exit(2)


def _writes_the_model(run: Path) -> bool:
    return any(run.glob(".partial-*model*")) or _last_event(run) == "progress"


def _last_event(run: Path) -> str:
    return next((event["kind"] for event in reversed(list(read_events(run / "events.jsonl")))), "")


def _last_step(run: Path) -> int:
    return max(
        (event["step"] for event in read_events(run / "events.jsonl") if event["kind"] == "checkpoint"), default=0
    )


@contextlib.contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Make ``folder`` a disk of ``size`` bytes; whether that could be done."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode
    try:
        yield made == 0
    finally:
        if made == 0:
            subprocess.run(["umount", str(folder)], check=True)


# -- Damage


def _cut(file: Path, dice: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: dice.randrange(max(file.stat().st_size, 1))])


def _empty(file: Path, dice: random.Random) -> None:
    file.write_bytes(b"")


def _overwritten(file: Path, dice: random.Random) -> None:
    file.write_bytes(dice.randbytes(dice.randrange(1, 3000)))


def _flipped(file: Path, dice: random.Random) -> None:
    data = bytearray(file.read_bytes() or b"x")
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


# -- Processes


def _process(work: Work) -> Any:
    def quiet() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.set_num_threads(1)
        work()

    # Forked: importing PyTorch anew for each would take longer than all else.
    process = multiprocessing.get_context("fork").Process(target=quiet)
    process.start()
    return process


def _undisturbed(work: Work, allowed: tuple[int, ...] = (0,)) -> int:
    process = _process(work)
    process.join(PATIENCE)
    if process.exitcode not in allowed:
        process.kill()
        raise Disagreement(f"a process that was let be has ended with {process.exitcode}")
    return int(process.exitcode)


def _killed(work: Work, seconds: float, after: Callable[[], bool] | None = None) -> bool:
    """Begin something and kill it some seconds later, or some seconds after ``after`` is so; whether it still ran."""
    process = _process(work)
    until = time.monotonic() + PATIENCE
    while after is not None and process.is_alive() and not after() and time.monotonic() < until:
        time.sleep(0.002)
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode == 0:
        return False  # it was done before
    if process.exitcode != -signal.SIGKILL:
        raise Disagreement(f"begun again after a kill, it has ended with {process.exitcode}")
    return True


# -- What came out


def _compare_runs(run: Path, whole: Path, *, events: bool = True) -> None:
    one, other = (load_model(path / "model").weights for path in (run, whole))
    if one.keys() != other.keys() or not all(torch.equal(tensor, other[name]) for name, tensor in one.items()):
        raise Disagreement("the final weights are others")
    if leftovers := [str(path.relative_to(run)) for path in run.rglob(".partial-*")]:
        raise Disagreement(f"left behind: {leftovers}")
    for kind in ("loss", "pseudo_label", "validation") if events else ():
        if _told(run, kind) != _told(whole, kind):
            raise Disagreement(f"the events of kind {kind} are others")


def _told(run: Path, kind: str) -> list[dict[str, Any]]:
    events = [event for event in read_events(run / "events.jsonl") if event["kind"] == kind]
    return [{key: value for key, value in event.items() if key not in ("time", "seconds")} for event in events]


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.nii.gz")}


PARTS: dict[str, Callable[[Path, int, random.Random], object]] = {
    "training": kills_in_training,
    "model": kills_in_writing_the_model,
    "batch": kills_in_a_batch,
    "disk": full_disks,
    "files": damaged_files,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARTS)
    asked = parser.parse_args()
    import_monai_for_networks()
    for part, campaign in PARTS.items():
        if asked.only not in (None, part):
            continue
        with tempfile.TemporaryDirectory(prefix="dinomix-kills-") as folder:
            began = time.monotonic()
            done = campaign(Path(folder), asked.kills, random.Random(asked.seed))
            print(f"{part}: {done} of {asked.kills}, nothing lost, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
