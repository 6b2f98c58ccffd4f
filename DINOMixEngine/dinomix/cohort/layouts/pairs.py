"""Images and labels of equal names: in two folders, or side by side in one."""

from collections import defaultdict
from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, core_of
from dinomix.cohort.problems import Problem
from dinomix.images.formats import case_name
from dinomix.images.masks import mask_files


def paired(
    images: list[ImageFile], labels: list[Path], where: Path, pool: Pool, names: dict[int, str], found: Findings
) -> list[FoundCase]:
    """Cases of images and labels with equal names; what has no other half, or several, is a problem."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_core: dict[str, list[Path]] = defaultdict(list)
    for label in labels:
        by_stem[case_name(label)].append(label)
        by_core[core_of(case_name(label))].append(label)
    cases, used = [], set()
    for image in images:
        exact = by_stem.get(image.stem)
        candidates = exact or by_core.get(core_of(image.stem), [])
        used.update(candidates)
        if len(candidates) == 1:
            name = image.stem if exact or core_of(case_name(candidates[0])) == image.stem else core_of(image.stem)
            label = candidates[0]
            drawn = tuple(mask_files(label)) if label.is_dir() else None
            cases.append(
                FoundCase(name, name, pool, image.path, label, image.patient, names, drawn, more_images=image.more)
            )
        elif candidates:
            listed = " and ".join(sorted(path.name for path in candidates))
            found.problems.append(
                Problem(
                    f"{image.path} has several labels: {listed}.", "Keep one of them.", case=image.stem, file=image.path
                )
            )
        else:
            found.problems.append(Problem(
                f"{image.path} has no label in {where}.",
                "Add a label of the same name, or move the image to a folder that is given after --unlabeled.", code="no-label",
                case=image.stem, file=image.path,
            ))  # fmt: skip
    # Of a case that lacks a channel that is told already.
    incomplete = {problem.case for problem in found.problems if problem.code == "channels"}
    found.problems.extend(
        Problem(
            f"{label} has no image.",
            "Add the image of the same name, or take the label away.",
            case=case_name(label),
            file=label,
        )
        for label in labels
        if label not in used and case_name(label) not in incomplete
    )
    return cases
