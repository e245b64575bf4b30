"""The libraries whose networks are tried, and what their tables say."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType

from benchmarks.heatmap_coverage import family
from benchmarks.heatmap_coverage.measured import LIMIT, METHODS

MADE_BY = """Made by `python -m benchmarks.heatmap_coverage{option}` with {versions}.
Random weights, float64, two images. "yes": a finite heatmap that is not constant, without a
warning, that left every parameter, mode and hook of the model as it was."""
TORCHVISION = f""" The last three columns are
the conservation error |sum R - f| / |f| of LRP-epsilon with epsilon 1e-9, where f is the output for
the predicted class, and biases, shifts of batch normalisation, position embeddings and class tokens
are zero; {LIMIT:.0e} and more is wrong.
"""
FAMILIES = f"""
"LRP error" is |sum R - f| / |f| of LRP-epsilon with epsilon 1e-9, where f is the output for the
predicted class, and biases, shifts of batch normalisation, position embeddings and class tokens are
zero. "absorbed" is the share of f that constants took all the same, as `heatmaps.check` reports it,
and "left" the share that neither the pixels nor these constants have, of each image by itself;
{LIMIT:.0e} and more is wrong.
"""
TIMM = """
The rows are the modules of timm that register models, each by its network with the fewest
parameters (timm's own `test_` networks left out), on small images where it takes them.
"""
TRANSFORMERS = """
The rows are the classes of transformers that classify images, each with a small configuration.
"""


@dataclass(frozen=True)
class Library:
    """A library whose networks are tried.

    Attributes:
        name: of the package.
        title: heading of the table.
        file: name of the table's file.
        text: what stands between the heading's first paragraph and the table.
        columns: of the table.
        numbers: columns that hold numbers.
        failed: the row of a network that could not be measured, from its name and the reason.
        summary: a paragraph on all rows.
    """

    name: str
    title: str
    file: str
    text: str
    columns: tuple[str, ...] = family.COLUMNS
    numbers: frozenset[str] = family.NUMBERS
    failed: Callable[[str, str], list[str]] = family.failed
    summary: Callable[[Sequence[Sequence[str]]], str] = family.summary

    def families(self) -> list[str]:
        """What the rows are about."""
        return list(self._networks.families())

    @property
    def cells(self) -> Callable[[str], list[str]]:
        """Makes what stands after the first cell of a row."""
        function: Callable[[str], list[str]] = self._networks.cells
        return function

    @property
    def _networks(self) -> ModuleType:
        # Only now: not everybody has every library.
        return importlib.import_module(f"benchmarks.heatmap_coverage.{self.name}_networks")

    def head(self) -> str:
        """What stands above the table."""
        versions = " and ".join(f"{p} {version(p).split('+')[0]}" for p in ("torch", self.name))
        option = "" if self.name == "torchvision" else f" --library {self.name}"
        return f"# {self.title}\n\n{MADE_BY.format(option=option, versions=versions)}{self.text}"


RIVALS = ("LRP error", "captum LRP error", "zennit LRP error")


def _failed(name: str, reason: str) -> list[str]:
    return [name, *[f"no: {reason}"] * len(METHODS), *["-"] * len(RIVALS)]


LIBRARIES = {
    "torchvision": Library(
        "torchvision",
        "Heatmaps on torchvision's classification models",
        "heatmap_coverage.md",
        TORCHVISION,
        ("model", *METHODS, *RIVALS),
        frozenset(RIVALS),
        _failed,
        lambda rows: "",
    ),
    "timm": Library(
        "timm",
        "Heatmaps on timm's models",
        "heatmap_coverage_timm.md",
        TIMM + FAMILIES,
    ),
    "transformers": Library(
        "transformers",
        "Heatmaps on transformers' image classifiers",
        "heatmap_coverage_transformers.md",
        TRANSFORMERS + FAMILIES,
    ),
}
