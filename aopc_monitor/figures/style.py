"""Colours and sizes that all pictures share."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CONTROL_COLOUR = "#7F7F7F"
ACCURACY_COLOUR = "#D55E00"
AGREEMENT_COLOUR = "#000000"
# What relevance looks like on lines, bars and words: red speaks for the class, blue against it,
# which colour-blind people tell apart. Zero is grey on a line and white behind a word.
FOR_COLOUR, AGAINST_COLOUR, NO_COLOUR = "#D3260E", "#0A62D0", "#A6A6A6"


@dataclass(frozen=True)
class Style:
    """How large things are.

    Attributes:
        width: of a figure of lines, in inches.
        height: of a figure of lines, in inches.
        dots_per_inch: of the picture.
        label: size of text beside axes, in points.
        legend: size of text in legends, in points.
        line: width of lines, in points.
        marker: size of markers, in points.
        tile: side of an image in a gallery, in inches.
        caption: size of text around these, in points.
        is_small: whether people see it as a thumbnail: legends go below, long names are cut.
    """

    width: float
    height: float
    dots_per_inch: int
    label: float
    legend: float
    line: float
    marker: float
    tile: float
    caption: float
    is_small: bool


PAGE = Style(8.0, 4.6, 110, 10, 8, 1.5, 3, 0.95, 8, is_small=False)
# Readable at half its size, which is how loggers show pictures first.
# Few dots: such pictures are drawn, written and sent again and again.
DASHBOARD = Style(6.0, 4.4, 80, 14, 13, 2.5, 5, 1.0, 13, is_small=True)
