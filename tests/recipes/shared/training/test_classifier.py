from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from recipes.shared.training.classifier import ImageClassifier


class Recorder(pl.Callback):
    """Keeps the learning rate before, and what was logged after, every training step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.steps.append({key: float(value) for key, value in trainer.logged_metrics.items()})


def two_tone_loader(count: int = 64, size: int = 8) -> DataLoader[tuple[torch.Tensor, ...]]:
    labels = torch.arange(count) % 2
    images = torch.randn(count, 3, size, size) * 0.1 + labels[:, None, None, None].float()
    return DataLoader(TensorDataset(images, labels), batch_size=16)


def fit(tmp_path: Path, epochs: int = 4) -> tuple[ImageClassifier, pl.Trainer, Recorder]:
    torch.manual_seed(0)
    recorder = Recorder()
    model = ImageClassifier(num_classes=2, image_size=8, learning_rate=0.02)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[recorder],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, two_tone_loader(), two_tone_loader())
    return model, trainer, recorder


def test_classifier_logs_and_learns(tmp_path: Path) -> None:
    _, trainer, recorder = fit(tmp_path)
    assert all("loss/train" in logged for logged in recorder.steps)
    logged = trainer.callback_metrics
    assert set(logged) == {"loss/train", "accuracy/train", "loss/val", "accuracy/val"}
    assert logged["accuracy/val"] > 0.95
    assert recorder.steps[-1]["loss/train"] < recorder.steps[0]["loss/train"]


def test_learning_rate_rises_once_and_falls_to_nearly_nothing(tmp_path: Path) -> None:
    _, trainer, recorder = fit(tmp_path)
    rates = recorder.rates
    assert len(rates) == trainer.global_step == 16
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(0.02, rel=0.05)
    assert rates[-1] < 1e-5


def test_logged_values_are_those_of_the_whole_validation_set(tmp_path: Path) -> None:
    model, trainer, _ = fit(tmp_path, epochs=1)
    loader = two_tone_loader(count=40)
    [logged] = trainer.validate(model, loader, verbose=False)
    images, labels = loader.dataset[:]
    with torch.no_grad():
        logits = model.eval()(images)
    loss = nn.functional.cross_entropy(logits, labels)
    assert logged["loss/val"] == pytest.approx(loss.item(), rel=1e-4)
    assert logged["accuracy/val"] == pytest.approx((logits.argmax(1) == labels).float().mean())


def test_checkpoint_restores_the_classifier(tmp_path: Path) -> None:
    model, trainer, _ = fit(tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = ImageClassifier.load_from_checkpoint(tmp_path / "last.ckpt").eval()
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(again(images), model.eval()(images))
