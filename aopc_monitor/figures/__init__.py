"""Pictures from plain numbers.

Only this package knows matplotlib, and never pyplot's global state. Importing it does not import
matplotlib yet.
"""

from aopc_monitor.figures.gallery import heatmap_gallery
from aopc_monitor.figures.lines import Line, perturbation_curves, training_progress
from aopc_monitor.figures.rendering import check_installed, rendered, write_png
from aopc_monitor.figures.style import (
    ACCURACY_COLOUR,
    COLOURS,
    CONTROL_COLOUR,
    DASHBOARD,
    PAGE,
    Style,
)

__all__ = [
    "ACCURACY_COLOUR",
    "COLOURS",
    "CONTROL_COLOUR",
    "DASHBOARD",
    "PAGE",
    "Line",
    "Style",
    "check_installed",
    "heatmap_gallery",
    "perturbation_curves",
    "rendered",
    "training_progress",
    "write_png",
]
