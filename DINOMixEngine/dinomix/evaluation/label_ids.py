"""Label files as ids of a label set, matched by name where the files carry names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dinomix.errors import DinomixError
from dinomix.images.reading import is_placed, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.names import listed, normalized_name


def read_ids(path: Path, labels: LabelSet, like: Geometry | None = None, order: Sequence[str] = ()) -> Volume:
    """A label volume whose values are the ids of ``labels``; matched by name where the file carries names.

    A ``.seg.nrrd``, which Slicer crops when it saves, is put back on the voxels of ``like``, and so are DICOM segmentations and
    structure sets; other files are never moved.

    Raises DinomixError when a value or a name is not in ``labels``.
    """
    volume, names = read_label(path, like=like if is_placed(path) else None, order=order)
    return with_ids(volume, names, labels, path)


def with_ids(volume: Volume, names: dict[int, str] | None, labels: LabelSet, path: Path) -> Volume:
    """What ``read_label`` gives, with the ids of ``labels``. Raises as ``read_ids``; ``path`` is for the message."""
    values = [int(value) for value in np.unique(volume.array) if value != 0]
    ids = {normalized_name(s.name): s.id for s in labels.structures}
    if names is None:
        mapping = {value: value for value in values if value in labels.ids}
    else:
        by_name = {value: ids.get(normalized_name(names[value])) for value in values if value in names}
        mapping = {value: id for value, id in by_name.items() if id is not None}
    unknown = [value for value in values if value not in mapping]
    if unknown:
        described = listed(
            [f'{value} "{names[value]}"' if names and value in names else str(value) for value in unknown]
        )
        raise DinomixError(
            f"{path} holds the label {described}, which the label set does not have.",
            "Give the label set of this study with --labels, with every structure that the files hold.",
            code="structures",
        )
    if all(value == id for value, id in mapping.items()):
        return volume
    table = np.zeros(max(values) + 1, dtype=np.uint16)
    table[list(mapping)] = list(mapping.values())
    return Volume(table[volume.array], volume.geometry, volume.notices)
