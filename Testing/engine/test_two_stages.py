"""Segmenting in two stages: where the boxes lie, and that nothing but they changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.importing.installing import import_model, verify
from dinomix.inference.any_grid import segment_array
from dinomix.inference.batch import segment_files
from dinomix.inference.boxes import boxes_around
from dinomix.inference.options import Options
from dinomix.inference.places import box_at, learned_places, measures
from dinomix.inference.segment import segment_volume
from dinomix.inference.two_stages import brightness
from dinomix.labels import LabelSet
from dinomix.models.archive import export_model
from dinomix.models.folder import Model, load_model
from dinomix.models.graph import carried_graph
from dinomix.models.installed import describe_model
from dinomix.models.manifest import MANIFEST
from dinomix.models.network import build_network
from dinomix.models.silence import is_installed
from dinomix.models.writing import write_model
from dinomix.planning.in_words import in_words
from dinomix.planning.networks import planned_network
from dinomix.planning.plan import PercentileWindow, Place, Plan, RangeWindow, SecondStage
from dinomix.planning.planning import make_plan, override_plan
from dinomix.planning.preprocessing import nearest_to_ras
from dinomix.planning.topology import topology
from tiny_cohort import make_cohort

LABELS = LabelSet.from_names({2: "liver", 3: "adrenal_gland_left", 7: "adrenal_gland_right"})
THIN = ("adrenal_gland_left", "adrenal_gland_right")
AIR, LIVER, LEFT, RIGHT = 0.0, 100.0, 200.0, 300.0


def plan_of(spacing: float, **fields: Any) -> Plan:
    network = planned_network(topology((16, 16, 16), (1, 1, 1)), 2)
    grid = {"kind": "spacing", "spacing": [spacing] * 3}
    window = {"kind": "range", "low": 0, "high": 300}
    data = {"modality": "CT", "grid": grid, "window": window, "patch": [16] * 3, "network": network, "reasons": {}}
    return override_plan({**data, **fields}, {})


def two_stage_plan(**fields: Any) -> Plan:
    second = SecondStage(plan=plan_of(1.0), structures=THIN, **{"margin": 4.0, **fields})
    return plan_of(3.0, second=second.model_dump(mode="json"))


class ByIntensity(nn.Module):
    """The class whose intensity a voxel has, of 0 to 3; the second stage's network gives the liver's voxels the last."""

    def __init__(self, liver: int = 1) -> None:
        super().__init__()
        self.unused = nn.Conv3d(1, 1, 1)
        self.classes = [0, liver, 2, 3]

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        nearest = (windows[:, 0] * 3).round().long().clamp(0, 3)
        return nn.functional.one_hot(torch.tensor(self.classes)[nearest], 4).movedim(-1, 1).float()


@pytest.fixture
def model() -> Model:
    """The first stage says what it sees, the second calls the liver right adrenal gland."""
    plan = two_stage_plan()
    made = Model(Path("nowhere"), LABELS, plan, {}, {}, {})
    assert made.second is not None
    made.__dict__["warm_network"], made.second.__dict__["warm_network"] = ByIntensity(), ByIntensity(liver=3)
    return made


def segmented(volume: Volume, model: Model, **options: Any) -> np.ndarray:
    return segment_volume(volume, model, device="cpu", precision="float32", network=model.warm_network, **options).array


def scan(
    size: tuple[int, int, int] = (60, 60, 60), *, gland: bool = True, direction: np.ndarray | None = None
) -> Volume:
    """(k, j, i): all liver, with a left gland of 6 x 6 x 6 mm in it."""
    array = np.full(size, LIVER, np.float32)
    if gland:
        array[20:26, 30:36, 12:18] = LEFT
    geometry = Geometry(size[::-1], (1.0, 1.0, 1.0), (-3.0, 5.0, 20.0), np.eye(3) if direction is None else direction)
    return Volume(array, geometry)


def of_first(model: Model) -> Model:
    alone = Model(model.path, LABELS, model.plan.of_first, {}, {})
    alone.__dict__["warm_network"] = model.warm_network
    return alone


TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])


@pytest.mark.parametrize("direction", [np.eye(3), TURN, TURN[:, [2, 0, 1]], -TURN[:, [1, 2, 0]]])
def test_only_the_box_changes_on_any_grid(model: Model, direction: np.ndarray) -> None:
    volume = scan(direction=direction)
    first, both = segmented(volume, of_first(model)), segmented(volume, model)
    assert both.shape == volume.array.shape and (first[20:26, 30:36, 12:18] == 3).sum() > 50
    box = np.zeros(both.shape, bool)
    found = np.argwhere(first == 3)
    low, high = found.min(0) - 4, found.max(0) + 5
    box[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    assert np.array_equal(both[~box], first[~box])
    # In the box as the second stage has it, to the voxel: what the first has blurred is sharp.
    gland = volume.array == LEFT
    assert (both[box & gland] == 3).all() and (both[box & ~gland] == 7).all()


def test_a_sheared_grid_gets_its_labels_too(model: Model) -> None:
    affine = np.eye(4)
    affine[0, 2] = 0.2
    labels, notices = segment_array(
        scan().array, affine, model, Options("cpu", precision="float32"), networks=[model.warm_network]
    )
    assert notices and labels.shape == (60, 60, 60) and (labels == 7).any() and (labels == 2).any()


def test_where_nothing_is_found_nothing_changes(model: Model) -> None:
    told: list[tuple[int, int]] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "progress":
            told.append((fields["step"], fields["total"]))

    labels = segmented(scan(gland=False), model, emit=emit)
    assert (labels == 2).all() and told[-1][0] == told[-1][1]


def test_one_bar_over_both_stages(model: Model) -> None:
    told: list[dict[str, Any]] = []
    segmented(scan(), model, emit=lambda kind, **fields: told.append(fields) if kind == "progress" else None)
    steps = [fields["step"] for fields in told]
    assert steps == sorted(steps) and {fields["stage"] for fields in told} == {"segmenting"}
    assert told[-1]["step"] == told[-1]["total"] and steps[0] == 0 and all(f["step"] <= f["total"] for f in told)


def test_a_limit_to_the_memory_holds_for_both(model: Model) -> None:
    with pytest.raises(DinomixError, match="allowed"):
        segmented(scan(), model, max_memory=2**20)


def labels_with(*places: tuple[int, slice, slice, slice], size: int = 80) -> tuple[np.ndarray, Geometry]:
    labels = np.zeros((size, size, size), np.uint8)
    for value, *box in places:
        labels[tuple(box)] = value
    return labels, Geometry((size,) * 3, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))


def test_boxes_reach_a_margin_and_show_a_patch() -> None:
    second = two_stage_plan().second
    assert second is not None
    place = slice(40, 45), slice(2, 30), slice(70, 78)
    [box] = boxes_around(*labels_with((3, *place)), second, LABELS)
    assert box.refined == (slice(36, 49), slice(0, 34), slice(66, 80))
    # At least the 16 mm of a patch, and a margin around what is relabeled, within the image.
    assert box.seen == (slice(32, 53), slice(0, 38), slice(62, 80))
    small = boxes_around(*labels_with((3, *[slice(40, 41)] * 3)), second.model_copy(update={"margin": 1.0}), LABELS)
    assert [side.stop - side.start for side in small[0].seen] == [16, 16, 16]


def test_boxes_that_overlap_become_one_and_specks_get_none() -> None:
    second = two_stage_plan().second
    assert second is not None
    near = (3, slice(10, 16), slice(10, 16), slice(10, 16)), (7, slice(10, 16), slice(10, 16), slice(22, 28))
    speck = (3, slice(70, 71), slice(70, 72), slice(70, 72))
    other = (2, slice(50, 60), slice(50, 60), slice(50, 60))
    [box] = boxes_around(*labels_with(*near, speck, other), second, LABELS)
    assert box.refined == (slice(6, 20), slice(6, 20), slice(6, 32))
    far = (7, slice(60, 66), slice(60, 66), slice(60, 66))
    assert len(boxes_around(*labels_with(near[0], far), second, LABELS)) == 2


def test_with_percentiles_a_box_is_as_bright_as_its_image(model: Model) -> None:
    plan = model.plan.model_copy(update={"window": PercentileWindow(lower=0, upper=100)})
    volume = scan()
    part = Volume(volume.array[:10], Geometry((60, 60, 10), (1.0,) * 3, (0.0,) * 3, np.eye(3)))
    assert (
        np.allclose(brightness(volume, plan.window)(part).array, 0)
        and brightness(volume, model.plan.window)(part) is part
    )


def anatomy(shift: int, *, liver: int = 0) -> np.ndarray:
    """(k, j, i): a liver, and a left gland beside it that lies ``shift`` voxels higher than usual."""
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[20 + liver : 40 + liver, 20:40, 20:40] = 2
    labels[42 + liver + shift : 46 + liver + shift, 26:34, 8:12] = 3
    return labels


@pytest.mark.parametrize("direction", [np.eye(3), TURN[:, [2, 0, 1]], -TURN[:, [1, 2, 0]]])
def test_a_place_beside_a_landmark_is_found_on_any_grid(direction: np.ndarray) -> None:
    grid = Geometry((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
    cases = [measures(anatomy(shift), grid, LABELS) for shift in (0, 2)]
    learned = learned_places(cases, THIN)
    assert set(learned) == {"adrenal_gland_left"} and learned["adrenal_gland_left"].landmark == "liver"
    # Another patient, who lies elsewhere, stored along other axes and with other voxels.
    ras = np.repeat(anatomy(1, liver=5), 2, axis=0)
    reorientation = nearest_to_ras(Geometry((1, 1, 1), (1.0,) * 3, (0.0,) * 3, direction))
    file = reorientation.backward(nearest_to_ras(grid).forward(ras.transpose(2, 1, 0)))
    spacing = [2.0, 2.0, 2.0]
    spacing[reorientation.axes[2]] = 1.0
    geometry = Geometry(file.shape, tuple(spacing), (0.0,) * 3, direction)  # type: ignore[arg-type]
    labels = np.ascontiguousarray(file.transpose(2, 1, 0))
    hidden = np.where(labels == 3, 0, labels).astype(np.uint8)
    box = box_at(learned["adrenal_gland_left"], hidden, geometry, LABELS)
    assert box is not None
    gland = np.argwhere(labels == 3)
    assert (box[0] <= gland.min(0)).all() and (box[1] > gland.max(0)).all()
    assert np.prod(box[1] - box[0]) <= 3 * len(gland)
    assert box_at(learned["adrenal_gland_left"], hidden * 0, geometry, LABELS) is None


def test_what_was_not_found_is_looked_for_where_it_lies(model: Model) -> None:
    assert model.plan.second is not None
    place = Place(landmark="liver", low=(-4.0, -4.0, 10.0), high=(4.0, 4.0, 20.0))
    second = model.plan.second.model_copy(update={"places": {"adrenal_gland_left": place}})
    knowing = Model(Path("nowhere"), LABELS, model.plan.model_copy(update={"second": second}), {}, {}, {})
    assert knowing.second is not None
    knowing.__dict__["warm_network"], knowing.second.__dict__["warm_network"] = ByIntensity(), ByIntensity(liver=3)
    labels = segmented(scan(gland=False), knowing)
    relabeled = np.argwhere(labels == 7)
    # 30 mm is the liver's middle; x and y of RAS run against i and j here. And a margin of 4 mm.
    assert relabeled.min(0).tolist() == [36, 22, 22] and relabeled.max(0).tolist() == [53, 37, 37]
    assert (labels == 7).sum() == 18 * 16 * 16
    seen = segmented(scan(), knowing)
    assert (seen == 3).any() and not (seen[50:] == 7).any()  # found, so not looked for elsewhere


# -- The model folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan, path = two_stage_plan(), tmp_path_factory.mktemp("model") / "model"
    assert plan.second is not None
    torch.manual_seed(0)
    first, second = (build_network(stage, 4).state_dict() for stage in (plan, plan.second.plan))
    write_model(path, plan=plan, labels=LABELS, weights=first, record={}, second_weights=second, graphs=True)
    return path


def test_a_folder_keeps_both_stages_through_a_zip(folder: Path, tmp_path: Path) -> None:
    export_model(folder, tmp_path / "model.zip")
    again = load_model(import_model(tmp_path / "model.zip", name="again", folder=tmp_path / "models"))
    model = load_model(folder)
    assert again.second is not None and model.second is not None and again.plan == model.plan
    for name, weight in model.second.weights.items():
        assert torch.equal(weight, again.second.weights[name])
    assert all((carried_graph(stage.network()) is not None) == is_installed() for stage in again.stages)
    assert describe_model(folder)["problem"] is None and verify(folder) == ""
    result = segment_volume(scan((20, 20, 20)), again, device="cpu").array
    assert np.array_equal(result, segment_volume(scan((20, 20, 20)), model, device="cpu").array)


def test_earlier_versions_are_told_to_update(folder: Path) -> None:
    manifest = (folder / MANIFEST).read_text()
    assert '"version": 2' in manifest and '"models/second.safetensors"' in manifest


def test_a_folder_of_one_stage_is_as_it_was(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(1.0)
    write_model(tmp_path / "one", plan=plan, labels=LABELS, weights=build_network(plan, 4).state_dict(), record={})
    assert '"version": 1' in (tmp_path / "one" / MANIFEST).read_text()
    assert "second" not in (tmp_path / "one/plan.json").read_text()
    assert "first stage" in (folder / "README.md").read_text()
    assert "first stage" not in (tmp_path / "one/README.md").read_text()


def test_a_second_stage_that_was_cut_off_is_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "models/second.safetensors").write_bytes(b"")
    with pytest.raises(DinomixError, match="not what the manifest says"):
        load_model(copy)
    (copy / "models/second.safetensors").unlink()
    with pytest.raises(DinomixError, match="incomplete"):
        load_model(copy)


def test_files_are_segmented_with_what_is_kept(
    model: Model, folder: Path, tmp_path: Path, write_nifti: Callable
) -> None:
    image = write_nifti(scan((20, 20, 20)).array)
    [path] = segment_files(
        load_model(folder), [image], tmp_path / "out.nii.gz", Options("cpu"), keep=("liver",), any_image=True
    )
    assert path.is_file()


# -- The plan


def thin_cohort(folder: Path, mm: dict[str, float]) -> Any:
    cohort = make_cohort(folder, labeled=1, unlabeled=1, validation=0)
    ids = {s.name: s.id for s in cohort.labels.structures}
    thickness = {ids[name]: value for name, value in mm.items()}
    cases = [c.model_copy(update={"thickness": thickness}) if c.label else c for c in cohort.cases]
    return cohort.model_copy(update={"cases": tuple(cases)})


def planned(cohort: Any, **overrides: Any) -> Plan:
    return make_plan(cohort, device_kind="cpu", memory_bytes=2**33, batch=4, overrides=overrides)


def test_a_second_stage_is_recommended_and_made_when_asked_for(tmp_path: Path) -> None:
    cohort = thin_cohort(tmp_path, {"liver": 20.0, "gallbladder": 5.1})
    coarse = {"grid.spacing": [3.0, 3.0, 3.0]}
    one = planned(cohort, **coarse)
    assert one.second is None and "plan.stages=2 adds a second network" in in_words(one)
    two = planned(cohort, stages=2, **coarse)
    assert two.second is not None and two.second.structures == ("gallbladder",)
    assert two.second.plan.grid.spacing == (1.7, 1.7, 1.7)  # type: ignore[union-attr]
    assert two == planned(cohort, stages="auto", **coarse) and Plan.model_validate(two.model_dump(mode="json")) == two
    assert "second network" in in_words(two) and "gallbladder (5.1 mm)" in in_words(two)
    own = planned(thin_cohort(tmp_path, {"gallbladder": 1.0}), stages=2, **coarse, **{"second.margin": 9})
    assert own.second is not None and own.second.plan.grid.spacing == (1.0, 1.0, 1.0)  # type: ignore[union-attr]
    assert own.second.margin == 9 and "the cohort's own" in in_words(own)


def test_without_need_there_is_no_second_stage(tmp_path: Path) -> None:
    thick = thin_cohort(tmp_path, {"liver": 20.0, "gallbladder": 9.5})
    coarse = {"grid.spacing": [3.0, 3.0, 3.0]}
    assert planned(thick, stages="auto", **coarse).second is None and "stages" not in in_words(planned(thick, **coarse))
    for cohort, overrides, why in (
        (thick, {**coarse, "stages": 2}, "no structure is too thin"),
        (thin_cohort(tmp_path, {"gallbladder": 1.0}), {"stages": 2}, "hardly show more"),
        (thin_cohort(tmp_path, {}), {**coarse, "stages": 2}, "how thick the structures are"),
        (thick, {"stages": 3}, "none of 1, 2 and auto"),
    ):
        with pytest.raises(DinomixError, match=why):
            planned(cohort, **overrides)


def test_thick_slices_keep_their_thickness(tmp_path: Path) -> None:
    cohort = thin_cohort(tmp_path, {"gallbladder": 3.0})
    cases = [c.model_copy(update={"spacing": (0.8, 0.8, 8.0)}) for c in cohort.cases]
    plan = planned(cohort.model_copy(update={"cases": tuple(cases)}), stages=2, **{"grid.spacing": [2.0, 2.0, 8.0]})
    assert plan.second is not None and plan.second.plan.grid.spacing == (1.0, 1.0, 8.0)  # type: ignore[union-attr]


def test_a_second_stage_of_mr_takes_what_the_whole_image_was_scaled_to(tmp_path: Path) -> None:
    cohort = thin_cohort(tmp_path, {"gallbladder": 5.0}).model_copy(update={"modality": "MR"})
    plan = planned(cohort, stages=2, **{"grid.spacing": [3.0, 3.0, 3.0]})
    assert plan.window == PercentileWindow() and plan.second is not None
    assert plan.second.plan.window == RangeWindow(low=0, high=1)
