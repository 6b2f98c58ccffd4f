"""MONAI imported for its networks alone, as the command line and the worker need it: in a sixth of the time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOT_NEEDED = (
    "clearml", "cucim", "ignite", "itk", "lmdb", "matplotlib", "mlflow", "nibabel", "nrrd", "onnx", "openslide", "pandas",
    "PIL", "pydicom", "pynvml", "scipy", "skimage", "sklearn", "tensorboard", "tensorboardX", "torchvision", "transformers",
)  # fmt: skip
"""What MONAI imports wherever it is installed and does without where it is not; no network of ``NETWORKS`` needs it."""


def import_monai_for_networks() -> None:
    """Import MONAI as if the packages in ``NOT_NEEDED`` were not installed; does nothing where MONAI is there already.

    Only for a process that is this package's own: elsewhere, somebody may want the rest of MONAI.
    """
    if "monai" not in sys.modules:
        with _hidden(NOT_NEEDED):
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
