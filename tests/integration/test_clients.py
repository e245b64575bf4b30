"""What the monitor is used with in other people's projects: a small training of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, Quadrants, loaders, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 8, "region_size": 4, "steps": 2, "data_range": (0.0, 1.0), "on_error": "raise",
}  # fmt: skip


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, **changes})


def fit(tmp_path: Path, module: Any, watch: AOPCMonitor, *data: Any) -> Any:
    """One epoch of two steps."""
    made = trainer(tmp_path, watch, max_epochs=1, limit_train_batches=2, limit_val_batches=1)
    made.fit(module, *(data or loaders()))
    assert [record["step"] for record in watch.history] == [0, 2]
    return made


def margin(outputs: Tensor, target: Tensor) -> Tensor:
    """A score of the user's own, as a command line finds it by its path."""
    best = outputs.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


HYDRA = f"""
callback:
  _target_: aopc_monitor.AOPCMonitor
  heatmap: [lrp, sensitivity_l2]
  num_images: 8
  region_size: 4
  steps: 2
  every_n_steps: [1, 2]
  data_range: [[0.0, 0.0, 0.0], 1.0]
  replacement:
    _target_: aopc_monitor.perturbation.Constant
    value: [0.0, 0.5, 1.0]
  score:
    _target_: hydra.utils.get_method
    path: {__name__}.margin
  on_error: raise
"""


@pytest.mark.parametrize("convert", ["none", "all"])
def test_hydra_makes_the_callback_from_its_config(convert: str, tmp_path: Path) -> None:
    """By default Hydra hands lists over as OmegaConf's, which are no lists of Python."""
    hydra_utils = pytest.importorskip("hydra.utils", reason="needs hydra-core")
    OmegaConf = pytest.importorskip("omegaconf").OmegaConf  # noqa: N806
    config = OmegaConf.create(HYDRA)
    config.callback._convert_ = convert
    watch = hydra_utils.instantiate(config.callback)
    made = trainer(tmp_path, watch, max_epochs=1, limit_train_batches=2)
    made.fit(Classifier(), *loaders())
    assert [record["step"] for record in watch.history] == [0, 1, 2]
    assert {"aopc/lrp", "aopc/sensitivity_l2"} <= set(made.callback_metrics)
    torch.load(save(made, tmp_path), weights_only=True)


def save(made: Any, tmp_path: Path) -> Path:
    path = tmp_path / "saved.ckpt"
    made.save_checkpoint(path)
    return path


def test_hydra_gives_loaders_by_name(tmp_path: Path) -> None:
    hydra_utils = pytest.importorskip("hydra.utils", reason="needs hydra-core")
    OmegaConf = pytest.importorskip("omegaconf").OmegaConf  # noqa: N806
    part = {"_target_": "aopc_monitor.AOPCMonitor", "_partial_": True, "num_images": 8}
    watch = hydra_utils.instantiate(OmegaConf.create(part))(dataloader={"val": loaders()[1]})
    made = trainer(tmp_path, watch, max_epochs=1, limit_train_batches=2)
    made.fit(Classifier(), *loaders())
    assert "aopc/val/lrp" in made.callback_metrics


class Dicts(Dataset[dict[str, Any]]):
    """Images under other keys, as libraries of a field call them."""

    def __init__(self, image: str, label: str, wrap: Any = lambda image: image) -> None:
        self.whole, self.keys, self.wrap = Quadrants(16), (image, label), wrap

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, label = self.whole[index]
        return {self.keys[0]: self.wrap(image), self.keys[1]: torch.tensor(label)}


@pytest.mark.long  # with many geographical packages
def test_torchgeo_classification_task(tmp_path: Path) -> None:
    trainers = pytest.importorskip("torchgeo.trainers", reason="needs torchgeo")
    data: Any = Dicts("image", "label")
    task = trainers.ClassificationTask(model="resnet18", in_channels=3, num_classes=4)
    watch = monitor()
    both = DataLoader(data, batch_size=4), DataLoader(data, batch_size=4)
    # It is a module of `lightning`, which the trainer of `pytorch_lightning` refuses.
    made = pytest.importorskip("lightning.pytorch").Trainer(
        accelerator="cpu", logger=False, max_epochs=1, limit_train_batches=2, callbacks=[watch],
        enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path,
    )  # fmt: skip
    made.fit(task, *both)
    assert [record["step"] for record in watch.history] == [0, 2]
    assert "aopc/accuracy" in made.callback_metrics


class MonaiClassifier(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch["image"]), batch["label"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)


@pytest.mark.long  # a large package
def test_monai_with_meta_tensors(tmp_path: Path) -> None:
    data = pytest.importorskip("monai.data", reason="needs monai")
    nets = pytest.importorskip("monai.networks.nets")
    network = nets.DenseNet121(2, 3, 4, init_features=8, growth_rate=4, block_config=(2, 2))
    items: Any = Dicts("image", "label", data.MetaTensor)
    both = [data.DataLoader(items, batch_size=4) for _ in range(2)]
    assert isinstance(next(iter(both[0]))["image"], data.MetaTensor)
    watch = monitor()
    fit(tmp_path, MonaiClassifier(network), watch, *both)
    assert type(watch.measurements[""].probe.images) is Tensor
    assert "aopc/accuracy" in watch.history[-1]


class Transformer(pl.LightningModule):
    """As tutorials of transformers have it: whole batches by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **batch: Any) -> Any:
        return self.model(**batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self(**batch).loss
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", self(**batch).loss)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def vision_transformer() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4, num_labels=4,
    )  # fmt: skip
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model


def test_transformers_with_forward_of_whole_batches(tmp_path: Path) -> None:
    items: Any = Dicts("pixel_values", "labels")
    both = [DataLoader(items, batch_size=4) for _ in range(2)]
    watch = monitor(model_fn="model", heatmap="attnlrp")
    made = fit(tmp_path, Transformer(vision_transformer()), watch, *both)
    assert "aopc/accuracy" in made.callback_metrics


def test_transformers_without_model_fn_is_refused_in_words(tmp_path: Path) -> None:
    items: Any = Dicts("pixel_values", "labels")
    both = [DataLoader(items, batch_size=4) for _ in range(2)]
    with pytest.raises(RuntimeError, match=r"images alone.*give AOPCMonitor model_fn=") as caught:
        fit(tmp_path, Transformer(vision_transformer()), monitor(), *both)
    assert len(str(caught.value).splitlines()) < 8


YAML = f"""
trainer:
  logger: false
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 2
  enable_checkpointing: false
  enable_progress_bar: false
  callbacks:
    - class_path: aopc_monitor.AOPCMonitor
      init_args:
        score: {__name__}.margin
        num_images: 8
        region_size: 4
        steps: 2
        data_range: [0.0, 1.0]
        model_fn: network
"""


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loaders()[0]

    def val_dataloader(self) -> Any:
        return loaders()[1]


def test_lightning_cli_takes_a_score_by_its_path(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse", reason="needs jsonargparse")
    from pytorch_lightning.cli import LightningCLI

    (tmp_path / "config.yaml").write_text(YAML)
    made = LightningCLI(
        Classifier, Data, save_config_callback=None,
        args=["fit", "--config", str(tmp_path / "config.yaml")],
    )  # fmt: skip
    (watch,) = (c for c in made.trainer.callbacks if isinstance(c, AOPCMonitor))
    assert watch.measurements[""].protocol.score is margin
    assert [record["step"] for record in watch.history] == [0, 2]


def test_optuna_prunes_by_the_value(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    integration = pytest.importorskip("optuna_integration", reason="needs optuna-integration")

    def objective(trial: Any) -> float:
        pruning = integration.PyTorchLightningPruningCallback(trial, monitor="aopc/lrp")
        watch = monitor()
        made = trainer(tmp_path, watch, pruning, max_epochs=2, limit_train_batches=2)
        made.fit(Classifier(), *loaders())
        pruning.check_pruned()
        return float(made.callback_metrics["aopc/lrp"])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert list(trial.intermediate_values) == [0, 1]
