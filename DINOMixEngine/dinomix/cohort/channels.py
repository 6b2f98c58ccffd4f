"""What the channels of a cohort hold, and the cases whose images are in each other's place."""

from collections.abc import Mapping, Sequence

from dinomix.cohort.facts import CaseFacts
from dinomix.cohort.modality import Modality, looks_like_hu, modality_of_channel
from dinomix.cohort.problems import Problem
from dinomix.cohort.splitting import CaseWithRole
from dinomix.events import Notice
from dinomix.images.channel_files import Channel


def channel_modalities(
    channels: Sequence[Channel], facts: Mapping[str, CaseFacts], requested: str
) -> tuple[Modality, ...]:
    """What each of several channels holds; all the same where the user says it ("auto" does not)."""
    kinds: list[Modality] = []
    for number, channel in enumerate(channels):
        if requested in ("CT", "MR"):
            kinds.append("CT" if requested == "CT" else "MR")
            continue
        of_channel = {name: f.channels[number] for name, f in facts.items()}
        intensities = {name: f.intensity for name, f in of_channel.items()}
        tags = {name: f.dicom_modality for name, f in of_channel.items() if f.dicom_modality}
        kinds.append(modality_of_channel(channel.name, intensities, tags))
    return tuple(kinds)


def told_of_channels(channels: Sequence[Channel], kinds: Sequence[Modality]) -> Notice:
    """What was found, for whoever looks whether it is so."""
    told = ", ".join(f"{channel.name} ({kind})" for channel, kind in zip(channels, kinds, strict=True))
    return Notice(f"Each case has {len(channels)} images, which the network sees in this order: {told}.")


def swapped(
    cases: Sequence[CaseWithRole],
    facts: Mapping[str, CaseFacts],
    channels: Sequence[Channel],
    kinds: Sequence[Modality],
) -> list[Problem]:
    """The cases in which a channel of Hounsfield units holds none and another one, which should not, does."""
    problems = []
    for c in cases:
        if c.case.name not in facts:
            continue
        is_hu = [looks_like_hu(channel.intensity) for channel in facts[c.case.name].channels]
        without = [n for n, kind in enumerate(kinds) if kind == "CT" and not is_hu[n]]
        instead = [n for n, kind in enumerate(kinds) if kind != "CT" and is_hu[n]]
        if without and instead:
            a, b = without[0], instead[0]
            problems.append(Problem(
                f"The images of {c.case.name} seem to be in each other's place: {c.case.images[a]} is no {channels[a].name}, "
                f"and {c.case.images[b]} looks like one.",
                "Give them each other's names.", "channels",
                case=c.case.name, file=c.case.images[a],
            ))  # fmt: skip
    return problems
