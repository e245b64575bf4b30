"""Makes the pictures of texts, series and volumes in the documentation, from short trainings.

python -m tests.browser.kinds_screenshot docs [FOLDER]

TensorBoard shows what their monitors logged, and what its tabs show goes to FOLDER, if it is given.
"""

from __future__ import annotations

import inspect
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aopc_monitor import AOPCMonitor
from tests.browser.browser import Page, chromium, tensorboard, until
from tests.modules import Classifier, trainer

LONGEST, VOCABULARY, PADDING = 60, 3000, 0
PACKAGES = ("numpy", "torch", "matplotlib")


def docstrings(package: str) -> list[list[str]]:
    """Words of the docstrings of a package, its own name left out."""
    names = {"numpy": "numpy", "torch": "torch.nn.functional", "matplotlib": "matplotlib.axes"}
    module = __import__(names[package], fromlist=["_"])
    owner = module.Axes if package == "matplotlib" else module
    texts = {inspect.getdoc(value) or "" for _, value in inspect.getmembers(owner)}
    found = [re.findall(r"[a-z]+", text.lower())[:LONGEST] for text in sorted(texts)]
    own = {*PACKAGES, "np", "plt", "tensor", "nn", "ndarray", "axes"}
    return [[word for word in words if word not in own] for words in found if len(words) > 15]


class Texts(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Docstrings, with the package they come from."""

    classes = PACKAGES

    def __init__(self) -> None:
        texts = [(words, i) for i, name in enumerate(PACKAGES) for words in docstrings(name)]
        random.Random(0).shuffle(texts)
        counts: dict[str, int] = {}
        for words, _ in texts:
            for word in words:
                counts[word] = counts.get(word, 0) + 1
        common = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 2]
        self.vocabulary = ["<pad>", "<unknown>", *common]
        number = {word: i for i, word in enumerate(self.vocabulary)}
        self.items = [([number.get(word, 1) for word in words], label) for words, label in texts]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids, label = self.items[index]
        row = torch.tensor(ids + [PADDING] * (LONGEST - len(ids)))
        mask = (row != PADDING).long()
        return {"input_ids": row, "attention_mask": mask, "labels": torch.tensor(label)}


class TextNetwork(nn.Module):
    """Word vectors, a convolution over words, and the maximum over the text."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 32, padding_idx=PADDING)
        self.conv = nn.Conv1d(32, 32, 3, padding=1)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(32, len(PACKAGES)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = self.conv(self.table(input_ids).transpose(1, 2)).relu()
        outputs: Tensor = self.head((features * attention_mask[:, None]).amax(dim=2))
        return outputs


class TextClassifier(Classifier):
    """Its batches are mappings."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
        outputs: Tensor = self.network(input_ids, attention_mask)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs = self(batch["input_ids"], batch["attention_mask"])
        return nn.functional.cross_entropy(outputs, batch["labels"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        outputs = self(batch["input_ids"], batch["attention_mask"])
        self.log("accuracy/val", (outputs.argmax(1) == batch["labels"]).float().mean())


def beats(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three leads of a made-up heartbeat; of class 1 one beat in the middle comes early."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    starts = torch.arange(20.0, 300.0, 50.0).expand(count, -1).clone()
    starts[labels == 1, 3] -= 18
    starts += 4 * torch.rand(count, 1, generator=generator)
    times = torch.arange(300.0)
    peaks = torch.exp(-(((times - starts[..., None]) / 3) ** 2)).sum(dim=1)
    waves = torch.exp(-(((times - starts[..., None] - 14) / 6) ** 2)).sum(dim=1)
    leads = torch.stack([peaks + 0.3 * waves, 0.6 * peaks - 0.2 * waves, 0.4 * waves - 0.5 * peaks])
    noise = 0.05 * torch.randn(count, 3, 300, generator=generator)
    return leads.transpose(0, 1) + noise, labels


def scans(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A bright ellipsoid with noise; of class 1 a small ball in it is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in (16, 24, 20)), indexing="ij")
    head = (sum((axis / 0.85) ** 2 for axis in axes) < 1).float()
    volumes = 0.4 * head + 0.1 * torch.rand(count, 16, 24, 20, generator=generator)
    centres = torch.rand(count, 3, generator=generator) - 0.5
    for volume, centre, label in zip(volumes, centres, labels, strict=True):
        ball = sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)) < 0.04
        volume += 0.4 * label * ball
    return volumes[:, None], labels


class Named(TensorDataset):
    """With names of its classes."""

    def __init__(self, data: tuple[Tensor, Tensor], classes: tuple[str, ...]) -> None:
        super().__init__(*data)
        self.classes = classes


def trainings() -> dict[str, tuple[pl.LightningModule, Any, int]]:
    """The module, its data and how many epochs, by kind."""
    series = nn.Sequential(
        nn.Conv1d(3, 16, 9, padding=4), nn.ReLU(), nn.MaxPool1d(4),
        nn.Conv1d(16, 16, 9, padding=4), nn.ReLU(), nn.MaxPool1d(4), nn.Flatten(),
        nn.Linear(16 * 18, 2),
    )  # fmt: skip
    volumes = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool3d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    return {
        "texts": (TextClassifier(TextNetwork()), Texts(), 12),
        "series": (Classifier(series), Named(beats(256, 0), ("regular", "early beat")), 6),
        "volumes": (Classifier(volumes), Named(scans(192, 0), ("healthy", "lesion")), 20),
    }


def train(kind: str, module: pl.LightningModule, data: Any, epochs: int, runs: Path) -> Path:
    """Write event files, and pictures as files, whose last one is given back."""
    pl.seed_everything(0, verbose=False)
    monitor = AOPCMonitor(num_images=64, figures=True, at_validation=False, on_error="raise")
    loader = DataLoader(data, batch_size=16, shuffle=True)
    files = CSVLogger(runs.parent, name="files", version=kind)
    loggers = [TensorBoardLogger(runs, name="", version=kind), files]
    made = trainer(runs.parent, monitor, logger=loggers, max_epochs=epochs)
    made.fit(module, loader, DataLoader(data, batch_size=16))
    print(kind, {k: round(v, 3) for k, v in monitor.history[-1].items()})
    pictures = runs.parent.rglob(f"**/{kind}/**/aopc_figures/aopc_figures_heatmaps-*.png")
    folder = sorted(pictures) or sorted(runs.rglob(f"{kind}/**/aopc_figures_heatmaps-*.png"))
    return folder[-1]


def photograph(page: Page, folder: Path) -> None:
    """What the tabs with pictures and with texts show."""
    folder.mkdir(parents=True, exist_ok=True)
    page.open("images")
    until(lambda: len(page.pictures()) >= 3, "pictures")
    page.driver.save_screenshot(str(folder / "tab_images.png"))
    page.open("text")
    until(lambda: any("▲" in text for text in page.texts("strong")), "words that are marked")
    page.driver.save_screenshot(str(folder / "tab_text.png"))


def main(docs: Path, folder: Path | None = None) -> None:
    """Train, write, look."""
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name) / "runs"
        for kind, (module, data, epochs) in trainings().items():
            shutil.copy(train(kind, module, data, epochs, runs), docs / f"kind_{kind}.png")
        if folder is not None:
            with (
                tensorboard(runs, Path(name) / "log.txt") as address,
                chromium(address, 1500, 1400) as page,
            ):
                photograph(page, folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
