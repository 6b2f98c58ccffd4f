"""Cases found in folders, each with a name of its own; what layouts a folder may have, ``layouts`` knows."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.recognizing import labeled_cases, unlabeled_cases
from dinomix.cohort.layouts.several_channels import channels_shown, with_numbers
from dinomix.cohort.problems import Problem
from dinomix.events import Notice
from dinomix.files import shortened_name
from dinomix.images.channel_files import Channel
from dinomix.images.formats import ENDINGS

LONGEST_CASE_NAME = 180
"""Bytes: files are called after cases, with something before and behind."""


def find_cases(
    labeled: list[Path],
    unlabeled: list[Path],
    test: list[Path],
    listed: Sequence[FoundCase] = (),
    exclude: Sequence[str] = (),
    channels: Sequence[Channel] = (),
) -> Findings:
    """Find and pair the cases of all folders; opens no image and no label, and lists no label of an unlabeled folder.

    Args:
        listed: cases beside those of the folders; see ``listing``. Where a folder has the same image, its case makes way.
        exclude: names of cases to leave out, with what is wrong with them.
        channels: the images of each case; without any, those that the labeled folders show.

    Returns:
        The cases with unique names, and a problem for everything that could not be paired.
    """
    found = Findings(channels=with_numbers(channels, labeled) or channels_shown(labeled))
    seen: dict[str, Pool] = {}
    pools: tuple[tuple[Pool, list[Path]], ...] = (("labeled", labeled), ("unlabeled", unlabeled), ("test", test))
    for pool, folders in pools:
        for folder in folders:
            if not folder.is_dir():
                what = "is not a folder" if folder.exists() else "does not exist"
                found.problems.append(
                    Problem(
                        f"{folder} {what}.",
                        f"Give a folder, or an archive of one (.zip, .tar, .tar.gz), after --{pool}.",
                        code="folder",
                        file=folder,
                    )
                )
                continue
            place = os.path.realpath(folder)
            if (first := seen.get(place)) and (first, pool) != ("labeled", "unlabeled"):
                twice = f"twice as {pool}" if first == pool else f"as {first} and as {pool}"
                found.problems.append(Problem(f"{folder} was given {twice}.", "Give each folder once.", file=folder))
                continue
            both = seen.setdefault(place, pool) != pool
            before = len(found.problems)
            cases = unlabeled_cases(folder, both, found) if pool == "unlabeled" else labeled_cases(folder, pool, found)
            if not cases and len(found.problems) == before:
                found.problems.append(Problem(
                    f"{folder} holds no case.", f"Put images ({', '.join(ENDINGS)} or DICOM folders) there.", file=folder
                ))  # fmt: skip
            found.cases += cases
    found.cases = _without_labeled(found)
    found.cases = _with_unique_names(
        _with_names_that_are_text([*_without_listed(found, listed), *listed], found), found
    )
    _refuse_other_numbers(found)
    _leave_out(exclude, found)
    return found


def _refuse_other_numbers(found: Findings) -> None:
    """Cases with more or fewer images than channels, as lists and layouts that know no channels may have them, are problems."""
    count = max(1, len(found.channels))
    for case in found.cases:
        if len(case.images) != count:
            found.problems.append(Problem(
                f"The case {case.name} has {len(case.images)} images; the cohort has {count} channels.",
                "Name an image for each channel, in the cohort's order.", "channels", case=case.name, file=case.image,
            ))  # fmt: skip
    found.cases = [case for case in found.cases if len(case.images) == count]


def _without_labeled(found: Findings) -> list[FoundCase]:
    """All cases but the unlabeled ones whose image file is that of a labeled or a test case: of two folders that share files."""
    taken = {os.path.realpath(case.image) for case in found.cases if case.pool != "unlabeled"}
    kept = [c for c in found.cases if c.pool != "unlabeled" or os.path.realpath(c.image) not in taken]
    if passed := len(found.cases) - len(kept):
        found.notices.append(
            Notice(f"Images of unlabeled folders that other cases have a label of were passed over: {passed}.")
        )
    return kept


def _without_listed(found: Findings, listed: Sequence[FoundCase]) -> list[FoundCase]:
    """The folders' cases whose images are not listed: a case that was labeled later is unlabeled no more."""
    images = {os.path.realpath(case.image) for case in listed}
    kept = [case for case in found.cases if os.path.realpath(case.image) not in images]
    if len(kept) < len(found.cases):
        taken = len(found.cases) - len(kept)
        found.notices.append(
            Notice(f"Cases of folders that are in the list of cases too are taken from the list: {taken}.")
        )
    return kept


def _leave_out(exclude: Sequence[str], found: Findings) -> None:
    known = {case.name for case in found.cases} | {problem.case for problem in found.problems}
    found.notices += [Notice(f"There is no case {name} to leave out.") for name in exclude if name not in known]
    found.cases = [case for case in found.cases if case.name not in exclude]
    found.problems = [problem for problem in found.problems if problem.case not in exclude]


def _with_names_that_are_text(cases: list[FoundCase], found: Findings) -> list[FoundCase]:
    """Names of files may be any bytes, but a cohort file is text: cases of other names are problems."""
    good = []
    for case in cases:
        try:
            f"{case.images}{case.label}{case.name}".encode()
            good.append(case)
        except UnicodeEncodeError:
            found.problems.append(Problem(
                f"The name of {case.image}, or that of its label, is not text in UTF-8.",
                "Rename the files and their folders, in plain letters and digits.",
            ))  # fmt: skip
    return good


def _with_unique_names(cases: list[FoundCase], found: Findings) -> list[FoundCase]:
    """Cases of the same name get their folder's name before it. Of a very long name the end is a hash."""
    cases = [replace(case, name=shortened_name(case.name, LONGEST_CASE_NAME)) for case in cases]
    count = Counter(case.name for case in cases)
    taken = {name for name, n in count.items() if n == 1}
    unique = []
    for case in cases:
        name = case.name
        if count[name] > 1:
            base = name = f"{case.pool}_{name}"
            number = 1
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            taken.add(name)
        unique.append(replace(case, name=name))
    shared = sorted(
        name for name in count
        if len({case.pool for case in cases if case.short_name == name and case.pool != "unlabeled"}) > 1
    )  # fmt: skip
    if shared:
        found.notices.append(Notice(
            f"Labeled and test cases share names ({', '.join(shared[:3])}{' and others' if len(shared) > 3 else ''}); "
            "they are taken for different patients.",
            "If they are not, say so with --patient-pattern.", "patients",
        ))  # fmt: skip
    return unique
