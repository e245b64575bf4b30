from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from aopc_monitor.figures import DASHBOARD, rendered, text_gallery, text_html, text_markdown

LONG = [f"word{i}" for i in range(200)]


def words_in(figure: object) -> list[str]:
    return [text.get_text() for text in figure.texts]  # type: ignore[attr-defined]


def test_of_a_long_text_the_lines_of_most_relevance_are_shown() -> None:
    relevance = np.zeros(200)
    relevance[150] = -1.0
    shown = words_in(text_gallery([LONG], {"lrp": [relevance]}, ["sport"], style=DASHBOARD))
    assert "word150" in shown
    assert shown[2].startswith("…word")
    assert shown[-1].endswith("…")
    assert len(shown) < 40


def test_methods_show_the_same_part_of_a_text() -> None:
    maps = {name: [np.eye(200)[i]] for name, i in (("lrp", 3), ("a_longer_name", 3))}
    shown = words_in(text_gallery([LONG], maps, [""], style=DASHBOARD))
    at = shown.index("a_longer_name")
    assert shown[2:at] == shown[at + 1 :]


def test_no_word_runs_out_of_the_picture() -> None:
    long = ["Donaudampfschifffahrtsgesellschaftskapitän" * 3, "a\n\tb", ""]
    figure = text_gallery([long], {"lrp": [np.ones(3)]}, ["x"], style=DASHBOARD)
    assert words_in(figure)[2:] == ["Donaudampfschifffahrtsgesel…", "a b", "·"]
    rendered(figure)
    ends = [text.get_window_extent().x1 for text in figure.texts]
    assert max(ends) <= figure.bbox.width


def test_words_stand_on_their_colours() -> None:
    figure = text_gallery([["good", "dull", "a"]], {"lrp": [np.array([1.0, -1.0, 0.0])]}, [""])
    (red, _, blue, _), (red2, _, blue2, _), white = (p.get_facecolor() for p in figure.artists)
    assert red > blue
    assert blue2 > red2
    assert white == (1.0, 1.0, 1.0, 1.0)


def test_letters_that_no_font_has_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rendered(text_gallery([["映画", "𒀀"]], {"lrp": [np.ones(2)]}, ["映画"]))


@given(st.text(max_size=20))
def test_html_shows_every_word_as_it_is(word: str) -> None:
    from html.parser import HTMLParser

    class Spans(HTMLParser):
        said = ""
        inside = False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.inside = tag == "span"

        def handle_data(self, data: str) -> None:
            self.said += data if self.inside else ""

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

    parser = Spans(convert_charrefs=True)
    parser.feed(text_html([[word]], {"lrp": [np.ones(1)]}, ["<b>"]))
    parser.close()
    assert parser.said == word


def test_html_tells_the_relevance_and_its_depth() -> None:
    html = text_html([["a", "b"]], {"lrp": [np.array([2.0, -1.0])]}, ["x\n91%"], "step 5")
    assert 'rgba(211,38,14,0.60);border-radius:3px;padding:1px 2px" title="+2"' in html
    assert 'rgba(10,98,208,0.30);border-radius:3px;padding:1px 2px" title="-1"' in html
    assert "x, 91%" in html
    assert "step 5" in html


def test_tensorboard_shows_words_of_markdown_as_they_are() -> None:
    plugin_util = pytest.importorskip("tensorboard.plugin_util")
    words = [
        "*a*",
        "<b>bold</b>",
        "_x_",
        "# no",
        "1.",
        "|",
        "[l](u)",
        "`c`",
        "\\",
        "&amp;",
        "~~s~~",
    ]
    page = text_markdown([words], {"lrp": [np.linspace(-1, 1, len(words))]}, ["*t*"], "## x")
    html = plugin_util.markdown_to_safe_html(page)
    from html import unescape

    said = unescape(html)
    for word in words:
        assert word in said
    assert "<strong>▲~~s~~</strong>" in said
    assert "<em>▼*a*</em>" in said
    assert "<h4>## x</h4>" in said
