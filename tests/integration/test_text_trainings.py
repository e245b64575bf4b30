"""Trainings of text classifiers of transformers: watched, and bit-identical to unwatched ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aopc_monitor import AOPC, AOPCMonitor
from tests.modules import trainer
from tests.texts import CLASSES, classifier, texts


class TextClassifier(pl.LightningModule):
    """As users of transformers write it: `forward(**batch)`, with dropout and labels inside."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = classifier(name).float().train()

    def forward(self, **batch: Any) -> Any:
        return self.model(**batch)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self(**{k: v for k, v in batch.items() if k != "word_ids"}).loss
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("loss/val", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def batches(seed: int, count: int = 3) -> list[dict[str, Tensor]]:
    """Padded to the longest of each batch, which differs."""
    made = []
    for number in range(count):
        batch = texts((9 - number, 6, 4, 5), seed=seed + number)
        numbers = [[-1 if word is None else word for word in row] for row in batch["word_ids"]]
        labels = torch.arange(4) % CLASSES
        made.append({**batch, "word_ids": torch.tensor(numbers), "labels": labels})
    return made


def fitted(name: str, path: Path, *callbacks: Any) -> pl.LightningModule:
    pl.seed_everything(0, verbose=False)
    module = TextClassifier(name)
    loaders: list[DataLoader[Any]] = [DataLoader(batches(s), batch_size=None) for s in (0, 10)]  # type: ignore[arg-type]
    made = trainer(path, *callbacks, max_epochs=2)
    made.fit(module, *loaders)
    return module


@pytest.mark.parametrize("name", ["Bert", "ModernBert", "GPT2"])
def test_a_training_is_the_same_with_and_without(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    watch = AOPCMonitor(
        ["lrp", "gradient_x_input"], num_images=12, steps=3, on_error="raise", lerf=True
    )
    watched, alone = fitted(name, tmp_path / "a", watch), fitted(name, tmp_path / "b")
    for (key, one), other in zip(
        watched.state_dict().items(), alone.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), key
    assert [record["step"] for record in watch.history] == [0, 3, 6]
    last = watch.history[-1]
    assert last["aopc/lrp_gain"] == pytest.approx(last["aopc/lrp"] - last["aopc/random"], abs=1e-6)
    assert "aopc/accuracy" in last
    assert watch.measurements[""].probe.lengths is not None


@pytest.mark.parametrize("replacement", ["zero", "left_out"])
def test_an_evaluation_is_that_of_the_metric(replacement: str, tmp_path: Path) -> None:
    watch = AOPCMonitor(
        "gradient_x_input",
        num_images=12,
        steps=3,
        sampled_steps=None,
        replacement=replacement,
        on_error="raise",
    )
    module = fitted("Bert", tmp_path, watch)
    metric = AOPC("gradient_x_input", steps=3, replacement=replacement)
    for batch in batches(10):
        metric.update(module, batch)
    found = watch.history[-1]["aopc/gradient_x_input"]
    assert found == pytest.approx(float(metric.compute()), abs=1e-5)
