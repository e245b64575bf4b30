"""From relevance to shares of a colour: a scale for each heatmap, two-sided where it has signs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.style import AGAINST_COLOUR, FOR_COLOUR, NO_COLOUR

# Negative relevance below this share of the largest magnitude is rounding.
ROUNDING = 1e-4
# Few large values must not make the rest pale.
PERCENTILE = 99.5
# Black words are to be read on what lies behind them.
DEEPEST = 0.7


def has_signs(maps: NDArray[Any]) -> bool:
    """Whether the heatmaps of a method have relevance against the class.

    Example:
        >>> has_signs(np.array([0.5, -0.5])), has_signs(np.array([0.5, -1e-7]))
        (True, False)
    """
    # A method without signs may fall a rounding error below zero.
    return bool(maps.size and maps.min() < -ROUNDING * np.abs(maps).max())


def limit_of(heatmap: NDArray[Any]) -> float:
    """The magnitude from which on a heatmap has its full colour: only its order counts."""
    return max(float(np.percentile(np.abs(heatmap), PERCENTILE)), 1e-30) if heatmap.size else 1.0


def strengths(heatmap: NDArray[Any]) -> NDArray[np.float64]:
    """Relevance as shares of the full colour, from -1 (against) to 1 (for).

    Example:
        >>> strengths(np.array([2.0, 0.0, -4.0])).round(2)
        array([ 0.5,  0. , -1. ])
    """
    return np.clip(np.asarray(heatmap, dtype=float) / limit_of(heatmap), -1.0, 1.0)


def line_colours() -> Any:
    """Matplotlib's map of colours for strengths of lines: blue, grey at zero, red."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("for_and_against", _STOPS)


def behind_words(strength: float) -> tuple[float, ...]:
    """The colour (red, green, blue from 0 to 1) that black words of a strength stand on.

    Example:
        >>> behind_words(0.0)
        (1.0, 1.0, 1.0)
    """
    from matplotlib.colors import to_rgb

    full, share = to_rgb(FOR_COLOUR if strength > 0 else AGAINST_COLOUR), DEEPEST * abs(strength)
    return tuple(1 - share * (1 - part) for part in full)


_STOPS = (AGAINST_COLOUR, NO_COLOUR, FOR_COLOUR)
