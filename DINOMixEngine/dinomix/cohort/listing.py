"""A list of cases in a file, for those that lie in no folder of the usual layouts."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from dinomix.cohort.cohort import CaseName, Role
from dinomix.cohort.found import FoundCase
from dinomix.cohort.problems import Problem
from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_json
from dinomix.images.formats import case_name


class ListedCase(BaseModel):
    """One entry: relative paths start at the list's folder; without a name, the image's file gives it."""

    model_config = ConfigDict(extra="forbid")
    image: Path
    label: Path | None = None
    role: Role
    name: CaseName | None = None
    patient: str | None = None


def read_cases(path: Path, problems: list[Problem]) -> list[FoundCase]:
    """The cases of a JSON list; one that lacks the label that its role needs, or comes twice, is a problem, and is left out.

    Raises:
        DinomixError: no such file, or not such a list.
    """
    try:
        entries = TypeAdapter(list[ListedCase]).validate_python(read_json(path))
    except (OSError, ValueError) as error:
        raise DinomixError(
            f"{path} is not a list of cases ({reason_of(error)}).",
            'Write [{"image": "scan.nii.gz", "label": "scan.seg.nrrd", "role": "labeled"}]; "label" may be null.',
        ) from error
    cases: list[FoundCase] = []
    seen, twice = set[Path](), set[Path]()
    for entry in entries:
        image, label = (
            path.absolute().parent / part if part is not None else None for part in (entry.image, entry.label)
        )
        assert image is not None
        name = entry.name or case_name(image)
        if image in seen:
            twice.add(image)
            continue
        seen.add(image)
        if label is None and entry.role != "unlabeled":
            problems.append(Problem(
                f"{image} is a {entry.role} case without a label.", 'Give its label, or the role "unlabeled".',
                case=name, file=image,
            ))  # fmt: skip
            continue
        cases.append(FoundCase(name, name, entry.role, image, label, entry.patient))
    if twice:
        others = f", and {len(twice) - 1} others" if len(twice) > 1 else ""
        problems.append(Problem(f"{path} lists {min(twice)} twice{others}.", "List each image once.", file=path))
    return cases
