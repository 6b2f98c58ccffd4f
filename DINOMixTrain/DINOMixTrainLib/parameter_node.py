"""What the user has chosen; it is saved with the scene."""

from typing import Annotated

from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class DINOMixTrainParameterNode:
    """The choices of the module's window.

    studyFolder - the folder on disk that holds all of a study: cohort.json, scene/, corrected/, cache/ and runs/<name>/.
    labeledFolders, unlabeledFolders, testFolders - folders with cases; labeled ones also hold the labels.
    sceneLabeled, sceneUnlabeled - cases of the open scene, one text each.
    validationCount - how many labeled cases are kept for validation.
    patientPattern - a regular expression that finds the patient in a file's name; empty for one patient each.
    overlapOrder - names of structures with commas; where a label has several in one voxel, the later one wins.
    channels - names of the images of each case with commas, each perhaps with =PATTERN; empty for one, or what the files tell.
    modality - "auto", "CT" or "MR".
    seed - of the split of the cases and of the training.
    renames - JSON object, a structure's name in the label files to its name in the cohort, or null to drop it.
    decisions - JSON object, what is said of labels that may not show everything; see ``Decisions``.
    excluded - names of cases that are left out.
    startModel - folder of the model, or file of the encoder's weights, to start from; empty for random weights.
    keepStructures - whether structures stay that only this model knows, as it predicts them.
    preset - name of the preset; see ``dinomix train --list-presets``.
    device - "auto", "cpu", "cuda", "cuda:N" or "mps".
    teacher - whose features are distilled: "off", "random", a name that timm knows, a DINOv3's file, or NAME=FILE.
    settings - JSON object, advanced settings that differ from the preset, by their dotted keys of ``--set``.
    runName - name of the run to start next; empty for one that is made up.
    runPath - the run that is shown.
    rankBy - what the unlabeled cases are ranked by, a strategy of ``dinomix rank``; empty for its default.
    """

    studyFolder: str
    labeledFolders: list[str]
    unlabeledFolders: list[str]
    testFolders: list[str]
    sceneLabeled: list[str]
    sceneUnlabeled: list[str]
    validationCount: Annotated[int, WithinRange(0, 100000)] = 0
    patientPattern: str
    overlapOrder: str
    channels: str
    modality: str = "auto"
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    renames: str
    decisions: str
    excluded: list[str]
    startModel: str
    keepStructures: bool
    preset: str = "standard"
    device: str = "auto"
    teacher: str = "off"
    settings: str
    runName: str
    runPath: str
    rankBy: str
