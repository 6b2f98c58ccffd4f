"""The images of a case, as they were looked at when the cohort was made: all channels on the grid of the first."""

from collections.abc import Sequence
from pathlib import Path

from dinomix.cohort.cohort import Case, Cohort
from dinomix.images.channels import in_one_file, on_first_grid, read_channels
from dinomix.images.volume import Volume


def read_first_image(images: Sequence[Path], *, resample_sheared: bool = False) -> Volume:
    """The first channel of a case's images alone: for its grid, and for pictures.

    Args:
        images: of all channels, since one file may hold them as its volumes.
        resample_sheared: as of ``read_image``.

    Raises:
        DinomixError: as ``images.channels.read_channels``.
    """
    return read_channels(images if in_one_file(images) else images[:1], resample_sheared=resample_sheared)[0]


def read_case_images(case: Case, cohort: Cohort, *, keep_integers: bool = False) -> list[Volume]:
    """One volume for each channel of the cohort, in its order.

    Raises:
        DinomixError: as ``images.channels.read_channels`` and ``on_first_grid``.
    """
    volumes = read_channels(case.images, keep_integers=keep_integers)
    return on_first_grid(volumes, cohort.channel_names)[0]
