"""Pictures from plain numbers.

Only this package knows matplotlib, and never pyplot's global state. Importing it does not import
matplotlib yet.
"""

from aopc_monitor.figures.bars import bar_gallery
from aopc_monitor.figures.by_kind import GALLERIES, gallery_of
from aopc_monitor.figures.coloured_lines import series_gallery
from aopc_monitor.figures.coloured_words import text_gallery
from aopc_monitor.figures.gallery import heatmap_gallery
from aopc_monitor.figures.lines import Line, perturbation_curves, training_progress
from aopc_monitor.figures.rendering import check_installed, rendered, write_png
from aopc_monitor.figures.slices import film_strip, slice_gallery
from aopc_monitor.figures.style import (
    ACCURACY_COLOUR,
    COLOURS,
    CONTROL_COLOUR,
    DASHBOARD,
    PAGE,
    Style,
)
from aopc_monitor.figures.text_pages import text_html, text_markdown

__all__ = [
    "ACCURACY_COLOUR",
    "COLOURS",
    "CONTROL_COLOUR",
    "DASHBOARD",
    "GALLERIES",
    "PAGE",
    "Line",
    "Style",
    "bar_gallery",
    "check_installed",
    "film_strip",
    "gallery_of",
    "heatmap_gallery",
    "perturbation_curves",
    "rendered",
    "series_gallery",
    "slice_gallery",
    "text_gallery",
    "text_html",
    "text_markdown",
    "training_progress",
    "write_png",
]
