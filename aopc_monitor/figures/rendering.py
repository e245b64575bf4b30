"""Figures to pixels and files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_installed() -> None:
    """Raise ModuleNotFoundError, with what to do, where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'figures need matplotlib ({error}): pip install "aopc-monitor[figures]", or '
            '"matplotlib>=3.8"'
        ) from error


@contextmanager
def own_settings() -> Iterator[None]:
    """Matplotlib as it comes, whatever the user's settings say.

    A user's LaTeX, missing font or large text must not break a picture in a training. Matplotlib
    reads settings when things are made and when they are drawn: both belong in here. Letters that
    no font has are drawn as boxes without a warning for each.

    Example:
        >>> import matplotlib
        >>> with matplotlib.rc_context({"text.usetex": True}), own_settings():
        ...     matplotlib.rcParams["text.usetex"]
        False
    """
    import matplotlib.style

    # This leaves the backend alone.
    with matplotlib.style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@own_settings()
def rendered(figure: Any) -> NDArray[np.uint8]:
    """The pixels of a matplotlib figure, (H, W, 3), in at most 256 colours.

    So few make a PNG file half as large, and are not seen to be missing.

    Example:
        >>> from matplotlib.figure import Figure
        >>> rendered(Figure(figsize=(2, 1), dpi=50)).shape
        (50, 100, 3)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # matplotlib needs it, too

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # The method that keeps the pale colours of bands apart.
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    return np.array(few.convert("RGB"))


def write_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write (H, W, 3) pixels to a PNG file, in a folder that is made if need be."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
