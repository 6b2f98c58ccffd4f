"""What the windows say where the engine's remedy names an option of its command line."""

import re
from pathlib import Path

from dinomix_slicer.remedies import AS_IT_IS, remedies, remedyOf, textOf
from dinomix_slicer.worker.job import Job

DOCUMENT = Path(__file__).parents[2] / "docs/python_api.md"


def test_every_code_of_the_engine_has_one_in_the_windows_words():
    cells = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*remedies(), *AS_IT_IS} == set(re.findall(r"[a-z-]+", " ".join(cells)))
    for text in remedies().values():
        assert text.endswith(".") and "--" not in text


def test_the_engines_own_words_stay_where_there_is_no_code():
    told = {"message": "The file is damaged.", "remedy": "Copy it again.", "code": ""}
    assert remedyOf(told) == "Copy it again." and textOf(told) == "The file is damaged. Copy it again."
    assert remedyOf({**told, "code": "from a later version"}) == "Copy it again."
    command = "Put it right into a new file: dinomix mend --image a.nii.gz."
    assert remedyOf({**told, "code": "grid", "remedy": command}) == command
    assert textOf({"message": "Half precision was used."}) == "Half precision was used."


def test_a_job_tells_notices_and_not_which_device_computes():
    job, heard = Job("job1", {}, lambda job: None), []
    job.notice.connect(heard.append)
    job.takeEvent({"kind": "device", "device": "cpu", "reason": "Computing on the CPU."})
    job.takeEvent({"kind": "notice", "message": "The modality was taken as CT.", "remedy": "Give --modality.",
                   "code": "modality"})  # fmt: skip
    assert len(heard) == 1 and heard[0].startswith("The modality was taken as CT. Choose")
