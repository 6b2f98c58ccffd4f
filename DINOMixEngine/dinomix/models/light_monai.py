"""MONAI imported for what the command line and the worker need of it: in a sixth of the time for networks alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOT_NEEDED = (
    "clearml", "cucim", "ignite", "itk", "lmdb", "matplotlib", "mlflow", "nibabel", "nrrd", "onnx", "openslide", "pandas",
    "PIL", "pydicom", "pynvml", "skimage", "sklearn", "tensorboard", "tensorboardX", "torchvision", "transformers",
)  # fmt: skip
"""What MONAI imports wherever it is installed and does without where it is not; nothing that is used of it here needs it."""
FOR_DISTANCES = ("scipy",)
"""What its distances between surfaces need, and no network of ``NETWORKS``."""


def import_monai_for_networks() -> None:
    """Import MONAI as if what its networks do not need were not installed; does nothing where MONAI is there already.

    Only for a process that is this package's own: elsewhere, somebody may want the rest of MONAI.
    """
    _import_without((*NOT_NEEDED, *FOR_DISTANCES))


def import_monai_for_training() -> None:
    """The same with its distances between surfaces, for training and evaluating."""
    _import_without(NOT_NEEDED)


def _import_without(packages: tuple[str, ...]) -> None:
    if "monai" not in sys.modules:
        with _hidden(packages):
            from monai.networks import nets  # noqa: F401


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    there = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]  # which makes importing it an ImportError
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(there)
