"""How thick structures are."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from cohort_folders import labeled_folder
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.thickness import thickness, thicknesses
from dinomix.planning.in_words import in_words
from dinomix.planning.planning import make_plan


@pytest.mark.parametrize("voxels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plate_is_as_thick_as_it_is_made(voxels: int, axis: int) -> None:
    labels = np.zeros((24, 24, 24), np.uint8)
    plate = [slice(2, 22)] * 3
    plate[axis] = slice(9, 9 + voxels)
    labels[tuple(plate)] = 3
    spacing = (1.0, 0.8, 1.5)
    assert thicknesses(labels, spacing) == {3: pytest.approx(voxels * spacing[axis], abs=0.01)}


def test_round_and_oblique_structures() -> None:
    x, y, z = np.indices((60, 60, 60)) - 29.5
    assert thickness(x**2 + y**2 + z**2 < 20**2, (1, 1, 1)) == pytest.approx(40, rel=0.05)
    assert thickness(x**2 + y**2 < 5**2, (1, 1, 1)) == pytest.approx(10, rel=0.15)
    assert thickness(abs(0.6 * x + 0.8 * y) < 2.5, (1, 1, 1)) == pytest.approx(5, rel=0.1)


def test_most_of_a_structure_counts_and_not_its_thickest_place() -> None:
    gland = np.zeros((50, 50, 50), bool)
    gland[10:40, 10:40, 20:24] = True
    gland[24:30, 24:30, 19:25] = True
    assert thickness(gland, (1, 1, 1)) == pytest.approx(4)


def test_thick_slices_are_measured_in_their_plane() -> None:
    structure = np.zeros((40, 40, 8), bool)
    structure[5:35, 10:16, 3] = True
    assert thickness(structure, (0.8, 0.8, 8.0)) == pytest.approx(4.8)


def test_large_structures_and_stray_voxels_cost_little() -> None:
    began = time.process_time()
    assert thickness(np.ones((120, 100, 90), bool), (1.6, 1.6, 2.0)) == pytest.approx(160, rel=0.1)
    stray = np.zeros((200, 200, 200), bool)
    stray[0, 0, 0] = stray[199, 199, 199] = True
    stray[100:140, 100:140, 100:103] = True
    assert thickness(stray, (1, 1, 1)) == pytest.approx(3)
    assert time.process_time() - began < 5


def test_a_check_writes_it_and_adds_it_to_files_of_earlier_versions(tmp_path: Path) -> None:
    folder, out = labeled_folder(tmp_path / "in", ["a", "b", "c", "d"]), tmp_path / "cohort.json"
    made = check_cohort([folder], [], [], out=out)
    assert all(case.thickness.keys() == case.voxels.keys() for case in made.with_role("labeled"))
    assert all(mm > 0 for case in made.cases for mm in case.thickness.values())
    earlier = json.loads(out.read_text())
    for case in earlier["cases"]:
        del case["thickness"]
    out.write_text(json.dumps(earlier))
    assert not any(case.thickness for case in Cohort.read(out).cases)
    assert check_cohort([folder], [], [], out=out) == Cohort.read(out) == made


def test_test_cases_are_not_told(tmp_path: Path) -> None:
    folders = [labeled_folder(tmp_path / name, [name], seed) for seed, name in enumerate(("labeled", "kept"))]
    made = check_cohort([folders[0]], [], [folders[1]], out=None)
    assert not any(case.thickness for case in made.with_role("test"))


def test_a_plan_tells_what_its_grid_does_not_show(cohort: Cohort) -> None:
    mm = {"liver": 40.0, "gallbladder": 5.0}
    cases = tuple(
        case.model_copy(
            update={"thickness": {s.id: mm[s.name] for s in cohort.labels.structures if s.id in case.voxels}}
        )
        for case in cohort.cases
    )
    thin = cohort.model_copy(update={"cases": cases})
    told = {}
    for side in (1.0, 2.0):
        plan = make_plan(thin, device_kind="cpu", memory_bytes=2**33, batch=4, overrides={"grid.spacing": [side] * 3})
        told[side] = in_words(plan)
    assert "Less than three voxels of this grid thick: gallbladder (5.0 mm)." in told[2.0] and "thick" not in told[1.0]
    assert "structures" not in make_plan(cohort, device_kind="cpu", memory_bytes=2**33, batch=4).reasons
