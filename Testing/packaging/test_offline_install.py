"""The rehearsal of an installation without a network, where a folder of wheels is at hand (see ``offline_install.py``)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import offline_install


@pytest.mark.slow
def test_everything_is_installed_from_wheels_alone(tmp_path: Path) -> None:
    wheels = os.environ.get("DINOMIX_WHEELS")
    if not wheels:
        pytest.skip("DINOMIX_WHEELS names no folder of wheels, so no installation without a network is rehearsed")
    offline_install.rehearse(Path(wheels).resolve(), tmp_path)


def test_the_network_is_refused() -> None:
    """What the rehearsal rests on: an installer that asks the network gets no answer, whatever pip's settings are."""
    os.environ["PIP_INDEX_URL"] = "https://example.invalid/simple"
    try:
        environment = offline_install.offline_environment()
    finally:
        del os.environ["PIP_INDEX_URL"]
    assert "PIP_INDEX_URL" not in environment
    code = (
        "import urllib.error, urllib.request\n"
        "try:\n    urllib.request.urlopen('http://example.invalid', timeout=5)\n"
        "except urllib.error.URLError as error:\n    print('refused')\n"
    )
    command = [*offline_install.without_network(), sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "refused", done.stdout + done.stderr
