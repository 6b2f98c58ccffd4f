"""A few kills, full disks and damaged files; ``python Testing/engine/kill_campaign.py`` does more of them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs fork and SIGKILL", allow_module_level=True)

import kill_campaign

KILLS = 4


@pytest.mark.slow
@pytest.mark.parametrize("part", sorted(kill_campaign.PARTS))
def test_nothing_is_lost(part: str) -> None:
    # In a process of its own: one that has computed cannot be forked.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", kill_campaign.__file__, "--kills", str(KILLS), "--only", part],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "nothing lost" in done.stdout, done.stdout + done.stderr


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = (kill_campaign._hashes(tmp_path / name) for name in ("a", "b"))
    assert one == other
    (tmp_path / "b/labels.nii.gz").write_bytes(b"1")
    assert kill_campaign._hashes(tmp_path / "b") != one
    file = tmp_path / "file"
    for damage in (kill_campaign._cut, kill_campaign._empty, kill_campaign._overwritten, kill_campaign._flipped):
        file.write_bytes(bytes(100))
        damage(file, random.Random(1))
        assert file.read_bytes() != bytes(100)
