"""The documents that the engine reads, right and broken: of cohorts, plans, label sets, models and runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.events import read_events, silent
from dinomix.images.volume import Geometry
from dinomix.importing.installing import import_model
from dinomix.inference.memory import plan_memory
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model
from dinomix.models.installed import describe_model
from dinomix.models.manifest import write_manifest
from dinomix.models.network import build_network
from dinomix.planning.plan import Plan, RangeWindow, SizeGrid, SpacingGrid
from dinomix.training.config import make_config
from dinomix.training.control import Control
from dinomix.training.run_directory import RunDirectory
from dinomix.worker.stream import encode
from fuzzing.mutations import Rng, broken_bytes, broken_document, broken_text, pick, written
from fuzzing.promise import Act, WrongResult
from random_models import labels_with_ids, random_model, small_plan

LABELS = labels_with_ids(1, 2)
PLAN = small_plan(SpacingGrid(spacing=(1.5, 1.5, 1.5)), RangeWindow(low=-150, high=250))


def write_whole_model(path: Path) -> None:
    """The model folder that inputs are made of, or tried with. What PyTorch loads for it, each input finds loaded."""
    torch.set_num_threads(1)  # a process that has begun others cannot be forked
    grid = Geometry((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    plan_memory(grid, random_model(path, PLAN, LABELS), None)


def document(rng: Rng, folder: Path, model: Path) -> Act:
    """One document, with up to three changes, and what reads it."""
    return pick(
        rng, (_labels, _plan, _cohort, _dataset, _dataset, _listed, _run, _run_events, _model, _model, _bundle)
    )(rng, folder, model)


def changed(rng: Rng, document: Any) -> tuple[bytes, bool]:
    """A document's bytes, and whether they are as they should be."""
    changes = int(rng.integers(4))
    for _ in range(changes):
        document = broken_document(rng, document)
    data = written(document)
    if changes and rng.random() < 0.2:
        data = broken_text(rng, data.decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")
    if changes and rng.random() < 0.1:
        data = broken_bytes(rng, data)
    return data, changes == 0


def _labels(rng: Rng, folder: Path, model: Path) -> Act:
    original: Any = pick(
        rng, (LABELS.model_dump(mode="json"), {"1": "liver", "2": "spleen"}, {"labels": {"background": 0, "liver": 1}})
    )
    return _read_and_written_again(rng, folder, original, LabelSet.read)


def _plan(rng: Rng, folder: Path, model: Path) -> Act:
    plan = PLAN if rng.random() < 0.5 else small_plan(SizeGrid(size=(32, 32, 32)), patch=(32, 32, 32))
    act = _read_and_written_again(rng, folder, plan.model_dump(mode="json"), Plan.read)

    def read_and_built(out: Path) -> None:
        act(out)
        build_network(Plan.read(folder / "document.json"), LABELS.channels)

    return read_and_built


def _cohort(rng: Rng, folder: Path, model: Path) -> Act:
    return _read_and_written_again(rng, folder, _whole_cohort(), Cohort.read)


def _whole_cohort() -> Any:
    case: Any = {
        "name": "a", "role": "labeled", "image": "a.nii.gz", "label": "b.nii.gz", "patient": "a", "image_sha256": "0" * 64,
        "label_sha256": "1" * 64, "size": [20, 20, 20], "spacing": [1, 1, 1.5], "orientation": "RAS",
        "intensity": [-100, 0, 200], "foreground_intensity": [0, 50, 100], "voxels": {"1": 30}, "label_values": {"1": 1},
    }  # fmt: skip
    cases = [{**case, "name": str(n), "role": role} for n, role in enumerate(("labeled", "validation", "test"))]
    return {"version": 1, "modality": "CT", "labels": LABELS.model_dump(mode="json"), "seed": 0, "cases": cases}


def _read_and_written_again(rng: Rng, folder: Path, original: Any, read: Callable[[Path], Any]) -> Act:
    """What is read of a document must be what is read of it once it has been written again."""
    path = folder / "document.json"
    data, is_whole = changed(rng, original)
    path.write_bytes(data)

    def act(out: Path) -> None:
        found = read(path)
        again = folder / "again.json"
        found.write(again)
        if read(again) != found:
            raise WrongResult("written again, it is read as something else")
        again.unlink()

    return _never_refused(act) if is_whole else act


def _dataset(rng: Rng, folder: Path, model: Path) -> Act:
    """A folder as nnU-Net has it, whose dataset.json may be broken."""
    _write_cases(rng, folder)
    names: Any = pick(
        rng, ({"background": 0, "liver": 1, "spleen": 2}, {"0": "background", "1": "liver", "2": "spleen"})
    )
    original = {
        "name": "study",
        "labels": names,
        "channel_names": {"0": "CT"},
        "file_ending": ".nii.gz",
        "numTraining": 2,
    }
    data, is_whole = changed(rng, original)
    (folder / "dataset.json").write_bytes(data)

    def act(out: Path) -> None:
        cohort = check_cohort([folder], [], [], modality="CT", out=out / "cohort.json")
        said = data.decode("utf-8", "surrogateescape")
        if not all(
            name in said or name.startswith("class_") or json.dumps(name)[1:-1] in said for name in cohort.labels.names
        ):
            raise WrongResult("structures with names that dataset.json does not give")
        if Cohort.read(out / "cohort.json").labels != cohort.labels:
            raise WrongResult("another cohort was written")

    return _never_refused(act) if is_whole else act


def _listed(rng: Rng, folder: Path, model: Path) -> Act:
    """Lists beside the folders: cases, splits, other names."""
    _write_cases(rng, folder)
    option = pick(rng, ("cases_file", "split_file", "renames"))
    image, label = (str(folder / part / "a.nii.gz") for part in ("imagesTr", "labelsTr"))
    original: Any = {
        "cases_file": [{"image": image, "label": label, "role": "labeled"}],
        "split_file": {"labeled": ["a"], "unlabeled": ["b"], "validation": []},
        "renames": {"class_1": "liver", "class_2": None},
    }[option]
    data, _ = changed(rng, original)
    path = folder / "list.json"
    path.write_bytes(data)
    value: Any = str(path) if option == "split_file" else path
    return lambda out: _checked([folder], out, **{option: value})


def _checked(folders: list[Path], out: Path, **options: Any) -> None:
    cohort = check_cohort(folders, [], [], modality="CT", out=out / "cohort.json", **options)
    if len(Cohort.read(out / "cohort.json").cases) != len(cohort.cases):
        raise WrongResult("another cohort was written")


def _write_cases(rng: Rng, folder: Path) -> None:
    """Two labeled cases, written without ITK: a process with its threads cannot be forked."""
    import nibabel

    for name in ("a", "b"):
        label = rng.integers(0, 3, (8, 9, 10)).astype(np.uint8)
        label.flat[:3] = (0, 1, 2)
        image = (rng.normal(0, 30, label.shape) + 50 * label - 100).astype(np.int16)
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            (folder / part).mkdir(exist_ok=True)
            file = nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 2, 1]))
            file.header.set_xyzt_units("mm")
            (folder / part / f"{name}.nii.gz").write_bytes(_gzipped(file.to_bytes()))


def _gzipped(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, 1)


def _run(rng: Rng, folder: Path, model: Path) -> Act:
    """A run's own files."""
    _write_run(folder)
    name = pick(rng, ("config.json", "cohort.json", "plan.json", "request.json"))
    data, is_whole = changed(rng, json.loads((folder / name).read_bytes()))
    (folder / name).write_bytes(data)

    def act(out: Path) -> None:
        RunDirectory.open(folder).forget_events_after(3)
        Control(folder).wish(silent)

    return _never_refused(act) if is_whole else act


def _run_events(rng: Rng, folder: Path, model: Path) -> Act:
    _write_run(folder)
    lines = [
        changed(rng, {"time": 5.0, "kind": pick(rng, ("loss", "progress")), "step": n, "total": 0.5})[0]
        for n in range(8)
    ]
    (folder / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    def act(out: Path) -> None:
        directory = RunDirectory.open(folder)
        directory.forget_events_after(3)
        kept = list(read_events(directory.events))
        if any(isinstance(event.get("step"), int) and event["step"] > 3 for event in kept if "stage" not in event):
            raise WrongResult("an event of a later step was kept")

    return _never_refused(act)


def _write_run(folder: Path) -> None:
    cohort, config = Cohort.model_validate(_whole_cohort()), make_config("mean-teacher", None, None)
    RunDirectory.create(folder, config, cohort, PLAN, None, None)
    (folder / "request.json").write_text('{"request": "pause"}')


def _model(rng: Rng, folder: Path, model: Path) -> Act:
    """A model folder of which one document is broken; its manifest mostly has the hash of the broken one."""
    path = folder / "model"
    shutil.copytree(model, path)
    name = pick(rng, ("labels.json", "plan.json", "record.json", "record.json", "manifest.json"))
    data, is_whole = changed(rng, json.loads((path / name).read_bytes()))
    (path / name).write_bytes(data)
    if name != "manifest.json" and (is_whole or rng.random() < 0.9):
        write_manifest(path)

    def act(out: Path) -> None:
        described = describe_model(path)
        encode({"type": "models", "models": [described]})
        if is_whole and described["problem"]:
            raise WrongResult(f"a whole model is refused: {described['problem']}")
        load_model(path).network()

    return _never_refused(act) if is_whole else act


def _bundle(rng: Rng, folder: Path, model: Path) -> Act:
    """A MONAI bundle, which is what a model folder is without our own documents."""
    path = folder / "bundle"
    shutil.copytree(model, path)
    for own in ("manifest.json", "labels.json", "plan.json", "record.json"):
        (path / own).unlink()
    name = pick(rng, ("configs/inference.json", "configs/metadata.json"))
    data, _ = changed(rng, json.loads((path / name).read_bytes()))
    (path / name).write_bytes(data)
    return lambda out: _imported(path, out)


def _imported(source: Path, out: Path) -> None:
    load_model(import_model(source, name="imported", folder=out)).network()


def _never_refused(act: Act) -> Act:
    from dinomix.errors import DinomixError

    def strict(out: Path) -> None:
        try:
            act(out)
        except DinomixError as error:
            raise WrongResult(f"a whole input was refused: {error}") from error

    return strict
