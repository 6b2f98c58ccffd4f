"""Ensembles and mirror images: probabilities averaged window by window, against the same computed naively."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import write_nnunet
from monai_alone import assert_same_labels

from dinomix.errors import DinomixError
from dinomix.images.reading import read_image
from dinomix.importing.converted import write_converted
from dinomix.importing.nnunet import read_nnunet
from dinomix.inference.memory import network_within
from dinomix.inference.mirroring import axes_without_sides, mirrored
from dinomix.inference.segment import segment_volume
from dinomix.inference.sliding_window import predict_logits
from dinomix.inference.windows import Layout, importance
from dinomix.labels import LabelSet
from dinomix.models.averaged import Averaged
from dinomix.models.ensemble import join_models
from dinomix.models.folder import Model, load_model
from dinomix.planning.plan import Plan, SpacingGrid
from dinomix.planning.preprocessing import preprocess
from dinomix.training.arranging import arrange
from random_models import labels_with_ids, random_model, small_plan
from tiny_cohort import make_cohort, make_plan

PLAN = small_plan(SpacingGrid(spacing=(2.2, 1.9, 3.5)))
FLIPS = [flip for count in range(3) for flip in itertools.combinations((2, 4), count)]


@pytest.fixture(scope="module")
def image(test_data: Path) -> Path:
    return min((test_data / "hippocampus/images").glob("*.nii.gz"))


@pytest.fixture(scope="module")
def members(image: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Two networks of different sizes; the second has its structures in another order."""
    folder = tmp_path_factory.mktemp("members")
    larger = PLAN.model_copy(update={"network": {**PLAN.network, "filters": [8, 8, 8]}})
    turned = LabelSet.from_names({1: "posterior", 4: "anterior"})
    return [
        random_model(folder / "first", PLAN, LabelSet.from_names({1: "anterior", 2: "posterior"}), image, seed=1),
        random_model(folder / "second", larger, turned, image, seed=2),
    ]


@pytest.fixture(scope="module")
def ensemble(members: list[Model], tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("joined") / "ensemble"
    join_models([member.path for member in members], folder)
    return load_model(folder)


def naive(
    networks: list[torch.nn.Module], orders: list[list[int]], tensor: torch.Tensor, plan: Plan, flips: list
) -> torch.Tensor:
    """The blended logarithms of mean probabilities, (channels, x, y, z), window by window."""
    layout = Layout.of(tensor.shape[1:], plan)
    weights = torch.from_numpy(importance(plan.patch, plan.blend))
    padded = torch.zeros(len(tensor), *layout.size)
    inside = tuple(slice(before, before + side) for before, side in zip(layout.before, tensor.shape[1:], strict=True))
    padded[(slice(None), *inside)] = tensor
    sums, counts = torch.zeros(3, *layout.size, dtype=torch.float64), torch.zeros(layout.size, dtype=torch.float64)
    for start in itertools.product(*layout.starts):
        here = tuple(slice(at, at + side) for at, side in zip(start, plan.patch, strict=True))
        window = padded[(slice(None), *here)][None]
        seen = [
            torch.softmax(network(window.flip(flip)).flip(flip).double(), 1)[0, order]
            for network, order in zip(networks, orders, strict=True)
            for flip in flips
        ]
        sums[(slice(None), *here)] += torch.stack(seen).mean(0).log() * weights
        counts[here] += weights
    return (sums / counts)[(slice(None), *inside)]


def test_probabilities_are_averaged_window_by_window(members: list[Model], ensemble: Model, image: Path) -> None:
    tensor = preprocess(read_image(image), PLAN).tensor
    orders = [[0, 1, 2], [0, 2, 1]]
    with torch.no_grad():
        expected = naive([m.network() for m in members], orders, tensor, PLAN, [()])
        mirrors = naive([m.network() for m in members], orders, tensor, PLAN, FLIPS)
    found = predict_logits(ensemble.network(), tensor, ensemble.plan, "cpu")
    assert (found - expected).abs().max() < 1e-4
    assert (found - predict_logits(members[0].network(), tensor, PLAN, "cpu")).abs().max() > 0.1
    of_mirrors = predict_logits(mirrored(ensemble.network(), (2, 4)), tensor, ensemble.plan, "cpu")
    assert (of_mirrors - mirrors).abs().max() < 1e-4 and (of_mirrors - found).abs().max() > 0.01


def test_one_network_gives_the_bits_of_the_model(members: list[Model], image: Path) -> None:
    window = torch.randn(1, 1, 32, 32, 32)
    network = members[0].network()
    with torch.no_grad():
        assert torch.equal(Averaged([network])(window), network(window))


def test_networks_in_turns_are_the_same_and_chosen_where_memory_is_short(ensemble: Model, image: Path) -> None:
    volume = read_image(image)
    together = segment_volume(volume, ensemble, device="cpu", precision="float32").array
    in_turns = ensemble.network_in_turns()
    for precision in ("float32", "bfloat16"):
        expected = segment_volume(volume, ensemble, device="cpu", precision=precision).array
        found = segment_volume(volume, ensemble, device="cpu", precision=precision, network=in_turns).array
        assert np.array_equal(found, expected)
        assert all(p.device.type == "meta" for each in in_turns.networks for p in each._skeleton[0].parameters())
    # Twice: nothing is left of what bfloat16 needed.
    assert np.array_equal(
        segment_volume(volume, ensemble, device="cpu", precision="float32", network=in_turns).array, together
    )
    kinds = [type(network_within(ensemble, limit).networks[0]).__name__ for limit in (None, 1)]
    assert kinds == ["DynUNet", "FromFile"]


def test_an_ensemble_is_a_model_like_any_other(
    ensemble: Model, members: list[Model], image: Path, tmp_path: Path, run_bundle: Callable[..., None]
) -> None:
    run_bundle(ensemble, tmp_path, "--image", str(image))
    assert_same_labels(ensemble, image, tmp_path / "out" / image.name.replace(".nii.gz", "_seg.nii.gz"))
    assert json.loads((ensemble.path / "manifest.json").read_text())["version"] == 4
    # An ensemble and a model make a larger ensemble, in which each network counts alike.
    join_models([ensemble.path, members[0].path], tmp_path / "three")
    assert len(load_model(tmp_path / "three").members) == 3
    (ensemble.path / "models/network_2.safetensors").rename(tmp_path / "aside")
    with pytest.raises(DinomixError, match=r"network_2\.safetensors is missing"):
        load_model(ensemble.path)
    (tmp_path / "aside").rename(ensemble.path / "models/network_2.safetensors")


def test_windows_overlap_as_far_as_any_member_needs(members: list[Model], image: Path, tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"overlap": (0.25, 0.6, 0.25)})
    less = random_model(tmp_path / "less", plan, members[0].labels, image, seed=3)
    join_models([less.path, members[0].path], tmp_path / "joined")
    assert load_model(tmp_path / "joined").plan.overlap == tuple(map(max, PLAN.overlap, plan.overlap))


def test_what_cannot_be_averaged_is_refused(members: list[Model], image: Path, tmp_path: Path) -> None:
    coarse = random_model(tmp_path / "coarse", small_plan(SpacingGrid(spacing=(3, 3, 3))), members[0].labels, image)
    other = random_model(tmp_path / "other", PLAN, labels_with_ids(1, 2), image)
    for model, problem in ((coarse, "differ in the grid"), (other, "do not know the same structures")):
        with pytest.raises(DinomixError, match=problem):
            join_models([members[0].path, model.path], tmp_path / "out")
    with pytest.raises(DinomixError, match="is no ensemble"):
        join_models([members[0].path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_folds_of_nnunet(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", {"liver": 1, "tumor": 2})
    for fold in ("fold_1", "fold_all"):
        write_nnunet(tmp_path / fold, {"liver": 1, "tumor": 2})
        (tmp_path / fold / "fold_0").rename(source / fold)
    converted = read_nnunet(source, all_folds=True)
    write_converted(converted, tmp_path / "model", source)
    model = load_model(tmp_path / "model")
    assert model.record["fold"] == "fold_0, fold_1" and "fold_0, fold_1 are averaged" in " ".join(model.record["notes"])
    window = torch.randn(1, 1, *model.plan.patch)
    singles = [read_nnunet(source, fold=fold) for fold in "01"]
    with torch.no_grad():
        each = []
        for single in singles:
            network = model.members[0].network()
            network.load_state_dict(single.weights)
            each.append(torch.softmax(network(window), 1))
        assert torch.allclose(model.network()(window).exp(), (each[0] + each[1]) / 2, atol=1e-5)
    with pytest.raises(DinomixError, match="cannot be taken at once"):
        read_nnunet(source, fold="1", all_folds=True)


def test_left_and_right_are_never_exchanged(members: list[Model]) -> None:
    sided = LabelSet.from_names({1: "left kidney", 2: "right kidney"})
    plain, trained = members[0], {"mirrored_axes": ["x", "y", "z"]}
    with pytest.raises(DinomixError, match="not trained with mirror images"):
        axes_without_sides(plain)
    assert axes_without_sides(replace(plain, record={"config": {"mirror": True, "flips": ["z"]}})) == (2, 4)
    assert axes_without_sides(replace(plain, record=trained)) == (2, 3, 4)
    assert axes_without_sides(replace(plain, record=trained, labels=sided)) == (3, 4)
    with pytest.raises(DinomixError, match="not trained with mirror images"):
        axes_without_sides(replace(plain, record={"config": {"mirror": True}}, labels=sided))


def test_a_training_starts_from_the_first_network(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cases")
    cohort.write(tmp_path / "cohort.json")
    models = [random_model(tmp_path / str(seed), make_plan(), cohort.labels, seed=seed) for seed in (1, 2)]
    assert not {"more_networks", "clean_up"} & set(json.loads((models[0].path / "plan.json").read_text()))
    join_models([model.path for model in models], tmp_path / "both")
    notices: list[str] = []

    def emit(kind: str, **fields: Any) -> None:
        notices.append(fields.get("message", ""))

    made = arrange(tmp_path / "cohort.json", method="labeled-only", start=tmp_path / "both", device="cpu", emit=emit)
    assert made.plan.networks == models[0].plan.networks and "an ensemble of several networks" in " ".join(notices)
    assert all(torch.equal(weight, models[0].weights[name]) for name, weight in made.weights.items())
