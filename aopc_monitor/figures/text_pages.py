"""Texts with their relevance as text: HTML with colours, Markdown where none are let through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopc_monitor.figures.coloured_words import Relevances, Texts
from aopc_monitor.figures.scales import strengths
from aopc_monitor.figures.style import AGAINST_COLOUR, FOR_COLOUR

# So deep a colour lets both black and white letters be read, as pages are bright or dark.
DEEPEST = 0.6
# A word of this strength or more is marked where there are no colours.
MARKED_STRENGTH = 0.25
# These would be read as Markdown.
SIGNS = "\\`*_{}[]()#+-.!|~<>&:=^$\"'"

HTML_LEGEND = "red: for the class; blue: against it; a scale for each text"
MARKDOWN_LEGEND = (
    "**▲ bold**: for the class; *▼ slanted*: against it; both from a quarter of the largest "
    "relevance of the text on"
)


def text_html(
    texts: Texts, maps: Mapping[str, Relevances], titles: Sequence[str], title: str = ""
) -> str:
    """Texts whose words stand on the colour of their relevance, as a piece of HTML.

    It is read on bright and on dark pages, and tells the relevance of the word under the mouse.
    All words are shown as they are, tags included.

    Args:
        texts: the words of each of N texts.
        maps: by name, of each text one number per word.
        titles: N short texts, such as the explained class.
        title: text above all.

    Example:
        >>> html = text_html([["good", "<b>"]], {"lrp": [np.array([0.5, -0.25])]}, ["positive"])
        >>> html.count("background:rgba"), "&lt;b&gt;" in html
        (2, True)
    """
    parts = [f"<h4>{escape(title)}</h4>"] if title else []
    for heading, methods in _each(texts, maps, titles):
        parts.append(f"<p><strong>{escape(heading)}</strong></p>")
        for name, words, relevance in methods:
            coloured = " ".join(_spans(words, relevance))
            parts.append(f'<p><em style="opacity:.7">{escape(name)}</em> {coloured}</p>')
    parts.append(f'<p style="opacity:.7">{HTML_LEGEND}</p>')
    look = "font:14px/1.9 system-ui,sans-serif"
    return f'<div style="{look}">{"".join(parts)}</div>'


def text_markdown(
    texts: Texts, maps: Mapping[str, Relevances], titles: Sequence[str], title: str = ""
) -> str:
    """Texts whose relevant words are marked, as Markdown, for pages that let no colours through.

    TensorBoard's tab "Text" is one: it takes every style out of HTML.

    Args:
        texts: the words of each of N texts.
        maps: by name, of each text one number per word.
        titles: N short texts, such as the explained class.
        title: text above all.

    Example:
        >>> relevance = [np.array([0.1, 0.9, -0.5])]
        >>> text_markdown([["a", "good", "film"]], {"lrp": relevance}, [""]).splitlines()[0]
        'lrp: a **▲good** *▼film*'
    """
    parts = [f"#### {_literal(title)}"] if title else []
    for heading, methods in _each(texts, maps, titles):
        if heading:
            parts.append(f"**{_literal(heading)}**")
        for name, words, relevance in methods:
            marked = (_marked(*pair) for pair in zip(words, strengths(relevance), strict=True))
            parts.append(f"{_literal(name)}: {' '.join(marked)}")
    return "\n\n".join([*parts, MARKDOWN_LEGEND])


Method = tuple[str, Sequence[str], NDArray[Any]]


def _each(
    texts: Texts, maps: Mapping[str, Relevances], titles: Sequence[str]
) -> Iterator[tuple[str, list[Method]]]:
    """The title of each text, and by method its words and their relevance."""
    for i, words in enumerate(texts):
        methods = [(name, words, relevances[i]) for name, relevances in maps.items()]
        yield ", ".join(titles[i].splitlines()), methods


def _spans(words: Sequence[str], relevance: NDArray[Any]) -> Iterator[str]:
    shares = strengths(relevance)
    for word, value, strength in zip(words, relevance, shares, strict=True):
        colour = FOR_COLOUR if strength > 0 else AGAINST_COLOUR
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        behind = f"rgba({red},{green},{blue},{DEEPEST * abs(strength):.2f})"
        look = f"background:{behind};border-radius:3px;padding:1px 2px"
        yield f'<span style="{look}" title="{value:+.3g}">{escape(word)}</span>'


def _marked(word: str, strength: np.float64) -> str:
    literal = _literal(" ".join(word.split()) or "·")
    if abs(strength) < MARKED_STRENGTH:
        return literal
    return f"**▲{literal}**" if strength > 0 else f"*▼{literal}*"


def _literal(text: str) -> str:
    return "".join(f"&#{ord(sign)};" if sign in SIGNS else sign for sign in text)
