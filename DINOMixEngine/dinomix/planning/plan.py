"""The plan: how an image becomes what the network sees. Computed once, written down, obeyed by training and inference."""

from math import lcm, prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from dinomix.cohort.cohort import MOST_CHANNELS, ChannelName
from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_json, write_json
from dinomix.names import normalized_name

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Intensity = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Millimeters = Annotated[float, Field(ge=0.001, le=100)]
LONGEST_SIDE = 512
"""Voxels of a patch or of a grid of one size."""
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
Overlap = Annotated[float, Field(ge=0, le=0.95)]
MOST_NETWORKS = 32
"""Of an ensemble."""
TRIED_SIDE = 48
"""Side of the piece on which two ways to compute are compared: a quarter of a second's work at most."""
MOST_PATCH_VOXELS = 2**25
"""Four times the largest patch that a published model has."""


class RangeWindow(BaseModel):
    """CT: clip to [low, high] HU, scale to [0, 1]."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["range"] = "range"
    low: Intensity
    high: Intensity

    @model_validator(mode="after")
    def _ordered(self) -> "RangeWindow":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class PercentileWindow(BaseModel):
    """MR: clip to two percentiles (0..100) of the volume itself, scale to [0, 1]; blind to the scale of the scanner."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["percentiles"] = "percentiles"
    lower: float = Field(0.5, ge=0, le=100)
    upper: float = Field(99.5, ge=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> "PercentileWindow":
        if not self.lower < self.upper:
            raise ValueError(f"lower {self.lower} is not below upper {self.upper}")
        return self


class ToRange(BaseModel):
    """Map [low, high] linearly to ``to``; what lies outside is clipped, or goes on along the line."""

    model_config = ConfigDict(extra="forbid")
    step: Literal["range"] = "range"
    low: Intensity
    high: Intensity
    to: tuple[Intensity, Intensity] = (0.0, 1.0)
    clip: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> "ToRange":
        if not (self.low < self.high and self.to[0] < self.to[1]):
            raise ValueError(f"{self.low} to {self.high} cannot be mapped to {self.to}")
        return self


class ZScore(BaseModel):
    """Subtract the volume's mean and divide by its standard deviation; with ``nonzero``, of and for its nonzero voxels."""

    model_config = ConfigDict(extra="forbid")
    step: Literal["z-score"] = "z-score"
    nonzero: bool = False


class MinMax(BaseModel):
    """Map the volume's own minimum and maximum to ``to``."""

    model_config = ConfigDict(extra="forbid")
    step: Literal["min-max"] = "min-max"
    to: tuple[Intensity, Intensity] = (0.0, 1.0)


class Sigmoid(BaseModel):
    """1 / (1 + exp(-v))."""

    model_config = ConfigDict(extra="forbid")
    step: Literal["sigmoid"] = "sigmoid"


class Tanh(BaseModel):
    """limit * tanh(v / limit)."""

    model_config = ConfigDict(extra="forbid")
    step: Literal["tanh"] = "tanh"
    limit: Positive = 3.0


Step = Annotated[ToRange | ZScore | MinMax | Sigmoid | Tanh, Field(discriminator="step")]


class StepsWindow(BaseModel):
    """One step after the other, as models from elsewhere have it; the result need not lie in [0, 1].

    ``on`` says whether the steps see the voxels of the file or those of the network's grid.
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["steps"] = "steps"
    on: Literal["file", "grid"] = "file"
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=32)]


class SpacingGrid(BaseModel):
    """Reorient to the axes of ``orientation``, then resample to ``spacing`` (mm along x, y, z).

    ``orientation`` names the direction in which x, y and z increase; only models from elsewhere have another than RAS.
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["spacing"] = "spacing"
    spacing: tuple[Millimeters, Millimeters, Millimeters]
    orientation: Annotated[str, Field(pattern="^[RL][AP][SI]$")] = "RAS"


class SizeGrid(BaseModel):
    """No reorientation; resize the whole volume to ``size`` (voxels along i, j, k). Only for protocol `dhc-compat`."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["size"] = "size"
    size: tuple[Side, Side, Side]


Window = RangeWindow | PercentileWindow | StepsWindow


class InputChannel(BaseModel):
    """A further image of each case that the network sees beside the first: its name, and how it is scaled."""

    model_config = ConfigDict(extra="forbid")
    name: ChannelName
    modality: Modality
    window: Annotated[Window, Field(discriminator="kind")]


Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Extent = Annotated[float, Field(gt=0, le=1e5)]


class Whereabouts(BaseModel):
    """Where in their volumes the labeled cases have their structures; see ``planning/whereabouts.py``.

    Attributes:
        center, deviation: of the voxels' positions, as shares of the volume along (x, y, z).
        smallest, largest: mm of the labeled volumes along (x, y, z).
    """

    model_config = ConfigDict(extra="forbid")
    center: tuple[Share, Share, Share]
    deviation: tuple[Deviation, Deviation, Deviation]
    smallest: tuple[Extent, Extent, Extent]
    largest: tuple[Extent, Extent, Extent]


class OnePiece(BaseModel):
    """What the labeled cases show in one piece, so that stray pieces of it in a prediction are mistakes.

    Attributes:
        channels: of the structures that are one piece each.
        together: all structures together are one piece, as those of a heart are.
        whereabouts: where that piece lies; None where they are not together, or it is not known.
    """

    model_config = ConfigDict(extra="forbid")
    channels: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    together: bool = False
    whereabouts: Whereabouts | None = None


class CleanUp(BaseModel):
    """Which pieces of a structure stay in a result: the largest alone, or with ``smallest`` those of at least so many ml."""

    model_config = ConfigDict(extra="forbid")
    channel: Annotated[int, Field(ge=1, le=65535)]
    smallest: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None


class Plan(BaseModel):
    """Everything between a file and the network.

    Attributes:
        grid: the grid that the network works on.
        window: intensities to what the network takes, [0, 1] for networks that were trained here; with several images
            of each case, those of the first.
        channel: what the first image is called, such as "t1"; empty where there is one image that needs no name.
        more_channels: the further images of each case, in the order in which the network takes them. As ``channel``,
            written only where there are some, since earlier versions do not know it.
        patch: voxels along (x, y, z) of the network's grid; multiples of ``patch_multiple``.
        overlap: of the sliding window, as a fraction of the patch per axis (x, y, z).
        blend: how overlapping windows are averaged.
        network: as MONAI's bundle configuration names it: {"_target_": ..., arguments}; which ones may be named says
            ``models.network``.
        fkd_stage: the student's stage that is distilled: by how much it is coarser in the plane than the patch, or the
            dotted name of its module.
        one_piece: known once a model is trained; models from elsewhere, and those of earlier versions, say nothing of it.
        reasons: for the reader, why each value was chosen.
        second: what refines the result on a finer grid; None where one network does all. Written only where there is one,
            since earlier versions do not know it.
        clean_up: which pieces are removed from results, as the validation cases of the training have shown to be right. Written
            only where there is such a rule.
        more_networks: of an ensemble, the further networks as ``network`` names the first; they see the same windows, and their
            probabilities are averaged. Written only where there are some, as ``second``.
    """

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    modality: Modality
    grid: Annotated[SpacingGrid | SizeGrid, Field(discriminator="kind")]
    window: Annotated[Window, Field(discriminator="kind")]
    channel: Literal[""] | ChannelName = ""
    more_channels: Annotated[tuple[InputChannel, ...], Field(max_length=MOST_CHANNELS - 1)] = ()
    patch: tuple[Side, Side, Side]
    overlap: tuple[Overlap, Overlap, Overlap] = (0.5, 0.5, 0.5)
    blend: Literal["gaussian", "constant"] = "gaussian"
    network: dict[str, Any]
    fkd_stage: Annotated[int, Field(ge=1, le=512)] | str = 8
    one_piece: OnePiece = OnePiece()
    reasons: dict[str, str] = {}
    second: "SecondStage | None" = None
    clean_up: tuple[CleanUp, ...] = ()
    more_networks: Annotated[tuple[dict[str, Any], ...], Field(max_length=MOST_NETWORKS - 1)] = ()

    @field_validator("fkd_stage", mode="before")
    @classmethod
    def _usual_stage(cls, stage: Any) -> Any:
        return stage or 8  # a text may be left empty

    @model_validator(mode="after")
    def _patch_fits_network(self) -> "Plan":
        if not all(isinstance(network.get("_target_"), str) for network in self.networks):
            raise ValueError("its network has no _target_")
        if prod(self.patch) > MOST_PATCH_VOXELS:
            raise ValueError(
                f"patch {self.patch}: {prod(self.patch):,} voxels; up to {MOST_PATCH_VOXELS:,} are possible"
            )
        multiple = common_multiple(self)
        if any(side < max(8, factor) or side % factor for side, factor in zip(self.patch, multiple, strict=True)):
            factors = multiple[0] if len(set(multiple)) == 1 else " x ".join(map(str, multiple))
            raise ValueError(f"patch {self.patch}: each side must be a multiple of {factors}")
        return self

    @model_validator(mode="after")
    def _channels_have_names(self) -> "Plan":
        if self.more_channels and not self.channel:
            raise ValueError("it has several channels, and the first has no name")
        if len({normalized_name(name) for name in self.channels}) < len(self.channels):
            raise ValueError(f"two channels have the same name ({', '.join(self.channels)})")
        if self.second is not None and self.second.plan.channels != self.channels:
            raise ValueError("its second stage has other channels")
        if self.second is not None and (self.more_networks or self.second.plan.more_networks):
            raise ValueError("it has two stages and several networks for one of them")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What earlier versions do not know is left out where there is none of it."""
        late = ("channel", "more_channels", "second", "clean_up", "more_networks")
        return {key: value for key, value in serialized(self).items() if key not in late or value}

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the images of a case, in the network's order; ("",) where there is one that needs no name."""
        return self.channel, *(channel.name for channel in self.more_channels)

    @property
    def windows(self) -> tuple[Window, ...]:
        """How each channel is scaled, in the network's order."""
        return self.window, *(channel.window for channel in self.more_channels)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Of each channel, in the network's order."""
        return self.modality, *(channel.modality for channel in self.more_channels)

    @property
    def networks(self) -> tuple[dict[str, Any], ...]:
        """All networks of an ensemble; of other models, the one."""
        return self.network, *self.more_networks

    @property
    def members(self) -> tuple["Plan", ...]:
        """A plan for each network."""
        return tuple(self.model_copy(update={"network": each, "more_networks": ()}) for each in self.networks)

    @property
    def of_first(self) -> "Plan":
        """The plan of the first stage alone."""
        return self.model_copy(update={"second": None})

    @classmethod
    def read(cls, path: Path) -> "Plan":
        try:
            return cls.model_validate(read_json(path))
        except (OSError, ValueError) as error:
            raise DinomixError(
                f"{path} is not a plan ({reason_of(error)}).", "Let `dinomix train` write a new one.", "plan-file"
            ) from error

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


Offset = Annotated[float, Field(ge=-10_000, le=10_000)]


class Place(BaseModel):
    """Where a structure lies in the labeled cases: mm from the middle of another, its landmark, along x, y, z in RAS axes."""

    model_config = ConfigDict(extra="forbid")
    landmark: str
    low: tuple[Offset, Offset, Offset]
    high: tuple[Offset, Offset, Offset]


class SecondStage(BaseModel):
    """A second network that sees boxes around what the first has found of some structures, on a finer grid.

    Attributes:
        plan: its grid, window, patch and network.
        structures: names of those around which there are boxes.
        margin: mm around them that it relabels; it sees as much again beyond.
        share: of a run's steps, or time, that it is trained for.
        places: of some of the structures, for a box where the first stage has not found them; known once boxes are cut.
    """

    model_config = ConfigDict(extra="forbid")
    plan: Plan
    structures: Annotated[tuple[str, ...], Field(min_length=1)]
    margin: Annotated[float, Field(ge=0, le=200)] = 15.0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    places: dict[str, Place] = {}

    @field_validator("plan")
    @classmethod
    def _is_the_last(cls, plan: Plan) -> Plan:
        if plan.second is not None or not isinstance(plan.grid, SpacingGrid):
            raise ValueError("a second stage has a spacing, and no stage after it")
        return plan


Plan.model_rebuild()


def takes_one_size(network: dict[str, Any]) -> bool:
    """Whether a network takes patches of one size only."""
    return str(network["_target_"]).endswith(".UNETR")


def takes_windows_only(plan: Plan) -> bool:
    """Whether it is not plain to see that a plan's networks take smaller pieces than its windows."""
    return any(takes_one_size(network) or bool(network.get("resolution")) for network in plan.networks)


def sides_of_a_piece(plan: Plan) -> tuple[int, int, int]:
    """Of what a network is tried on: at least two voxels at its coarsest level, which normalization needs; a window's where it
    takes no other."""
    if takes_windows_only(plan):
        return plan.patch
    x, y, z = (
        min(patch, max(-(-TRIED_SIDE // factor), 2) * factor)
        for patch, factor in zip(plan.patch, common_multiple(plan), strict=True)
    )
    return x, y, z


def common_multiple(plan: Plan) -> tuple[int, int, int]:
    """What the sides of a patch must be multiples of, for all networks of a plan."""
    x, y, z = (lcm(*sides) for sides in zip(*map(patch_multiple, plan.networks), strict=True))
    return x, y, z


def patch_multiple(network: dict[str, Any]) -> tuple[int, int, int]:
    """What the sides of a patch must be multiples of, since the network halves them; 16 where that is not plain to see."""
    name = str(network.get("_target_", "")).rpartition(".")[2]
    strides, blocks = network.get("strides"), network.get("blocks_down")
    if name in ("DynUNet", "UNet", "AttentionUnet", "ResidualEncoderUNet") and isinstance(strides, (list, tuple)):
        levels = [s if isinstance(s, (list, tuple)) and len(s) == 3 else (s, s, s) for s in strides]
        if all(isinstance(side, int) and 0 < side < 16 for level in levels for side in level):
            return prod(x for x, _, _ in levels), prod(y for _, y, _ in levels), prod(z for _, _, z in levels)
    if name == "SwinUNETR" and isinstance(side := network.get("patch_size", 2), int):
        return side**5, side**5, side**5
    if name in ("SegResNet", "SegResNetDS") and isinstance(blocks, (list, tuple)):
        # With a resolution, SegResNetDS halves the fine axes first, and says so itself where a patch does not fit.
        factor = 1 if network.get("resolution") else 2 ** (len(blocks) - 1)
        return factor, factor, factor
    return 16, 16, 16
