"""The cohort of a second stage: the parts of a run's cases in which thin structures lie, cut out and written as cases.

Labels say where they lie in labeled and validation cases, the first stage's segmentation in unlabeled ones.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.case_label import read_case_label
from dinomix.cohort.cohort import Case, Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import clear_leftovers, folder_written_aside, read_json, sha256, write_json
from dinomix.images.volume import Volume, cropped
from dinomix.images.writing import write_image
from dinomix.inference.boxes import boxes_around
from dinomix.inference.places import learned_places, measures
from dinomix.inference.segment import segment_volume
from dinomix.inference.two_stages import brightness
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.planning.cache import channels_of, refuse_changed
from dinomix.planning.plan import Place, SecondStage
from dinomix.training.run_directory import RunDirectory

BOXES = "boxes.json"
"""Of a case: its boxes as cases, and of labeled ones where each structure lies."""


def box_cohort(directory: RunDirectory, second: SecondStage, model: Model, device: str, emit: Emit) -> Cohort:
    """Write the boxes of all cases to RUN/second/cases; what an interrupted call has written is kept.

    Args:
        model: the first stage.
        emit: what it raises ends the work between two cases.

    Raises:
        DinomixError: a file cannot be read any more or has changed since it was checked, or no labeled case has a box.
    """
    cohort = directory.cohort
    # What the labeled cases show of places is known before the others are cut.
    wanted = sorted(directory.read_cohort.cases, key=lambda case: case.role != "labeled")
    clear_leftovers(directory.second / "cases")
    boxes: list[Case] = []
    progress = Progress(emit, "cut boxes", len(wanted))
    for number, case in enumerate(wanted, 1):
        folder = _folder(directory, case)
        if not folder.is_dir():
            known = (
                second if case.label is not None else second.model_copy(update={"places": places(directory, second)})
            )
            with folder_written_aside(folder) as aside:
                _write_boxes(case, cohort, known, model, device, aside)
        boxes += [_read_case(folder, data) for data in read_json(folder / BOXES)["boxes"]]
        progress(number)
    if not any(case.role == "labeled" for case in boxes):
        raise DinomixError(
            f"No labeled case shows any of {', '.join(second.structures)}.",
            "Correct --set plan.second.structures.",
            code="plan",
        )
    return cohort.model_copy(update={"cases": tuple(boxes)})


def places(directory: RunDirectory, second: SecondStage) -> dict[str, Place]:
    """Where the structures lie in the labeled cases, whose boxes were cut."""
    cases = [read_json(_folder(directory, case) / BOXES) for case in directory.cohort.with_role("labeled")]
    return learned_places([case["measures"] for case in cases], second.structures)


def _folder(directory: RunDirectory, case: Case) -> Path:
    return directory.second / "cases" / case.name


def _write_boxes(case: Case, cohort: Cohort, second: SecondStage, model: Model, device: str, folder: Path) -> None:
    refuse_changed(case)
    volumes = read_case_images(case, cohort, keep_integers=True)
    grid = volumes[0].geometry
    if case.label is None:
        labels = segment_volume(
            volumes, model, device=device, runtime="pytorch", emit=silent, network=model.warm_network
        )
    else:
        channels = channels_of(read_case_label(case, grid).array, case, model.labels)
        ids = np.array([0, *model.labels.ids, 0, _unlabeled(model.labels)])
        ids = ids.astype(np.uint16 if ids.max() > 255 else np.uint8)
        labels = Volume(ids[channels], grid)
    as_seen = [brightness(volume, window) for volume, window in zip(volumes, model.plan.windows, strict=True)]
    boxes = []
    for number, box in enumerate(boxes_around(labels.array, grid, second, model.labels), 1):
        images = [seen(cropped(volume, box.seen)) for seen, volume in zip(as_seen, volumes, strict=True)]
        boxes.append(_write_box(number, images, cropped(labels, box.seen), case, model.labels, folder))
    whole = case.role == "labeled" and case.labeled_slices is None
    of_labels = measures(labels.array, labels.geometry, model.labels) if whole else {}
    write_json(folder / BOXES, {"boxes": boxes, "measures": of_labels})


def _write_box(number: int, images: list[Volume], label: Volume, case: Case, labels: LabelSet,
               folder: Path) -> dict[str, Any]:  # fmt: skip
    """Write a box as a case; returns what the cohort says of it, with paths relative to ``folder``."""
    label_name = f"label{number}.nrrd"
    names = [f"image{number}.nrrd", *(f"image{number}-{channel}.nrrd" for channel in range(1, len(images)))]
    for name, image in zip(names, images, strict=True):
        write_image(image, folder / name)
    of_box: dict[str, Any] = {
        "name": f"{case.name}-{number}",
        "image": Path(names[0]),
        "more_images": tuple(map(Path, names[1:])),
        "image_sha256": sha256(folder / names[0]),
        "more_image_sha256": tuple(sha256(folder / name) for name in names[1:]),
        "size": images[0].geometry.size,
        "thickness": {},
    }
    if case.label is not None:
        write_image(label, folder / label_name)
        counts = np.bincount(label.array.ravel(), minlength=max(labels.ids) + 1)
        of_box |= {
            "label": Path(label_name),
            "label_sha256": sha256(folder / label_name),
            "voxels": {id: int(counts[id]) for id in labels.ids},
            "label_values": {id: id for id in labels.ids},
            "ignored": (_unlabeled(labels),) if case.ignored or case.labeled_slices is not None else (),
            "labeled_slices": None,
        }
    return case.model_copy(update=of_box).model_dump(mode="json")


def _unlabeled(labels: LabelSet) -> int:
    """The value in a box's label of voxels that nobody labeled."""
    return max(labels.ids) + 1


def _read_case(folder: Path, data: dict[str, Any]) -> Case:
    case = Case.model_validate(data)
    return case.model_copy(
        update={
            "image": folder / case.image,
            "more_images": tuple(folder / image for image in case.more_images),
            "label": folder / case.label if case.label is not None else None,
        }
    )
