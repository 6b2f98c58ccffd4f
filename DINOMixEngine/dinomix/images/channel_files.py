"""Which files are the channels of one case: T1 and T2, or PET and CT, as they lie in folders.

- ``case_0000.nii.gz``, ``case_0001.nii.gz``, ... in one folder, as nnU-Net numbers them;
- ``case_t1.nii.gz``, ``case_t2.nii.gz`` in one folder, by the names of the channels;
- one 4D file with the channels last, as the Medical Segmentation Decathlon has them;
- a folder for each case, with a file or a DICOM series for each channel: ``case/t1.nii.gz``, ``case/t2.nii.gz``.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.images.dicom_header import SERIES_DESCRIPTION, first_dicom_header
from dinomix.images.formats import case_name
from dinomix.images.image_headers import count_volumes, is_image_path
from dinomix.names import CHANNEL_NAME, listed


class ChannelProblem(DinomixError):
    """What is wrong with the images of ``case``, or with ``file``."""

    def __init__(self, problem: str, remedy: str, *, case: str | None = None, file: Path | None = None) -> None:
        super().__init__(problem, remedy, "channels")
        self.case, self.file = case, file


_NUMBERED = re.compile(r"^(?P<case>.+)_(?P<number>\d{4})$")


MANY_WORDS = 1000


@dataclass(frozen=True)
class CaseFiles:
    """The images of one case, in the channels' order; the one path as often as there are channels where one file has all."""

    name: str
    images: tuple[Path, ...]


@dataclass(frozen=True)
class Channel:
    """What a channel is called, and which files are its own.

    Attributes:
        pattern: with * and ?, of a file's name without its ending, or of the description of a DICOM series; case does not
            matter. Empty where the words of ``name`` are to be among those of the file's name or the description.
        number: nnU-Net's number of it, and its volume in a 4D file, where ``dataset.json`` says so; None for its place among
            the channels.
    """

    name: str
    pattern: str = ""
    number: int | None = None

    @property
    def words(self) -> int:
        """By how many words it is told; a pattern counts for more than any name has."""
        return MANY_WORDS if self.pattern else len(set(_words(self.name)))

    def fits(self, text: str) -> bool:
        if self.pattern:
            return fnmatchcase(text.casefold(), self.pattern.casefold())
        return bool(_words(self.name)) and set(_words(self.name)) <= set(_words(text))

    def without(self, stem: str) -> str:
        """The name of the case in that of a file, which may be empty: without the words of the channel."""
        words = "[^0-9a-z]+".join(map(re.escape, _words(self.name)))
        rest = re.sub(rf"(?i)(^|[^0-9a-z]+){words}(?=$|[^0-9a-z])", "", stem) if words else stem
        return rest.strip("_-. ")


def channels_of(names: Sequence[str], patterns: Mapping[str, str] | None = None) -> tuple[Channel, ...]:
    """The channels of a model or cohort with the patterns that a user gives for some.

    Raises:
        DinomixError: a pattern is for a channel that there is not.
    """
    given = dict(patterns or {})
    channels = tuple(Channel(name, given.pop(name, "")) for name in names)
    if given:
        raise DinomixError(
            f"There is no channel {listed(list(given))}.", f"The channels are {', '.join(names)}.", "channels"
        )
    return channels


def channel_of_option(text: str) -> Channel:
    """The channel of an option NAME or NAME=PATTERN. Raises DinomixError for a name that cannot be one."""
    name, _, pattern = text.partition("=")
    if not re.fullmatch(CHANNEL_NAME, name.strip()):
        raise DinomixError(f"--channel {text} names no channel.", "Give a name such as t2, or t2=PATTERN.", "channels")
    return Channel(name.strip(), pattern.strip())


def numbered(paths: Sequence[Path]) -> dict[str, dict[int, Path]]:
    """Case -> number -> file, of the files whose names end in nnU-Net's channel number; folders of DICOM have none."""
    cases: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in paths:
        if (match := _NUMBERED.match(case_name(path))) and not path.is_dir():
            cases[match["case"]][int(match["number"])] = path
    return dict(cases)


def group(
    paths: Sequence[Path], channels: Sequence[Channel], problems: list[DinomixError], case: str = ""
) -> list[CaseFiles]:
    """The cases among images that lie side by side. What is left over, or incomplete, goes to ``problems``.

    Args:
        case: the name of the one case that all images are of, of which those that are no channel are left out.
    """
    by_number = numbered(paths)
    with_number = {path for files in by_number.values() for path in files.values()}
    loose = [path for path in paths if path not in with_number]
    cases = [_of_numbers(name, files, channels, problems) for name, files in by_number.items()]
    named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in loose:
        if not path.is_dir() and count_volumes(path) > 1:
            cases.append(_of_one_file(path, channels, problems))
            continue
        text = text_of(path)
        fitting = fitting_channels(text, channels)
        if len(fitting) == 1:
            name = case or fitting[0].without(case_name(path)) or path.parent.name
            named[name][fitting[0].name].append(path)
        elif not case:
            problems.append(_unclear(path, text, fitting, channels))
    if case and not cases and not named:
        named[case] = {}
    cases += [_of_names(name, files, channels, problems) for name, files in named.items()]
    return sorted((case for case in cases if case is not None), key=lambda case: case.name)


def in_folder(
    folder: Path,
    channels: Sequence[Channel],
    problems: list[DinomixError],
    chosen: Callable[[list[Path]], list[Path]] = lambda paths: paths,
) -> list[CaseFiles]:
    """The cases of a folder: those of ``group``, or the folder itself as one, and one in each subfolder.

    Args:
        chosen: leaves out of images that lie together what is none, such as labels.
    """
    if is_image_path(folder):
        return group([folder], channels, problems)
    inside = chosen(sorted(path for path in folder.iterdir() if is_image_path(path)))
    if (one := one_case(folder.name, inside, channels)) is not None:
        return [one]
    cases = group(inside, channels, problems)
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if not is_image_path(path) and (files := chosen(_images_below(path))):
            alone = one_case(path.name, files, channels)
            cases += [alone] if alone is not None else group(files, channels, problems, path.name)
    return cases


def one_case(name: str, paths: Sequence[Path], channels: Sequence[Channel]) -> CaseFiles | None:
    """The case whose channels are among some images, one of them for each; None where it is not so.

    It is called as the files are but for their channels, else ``name``.
    """
    fitting = {path: fitting_channels(text_of(path), channels) for path in paths}
    found = [[path for path, of_path in fitting.items() if of_path == [channel]] for channel in channels]
    chosen = [fitting[0] for fitting in found if len(fitting) == 1]
    if len(set(chosen)) < len(channels):
        return None
    called = {channel.without(case_name(path)) for channel, path in zip(channels, chosen, strict=True)}
    return CaseFiles((called.pop() if len(called) == 1 else "") or name, tuple(chosen))


def _images_below(folder: Path) -> list[Path]:
    """Image files and DICOM folders at any depth."""
    images: list[Path] = []
    for path in sorted(folder.iterdir()):
        if is_image_path(path):
            images.append(path)
        elif path.is_dir() and not path.name.startswith("."):
            images += _images_below(path)
    return images


def _numbers(channels: Sequence[Channel]) -> list[int]:
    return [place if channel.number is None else channel.number for place, channel in enumerate(channels)]


def _of_numbers(
    name: str, files: Mapping[int, Path], channels: Sequence[Channel], problems: list[DinomixError]
) -> CaseFiles | None:
    numbers = _numbers(channels)
    missing = [f"{channel.name} (_{n:04d})" for n, channel in zip(numbers, channels, strict=True) if n not in files]
    if missing:
        problems.append(_missing(name, missing, next(iter(files.values()))))
        return None
    chosen = all(channel.number is not None for channel in channels)  # then the others are left out on purpose
    if more := [] if chosen else sorted(set(files) - set(numbers)):
        problems.append(ChannelProblem(
            f"{files[more[0]]} is the channel number {more[0]} of {name}; there are {len(channels)} channels "
            f"({', '.join(channel.name for channel in channels)}).",
            "Take it away, or name all channels.", case=name, file=files[more[0]],
        ))  # fmt: skip
        return None
    return CaseFiles(name, tuple(files[number] for number in numbers))


def _of_one_file(path: Path, channels: Sequence[Channel], problems: list[DinomixError]) -> CaseFiles | None:
    if _numbers(channels) != list(range(len(channels))):
        problems.append(ChannelProblem(
            f"{path} holds its channels in another order than {', '.join(channel.name for channel in channels)}.",
            "Name all channels in the order of dataset.json, or write each to a file of its own (_0000, _0001).",
            case=case_name(path), file=path,
        ))  # fmt: skip
        return None
    if (count := count_volumes(path)) == len(channels):
        return CaseFiles(case_name(path), (path,) * count)
    problems.append(ChannelProblem(
        f"{path} holds {count} volumes; there are {len(channels)} channels ({', '.join(c.name for c in channels)}).",
        "Export it again, with a volume for each channel.", case=case_name(path), file=path,
    ))  # fmt: skip
    return None


def _of_names(
    name: str, files: Mapping[str, Sequence[Path]], channels: Sequence[Channel], problems: list[DinomixError]
) -> CaseFiles | None:
    missing = [channel.name for channel in channels if not files.get(channel.name)]
    there = next((paths[0] for paths in files.values() if paths), None)
    if missing:
        problems.append(_missing(name, missing, there))
        return None
    several = next((c for c in channels if len(files[c.name]) > 1), None)
    if several is not None:
        paths = files[several.name]
        problems.append(ChannelProblem(
            f"The case {name} has several images for the channel {several.name}: {paths[0]} and {paths[1]}.",
            "Keep one of them, or say which by a pattern: --channel NAME=PATTERN.", case=name, file=paths[1],
        ))  # fmt: skip
        return None
    return CaseFiles(name, tuple(files[channel.name][0] for channel in channels))


def _missing(name: str, missing: list[str], beside: Path | None) -> ChannelProblem:
    where = f" Beside {beside} is no such image." if beside is not None else ""
    return ChannelProblem(
        f"The case {name} lacks the channel {' and '.join(missing)}.{where}",
        "Add the image, or take the case out: all channels are needed.",
        case=name,
        file=beside,
    )


def _unclear(path: Path, text: str, fitting: Sequence[Channel], channels: Sequence[Channel]) -> ChannelProblem:
    names = ", ".join(channel.name for channel in (fitting or channels))
    what = "fits several channels" if fitting else "fits none of the channels"
    return ChannelProblem(
        f"{path} ({text}) {what}: {names}.",
        "Put the channel's name or number (_0000) into the file's name, or give a pattern: --channel NAME=PATTERN.",
        case=case_name(path),
        file=path,
    )


def fitting_channels(text: str, channels: Sequence[Channel]) -> list[Channel]:
    """The channels that a text fits; of those told by their names, the ones with the most words ("t2 flair", not "t2")."""
    fitting = [channel for channel in channels if channel.fits(text)]
    most = max((channel.words for channel in fitting), default=0)
    return [channel for channel in fitting if channel.words == most]


def text_of(path: Path) -> str:
    """What a channel is told by: the description of a DICOM series, where it has one, else the name."""
    if path.is_dir() or path.suffix.lower() == ".dcm":
        header = first_dicom_header(path)
        if header is not None and (description := header.tags.get(SERIES_DESCRIPTION)):
            return description
    return case_name(path)


def _words(text: str) -> list[str]:
    return re.findall("[0-9a-z]+", text.casefold())
