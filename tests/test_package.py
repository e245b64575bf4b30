"""What people install: a wheel and an sdist hold the library, and it runs from the wheel alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

import aopc_monitor

pytestmark = pytest.mark.full
ROOT = Path(__file__).parent.parent
FILES = ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "MANIFEST.in", "pyproject.toml")
FOLDERS = ("aopc_monitor", "recipes", "benchmarks", "tests", "docs")
USED = """
import importlib.metadata, torch, aopc_monitor
metric = aopc_monitor.AOPC("lrp", region_size=2, steps=2, data_range=(0.0, 1.0))
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
metric.update(network, torch.rand(2, 3, 4, 4))
print(aopc_monitor.__file__)
print(importlib.metadata.version("aopc-monitor"), float(metric.compute()))
"""


def of_library() -> set[str]:
    """The files of the library in the clone."""
    found = (path for path in (ROOT / "aopc_monitor").rglob("*") if path.is_file())
    return {str(p.relative_to(ROOT)) for p in found if p.suffix == ".py" or p.name == "py.typed"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist and of the wheel that is built from it, without a download."""
    pytest.importorskip("build.env", reason="it is built with build: install .[dev]")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.png")
        )
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)])
    return folder


def run(command: list[str], **kwargs: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture
def metadata(built: Path) -> Message:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


def test_wheel_holds_the_library_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == of_library()


def test_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {member.name.split("/", 1)[1] for member in sdist if member.isfile()}
    own = {"PKG-INFO", "setup.cfg"}
    assert {n for n in names - own if ".egg-info/" not in n} == of_library() | set(FILES)


def test_library_runs_from_the_wheel(built: Path, tmp_path: Path) -> None:
    """In an environment that has the wheel, and borrows torch and what torch needs."""
    venv.create(tmp_path, with_pip=False)
    python = tmp_path / "bin" / "python"
    packages = tmp_path / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    options = ["--no-deps", "--no-index", "--no-compile", "--target", str(packages)]
    run([sys.executable, "-m", "pip", "install", "-q", *options, str(wheel_of(built))])
    # The path files of that folder are not read, so that an editable install stays out.
    (packages / "borrowed.pth").write_text(str(Path(torch.__file__).parents[1]))
    place, values = run([str(python), "-I", "-c", USED]).splitlines()
    assert Path(place).is_relative_to(packages)
    version, value = values.split()
    assert version == aopc_monitor.__version__
    assert -1 <= float(value) <= 1


def test_metadata_says_what_it_is_and_needs(metadata: Message) -> None:
    assert metadata["Version"] == aopc_monitor.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert all(metadata[name] for name in ("Summary", "Author", "Keywords", "License-File"))
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    always = {requirement.name for requirement in needed if requirement.marker is None}
    assert always == {"numpy", "torch", "torchmetrics"}


def test_lightning_of_malicious_releases_is_refused(metadata: Message) -> None:
    """Both names, in each extra that has one: GHSA-w37p-236h-pfx3."""
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    of_lightning = [one for one in needed if one.name in ("lightning", "pytorch-lightning")]
    assert {requirement.name for requirement in of_lightning} == {"lightning", "pytorch-lightning"}
    for requirement in of_lightning:
        assert list(requirement.specifier.filter(["2.6.1", "2.6.2", "2.6.3", "2.6.4"])) == [
            "2.6.1", "2.6.4"
        ]  # fmt: skip


def test_citation_names_this_version_and_the_paper() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    citation = pytest.importorskip("yaml").safe_load(text)
    assert citation["version"] == aopc_monitor.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    (paper,) = citation["references"]
    assert re.search(re.escape(paper["doi"]), (ROOT / "README.md").read_text(encoding="utf-8"))
