"""What a client may ask for, checked before anything is computed. docs/worker.md describes it."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, TypeAdapter, ValidationError

from dinomix.errors import DinomixError
from dinomix.images.formats import Format
from dinomix.inference.options import Options, Precision, RuntimeName
from dinomix.worker.stream import short

Row = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
Affine = tuple[Row, Row, Row, Row]
Shape = tuple[PositiveInt, PositiveInt, PositiveInt]


class _Job(BaseModel):
    """``more_models``: those that come after ``model``, see ``inference.several_models``."""

    job: str
    model: Path
    more_models: tuple[Path, ...] = ()


class _Computing(_Job):
    """With ``inside`` only a box is computed, see ``Models``; the others as ``Options`` has them."""

    device: str = "auto"
    max_memory: PositiveInt | None = None
    precision: Precision = "auto"
    runtime: RuntimeName = "auto"
    all_pieces: bool = False
    mirror: bool = False
    clean_up: dict[str, str] = {}
    inside: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})


class Load(_Job):
    """Load a model and keep it warm."""

    type: Literal["load"]


class Estimate(_Computing):
    """How long segmenting takes. ``shape`` is (k, j, i); ``affine_ras`` maps (i, j, k, 1) to RAS mm."""

    type: Literal["estimate"]
    shape: Shape
    affine_ras: Affine


class ArrayImage(BaseModel):
    """An image as an array (k, j, i), in a ``.npy`` file or in frames."""

    shape: Shape
    dtype: str
    affine_ras: Affine
    file: Path | None = None


class ArrayResult(BaseModel):
    """Where the labels go: a ``.npy`` file, or frames."""

    file: Path | None = None


class Segment(_Computing):
    """Segment an array.

    ``more`` are the further images of its case, in the order of the model's channels. ``any_image``: also where it is plainly no
    image for the model, see ``inference.suitability``.
    """

    type: Literal["segment"]
    image: ArrayImage
    more: tuple[ArrayImage, ...] = ()
    result: ArrayResult
    keep: tuple[str, ...] = ()
    any_image: bool = False


class FileImage(BaseModel):
    """An image file or DICOM folder; None where its files come as frames."""

    path: Path | None = None


class FileResult(BaseModel):
    """Where the labels go: a file or folder, or frames of a file of this format."""

    path: Path | None = None
    format: Format = "seg.nrrd"


class SegmentFile(_Computing):
    """Segment a file; ``more`` and ``any_image`` as ``Segment`` has them. ``regions``: write those of the labels, too."""

    type: Literal["segment_file"]
    image: FileImage
    more: tuple[FileImage, ...] = ()
    out: FileResult
    keep: tuple[str, ...] = ()
    regions: bool = False
    any_image: bool = False
    overwrite: bool = False


JobRequest = Load | Estimate | Segment | SegmentFile
_any_request: TypeAdapter[JobRequest] = TypeAdapter(Annotated[JobRequest, Field(discriminator="type")])


def parse_request(fields: dict[str, Any]) -> JobRequest:
    """A request's fields, checked. Raises DinomixError that names the field at fault."""
    try:
        return _any_request.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "type"
        raise DinomixError(
            f"The worker cannot do this request: {short(where)} is not as it should be ({short(first['msg'])}).",
            "Use the same version of dinomix on both sides; docs/worker.md describes the requests.",
        ) from error
