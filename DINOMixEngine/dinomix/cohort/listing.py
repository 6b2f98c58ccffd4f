"""A list of cases in a file, for those that lie in no folder of the usual layouts."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dinomix.cohort.cohort import Role
from dinomix.cohort.finding import FoundCase
from dinomix.cohort.problems import Problem
from dinomix.errors import DinomixError
from dinomix.images.formats import case_name


class ListedCase(BaseModel):
    """One entry: relative paths start at the list's folder; without a name, the image's file gives it."""

    model_config = ConfigDict(extra="forbid")
    image: Path
    label: Path | None = None
    role: Role
    name: str | None = None
    patient: str | None = None


def read_cases(path: Path, problems: list[Problem]) -> list[FoundCase]:
    """The cases of a JSON list; one that lacks the label that its role needs is a problem, and is left out.

    Raises:
        DinomixError: no such file, or not such a list.
    """
    try:
        entries = TypeAdapter(list[ListedCase]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise DinomixError(
            f"{path} is not a list of cases ({' '.join(str(error).split())[:200]}).",
            'Write [{"image": "scan.nii.gz", "label": "scan.seg.nrrd", "role": "labeled"}]; "label" may be null.',
        ) from error
    cases = []
    for entry in entries:
        image, label = (
            path.absolute().parent / part if part is not None else None for part in (entry.image, entry.label)
        )
        assert image is not None
        name = entry.name or case_name(image)
        if label is None and entry.role != "unlabeled":
            problems.append(Problem(
                f"{image} is a {entry.role} case without a label.", 'Give its label, or the role "unlabeled".',
                case=name, file=image,
            ))  # fmt: skip
            continue
        cases.append(FoundCase(name, name, entry.role, image, label, entry.patient))
    return cases
