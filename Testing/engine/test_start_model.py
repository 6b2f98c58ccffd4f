"""Fine-tuning: classes are matched by name, never by number."""

from pathlib import Path

import pytest
import torch

from dinomix import cli
from dinomix.errors import DinomixError
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model
from dinomix.models.matched_weights import matched_weights
from dinomix.models.matching import matched_channels
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.plan import PercentileWindow, SpacingGrid
from dinomix.training.arranging import arrange
from tiny_cohort import basic_unet_plan, make_cohort, make_plan


@pytest.fixture
def started(tmp_path: Path):
    plan = basic_unet_plan()
    labels = LabelSet.from_names({1: "spleen", 2: "Kidney, right", 4: "liver", 7: "gallbladder"})
    torch.manual_seed(5)
    write_model(tmp_path / "model", plan=plan, labels=labels, weights=build_network(plan, 5).state_dict(), record={})
    return load_model(tmp_path / "model")


def test_output_channels_follow_the_names(started):
    events = []
    wanted = LabelSet.from_names({1: "gallbladder", 2: "pancreas", 3: "liver"})
    weights = matched_weights(started, wanted, started.plan, 0, lambda kind, **fields: events.append(fields))
    name = list(weights)[-2]
    old, new = started.weights[name], weights[name]
    assert new.shape[0] == 4
    assert torch.equal(new[0], old[0]) and torch.equal(new[1], old[4]) and torch.equal(new[3], old[3])
    assert not any(torch.equal(new[2], channel) for channel in old)
    assert all(torch.equal(weights[n], started.weights[n]) for n in list(weights)[:-2])
    assert len(events) == 1 and "pancreas" in events[0]["message"]


def test_equal_names_at_other_numbers_are_permuted(started):
    wanted = LabelSet.from_names({1: "liver", 2: "gallbladder", 3: "spleen", 4: "Kidney, right"})
    weights = matched_weights(started, wanted, started.plan, 0, lambda kind, **fields: None)
    name = list(weights)[-1]
    assert weights[name].tolist() == [started.weights[name][i].item() for i in (0, 3, 4, 1, 2)]


def test_another_network_is_refused(started):
    wider = {**basic_unet_plan().network, "features": [4, 4, 8, 8, 16, 4]}
    plan = basic_unet_plan().model_copy(update={"network": wider})
    with pytest.raises(DinomixError, match="has the shape"):
        matched_weights(started, started.labels, plan, 0, lambda kind, **fields: None)


def test_a_run_is_gentler_with_the_weights_of_a_model(started, tmp_path: Path) -> None:
    make_cohort(tmp_path / "cases").write(tmp_path / "cohort.json")
    told: list[str] = []
    common = {"fkd": "off", "device": "cpu"}

    def emit(kind, **fields):
        told.append(fields.get("message", ""))

    from_start = arrange(tmp_path / "cohort.json", start=started.path, emit=emit, **common)
    assert any("learning rate is 0.001" in message for message in told)
    given = arrange(tmp_path / "cohort.json", start=started.path, settings={"learning_rate": 0.002}, **common)
    rates = [
        arranged.config.learning_rate for arranged in (arrange(tmp_path / "cohort.json", **common), from_start, given)
    ]
    assert rates == [0.003, 0.001, 0.002]


def test_a_model_of_another_modality_gives_its_weights_but_not_its_plan(tmp_path: Path, capsys) -> None:
    """Such as a published CT model for a cohort of MR scans, or the other way round."""
    network = {"_target_": "monai.networks.nets.UNet", "channels": [4, 8, 8], "strides": [2, 4], "num_res_units": 1}
    plan = make_plan().model_copy(
        update={"modality": "MR", "window": PercentileWindow(), "network": network, "fkd_stage": "model.1.submodule.1",
                "grid": SpacingGrid(spacing=(5.0, 5.0, 5.0))}
    )  # fmt: skip
    labels = LabelSet.from_names({1: "gallbladder", 2: "heart"})
    torch.manual_seed(5)
    write_model(tmp_path / "mr", plan=plan, labels=labels, weights=build_network(plan, 3).state_dict(), record={})
    make_cohort(tmp_path / "cases", validation=0).write(tmp_path / "cohort.json")
    arguments = ["train", "--cohort", tmp_path / "cohort.json", "--out", tmp_path / "run", "--start", tmp_path / "mr",
                 "--fkd", "off", "--steps", "1", "--device", "cpu", "--set", "learning_rate=0.0000001"]  # fmt: skip
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    told = capsys.readouterr().err
    assert not left.value.code, told
    assert "is for MR, the cohort is CT" in told and "does not know liver" in told
    tuned = load_model(tmp_path / "run/model")
    assert (tuned.plan.modality, tuned.plan.window.kind, tuned.plan.network) == ("CT", "range", network)
    assert tuned.plan.grid.spacing != (5.0, 5.0, 5.0)
    assert tuned.plan.reasons["network"] == "that of the model it starts from"
    started = load_model(tmp_path / "mr").weights
    name = next(iter(started))
    assert torch.allclose(tuned.weights[name], started[name], atol=1e-3)


NETWORKS = {
    "UNet": {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 2, "norm": "batch"},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 2], "blocks_up": [1]},
    "SegResNetDS": {"init_filters": 8, "blocks_down": [1, 1, 1], "norm": "INSTANCE"},
    "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8],
                "norm_name": "instance"},
    "VNet": {},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("wanted", [{1: "liver"}, {1: "liver", 2: "tumor"}, {1: "tumor", 2: "liver", 3: "spleen"}])
def test_known_structures_keep_their_logits_in_every_network(name: str, wanted: dict[int, str], tmp_path: Path) -> None:
    """Where all that a class depends on is its own part, its logit stays; networks that mix classes at their end keep none."""
    plan = make_plan().model_copy(update={"network": {"_target_": f"monai.networks.nets.{name}", **NETWORKS[name]}})
    known = LabelSet.from_names({1: "spleen", 2: "liver"})
    torch.manual_seed(3)
    network = build_network(plan, known.channels)
    write_model(tmp_path / "model", plan=plan, labels=known, weights=network.state_dict(), record={})
    model, labels = load_model(tmp_path / "model"), LabelSet.from_names(wanted)
    weights = matched_weights(model, labels, plan, 0, lambda kind, **fields: None)
    matched = build_network(plan, labels.channels)
    matched.load_state_dict(weights)
    old, new = model.network(), matched.eval()
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        before, after = old(image), new(image)
    assert after.shape[1] == labels.channels and torch.isfinite(after).all()
    if name in ("UNet", "VNet"):
        assert weights[next(iter(weights))].equal(model.weights[next(iter(weights))])
        return
    for channel, structure in enumerate(labels.names, 1):
        if structure in known.names:
            was = known.names.index(structure) + 1
            assert torch.allclose(after[:, channel], before[:, was], atol=1e-5), structure
    assert torch.allclose(after[:, 0], before[:, 0], atol=1e-5)


def test_a_network_that_mixes_classes_at_its_end_is_taken_over_along_both_axes(tmp_path: Path) -> None:
    plan = make_plan().model_copy(update={"network": {"_target_": "monai.networks.nets.UNet", **NETWORKS["UNet"]}})
    known, labels = LabelSet.from_names({1: "spleen", 2: "liver"}), LabelSet.from_names({1: "liver", 2: "tumor"})
    torch.manual_seed(3)
    weights = build_network(plan, 3).state_dict()
    write_model(tmp_path / "model", plan=plan, labels=known, weights=weights, record={})
    matched = matched_weights(load_model(tmp_path / "model"), labels, plan, 0, lambda kind, **fields: None)
    last = "model.2.1.conv.unit0.conv.weight"
    assert matched[last].shape[:2] == (3, 3)
    assert torch.equal(matched[last][1, 1], weights[last][2, 2]) and torch.equal(
        matched[last][1, 0], weights[last][2, 0]
    )
    assert not torch.equal(matched[last][2, 2], weights[last][2, 2])
    assert torch.equal(matched["model.2.0.adn.N.running_var"][:2], weights["model.2.0.adn.N.running_var"][[0, 2]])


def test_a_terminology_that_only_one_structure_has_matches_another_name() -> None:
    known = LabelSet.from_names({1: "kidney_left", 2: "Gall bladder", 3: "aorta"})
    labels = LabelSet(structures=(
        known.structures[0].model_copy(update={"id": 5, "name": "Niere links"}),
        known.structures[1].model_copy(update={"id": 6, "name": "Gallenblase"}),
        LabelSet.from_names({7: "kidney right"}).structures[0],
    ))  # fmt: skip
    assert matched_channels(labels, known) == {1: 1, 2: 2}


def test_a_terminology_that_two_structures_share_matches_nothing() -> None:
    aorta = LabelSet.from_names({1: "aorta"}).structures[0]
    known = LabelSet(structures=tuple(aorta.model_copy(update={"id": i, "name": f"part {i}"}) for i in (1, 2)))
    assert matched_channels(LabelSet(structures=(aorta,)), known) == {}
