"""Nothing is fetched or sent without asking: only the places listed here can reach the network, each for a stated reason.

The check reads the source: modules and functions by which Python, Qt, Slicer, PyTorch or Hugging Face reach the network.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

import index_rules
import list_files

ROOT = index_rules.ROOT
MODULES = {
    "aiohttp", "ftplib", "gdown", "http", "httpx", "imaplib", "openvino", "poplib", "pooch", "requests", "smtplib", "socket",
    "socketserver", "telnetlib", "urllib.request", "urllib3", "webbrowser", "websockets", "xmlrpc",
}  # fmt: skip
CALLS = {
    "cached_download", "download", "download_and_extract", "download_url", "downloadSample", "downloadFile", "downloadFromURL",
    "downloadVolume", "hf_hub_download", "HfApi", "installTorch", "load_from_hub", "load_state_dict_from_url", "openUrl",
    "pip_ensure", "pip_install", "QNetworkAccessManager", "snapshot_download", "urlopen", "urlretrieve",
}  # fmt: skip
TEXTS = {"pip", "light_the_torch", "curl", "wget", "git"}
"""Whole texts that are programs or modules which fetch something, when they are started."""

ALLOWED = {
    "DINOMixEngine/dinomix/importing/download.py": {
        "http": "the files of a model of the catalog, or of an address that the user gives",
        "urllib.request": "as http",
    },
    "DINOMixEngine/dinomix/importing/hub.py": {
        "HfApi": "what the repository holds that the user names after hf:",
        "download": "its files, after the user has agreed",
    },
    "DINOMixEngine/dinomix/importing/installing.py": {
        "download": "the same, called for `dinomix models install` after the user has agreed",
    },
    "DINOMixEngine/dinomix/models/silence.py": {
        "openvino": "nothing: what of it would report is kept from being loaded",
    },
    "DINOMixEngine/dinomix/training/backbones.py": {
        "hf_hub_download": "a backbone's weights, after the user has read their licence and given --download-teacher",
    },
    "DINOMixEngine/dinomix_slicer/setup/packages.py": {
        "installTorch": "PyTorch, which the user was asked about, by the PyTorch extension",
        "pip_ensure": "the packages that the user was asked about, or those of a folder of wheels",
        "pip_install": "the same in Slicer 5.10",
    },
    "DINOMixSegment/DINOMixSegmentLib/sample_data.py": {
        "downloadSample": "an example scan, by Slicer's Sample Data module, after asking",
    },
}  # fmt: skip


def ways_out(file: Path) -> set[str]:
    """Names by which a file can reach the network; to ask for this computer's own name is no such way."""
    found = set()
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= network_modules(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= network_modules([node.module or "", *(f"{node.module}.{name.name}" for name in node.names)])
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (name in CALLS and "fromLocalFile" not in ast.unparse(node)) or (
                name == "load" and "hub" in ast.unparse(node.func)
            ):
                found.add(name)
            if any(word.arg == "pretrained" and ast.unparse(word.value) != "False" for word in node.keywords):
                found.add("pretrained")
        elif isinstance(node, ast.Constant) and node.value in TEXTS:
            found.add(str(node.value))
    asked = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "socket"
    }
    return found - {"socket"} if asked == {"gethostname"} and "from socket" not in file.read_text("utf-8") else found


def network_modules(names: Iterable[str]) -> set[str]:
    """Those of MODULES that an import of these names loads."""
    return {module for name in names for module in MODULES if f"{name}.".startswith(f"{module}.")}


def shipped_files() -> list[Path]:
    return [
        ROOT / folder / name
        for folder in list_files.FOLDERS
        for name in list_files.known_files(ROOT / folder)
        if name.endswith(".py")
    ]


def test_only_the_listed_places_reach_the_network() -> None:
    found = {path.relative_to(ROOT).as_posix(): names for path in shipped_files() if (names := ways_out(path))}
    listed = {path: set(reasons) for path, reasons in ALLOWED.items()}
    assert found == listed, "list the place in ALLOWED with its reason, and ask the user before it is used"


def test_the_privacy_statement_names_every_place() -> None:
    text = (ROOT / "docs" / "privacy.md").read_text("utf-8")
    assert not [path for path in ALLOWED if f"`{'/'.join(Path(path).parts[1:])}`" not in text]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import urllib.request", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("def f():\n    import requests", "requests"),
        ("from http.client import HTTPSConnection", "http"),
        ("torch.hub.load('a/b', 'c')", "load"),
        ("timm.create_model(name, pretrained=True)", "pretrained"),
        ("timm.create_model(name, pretrained=wanted)", "pretrained"),
        ("slicer.util.pip_install('torch')", "pip_install"),
        ("run(['-m', 'pip', 'install'])", "pip"),
        ("import socket\nsocket.create_connection(address)", "socket"),
        ("from socket import create_connection, gethostname", "socket"),
        ("qt.QDesktopServices.openUrl(url)", "openUrl"),
    ],
)
def test_a_way_out_is_seen(tmp_path: Path, source: str, name: str) -> None:
    (tmp_path / "file.py").write_text(source)
    assert name in ways_out(tmp_path / "file.py")


def test_what_stays_here_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(
        "import socket\nimport urllib.parse\nsocket.gethostname()\nmodel.load(path)\n"
        "timm.create_model(name, pretrained=False)\nqt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(folder))\n"
    )
    assert ways_out(tmp_path / "file.py") == set()
