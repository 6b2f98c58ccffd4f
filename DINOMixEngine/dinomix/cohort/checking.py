"""``dinomix check`` as a function: everything that would fail hours later is found now, and all of it at once."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

from dinomix.cohort.archives import unpacked_folders
from dinomix.cohort.channels import channel_modalities, swapped, told_of_channels
from dinomix.cohort.cohort import Case, Cohort
from dinomix.cohort.facts import CaseFacts, read_facts
from dinomix.cohort.finding import find_cases
from dinomix.cohort.found import Findings
from dinomix.cohort.keeping import check_writable, write_cohort
from dinomix.cohort.listing import read_cases
from dinomix.cohort.modality import choose_modality
from dinomix.cohort.naming import (
    LabelContent,
    codes_by_name,
    cohort_label_set,
    unused_renames,
    values_to_ids,
    with_numbers_as_names,
    with_regions,
    without_unlabeled,
)
from dinomix.cohort.open_labels import OpenLabel, nowhere_drawn, open_labels, said_of_no_case, without_structures
from dinomix.cohort.open_notices import told_nowhere_drawn, told_of
from dinomix.cohort.overlapping import overlap_notices, unknown_in_order, with_dropped_below, with_one_remedy
from dinomix.cohort.problems import Problem, raise_if_any
from dinomix.cohort.remembering import RememberedFacts
from dinomix.cohort.renaming import Renames
from dinomix.cohort.said import Decisions
from dinomix.cohort.splitting import CaseWithRole, Draw, drawn_roles, given_roles, read_split
from dinomix.cohort.table import notices_about
from dinomix.cohort.telling import tell_cases, tell_problems
from dinomix.errors import DEFECTS, DinomixError, reason_of
from dinomix.events import Emit, Notice, Progress, silent
from dinomix.images.channel_files import Channel
from dinomix.images.overlaps import OverlapError
from dinomix.images.reading import readers
from dinomix.labels import LabelSet
from dinomix.names import listed


def check_cohort(
    labeled: list[Path],
    unlabeled: list[Path],
    test: list[Path],
    *,
    validation: float = 0,
    test_fraction: float = 0,
    labeled_count: int | None = None,
    seed: int = 0,
    patient_pattern: str | None = None,
    split_file: str | Path | None = None,
    labels: Path | LabelSet | None = None,
    modality: Literal["CT", "MR", "auto"] = "auto",
    out: Path | None = None,
    overwrite: bool = False,
    cases_file: Path | None = None,
    exclude: Sequence[str] = (),
    renames: Path | Renames | None = None,
    order: Sequence[str] = (),
    partial: bool = False,
    absent: Sequence[str] = (),
    labeled_slices: Sequence[str] = (),
    channels: Sequence[Channel] = (),
    emit: Emit = silent,
) -> Cohort:
    """Find, pair and check the cases of a study, and give each its part.

    Args:
        labeled: folders of images with labels, or archives of them (zip, tar); see ``layouts.recognizing``.
        unlabeled: folders of images, or archives; no label there is ever opened.
        test: folders of images with labels, or archives, that are only evaluated on.
        validation: that many of the labeled cases, or below 1 that fraction, drawn by patient.
        test_fraction: the same for test cases, drawn before and besides ``test``.
        labeled_count: keep only so many labeled cases and take the others as unlabeled; for experiments.
        seed: of the draws.
        patient_pattern: regular expression; its first group (or all it matches) in a case's name is the patient.
        split_file: FILE or FILE:KEY with the names of the cases of each part; instead of the draws.
        labels: the label set or its file; without it, names come from ``dataset.json`` or from segmentation files.
        modality: "auto" goes by DICOM headers, ``dataset.json`` or intensities.
        out: the cohort file to write; None writes none. Beside it lies what was read of each case (``remembering``), also
            when the check fails: cases whose files have not changed are not read again.
        overwrite: replace another cohort at ``out``.
        cases_file: a list of cases beside those of the folders; see ``listing``.
        exclude: names of cases to leave out.
        renames: other names for structures, or the file of them; see ``renaming``.
        order: names of structures as the label files have them; where some overlap, the later one wins.
        partial: structures that a case lacks, and others have, were not drawn in it. Without this, ``absent`` and the list of
            cases nothing is decided, which a notice tells; nothing is learned of them there in any case.
        absent: names of structures that a patient may lack, so that a case without one says that it is not there; "all" for any.
        labeled_slices: which slices were labeled: "found" (those of labels that show single slices at equal distances; the
            default), "all", "drawn" (those that show something), or of one case "CASE=10,20,30".
        channels: the images of each case, in the order in which a network takes them, and which files they are; see
            ``images.channel_files``. Without any, those that ``dataset.json`` or the files of the labeled folders show, or one.
        emit: gets progress and notices; also, when the check fails too, ``case``, ``names`` and ``problem`` events.

    Returns:
        The cohort.

    Raises:
        CohortError: with all problems found, each naming its file and the remedy; no cohort is written.
        DinomixError: an option cannot be used, or ``out`` holds something else.
    """
    if out is not None:
        check_writable(out, overwrite)
    if split_file is not None and (validation or test_fraction or labeled_count is not None):
        raise DinomixError(
            "A split file was given, and numbers of cases to draw as well.",
            "Give either --split, or --validation, --test-fraction and --labeled-count.",
            code="split",
        )
    for option, number in (("--validation", validation), ("--test-fraction", test_fraction)):
        if not 0 <= number < 1e9 or (number > 1 and number != int(number)):
            raise DinomixError(f"{option} {number} is not possible.", "Give a number of cases, or a fraction below 1.")
    label_set = LabelSet.read(labels) if isinstance(labels, Path) else labels
    new_names = Renames.read(renames) if isinstance(renames, Path) else renames or Renames()
    listing_problems: list[Problem] = []
    listed_cases, said = read_cases(cases_file, listing_problems) if cases_file is not None else ([], {})
    if twice := [c.name for c, count in Counter(channels).items() if count > 1]:
        raise DinomixError(f"The channel {twice[0]} was given twice.", "Give each channel once.", "channels")
    archives = Findings()
    labeled, unlabeled, test = (unpacked_folders(given, out, archives, emit) for given in (labeled, unlabeled, test))
    found = find_cases(labeled, unlabeled, test, listed_cases, exclude, channels)
    found.notices += archives.notices
    problems = found.problems
    problems += archives.problems
    said |= {case.name: case.said for case in found.cases if case.said is not None}
    decisions = Decisions.of_options(partial, absent, labeled_slices, said)
    problems += said_of_no_case(decisions, found, exclude)
    problems += [problem for problem in listing_problems if problem.case not in exclude]
    if split_file is not None:
        split = read_split(str(split_file))
        cases = given_roles(found.cases, split, str(split_file), patient_pattern, problems, found.notices)
    else:
        draw = Draw(validation, test_fraction, labeled_count, seed)
        cases = drawn_roles(found.cases, draw, patient_pattern, problems)
    if not any(case.role == "labeled" for case in cases) and not problems:
        problems.append(
            Problem("There is no labeled case.", "Give at least one folder after --labeled.", code="no-labeled")
        )
    remembered = RememberedFacts(
        out, new_names, with_dropped_below(order, new_names), [channel.name for channel in found.channels]
    )
    facts = _read_all(cases, remembered, problems, emit)
    try:
        cohort = _cohort(cases, facts, found, label_set, new_names, order, decisions, modality, seed, emit)
    finally:
        tell_problems(problems, cases, emit)
    if out is not None:
        write_cohort(cohort, out, overwrite)
        remembered.forget_others()
    return cohort


def _read_all(
    cases: list[CaseWithRole], remembered: RememberedFacts, problems: list[Problem], emit: Emit
) -> dict[str, CaseFacts]:
    """Case name -> facts, for the cases that can be read; what is wrong with the others goes to ``problems``."""
    facts = {c.case.name: known for c in cases if (known := remembered.recall(c.case)) is not None}
    unread = [c.case for c in cases if c.case.name not in facts]
    failed: dict[str, Problem] = {}
    overlaps: dict[str, OverlapError] = {}
    asked = remembered.renames, remembered.order
    progress = Progress(emit, "check", len(cases), len(facts))
    with ThreadPoolExecutor(readers()) as pool:
        jobs = {
            pool.submit(
                read_facts, case.image, case.label, case.names, *asked, case.more_images, remembered.channels
            ): case
            for case in unread
        }
        try:
            for number, job in enumerate(as_completed(jobs), len(cases) - len(unread) + 1):
                case = jobs[job]
                try:
                    facts[case.name] = job.result()
                    remembered.keep(case, facts[case.name])
                except DinomixError as error:
                    of_label = case.label is not None and error.problem.startswith(str(case.label))
                    file = case.label if of_label else case.image
                    failed[case.name] = Problem(error.problem, error.remedy, error.code, case=case.name, file=file)
                    if isinstance(error, OverlapError):
                        overlaps[case.name] = error
                except OSError as error:
                    where = Path(error.filename or case.image)
                    failed[case.name] = Problem(
                        f"{where} cannot be opened ({error.strerror}).", "Check the file.", case=case.name, file=where
                    )
                except (MemoryError, *DEFECTS) as error:
                    failed[case.name] = Problem(
                        f"{case.image} cannot be checked ({type(error).__name__}: {reason_of(error)}).",
                        "Take the case out, and report this, please: it is a defect of DINOMix.",
                        case=case.name, file=case.image,
                    )  # fmt: skip
                progress(number)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    failed = with_one_remedy(failed, overlaps)
    problems.extend(failed[c.case.name] for c in cases if c.case.name in failed)
    problems.extend(_duplicates(cases, facts))
    return {c.case.name: facts[c.case.name] for c in cases if c.case.name in facts}


def _duplicates(cases: list[CaseWithRole], facts: dict[str, CaseFacts]) -> list[Problem]:
    first: dict[str, CaseWithRole] = {}
    problems = []
    for c in cases:
        if c.case.name not in facts:
            continue
        other = first.setdefault(facts[c.case.name].pixels_sha256, c)
        if other is not c:
            problems.append(Problem(
                f"{c.case.image} ({c.role}) is the same image as {other.case.image} ({other.role}).",
                "Take one of them out.",
                case=c.case.name, file=c.case.image,
            ))  # fmt: skip
    return problems


def _cohort(
    cases: list[CaseWithRole],
    facts: dict[str, CaseFacts],
    found: Findings,
    given: LabelSet | None,
    renames: Renames,
    order: Sequence[str],
    decisions: Decisions,
    modality: Literal["CT", "MR", "auto"],
    seed: int,
    emit: Emit,
) -> Cohort:
    problems = found.problems
    contents = {
        c.case.name: LabelContent(
            c.case.label,
            tuple(facts[c.case.name].counts),
            without_unlabeled(facts[c.case.name].names or {}),
            without_unlabeled(c.case.names),
            c.case.name,
        )
        for c in cases
        if c.case.label is not None and c.case.name in facts
    }
    as_found = with_numbers_as_names(contents, given, renames)
    if not problems:  # of a label that could not be read, the names are not known
        kept = [name for name in order if not renames.drops(name)]
        problems += unknown_in_order(kept, (name for c in as_found.values() for name in c.names.values()))
        found.notices += unused_renames(as_found.values(), renames)
    contents = {name: content.with_renames(renames) for name, content in as_found.items()}
    labels = given or cohort_label_set(list(contents.values()), problems)
    if labels is None:
        tell_cases(cases, facts, as_found, contents, None, {}, emit)
        raise_if_any(problems)
        raise DinomixError("No structure was found in any label file.", "Check the labeled folders.")
    source = "the given label set" if given else f"the label set of the cohort ({len(labels.ids)} structures)"
    if given is None:
        labels = labels.with_codes(codes_by_name((f.codes for f in facts.values()), renames))
    ids = {name: values_to_ids(content, labels, source, problems) for name, content in contents.items()}
    voxels = {name: _voxels(facts[name], of_case, labels) for name, of_case in ids.items()}
    problems += without_structures(cases, voxels)
    hidden = {renames(below) for f in facts.values() for below, _, _ in f.overlaps if not renames.drops(below)}
    nowhere = nowhere_drawn(labels, voxels, decisions.stated | hidden) if given is None else []
    if nowhere:
        labels = labels.without(nowhere)
        ids = {name: {v: id for v, id in of_case.items() if id in (0, *labels.ids)} for name, of_case in ids.items()}
        found.notices.append(told_nowhere_drawn(nowhere))
    labels = with_regions(labels, found.regions, renames, problems)
    opened = open_labels(cases, facts, voxels, labels, nowhere, decisions, renames, problems)
    made = [
        _case(
            c,
            facts[c.case.name],
            ids.get(c.case.name, {}),
            labels,
            with_dropped_below(order, renames),
            opened.get(c.case.name, OpenLabel()),
        )
        for c in cases
        if c.case.name in facts
    ]
    tell_cases(cases, facts, as_found, contents, labels, {case.name: told_of(case, labels) for case in made}, emit)
    raise_if_any(problems)
    several = len(found.channels) > 1
    kinds = channel_modalities(found.channels, facts, modality) if several else ()
    problems += swapped(cases, facts, found.channels, kinds)
    raise_if_any(problems)
    chosen, reason, different = choose_modality(
        modality,
        {name: f.intensity for name, f in facts.items()},
        {name: f.dicom_modality for name, f in facts.items() if f.dicom_modality},
        found.modality,
    )
    cohort = Cohort(
        modality=kinds[0] if several else chosen,
        channels=tuple(channel.name for channel in found.channels),
        more_modalities=kinds[1:],
        labels=labels,
        seed=seed,
        cases=tuple(made),
    )
    unnamed = [name for name, content in as_found.items() if content.values and not content.names]
    if given is None and 0 < len(unnamed) < len(contents):
        found.notices.append(Notice(
            f"Some label files carry no names ({len(unnamed)} of {len(contents)}, such as {contents[unnamed[0]].path}); "
            "their values were taken as the numbers of the cohort's label set."
        ))  # fmt: skip
    if several:
        found.notices.append(told_of_channels(found.channels, kinds))
    elif modality == "auto":
        found.notices.append(
            Notice(f"The modality was taken as {chosen}: {reason}.", "Give --modality to say otherwise.", "modality")
        )
    if different and not several:
        found.notices.append(
            Notice(f"The cohort is treated as {chosen}, but these cases do not look like it: {listed(different, 3)}.")
        )
    settled = {name: tuple(o for o in f.overlaps if not renames.drops(o[0])) for name, f in facts.items()}
    overlaps = overlap_notices(settled)
    for notice in (*found.notices, *overlaps, *_reading_notices(facts), *notices_about(cohort)):
        emit("notice", **notice._asdict())
    return cohort


def _voxels(facts: CaseFacts, ids: dict[int, int], labels: LabelSet) -> dict[int, int]:
    """Structure id -> voxels; of values that are known."""
    counted: Counter[int] = Counter()
    for value, count in facts.counts.items():
        counted[ids.get(value, 0)] += count
    return {id: counted.get(id, 0) for id in labels.ids}


def _case(
    c: CaseWithRole, facts: CaseFacts, ids: dict[int, int], labels: LabelSet, order: Sequence[str], opened: OpenLabel
) -> Case:
    thickness: dict[int, float] = {}
    for value, mm in facts.thickness.items() if opened.labeled_slices is None else ():
        # Of a structure that is put together from several, that of its thickest part.
        thickness[ids.get(value, 0)] = max(mm, thickness.get(ids.get(value, 0), 0.0))
    drawn = labels.ids if opened.drawn is None else opened.drawn
    return Case(
        name=c.case.name,
        role=c.role,
        image=c.case.image,
        more_images=c.case.more_images,
        label=c.case.label,
        patient=c.patient,
        image_sha256=facts.image_sha256,
        more_image_sha256=tuple(channel.image_sha256 for channel in facts.more),
        label_sha256=facts.label_sha256,
        size=facts.geometry.size,
        spacing=facts.geometry.spacing,
        orientation=facts.orientation,
        intensity=facts.intensity,
        # The plan is made from these; the test cases must not have a say in it.
        foreground_intensity=None if c.role == "test" else facts.foreground_intensity,
        more_intensity=tuple(channel.intensity for channel in facts.more),
        more_foreground_intensity=tuple(None if c.role == "test" else f.foreground_intensity for f in facts.more),
        thickness={id: thickness[id] for id in labels.ids if id in thickness and id in drawn and c.role != "test"},
        voxels=_voxels(facts, ids, labels) if c.case.label is not None else {},
        label_values=ids,
        order=tuple(order) if facts.overlaps else (),
        **vars(opened),
    )


def _reading_notices(facts: dict[str, CaseFacts]) -> list[Notice]:
    """What was said while reading, each sentence once, with the cases that it was said of."""
    cases: dict[str, list[str]] = defaultdict(list)
    for name, f in facts.items():
        for notice in f.notices:
            cases[notice].append(name)
    return [
        Notice(f"{names[0]}{f' and {len(names) - 1} more cases' if len(names) > 1 else ''}: {notice}")
        for notice, names in cases.items()
    ]
