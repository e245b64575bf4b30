"""Texts whose words stand on the colour of their relevance, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.picture_grid import fitting
from aopc_monitor.figures.rendering import own_settings
from aopc_monitor.figures.scales import behind_words, strengths
from aopc_monitor.figures.style import PAGE, Style

# Lines of a text in a picture; a page of text has all of it.
MOST_LINES = 4
LONGEST_WORD, LONGEST_METHOD = 28, 22
MARGIN = 0.1  # inches
LEADING = 1.65  # from line to line, in sizes of the text
NAME_COLOUR = "#5A5A5A"
# Those that are there are asked for letters that Matplotlib's own font does not have.
MORE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Microsoft YaHei", "Yu Gothic", "Hiragino Sans",
    "PingFang SC", "WenQuanYi Micro Hei", "Noto Sans", "Arial Unicode MS",
)  # fmt: skip

Texts: TypeAlias = Sequence[Sequence[str]]
Relevances: TypeAlias = Sequence[NDArray[Any]]


@own_settings()
def text_gallery(
    texts: Texts,
    maps: Mapping[str, Relevances],
    titles: Sequence[str],
    title: str = "",
    style: Style = PAGE,
) -> Any:
    """Texts whose words stand on the colour of their relevance, one block for each method.

    Red speaks for the class, blue against it, white is zero; each text has its own scale, since
    only the order within a text counts. Of a long text four lines are shown, those that have most
    relevance by all methods together; `text_html` and `text_markdown` have all of it.

    Args:
        texts: the words of each of N texts.
        maps: by name, of each text one number per word.
        titles: N short texts, such as the explained class.
        title: text above all.
        style: sizes.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.

    Example:
        >>> relevance = [np.array([0.1, 0.9, -0.5])]
        >>> figure = text_gallery([["a", "good", "film"]], {"lrp": relevance}, ["positive"])
        >>> [text.get_text() for text in figure.texts]
        ['positive', 'lrp', 'a', 'good', 'film']
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.width, 1.0), dpi=style.dots_per_inch)
    page = _Page(figure, style)
    if title:
        page.write(title, style.label, x=style.width / 2, ha="center")
        page.next_line(style.label)
    for i, words in enumerate(texts):
        page.write(", ".join(titles[i].splitlines()), style.caption, weight="bold")
        page.next_line(style.caption)
        of_text = {name: strengths(relevances[i]) for name, relevances in maps.items()}
        shown = page.excerpt(words, np.sum([np.abs(s) for s in of_text.values()], axis=0))
        for name, strength in of_text.items():
            page.paragraph(name, words, strength, shown)
    page.finish()
    return figure


class _Placed(NamedTuple):
    """Something to be written: inches from the left and from the top, and how."""

    x: float
    y: float
    text: str
    behind: Any
    look: dict[str, Any]


class _Page:
    """Lines of text from top to bottom, as many as there are: the figure gets their height.

    Attributes:
        y: inches from the top to the line that is written.
    """

    def __init__(self, figure: Any, style: Style) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self.y = MARGIN
        self._figure, self._style = figure, style
        self._renderer = FigureCanvasAgg(figure).get_renderer()
        self._placed: list[_Placed] = []
        self._families = _families()

    def write(
        self, text: str, size: float, x: float = MARGIN, behind: Any = None, **look: Any
    ) -> None:
        """Write on the line that is reached."""
        self._placed.append(_Placed(x, self.y, text, behind, {"fontsize": size, **look}))

    def next_line(self, size: float) -> None:
        """Go down by a line of a size in points."""
        self.y += LEADING * size / 72

    def excerpt(self, words: Sequence[str], weight: NDArray[Any]) -> range:
        """Which words are shown: those of the lines that weigh most, in a row."""
        starts = [line[0] for line in self._lines(words, range(len(words)), 0.0) if line]
        if len(starts) <= MOST_LINES:
            return range(len(words))
        starts.append(len(words))
        sums = np.append(0.0, np.cumsum(weight))
        windows = list(zip(starts, starts[MOST_LINES:], strict=False))
        start, end = max(windows, key=lambda window: sums[window[1]] - sums[window[0]])
        return range(start, end)

    def paragraph(
        self, name: str, words: Sequence[str], strength: NDArray[Any], shown: range
    ) -> None:
        """The words that are shown, behind the name of the method."""
        size = self._style.caption
        called = fitting(name, LONGEST_METHOD, self._style)
        self.write(called, size, color=NAME_COLOUR, style="italic")
        indent = self._width(called, size) + 2 * self._space
        for number, line in enumerate(self._lines(words, shown, indent)):
            x = MARGIN + (0.0 if number else indent)
            for i in line:
                before = "…" if i == shown.start > 0 else ""
                after = "…" if i == shown.stop - 1 < len(words) - 1 else ""
                text = before + _short(words[i]) + after
                self.write(text, size, x, behind_words(float(strength[i])))
                x += self._width(text, size) + self._space
            self.next_line(size)
        self.y += 0.25 * size / 72

    def finish(self) -> None:
        """Give the figure its height and all that was written."""
        from matplotlib.patches import FancyBboxPatch

        height, figure = self.y + MARGIN / 2, self._figure
        figure.set_size_inches(self._style.width, height)
        inches = figure.dpi_scale_trans
        for x, y, text, behind, look in self._placed:
            size = look["fontsize"] / 72
            base = height - y - 1.05 * size
            if behind is not None:
                width = self._width(text, look["fontsize"])
                box = FancyBboxPatch(
                    (x, base - 0.28 * size), width, 1.3 * size, transform=inches,
                    boxstyle=f"round,pad={0.08 * size}", facecolor=behind, linewidth=0,
                )  # fmt: skip
                figure.add_artist(box)
            figure.text(
                x, base, text, transform=inches, parse_math=False, family=self._families, **look
            )

    @property
    def _space(self) -> float:
        return 0.42 * self._style.caption / 72

    def _lines(self, words: Sequence[str], shown: range, indent: float) -> list[list[int]]:
        """The words of each line, of which the first begins behind something."""
        lines: list[list[int]] = [[]]
        left = self._style.width - 2 * MARGIN - indent
        for i in shown:
            width = self._width(_short(words[i]), self._style.caption) + self._space
            if width > left and (lines[-1] or (indent and len(lines) == 1)):
                lines.append([])
                left = self._style.width - 2 * MARGIN
            lines[-1].append(i)
            left -= width
        return lines

    def _width(self, text: str, size: float) -> float:
        from matplotlib.font_manager import FontProperties

        font = FontProperties(family=self._families, size=size)
        width, _, _ = self._renderer.get_text_width_height_descent(text, font, False)
        return float(width) / self._style.dots_per_inch


def _short(word: str) -> str:
    # Line breaks and other signs that have no form of their own.
    word = " ".join(word.split()) or "·"
    return word if len(word) <= LONGEST_WORD else word[: LONGEST_WORD - 1] + "…"


def _families() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in MORE_FONTS if name in installed)]
