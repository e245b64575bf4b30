"""Makes the picture of the dashboard in the documentation, from a training on digits.

python -m tests.browser.screenshot docs/dashboard.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from aopc_monitor import AOPCMonitor, normalized_data_range
from recipes.shared.data.datasets import digits
from recipes.shared.training.fitting import loaders, new_classifier
from tests.browser.browser import chromium, tensorboard, until
from tests.modules import trainer

# TensorBoard's three figures side by side, and nothing below them.
WIDTH, HEIGHT = 1500, 760


def train(folder: Path) -> None:
    """Write the event files of a small network on digits: eight epochs, two looks in each."""
    pl.seed_everything(0, verbose=False)
    data = digits()
    train_loader, test_loader = loaders(data)
    monitor = AOPCMonitor(
        every_n_steps=len(train_loader) // 2,
        data_range=normalized_data_range(data.mean, data.std),
        figures=True,
        custom_scalars=True,
        on_error="raise",
    )
    settings = {"max_epochs": data.plan.max_epochs, "num_sanity_val_steps": 0}
    logger = TensorBoardLogger(folder, name="", version="digits")
    made = trainer(folder, monitor, logger=logger, **settings)
    made.fit(new_classifier(data, "small_cnn"), train_loader, test_loader)


def photograph(runs: Path, log: Path, picture: Path) -> None:
    """Write what the tab "images" shows."""
    with tensorboard(runs, log) as address, chromium(address, WIDTH, HEIGHT) as page:
        page.open("images")
        until(lambda: len(page.pictures()) == 3, "three pictures")
        page.driver.save_screenshot(str(picture))


def main(picture: Path) -> None:
    """Train, look, write."""
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name) / "digits_on_clutter"
        train(runs)
        photograph(runs, Path(name) / "log.txt", picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
