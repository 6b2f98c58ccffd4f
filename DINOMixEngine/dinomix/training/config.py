"""The configuration of a training run. Each field says where its default comes from:
[paper] DINO-Mix's abstract, [relatives] the public code of DHC, GenericSSL, SKCDF, BCP and MagicNet, [ours] this project."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dinomix.cohort.cohort import Role
from dinomix.durations import seconds_of
from dinomix.errors import DinomixError
from dinomix.training.methods import MethodName

FkdMode = Literal["on-the-fly", "cached", "off"]
AskedFkd = Literal["auto", FkdMode]
"""What may be asked for; "auto" is decided by the device, see ``arranging``."""
Augment = Literal["off", "narrow", "wide"]
LARGEST_SCALE = 8.0
RATES = {"adamw": 0.003, "sgd": 0.03}
"""The learning rate of each optimizer where none is given. AdamW's is measured in docs/results.md."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PicConfig(_Strict):
    """Progressive Imbalance-aware CutMix; see ``training/pic.py``."""

    enabled: bool = False
    probability: float = Field(0.5, ge=0, le=1, description="chance that a sample receives a box [ours]")
    start: float = Field(0.5, ge=0, lt=1, description="fraction of the steps before labeled patches are mixed [ours]")
    kappa: float = Field(1.0, gt=0, description="b(t) = (t/T)^kappa [ours]")
    box: tuple[float, float] = Field((0.25, 0.67), description="side of the box as a fraction of the patch [ours]")
    tries: int = Field(5, ge=1, description="classes drawn until a donor is found; then a random box [ours]")
    group: int = Field(2, ge=2, description="unlabeled samples that mix among each other [ours]")
    places: int = Field(
        0, ge=0, description="predicted voxels kept per case and class, to cut groups around; 0: off [ours]"
    )
    prior: float = Field(0.1, ge=0, le=1, description="labeled share of the pseudo-label counts [ours]")
    across: bool = Field(False, description="labeled boxes into unlabeled receivers, as BCP does [relatives]")
    across_weight: float = Field(0.5, ge=0, description="weight of the pseudo-labeled region when across [relatives]")
    count_decay: float = Field(0.99, ge=0, lt=1, description="EMA of the pseudo-label counts [relatives: DHC]")

    def progress(self, part: float) -> float:
        """How far the curriculum is, 0 to 1, once ``part`` (0 to 1) of the steps are done."""
        return max(part - self.start, 0.0) / (1 - self.start)


class FkdConfig(_Strict):
    """Foundational Knowledge Distillation; see ``training/fkd.py``."""

    mode: FkdMode = "off"
    teacher: str = Field(
        "vit_base_patch16_dinov3", description="timm name, NAME=FILE, a DINOv3 file, or random[:NAME] [paper]"
    )
    download: bool = Field(False, description="the user read the weights' licence and lets timm fetch them")
    weight: float = Field(1.0, ge=0, description="lambda_f of the first step [ours]")
    weight_end: float | None = Field(None, ge=0, description="lambda_f of the last step, linear; None: the same [ours]")
    uniqueness: bool = Field(True, description="weight positions by semantic uniqueness [paper; formula ours]")
    slice_stride: int = Field(2, ge=1, description="every k-th axial slice goes through the teacher [ours]")
    scale: float | Literal["auto"] = Field(
        "auto",
        description="in-plane enlargement of a slice before the teacher; auto: its tokens resolve the stage [ours]",
    )
    layers: int | tuple[int, ...] | Literal["auto"] = Field(
        "auto",
        description="how many of the teacher's last layers are followed, or which, from the end: -1,-3; auto: the last of a "
        "transformer, the second last of a network whose layers are ever coarser [ours]",
    )
    channels: tuple[str, ...] = Field(
        (), max_length=3, description="of cases with several: those that red, green and blue show, such as t1,t2; of two the "
        "second twice, one alone in gray; by default the first three [ours]"
    )  # fmt: skip
    hounsfield: tuple[float, float] | None = Field(
        None, description="mean and deviation, HU, of a teacher of CTs; None: its backbone's, of pictures [ours]"
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _names(cls, names: Any) -> Any:
        return tuple(name.strip() for name in names.split(",") if name.strip()) if isinstance(names, str) else names

    @model_validator(mode="after")
    def _are_possible(self) -> "FkdConfig":
        if not isinstance(self.scale, str) and not 0.1 <= self.scale <= LARGEST_SCALE:
            raise ValueError(f"scale {self.scale:g} is neither auto nor between 0.1 and {LARGEST_SCALE:g}")
        if self.layers in (0, ()) or (isinstance(self.layers, int) and self.layers < 0):
            raise ValueError(
                f"layers {self.layers} is neither auto, a number of layers nor a list of them, such as -1,-3"
            )
        if self.hounsfield is not None and not self.hounsfield[1] > 0:
            raise ValueError(f"hounsfield {self.hounsfield} has no deviation above 0")
        return self

    def weight_at(self, part: float) -> float:
        """lambda_f once ``part`` (0 to 1) of the steps are done."""
        end = self.weight if self.weight_end is None else self.weight_end
        return self.weight + (end - self.weight) * part


class TrainConfig(_Strict):
    """Everything that decides a run besides cohort and plan."""

    method: MethodName = "dino-mix"
    steps: int | None = Field(None, ge=1, description="optimization steps, with a time at most; 2000 without one")
    time: float | None = Field(
        None, gt=0, description="seconds for the run, or such as 1h30m; steps are fitted to it [ours]"
    )
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    workers: int = Field(0, ge=0, le=8, description="processes that prepare batches beside the step; 0: a thread")

    keep_structures: bool = Field(
        False,
        description="structures of the start model that the labels do not show are kept as it predicts them [ours]",
    )
    kept_by: Literal["probabilities", "labels"] = Field(
        "probabilities",
        description="what of the start model's teaches kept structures; labels where a run has another plan [ours]",
    )
    batch_labeled: int = Field(2, ge=1, description="per process [relatives]")
    batch_unlabeled: int = Field(2, ge=0, description="per process [relatives]")
    foreground_fraction: float = Field(0.33, ge=0, le=1, description="labeled patches centered on a structure [ours]")
    augment: Augment = Field(
        "narrow", description="random changes of shape and intensity; wide: as far as nnU-Net [ours]"
    )
    mirror: bool = Field(False, description="left and right exchanged at random where no structure has a side [ours]")
    flips: tuple[Literal["x", "y", "z"], ...] = Field(
        (), description="axes that are reversed at random whatever they show: a benchmark as published [relatives]"
    )

    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd, with Nesterov's momentum: [relatives] [ours]")
    learning_rate: float = Field(RATES["adamw"], gt=0, description="of sgd 0.03 [relatives]; 0.001 from a model [ours]")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov [relatives]")
    weight_decay: float = Field(3e-5, ge=0, description="[relatives]")
    poly: float = Field(0.9, ge=0, description="learning rate times (1 - t/T)^poly [relatives]")
    clip: float = Field(12.0, gt=0, description="gradient norm, as nnU-Net has it [ours]")

    ema_decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the EMA teacher [relatives]")
    ema_window: float = Field(0.05, gt=0, le=1, description="longest memory of the EMA, as a share of the steps [ours]")
    lambda_max: float = Field(1.0, ge=0, description="weight of the pseudo-label loss at the end [ours]")
    pseudo_label_start: float = Field(0.5, ge=0, lt=1, description="fraction of the steps before pseudo-labels [ours]")
    confidence: float = Field(0.0, ge=0, lt=1, description="pseudo-labels below this probability are ignored; 0 off")

    one_piece: bool = Field(
        True, description="stray pieces of structures that are one in all labeled cases are removed [relatives: BCP]"
    )
    clean_up: bool = Field(
        True, description="pieces are removed from results where validation shows that to be right [ours]"
    )
    cheapest_overlap: bool = Field(
        True, description="windows of the model overlap less where validation shows that to cost nothing [ours]"
    )
    eight_bits: bool = Field(
        False, description="the model gets a graph of 8 bits where validation shows that to cost nothing [ours]"
    )
    wait_until_found: bool = Field(
        True,
        description="no pseudo-labels until the teacher finds what labels teach, and labels teach it little more [ours]",
    )

    unseen_weight: float = Field(
        50.0, ge=1, description="of a voxel of a structure that the teacher does not see yet, at most; 1: off [ours]"
    )

    pic: PicConfig = PicConfig()
    fkd: FkdConfig = FkdConfig()

    # None is a number of steps, or with a time a share of it.
    validate_every: int | None = Field(None, ge=1, description="by default 200 steps, or a tenth of the time")
    checkpoint_every: int | None = Field(None, ge=1, description="by default 100 steps, or a twentieth of the time")
    record_every: int | None = Field(None, ge=1, description="steps between loss and PIC events; by default 10")

    @field_validator("time", mode="before")
    @classmethod
    def _time_in_seconds(cls, value: Any) -> Any:
        try:
            return seconds_of(value) if isinstance(value, str) else value
        except DinomixError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_optimizer(cls, data: Any) -> Any:
        rate = RATES.get(data.get("optimizer", "adamw")) if isinstance(data, dict) else None
        return {"learning_rate": rate, **data} if rate is not None else data

    @model_validator(mode="after")
    def _has_an_end(self) -> "TrainConfig":
        if self.steps is None and self.time is None:
            self.steps = 2000
        return self

    @model_validator(mode="after")
    def _box_is_a_range(self) -> "TrainConfig":
        low, high = self.pic.box
        if not 0 < low <= high <= 1:
            raise ValueError(f"pic.box {self.pic.box} is not a range of fractions between 0 and 1")
        return self

    @model_validator(mode="after")
    def _groups_fit(self) -> "TrainConfig":
        if self.pic.across and self.method == "cps":
            raise ValueError(
                "pic.across needs unlabeled patches that are labeled before the student sees them; not with cps"
            )
        if self.uses_unlabeled and self.pic.enabled and self.batch_unlabeled % self.pic.group and not self.pic.across:
            raise ValueError(f"batch_unlabeled={self.batch_unlabeled} is not a multiple of pic.group={self.pic.group}")
        return self

    @property
    def uses_unlabeled(self) -> bool:
        return self.method != "labeled-only" and self.batch_unlabeled > 0

    @property
    def roles(self) -> tuple[Role, ...]:
        """Of the cases that a run reads."""
        return ("labeled", "validation", *(("unlabeled",) if self.uses_unlabeled else ()))  # type: ignore[return-value]

    @property
    def keeps_by_patches(self) -> bool:
        """Whether the start model is asked about each patch, of what it is to teach."""
        return self.keep_structures and self.kept_by == "probabilities"

    def teacher_decay(self, steps: int) -> float:
        """Decay of the EMA teacher in a run of ``steps``; a memory of 1/(1 - decay) steps must be short beside the run.

        A teacher that averages over a third of a short run lags behind its student, and its pseudo-labels hold the
        student back: see docs/results.md.
        """
        return min(self.ema_decay, 1 - min(1.0, 1 / (self.ema_window * steps)))


def make_config(
    method: MethodName = "dino-mix", pic: bool | None = None, fkd: FkdMode | None = None, **settings: Any
) -> TrainConfig:
    """A configuration from a method, its two switches and any dotted setting (``{"pic.kappa": 2}``).

    ``dino-mix`` is mean-teacher with PIC and FKD on; the other methods have both off unless asked for.
    Raises DinomixError for an unknown setting or an impossible value.
    """
    data: dict[str, Any] = {
        "method": method,
        "pic": {"enabled": pic if pic is not None else method == "dino-mix"},
        "fkd": {"mode": fkd or ("on-the-fly" if method == "dino-mix" else "off")},
    }
    for key, value in settings.items():
        *parents, leaf = key.split(".")
        target = data
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise DinomixError(f"There is no setting {key}.", "See docs/method.md for the settings.")
        target[leaf] = value
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise DinomixError(
            f"{where}: {first['msg'].removeprefix('Value error, ').rstrip('.')}.",
            "See docs/method.md for the settings and their values.",
        ) from error
