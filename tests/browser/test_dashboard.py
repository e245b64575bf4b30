"""What somebody sees who opens TensorBoard after a training with figures and a layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl

pytest.importorskip("matplotlib")
pytest.importorskip("selenium")
pytest.importorskip("tensorboard")

from pytorch_lightning.loggers import TensorBoardLogger
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from aopc_monitor import AOPCMonitor
from tests.browser.browser import Page, chromium, tensorboard, until, what_is_missing
from tests.modules import Classifier, loaders, trainer

pytestmark = pytest.mark.full
FIGURES = [
    "aopc/figures/heatmaps",
    "aopc/figures/perturbation_curves",
    "aopc/figures/training_progress",
]
KINDS = ("accuracy", "confidence", "figures_seconds", "lrp", "lrp_gain", "lrp_sem")
SCALARS = [f"aopc/{kind}" for kind in (*KINDS, "overhead", "random", "seconds")]
TOGETHER = ["accuracy/val", "aopc/accuracy", "aopc/confidence", "aopc/lrp", "aopc/random"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of six steps: figures at the first look and at two validations."""
    if missing := what_is_missing():
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("runs")
    monitor = AOPCMonitor(
        num_images=20,
        region_size=4,
        steps=4,
        data_range=(0.0, 1.0),
        figures=True,
        custom_scalars=True,
        on_error="raise",
    )
    pl.seed_everything(0, verbose=False)
    logger = TensorBoardLogger(folder, name="", version="quadrants")
    trainer(folder, monitor, logger=logger, log_every_n_steps=1).fit(Classifier(), *loaders())
    return folder


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with tensorboard(runs, log) as address, chromium(address) as page:
        yield page


def test_each_number_has_a_chart_with_a_line(page: Page) -> None:
    page.open("scalars")

    def charts() -> dict[str, int]:
        """Lines by tag; each has a smoothed one and the numbers as they are."""
        cards = page.all("tf-scalar-card")
        return {page.texts("figcaption span", card)[0]: len(lines(page, card)) for card in cards}

    wanted = dict.fromkeys([*SCALARS, "accuracy/val"], 2)
    until(lambda: charts().items() >= wanted.items(), f"two lines for each of {list(wanted)}")


def test_the_slider_of_each_figure_goes_through_the_training(page: Page) -> None:
    page.open("images")
    until(lambda: len(page.all("#steps[role=slider]")) == 3, "three figures with a slider")
    cards = page.all("tf-image-loader")
    assert [page.texts(".name", card)[0] for card in cards] == FIGURES
    for card in cards:
        latest = shown(page, card, "11")
        middle = shown_after(page, card, Keys.ARROW_LEFT, "5")
        first = shown_after(page, card, Keys.ARROW_LEFT, "0")
        assert len({latest, middle, first}) == 3, "the same picture at two steps"
        assert shown_after(page, card, Keys.END, "11") == latest


def test_the_layout_has_aopc_and_accuracy_in_one_chart(page: Page) -> None:
    page.open("custom_scalars")
    selector = "tf-custom-scalar-multi-line-chart-card"
    (card,) = until(lambda: page.all(selector), "a chart of the layout")
    until(lambda: len(lines(page, card)) == 2 * len(TOGETHER), f"lines of {TOGETHER}")
    assert page.texts(".name", card) == ["AOPC and accuracy"]
    # A symbol, the tag, the run.
    entries = [entry.split() for entry in page.texts(".match-list-entry", card)]
    assert sorted(tag for _, tag, _ in entries) == TOGETHER


def lines(page: Page, card: WebElement) -> list[WebElement]:
    """The lines of a chart that have points."""
    return [line for line in page.all("path.line", card) if line.get_attribute("d")]


def shown_after(page: Page, card: WebElement, key: str, step: str) -> str:
    """The picture after a key was pressed on the slider."""
    (before,) = page.pictures(card)
    page.all("#steps", card)[0].send_keys(key)
    return shown(page, card, step, before)


def shown(page: Page, card: WebElement, step: str, before: str = "") -> str:
    """The picture of a card that says `step`; the one before stays until the next has loaded."""

    def look() -> list[str]:
        labels = [text.split() for text in page.texts(".heading-label", card)]
        pictures = page.pictures(card) if ["step", step] in labels else []
        return [picture for picture in pictures if picture != before]

    (picture,) = until(look, f"another picture, of step {step}")
    return picture
