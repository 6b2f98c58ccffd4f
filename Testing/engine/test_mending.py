"""Labels beside their image's grid are named as such, and put right voxel for voxel, or refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cohort_folders import image_array, label_array, write
from dinomix import cli
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.problems import CohortError
from dinomix.errors import DinomixError
from dinomix.images.mending import mend
from dinomix.images.reading import read_codes, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image

GRID = Geometry((10, 8, 6), (1.0, 1.5, 2.0), (-20.0, 5.0, 30.0), np.diag([1.0, -1.0, 1.0]))
LABEL = label_array()
"""(k, j, i); its structures touch no border."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(Volume(image_array(0), GRID), tmp_path / "in/images/a.nii.gz")
    return tmp_path / "in"


def label_file(folder: Path, array: np.ndarray, grid: Geometry, name: str = "a.nii.gz") -> Path:
    path = folder / "labels" / name
    write_image(Volume(np.ascontiguousarray(array), replace(grid, size=array.shape[::-1])), path)
    return path


def problem(folder: Path) -> DinomixError:
    """The only one that ``check`` finds."""
    with pytest.raises(CohortError) as caught:
        check_cohort([folder], [], [])
    (error,) = caught.value.problems
    assert error.code == "grid"
    assert "is not on the grid of its image" in error.problem
    assert "\n" not in str(error)
    return error


def mended(folder: Path, axes: str | None = None) -> np.ndarray:
    out = folder.parent / "new" / "a.nii.gz"
    mend(folder / "images/a.nii.gz", folder / "labels/a.nii.gz", out, axes)
    volume, _ = read_label(out)
    assert not volume.geometry.difference(GRID)
    return volume.array


def moved(grid: Geometry, voxels: tuple[float, float, float]) -> Geometry:
    x, y, z = (float(mm) for mm in grid.origin + grid.direction @ (np.array(voxels) * grid.spacing))
    return replace(grid, origin=(x, y, z))


def flipped() -> tuple[np.ndarray, Geometry]:
    """The second axis runs the other way, in the file and in its header."""
    return LABEL[:, ::-1], replace(moved(GRID, (0, 7, 0)), direction=np.eye(3))


def turned_axes() -> tuple[np.ndarray, Geometry]:
    """As another program stores it: axes (k, i, -j)."""
    direction = GRID.direction[:, [2, 0, 1]] * [1, 1, -1]
    spacing = (GRID.spacing[2], GRID.spacing[0], GRID.spacing[1])
    return LABEL.transpose(1, 2, 0)[::-1], replace(moved(GRID, (0, 7, 0)), direction=direction, spacing=spacing)


def cropped() -> tuple[np.ndarray, Geometry]:
    return LABEL[1:5, 2:6, 2:9], moved(GRID, (2, 2, 1))


def padded() -> tuple[np.ndarray, Geometry]:
    return np.pad(LABEL, ((1, 2), (3, 0), (0, 4))), moved(GRID, (0, -3, -1))


def shifted() -> tuple[np.ndarray, Geometry]:
    return np.roll(LABEL, (1, -2), (0, 2)), moved(GRID, (2, 0, -1))


def half_a_voxel_beside() -> tuple[np.ndarray, Geometry]:
    return LABEL, moved(GRID, (0.5, -0.5, 0))


def a_crop_a_little_beside() -> tuple[np.ndarray, Geometry]:
    return LABEL[1:5, 2:6, 2:9], moved(GRID, (2.2, 2, 1))


WHAT: dict[Callable[[], tuple[np.ndarray, Geometry]], str] = {
    flipped: "it is flipped along the image's j.",
    turned_axes: "its axes i, j, k are the image's k, i, j, and it is flipped along the image's j.",
    cropped: "it is a crop of the image: (7, 4, 4) of (10, 8, 6) voxels, from voxel (2, 2, 1) on.",
    padded: "it is larger than the image or beside it: (14, 11, 9) of (10, 8, 6) voxels, from voxel (0, -3, -1) on.",
    shifted: "it is shifted by (2, 0, -1) voxels, (2, 0, -2) mm.",
    half_a_voxel_beside: "its voxels lie (0.5, -0.75, 0) mm beside the image's.",
    a_crop_a_little_beside: "from voxel (2, 2, 1) on, and its voxels lie (0.2, 0, 0) mm beside the image's.",
}


@pytest.mark.parametrize("case", WHAT, ids=lambda case: case.__name__)
def test_what_is_beside_its_grid_is_named_and_mended(folder: Path, case: Callable) -> None:
    path = label_file(folder, *case())
    before = path.read_bytes()
    error = problem(folder)
    assert error.problem.endswith(WHAT[case])
    command = f"dinomix mend --image {folder}/images/a.nii.gz --label {path} --out {folder}/labels_mended/a.nii.gz"
    assert command in error.remedy
    np.testing.assert_array_equal(mended(folder), LABEL)
    assert path.read_bytes() == before


def test_the_command_of_the_message_mends(folder: Path, capsys: pytest.CaptureFixture) -> None:
    label_file(folder, *flipped())
    words = problem(folder).remedy.split("dinomix ")[1].rstrip(".").split()
    assert run(words) == 0
    assert "flipped along the image's j." in capsys.readouterr().out
    (folder / "labels").rename(folder / "before")
    (folder / "labels_mended").rename(folder / "labels")
    assert check_cohort([folder], [], []).cases[0].voxels == {1: int((LABEL == 1).sum()), 2: int((LABEL == 2).sum())}
    assert run([*words, "--json"]) == 2  # it lies on the grid already
    assert json.loads(capsys.readouterr().out)["message"].endswith("already.")


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def test_a_lost_header_is_told_and_must_be_confirmed(folder: Path) -> None:
    """It might be turned or flipped: nobody can see it from the header."""
    label_file(folder, LABEL, Geometry((10, 8, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3)))
    error = problem(folder)
    assert "its header says nothing of its place" in error.problem
    assert error.remedy.startswith("If its voxels are the image's, one by one, and only its header is wrong")
    assert "--axes i,j,k and look at it" in error.remedy
    with pytest.raises(DinomixError, match="says nothing of its place"):
        mended(folder)
    np.testing.assert_array_equal(mended(folder, "i,j,k"), LABEL)
    np.testing.assert_array_equal(mended(folder, "-i,j,-k"), LABEL[::-1, :, ::-1])
    with pytest.raises(
        DinomixError, match="has \\(10, 8, 6\\) voxels; along the axes k,j,i of the image there are \\(6, 8, 10\\)"
    ):
        mended(folder, "k,j,i")
    for axes in ("i,j", "i,j,j", "x,y,z", "ijk", "--i,j,k", ""):
        with pytest.raises(DinomixError, match="names no axes"):
            mended(folder, axes)


def test_the_axes_of_an_array_in_numpys_order(folder: Path) -> None:
    """Saved with nibabel as it came from SimpleITK: the sizes are reversed, and the header is the image's."""
    label_file(folder, LABEL.transpose(), GRID)
    error = problem(folder)
    assert "--axes k,j,i" in error.remedy
    np.testing.assert_array_equal(mended(folder, "k,j,i"), LABEL)


def test_a_label_that_would_lose_voxels(folder: Path) -> None:
    label_file(folder, LABEL, moved(GRID, (0, 0, -3)))
    error = problem(folder)
    lost = int((LABEL[:3] > 0).sum())
    assert (
        f"shifted by (0, 0, -3) voxels, (0, 0, -6) mm, so that {lost} of its labeled voxels lie outside"
        in error.problem
    )
    assert "--axes i,j,k" in error.remedy
    with pytest.raises(DinomixError, match="so that"):
        mended(folder)
    assert not (folder.parent / "new").exists()
    np.testing.assert_array_equal(mended(folder, "i,j,k"), LABEL)


@pytest.mark.parametrize(
    ("array", "grid"),
    [
        (LABEL[:, :, :7], replace(GRID, spacing=(1.2, 1.5, 2.0))),
        (LABEL[:, :, :7], moved(GRID, (0.5, 0, 0))),
        (LABEL[:, :, :7], replace(GRID, direction=np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]))),
    ],
    ids=["spacing", "between two voxels", "turned by an angle"],
)
def test_what_cannot_be_mended_is_said(folder: Path, array: np.ndarray, grid: Geometry) -> None:
    label_file(folder, array, grid)
    error = problem(folder)
    assert error.remedy == "Export it again with the image as reference, or resample it with nearest neighbor."
    with pytest.raises(DinomixError, match="not on the grid"):
        mended(folder)


def test_names_come_along(folder: Path) -> None:
    array, _ = flipped()
    path = write(folder / "labels/a.seg.nrrd", array[:, ::-1], names={1: "liver", 2: "my own"})
    write(folder / "images/b.nii.gz", image_array(1)[:, ::-1])
    image = folder / "images/b.nii.gz"
    out = folder.parent / "new/a.seg.nrrd"
    with pytest.raises(DinomixError, match="already"):
        mend(image, path, out)
    told = mend(image, path, out, "i,-j,k")
    assert read_codes(out)["liver"].count("10200004") == 1
    volume, names = read_label(out)
    assert names == {1: "liver", 2: "my own"}
    np.testing.assert_array_equal(volume.array, LABEL[:, ::-1])
    assert any("look at it over the image" in sentence for sentence in told)
    told = mend(image, path, out.with_name("a.nii.gz"), "i,j,k")
    assert any("no place for the names: 1 liver, 2 my own" in sentence for sentence in told)


def test_a_folder_of_labels(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """What is right is copied, what is not is mended, and what cannot be is told at the end."""
    label_file(folder, *flipped())
    for number, name in enumerate("bcd", 1):
        write_image(Volume(image_array(number), GRID), folder / "images" / f"{name}.nii.gz")
    right = label_file(folder, LABEL, GRID, "b.nii.gz")
    hopeless = label_file(folder, LABEL[:, :, :7], replace(GRID, spacing=(1.2, 1.5, 2.0)), "c.nii.gz")
    words = ["mend", "--image", f"{folder}/images", "--label", f"{folder}/labels", "--out", f"{folder}/mended"]
    assert run(words) == 2
    told = capsys.readouterr().err
    assert f"{hopeless} is not on the grid" in told
    assert f"2 of 3 labels are in {folder}/mended." in told
    hopeless.unlink()
    assert run(words) == 2
    assert run([*words, "--overwrite"]) == 0
    told = capsys.readouterr().out
    assert f"Written: {folder}/mended/a.nii.gz By its header, it is flipped along the image's j." in told
    assert f"Copied, since it needs nothing: {folder}/mended/b.nii.gz" in told
    assert (folder / "mended/b.nii.gz").read_bytes() == right.read_bytes()
    (folder / "labels").rename(folder / "before")
    (folder / "mended").rename(folder / "labels")
    (folder / "images/c.nii.gz").unlink()
    (folder / "images/d.nii.gz").unlink()
    assert [sum(case.voxels.values()) for case in check_cohort([folder], [], []).cases] == [int((LABEL > 0).sum())] * 2
    write_image(Volume(LABEL, GRID), folder / "labels/x.nii.gz")
    assert run([*words, "--overwrite"]) == 2
    assert "x.nii.gz has no image" in capsys.readouterr().err


def test_labels_with_voxels_beside_their_headers_are_copied_whole(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for number, (name, ending) in enumerate((("a", "mhd"), ("b", "nhdr")), 1):
        write_image(Volume(image_array(number), GRID), folder / "images" / f"{name}.nii.gz")
        right = sitk.ReadImage(str(label_file(folder, LABEL, GRID, f"{name}.nrrd")))
        (folder / "labels" / f"{name}.nrrd").unlink()
        sitk.WriteImage(right, str(folder / "labels" / f"{name}.{ending}"), useCompression=True)
    words = ["mend", "--image", f"{folder}/images", "--label", f"{folder}/labels", "--out", f"{folder}/mended"]
    assert run(words) == 0
    assert f"Copied, since it needs nothing: {folder}/mended/a.mhd" in capsys.readouterr().out
    for name in ("a.mhd", "b.nhdr"):
        np.testing.assert_array_equal(read_label(folder / "mended" / name)[0].array, LABEL)
    before, after = (sorted(path.name for path in (folder / where).iterdir()) for where in ("labels", "mended"))
    assert before == after and len(after) == 4


def test_masks_of_one_case(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """A folder with a mask for each structure is one label."""
    array, grid = flipped()
    for value, name in ((1, "liver"), (2, "spleen")):
        mask = np.ascontiguousarray(array == value).astype(np.uint8)
        write_image(Volume(mask, replace(grid, size=array.shape[::-1])), folder / "masks" / f"{name}.nii.gz")
    out = folder.parent / "new.seg.nrrd"
    words = ["--image", f"{folder}/images/a.nii.gz", "--label", f"{folder}/masks", "--out", str(out)]
    assert run(["mend", *words]) == 0
    volume, names = read_label(out)
    assert names == {1: "liver", 2: "spleen"}
    np.testing.assert_array_equal(volume.array, LABEL)


def test_the_label_itself_is_never_replaced(folder: Path, capsys: pytest.CaptureFixture) -> None:
    path = label_file(folder, *flipped())
    before = path.read_bytes()
    words = ["mend", "--image", f"{folder}/images/a.nii.gz", "--label", str(path), "--out", str(path)]
    assert run(words) == 2
    assert run([*words, "--overwrite"]) == 2
    assert "is the label itself" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_masks_that_overlap_are_mended_by_an_order(folder: Path) -> None:
    """A folder of masks, of which the flipped axes have to be told."""
    for name, array in (("all", (LABEL > 0).astype(np.uint8)), ("part", (LABEL == 2).astype(np.uint8))):
        write(folder / "masks" / f"{name}.nii.gz", array)
    given = folder / "images/a.nii.gz", folder / "masks", folder.parent / "new/a.seg.nrrd", "i,j,-k"
    with pytest.raises(DinomixError, match='--order "all,part"'):
        mend(*given)
    mend(*given, ["all", "part"])
    volume, names = read_label(given[2])
    assert names == {1: "all", 2: "part"}
    np.testing.assert_array_equal(volume.array, LABEL[::-1])
