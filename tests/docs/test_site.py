"""The documentation site is built without a warning, is whole, and needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from inspect import ismodule
from pathlib import Path

import pytest

import aopc_monitor
from aopc_monitor import heatmaps
from aopc_monitor.perturbation import REPLACEMENTS

pytestmark = pytest.mark.full
ROOT = Path(__file__).parent.parent.parent
COMMAND = "python -m sphinx -W -n -c docs . build/site"
# All that is reached from the package itself, but for its folders.
TOP = [name for name in aopc_monitor.__all__ if not ismodule(getattr(aopc_monitor, name))]
PERTURBATION = ["normalized_data_range", *(kind.__name__ for kind in REPLACEMENTS.values())]
# What a browser fetches without being asked; `a` is a link that people follow.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "srcset"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, in a folder of its own."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason=f"the site is built with {module}: install .[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = COMMAND.replace("build/site", str(folder)).split()[1:]
    done = subprocess.run(
        [sys.executable, *command, "--keep-going", "-q", "-d", str(folder / "doctrees")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Fetches(HTMLParser):
    """Collects what a page fetches, and the links that it offers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.fetched.append(str(values[FETCHED[tag]]))


def is_elsewhere(address: str) -> bool:
    return bool(re.match(r"(?!file:|data:)[a-z]+:|//", address))


def pages_of(site: Path) -> dict[str, Fetches]:
    return {
        str(path.relative_to(site)): Fetches(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def test_command_is_the_documented_one() -> None:
    assert COMMAND in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert COMMAND in (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")


def test_every_page_is_in_the_site(site: Path) -> None:
    sources = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.rst"), ROOT / "README.md"]
    for source in sources:
        assert (site / source.relative_to(ROOT)).with_suffix(".html").is_file(), source


def test_nothing_is_fetched_from_a_network(site: Path) -> None:
    pages = pages_of(site)
    assert any("training_progress" in address for address in pages["docs/index.html"].fetched)
    for page, found in pages.items():
        assert [address for address in found.fetched if is_elsewhere(address)] == [], page
    for style in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", style.read_text())
        assert [address for address in addresses if is_elsewhere(address)] == [], style


def test_links_to_files_lead_somewhere(site: Path) -> None:
    for page, found in pages_of(site).items():
        for link in [*found.links, *found.fetched]:
            path = re.split("[#?]", link)[0]
            if path and not is_elsewhere(link):
                assert ((site / page).parent / path).exists(), (page, link)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("metrics", [f"aopc_monitor.{name}" for name in TOP if name not in PERTURBATION]),
        ("monitor", ["aopc_monitor.AOPCMonitor", "aopc_monitor.AOPCMonitor.cost"]),
        ("heatmaps", [f"aopc_monitor.heatmaps.{name}" for name in heatmaps.__all__]),
        ("figures", ["aopc_monitor.figures.training_progress", "aopc_monitor.figures.Line"]),
        ("perturbation", [f"aopc_monitor.perturbation.{name}" for name in PERTURBATION]),
    ],
    ids=["metrics", "monitor", "heatmaps", "figures", "perturbation"],
)
def test_reference_holds_every_public_name(site: Path, page: str, names: list[str]) -> None:
    text = (site / "docs" / "api" / f"{page}.html").read_text(encoding="utf-8")
    assert [name for name in names if f'id="{name}"' not in text] == []


def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    for page in ("guides/reading", "api/metrics"):
        assert "<mfrac>" in (site / "docs" / f"{page}.html").read_text(encoding="utf-8")


def test_start_page_leads_to_the_first(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 'url=docs/index.html"' in text
    assert (site / "docs" / "index.html").is_file()
