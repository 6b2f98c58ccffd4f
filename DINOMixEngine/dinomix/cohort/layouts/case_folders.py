"""A folder for each case, which holds the case's image and its label."""

from pathlib import Path

from dinomix.cohort.found import FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, files_in, told_apart
from dinomix.images.formats import case_name
from dinomix.images.reading import is_image_path


def case_folder(folder: Path, pool: Pool, names: dict[int, str]) -> list[FoundCase]:
    """The case of a subfolder with one image and one label, else nothing."""
    files = [ImageFile(case_name(path), path) for path in files_in(folder)]
    folders = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    dicom = [ImageFile(path.name, path) for path in folders if is_image_path(path)]
    images, labels = told_apart([*files, *dicom])
    if len(images) != 1 or len(labels) != 1:
        return []
    return [FoundCase(folder.name, folder.name, pool, images[0].path, labels[0].path, None, names)]
