"""The labels of a result, read again from its file onto the grid on which its image is read."""

from dinomix.evaluation.label_ids import read_ids
from dinomix.images.dicom import series_in_place
from dinomix.images.formats import DICOM_RESULTS
from dinomix.images.overlaps import OTHERS
from dinomix.images.shear import labels_at
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.outputs import Output
from dinomix.labels import LabelSet


def read_again(output: Output, labels: LabelSet, like: Geometry) -> Volume:
    """Structure ids, (k, j, i), on ``like``.

    A result in DICOM lies on the slices of its series, also where these are tilted and ``like`` is not; and the regions in it
    lie over their structures, which are what counts here.

    Raises DinomixError as ``read_ids``.
    """
    if output.format not in DICOM_RESULTS:
        return read_ids(output.path, labels, like)
    order = (*(region.name for region in labels.regions), OTHERS)
    _, own = series_in_place(output.image)
    on_slices = read_ids(output.path, labels, own, order)
    if not own.difference(like):
        return Volume(on_slices.array, like)
    return Volume(labels_at(on_slices.array, own.affine_ras, like.affine_ras, like.size[::-1]), like)
