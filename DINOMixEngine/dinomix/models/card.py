"""The model card: what the model is for, how it came to be, and what is still to be stated by its maker."""

import json
import shlex
from typing import Any

from dinomix.labels import LabelSet
from dinomix.models.calibration import KEY, KEY_OF_BOXES, Calibration
from dinomix.models.front_matter import front_matter
from dinomix.names import listed
from dinomix.planning.plan import (
    MinMax,
    PercentileWindow,
    Plan,
    RangeWindow,
    Sigmoid,
    SpacingGrid,
    Step,
    Tanh,
    ToRange,
    Window,
    ZScore,
)

_DIRECTIONS = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
TO_STATE = "_Not stated yet. Fill this in before you pass the model on._"

ONE_STAGE_IN_MONAI = (
    "`dinomix segment` runs both stages; as a MONAI bundle the folder gives the labels of the first stage alone, since "
    "MONAI's configuration has no step that cuts boxes out of what another network has found."
)


def model_card(plan: Plan, labels: LabelSet, record: dict[str, Any]) -> str:
    """``README.md`` of a model folder, with what the Hugging Face Hub reads of it before."""
    structures = "\n".join(
        [*(f"| {s.id} | {s.name} |" for s in labels.structures),
         *(f"| {' or '.join(map(str, region.structures))} | {region.name} |" for region in labels.regions)]
    )  # fmt: skip
    facts = "\n".join(
        f"| {_words(key)} | {_cell(value)} |" for key, value in record.items() if key not in (KEY, KEY_OF_BOXES)
    )
    modality = " and ".join(dict.fromkeys(plan.modalities))
    return f"""{front_matter(plan, record)}
# {modality} model: {", ".join(labels.names)}

{_origin(record)}{_verdict(record)} This folder is a MONAI bundle; `dinomix segment` reads it, and so does MONAI without DINOMix:

```
dinomix segment --model THIS_FOLDER {_inputs(plan)} --out segmentation.nii.gz
python -m monai.bundle run --bundle_root THIS_FOLDER --config_file THIS_FOLDER/configs/inference.json \\
    --meta_file THIS_FOLDER/configs/metadata.json --dataset_dir SCANS --output_dir SEGMENTATIONS
```

## Structures

| voxel value | structure |
|---|---|
{structures}
{_pieces(plan, labels)}{_overlap(plan, record)}{_eight_bits(record)}{_kept(record)}
## Images

- Modality: {modality}
{_channels(plan)}- Grid: {_grid(plan)}
- Intensities: {_windows(plan)}
- Patch: {" x ".join(map(str, plan.patch))} voxels
{_second(plan)}
## How sure it is

{_certainty(record)}

## Intended use

Research. This is not a medical device, and it must not be used for diagnosis or treatment. It knows images like those
it was trained on; look at its results on yours before you rely on them.

## License and credit

- License of the weights: {record.get("license", TO_STATE)} {record.get("license_url", "")}
- Author: {record.get("author", TO_STATE)} {record.get("homepage", "")}
- Copyright: {record.get("copyright", TO_STATE)}
- Training data, their license and credit: {record.get("data_source", TO_STATE)}{_citation(record)}

## Training record

| | |
|---|---|
{facts}
"""


def _certainty(record: dict[str, Any]) -> str:
    """Whether and how well it is calibrated."""
    calibration = Calibration.of_record(record)
    if calibration is None:
        return (
            "It is not calibrated: its probabilities are the network's own, which are mostly too high, and it predicts no Dice."
            " `dinomix models calibrate` calibrates it on labeled cases."
        )
    of_boxes = Calibration.of_record(record, KEY_OF_BOXES)
    return calibration.in_words + (f" The second stage: {of_boxes.in_words}" if of_boxes is not None else "")


def _origin(record: dict[str, Any]) -> str:
    """Where the weights are from; ``format`` is recorded for those that were trained with other software."""
    if "ensemble_of" in record:
        titles = ", ".join(f"{each['title']} ({each['networks']})" for each in record["ensemble_of"])
        return (
            f"An ensemble, joined by DINOMix: the probabilities of the networks of these models are averaged: {titles}."
        )
    if "format" not in record:
        return "Trained with DINOMix."
    notes = " ".join(map(str, record.get("notes", [])))
    return f"Converted by DINOMix from: {record['format']}. {notes}".strip()


def _verdict(record: dict[str, Any]) -> str:
    """What came of a fine-tuning, beside the model that it started from."""
    verdict = record.get("start_model")
    return f" {verdict['message']}" if isinstance(verdict, dict) and isinstance(verdict.get("message"), str) else ""


def _kept(record: dict[str, Any]) -> str:
    kept = record.get("kept_structures")
    if not isinstance(kept, list) or not kept:
        return ""
    return (
        f"\n{listed(list(map(str, kept)), 20)}: nobody drew {'it' if len(kept) == 1 else 'them'} for this training; "
        "what the model that it started from predicts was learned.\n"
    )


def _second(plan: Plan) -> str:
    if plan.second is None:
        return ""
    return f"- Second stage: boxes around {', '.join(plan.second.structures)}; {_grid(plan.second.plan)}. {ONE_STAGE_IN_MONAI}\n"


def _overlap(plan: Plan, record: dict[str, Any]) -> str:
    if "overlap" not in record:
        return ""
    return f"\nWindows overlap by {plan.overlap[0]:g} of their side: no structure of the validation cases lost by it.\n"


def _eight_bits(record: dict[str, Any]) -> str:
    """``evaluation.eight_bits`` records it of graphs that were kept."""
    found = record.get("eight_bits")
    if not isinstance(found, dict):
        return ""
    unseen = listed([str(name) for name in found.get("unseen", [])], 20)
    told = f"Processors compute it with 8 bits: no structure lost by it in {_cell(found.get('cases'))} labeled cases."
    return f"\n{told}{f' None of these shows {unseen}.' if unseen else ''}\n"


def _citation(record: dict[str, Any]) -> str:
    return f"\n- To cite: {record['citation']}" if record.get("citation") else ""


def _pieces(plan: Plan, labels: LabelSet) -> str:
    told: list[str] = []
    if single := [labels.names[channel - 1] for channel in plan.one_piece.channels]:
        told.append(f"of {listed(single)} only the largest piece is kept, and others of at least half its size")
    if plan.one_piece.whereabouts is not None:
        told.append("what lies apart from where the labeled cases have them is removed")
    for rule in plan.clean_up:
        kept = "the largest piece" if rule.smallest is None else f"pieces of at least {rule.smallest:g} ml"
        told.append(f"of {labels.names[rule.channel - 1]} only {kept}, as the validation cases have shown to be right")
    if not told:
        return ""
    said = "; ".join(told)
    return f"\n{said[0].upper()}{said[1:]}. `dinomix segment --all-pieces` keeps all, as MONAI without DINOMix does.\n"


def _grid(plan: Plan) -> str:
    if isinstance(plan.grid, SpacingGrid):
        spacing = " x ".join(f"{mm:g}" for mm in plan.grid.spacing)
        return f"resampled to {spacing} mm ({', '.join(_DIRECTIONS[code] for code in plan.grid.orientation)})"
    return "the whole volume resized to " + " x ".join(map(str, plan.grid.size)) + " voxels"


def _inputs(plan: Plan) -> str:
    if len(plan.channels) == 1:
        return "scan.nii.gz"
    return " ".join(f"--channel {shlex.quote(f'{name}=FILE')}" for name in plan.channels)


def _channels(plan: Plan) -> str:
    if len(plan.channels) == 1:
        return ""
    return (
        f"- Each case has {len(plan.channels)} images, in this order: {', '.join(plan.channels)}. MONAI takes them as files "
        "NAME_0000.nii.gz, NAME_0001.nii.gz, ..., and names the result after the first\n"
    )


def _windows(plan: Plan) -> str:
    if len(plan.channels) == 1:
        return _window(plan.window)
    return "; ".join(f"{name}: {_window(window)}" for name, window in zip(plan.channels, plan.windows, strict=True))


def _window(window: Window) -> str:
    if isinstance(window, RangeWindow):
        return f"{window.low:g} to {window.high:g} HU"
    if isinstance(window, PercentileWindow):
        return f"percentiles {window.lower:g} to {window.upper:g} of each volume"
    where = "the network's grid" if window.on == "grid" else "the scan's own grid"
    return f"{', then '.join(map(_step, window.steps))}, on {where}"


def _step(step: Step) -> str:
    match step:
        case ToRange():
            return f"{step.low:g} to {step.high:g} mapped to {step.to[0]:g} to {step.to[1]:g}" + (
                ", clipped" if step.clip else ""
            )
        case ZScore():
            return "z-score of each volume" + ("'s nonzero voxels" if step.nonzero else "")
        case MinMax():
            return f"minimum and maximum of each volume mapped to {step.to[0]:g} and {step.to[1]:g}"
        case Sigmoid():
            return "sigmoid"
        case Tanh():
            return f"tanh with the limit {step.limit:g}"


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= 300 else text[:300] + " ... (see record.json)"
