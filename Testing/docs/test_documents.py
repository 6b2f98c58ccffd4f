"""Every command and every piece of Python in README.md and docs/ is run, on small generated data, or declared with a reason.

They run as they are written, those of a document one after the other in one folder, in this process (``dinomix`` is not started
anew each time). Options are added to what would take long (``SMALLER``).
"""

import runpy
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import sandbox
from blocks import DOCUMENTS, ROOT, Block, blocks_of, commands_of
from dinomix import cli

SMALLER = {
    "train": ["--steps", "2", "--device", "cpu"],
    "segment": ["--device", "cpu"],
}
"""Options that are added to a verb, so that it takes seconds."""
SMALLER_PLAN = ["--set", "plan.patch=32,32,32", "--set", "plan.network.filters=4,4,8,8,8,8"]
"""The same for a plan that is not a model's."""

PLACES = {
    "/models/abdomen": "~/.dinomix/models/abdomen",
    "~/.dinomix/models/abdominal-organs-3mm": "~/.dinomix/models/abdomen",
    "SOURCE": "run/model",
}
"""Models of the reader's computer, and what stands for them here."""

NOT_RUN = {
    "dinomix models install abdominal-organs-3mm":
        "downloads; Testing/engine/test_models_install.py installs from files of the same format",
    "dinomix models install hf:OWNER/NAME":
        "stands for any name; Testing/engine/test_models_hub.py installs from a server like the Hub",
    "dinomix models install hf:OWNER/NAME@REVISION": "the same",
    "dinomix models join fold_0/model fold_1/model fold_2/model --out ensemble":
        "needs three models; Testing/engine/test_ensembles.py joins such",
    "dinomix segment --model organs/model --model tumors/model ct.nii.gz --out all.seg.nrrd --statistics all.csv":
        "needs models that are alike in this; Testing/engine/test_several_models.py runs such",
    "dinomix segment --model organs/model --model tumors/model --inside liver ct.nii.gz --out all.seg.nrrd":
        "needs models that are alike in this; Testing/engine/test_several_models.py runs such",
    "dinomix segment --model organs/model --keep spleen --inside spleen ct.nii.gz --out spleen.nii.gz":
        "needs models that are alike in this; Testing/engine/test_several_models.py runs such",
    "dinomix segment --model fine/model --found-by coarse/model --inside liver --keep liver ct.nii.gz --out liver.nii.gz":
        "needs models that are alike in this; Testing/engine/test_several_models.py runs such",
    "dinomix models calibrate abdominal-organs-3mm --cohort extra.json --role labeled":
        "needs the installed model; Testing/engine/test_certainty.py calibrates one",
    "dinomix models graph abdominal-organs-3mm":
        "needs the installed model; Testing/engine/test_graphs.py gives a model its graph",
    "dinomix models quantize RUN/model --cohort cohort.json":
        "needs validation cases; Testing/engine/test_eight_bits.py quantizes a trained model",
    "dinomix models quantize abdominal-organs-3mm --cohort mine/cohort.json --role labeled":
        "needs the installed model; Testing/engine/test_eight_bits.py quantizes a trained one",
    "python -m pip install .[radiomics]": "1.5 GB; Testing/engine/test_radiomics.py is skipped without it",
    "dinomix measure segmentations --images scans --labels run/model/labels.json --modality CT --radiomics radiomics.csv":
        "needs MIRP; Testing/engine/test_radiomics.py measures where it is installed",
    "dinomix measure segmentations --images scans --labels run/model/labels.json --radiomics radiomics.csv --bins 64 --spacing 1":
        "needs MIRP; Testing/engine/test_radiomics.py measures where it is installed",
    "ssh gpu-box dinomix worker": "needs another computer; Testing/engine/test_worker*.py speak with a worker through a pipe",
    "Slicer --no-main-window --no-splash --python-script segment_scan.py scan.nrrd /models/abdomen organs.seg.nrrd":
        "needs Slicer; Testing/modules/test_segment_scripting.py runs the script in the test host",
    "dinomix benchmark synapse ~/data/Abdomen --teacher ~/dinov3_vitb16.safetensors --seeds 0 1 2 --out benchmark-synapse":
        "trains for days; Testing/engine/test_benchmark.py runs a small one",
    "dinomix benchmark synapse ~/data/Abdomen --as-published --teacher ~/dinov3_vitb16.safetensors --out benchmark-published":
        "trains for days; Testing/engine/test_benchmark.py runs a small one",
    "dinomix benchmark amos ~/data/amos22 --method mean-teacher --seeds 0":
        "trains for days; Testing/engine/test_benchmark.py runs a small one",
    "dinomix train --cohort cohort.json --out run --start ResEncL-OpenMind-MAE/checkpoint_final.pth":
        "needs OpenMind's file; Testing/engine/test_encoders.py starts from files of the same format",
    "dinomix segment --model run/model archive --out results --format dicom-seg --statistics results/measurements.csv --preview":
        "needs a tree of DICOM; Testing/engine/test_segment_dicom.py segments one of 30 studies",
    "dinomix segment --model run/model archive/PATIENT/STUDY/CT --out liver.dcm --format rtstruct":
        "needs a DICOM series; Testing/engine/test_segment_dicom.py segments one",
    "dinomix check --labeled patients --channel t1 --channel t2=*T2*TRA* --out cohort.json":
        "needs patients of two sequences; Testing/engine/test_channels_cohort.py checks such folders",
    "python3 -m venv dinomix-env": "the tests run in an environment that was made so; a second one takes 7 GB",
    ". dinomix-env/bin/activate": "there is no such environment",
    "python -m pip install --upgrade pip": "the tests run in an environment that is there",
    "python -m pip install --group segment": "the same; Testing/bridge/test_dependencies.py compares the group with the list",
    "python -m pip install --no-deps .": "the same",
    "python -m pip install .": "7 GB; Testing/packaging/offline_install.py installs the same packages",
    "python -m pip download --only-binary :all: --dest wheels -r requirements.txt":
        "3 GB; Testing/packaging/offline_install.py runs it",
    "python -m pip install --no-index --find-links wheels -r requirements.txt":
        "6 GB; Testing/packaging/offline_install.py runs it",
}  # fmt: skip
"""Commands that are not run, as they are written but for blanks, and why."""

NOT_RUN_PROGRAMS = {
    "Testing/benchmarks/ablation.py": "trains for hours; measured by hand, the figures stand beside it",
    "Testing/benchmarks/averaging.py": "needs trained runs; measured by hand, the figures stand beside it",
    "Testing/benchmarks/certainty.py": "needs trained runs; measured by hand, the figures stand beside it",
    "Testing/benchmarks/next_case.py": "trains for hours; measured by hand, the figures stand beside it",
    "Testing/benchmarks/pic_reach.py": "draws for minutes; measured by hand, the figures stand beside it",
    "Testing/benchmarks/teacher_probe.py": "needs a run and a trained teacher; measured by hand, the figures stand beside it",
    "Testing/engine/fuzz.py": "takes half an hour; Testing/engine/test_fuzzing.py tries 300 inputs",
    "Testing/engine/kill_campaign.py": "takes half an hour; Testing/engine/test_kill_campaign.py kills a few times",
}
"""Programs of this repository that are not run, and why; that they exist and know the options is tested."""

PYTHON_ELSEWHERE = {"docs/scripting.md": "run in the test host by Testing/modules/test_segment_scripting.py"}
"""Documents whose Python is run by another test."""


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``readers(document)`` goes to the folder of someone who tries what that document says; a new one for each document."""
    home, folder = tmp_path / "home", tmp_path / "all"
    home.mkdir()
    folder.mkdir()
    sandbox.fill(folder, home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "DINOMixEngine"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DINOMIX_MODELS", raising=False)

    def enter(document: str) -> None:
        work = Path(shutil.copytree(folder, tmp_path / Path(document).stem))
        if document != "README.md":  # whoever comes from there has a model
            shutil.copytree(home / ".dinomix" / "models" / "abdomen", work / "run" / "model")
        monkeypatch.chdir(work)

    return enter


def test_every_block_runs(readers: Callable[[str], None]) -> None:
    failed, ran = [], 0
    for document in DOCUMENTS:
        readers(document.relative_to(ROOT).as_posix())
        names: dict[str, object] = {"__name__": "document"}
        for block in blocks_of(document):
            try:
                ran += run_block(block, names)
            except (Exception, SystemExit):
                failed.append(f"{block.place}\n{traceback.format_exc(limit=-3)}")
    assert not failed, "\n\n".join(failed)
    assert ran > 15


def run_block(block: Block, names: dict[str, object]) -> int:
    """Run a block; how many commands or pieces of Python were run. ``names`` are those of the document's Python."""
    if block.language == "python":
        if block.document in PYTHON_ELSEWHERE:
            return 0
        exec(compile(block.text, block.place, "exec"), names)
        return 1
    if block.holds_commands:
        return sum(run_command(words) for words in commands_of(block.text))
    assert block.is_data, f"nobody knows how to try a block of {block.language}"
    return 0


def run_command(words: list[str]) -> bool:
    """Run a command; whether it was run. AssertionError if it fails, or if nobody knows how to run it."""
    if " ".join(words) in NOT_RUN or (words[0] == "python" and words[1] in NOT_RUN_PROGRAMS):
        return False
    words = [PLACES.get(word, word) for word in words]
    words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]
    if words[:3] == ["PythonSlicer", "-m", "dinomix"]:
        words = words[2:]
    known: dict[str, Callable[[list[str]], None]] = {"dinomix": run_dinomix, "make": run_make}
    assert words[0] in known, f"nobody knows how to run `{' '.join(words)}`; run it, or declare in NOT_RUN why not"
    known[words[0]](words)
    return True


def run_dinomix(words: list[str]) -> None:
    verb = words[1]
    if verb == "worker":  # it takes the standard streams of its process, and ends when they end
        done = subprocess.run([sys.executable, "-m", *words], input=b"", capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(b'{"type": "started"'), "docs/troubleshooting.md says how it begins"
        return
    more = SMALLER.get(verb, []) + (SMALLER_PLAN if verb == "train" and "--start" not in words else [])
    with pytest.raises(SystemExit) as end:
        cli.main([*words[1:], *more])
    assert end.value.code == 0, f"`{' '.join(words)}` ended with {end.value.code}"


def run_make(words: list[str]) -> None:
    """What make would do: it installs gigabytes first, and the tests are these."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"demo": "dinomix demo --out demo", "test": "-m pytest"}[words[1]] in done.stdout


def test_what_is_declared_is_still_there() -> None:
    blocks = [block for document in DOCUMENTS for block in blocks_of(document)]
    commands = {" ".join(words) for b in blocks if b.holds_commands for words in commands_of(b.text)}
    assert set(NOT_RUN) <= commands
    programs = {words.split()[1] for words in commands if words.startswith("python ")}
    assert set(NOT_RUN_PROGRAMS) <= programs
    assert set(PYTHON_ELSEWHERE) <= {block.document for block in blocks if block.language == "python"}


@pytest.mark.parametrize("program", NOT_RUN_PROGRAMS)
def test_a_program_that_is_not_run_knows_the_options_that_the_documents_give_it(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str((ROOT / program).parent))

    @cache
    def told_of(*what: str) -> str:
        monkeypatch.setattr(sys, "argv", [program, *what, "--help"])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / program), run_name="__main__")
        assert not end.value.code
        return capsys.readouterr().out

    for document in DOCUMENTS:
        for block in blocks_of(document):
            for words in commands_of(block.text) if block.holds_commands else []:
                if words[:2] == ["python", program]:
                    told = told_of(*(word for word in words[2:3] if not word.startswith("-")))
                    assert [word for word in words if word.startswith("--") and word not in told] == []


def test_an_unknown_block_is_no_silent_success() -> None:
    with pytest.raises(AssertionError, match="nobody knows how to try a block of rust"):
        run_block(Block("README.md", 1, "rust", "fn main() {}"), {})
    with pytest.raises(AssertionError, match="nobody knows how to run `curl"):
        run_block(Block("README.md", 1, "bash", "curl -O a"), {})
    with pytest.raises(ValueError, match="not one simple command"):
        run_block(Block("README.md", 1, "bash", "dinomix --help | head"), {})
    with pytest.raises(AssertionError, match="ended with 2"):
        run_block(Block("README.md", 1, "", "dinomix segment --model no_model a.nii.gz --out b.nii.gz"), {})
    with pytest.raises(NameError):
        run_block(Block("README.md", 1, "python", "undefined"), {})


def test_a_fence_that_is_not_closed_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text\n```bash\ndinomix --help\n")
    with pytest.raises(ValueError, match="not closed"):
        blocks_of(tmp_path / "a.md", tmp_path)
