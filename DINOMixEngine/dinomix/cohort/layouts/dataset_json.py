"""What a data set's own table says of its cases: ``dataset.json`` as nnU-Net and the Decathlon have it, or ``labels.json``."""

from pathlib import Path

from dinomix.cohort.found import Findings
from dinomix.cohort.problems import Problem
from dinomix.errors import reason_of
from dinomix.files import read_table
from dinomix.labels import LabelSet, names_by_id, table_and_regions
from dinomix.names import normalized_name


def names_of(folder: Path, found: Findings) -> dict[int, str]:
    """Voxel value -> name from the folder's ``dataset.json`` or ``labels.json``; nothing where there is none."""
    path = next((folder / name for name in ("dataset.json", "labels.json") if (folder / name).is_file()), None)
    if path is None:
        return {}
    try:
        data = read_table(path)
        channels = data.get("channel_names", data.get("modality", {}))
        if isinstance(channels, dict) and channels and len(found.channels) < 2:
            found.modality = str(next(iter(channels.values()))).upper()
        if "structures" in data:
            label_set = LabelSet.model_validate(data)
            names = dict(zip(label_set.ids, label_set.names, strict=True))
            _add_regions({r.name: tuple(names[id] for id in r.structures) for r in label_set.regions}, found)
            return names
        table, regions = table_and_regions(data)
        names = names_by_id(table)
        _add_regions({region: tuple(names[value] for value in values) for region, values in regions.items()}, found)
        return names
    except (OSError, ValueError) as error:
        found.problems.append(Problem(
            f"The labels of {path} cannot be used ({reason_of(error)}).",
            'Give each structure one number: {"labels": {"1": "liver"}}.',
            file=path,
        ))  # fmt: skip
        return {}


def _add_regions(regions: dict[str, tuple[str, ...]], found: Findings) -> None:
    """Raises ValueError where another folder means other structures by a region's name."""
    for region, parts in regions.items():
        known = found.regions.setdefault(region, parts)
        if set(map(normalized_name, known)) != set(map(normalized_name, parts)):
            raise ValueError(f'the region "{region}" is another one than in the folder before')
