"""Short trainings under Lightning's ModelParallelStrategy, in processes that are there already."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.integration.sharded.models import CLASSES, fully_sharded, images, network

MONITOR: dict[str, Any] = {
    "heatmap": ["lrp", "sensitivity_l2"],
    "region_size": 3,
    "steps": 4,
    "sampled_steps": None,
    "data_range": (0.0, 1.0),
    "num_images": 40,
}


class Sharded(pl.LightningModule):
    """A classifier that shards its network once the processes are there.

    Args:
        shard: from the network and the mesh to the sharded network; FSDP2 if not given.
        make: makes the network.
    """

    def __init__(
        self,
        shard: Callable[[nn.Sequential, Any], nn.Module] | None = None,
        make: Callable[[], nn.Sequential] = network,
    ) -> None:
        super().__init__()
        self.network: nn.Module = make()
        self._shard, self.is_whole = shard or fsdp2, False

    def configure_model(self) -> None:
        if not self.is_whole:
            self.network, self.is_whole = self._shard(self.network, self.device_mesh), True

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.nll_loss(self(x).clamp_min(1e-6).log(), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


def fsdp2(model: nn.Sequential, mesh: Any) -> nn.Module:
    return fully_sharded(model, mesh=mesh["data_parallel"])


def loaders(count: int = 48) -> tuple[DataLoader[Any], DataLoader[Any]]:
    data = TensorDataset(images(count), torch.arange(count) % CLASSES)
    return DataLoader(data, batch_size=4), DataLoader(data, batch_size=4)


def trainer(
    world_size: int, folder: Path, callbacks: list[Any], tensor_parallel: int = 1, **settings: Any
) -> pl.Trainer:
    strategy: Any = "auto"
    if world_size > 1:
        rank = torch.distributed.get_rank()
        os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(world_size))
        strategy = settings.pop("strategy", None) or ModelParallelStrategy(
            data_parallel_size=world_size // tensor_parallel, tensor_parallel_size=tensor_parallel
        )
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "limit_train_batches": 3,
        "limit_val_batches": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(
        accelerator="cpu",
        devices=world_size,
        strategy=strategy,
        callbacks=callbacks,
        default_root_dir=folder,
        **{**defaults, **settings},
    )


def shards_of(module: nn.Module, made: pl.Trainer) -> dict[str, Tensor]:
    """All that a training leaves on this process: shards, buffers, states of the optimizer."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for number, optimizer in enumerate(made.optimizers):
        for index, state in enumerate(optimizer.state.values()):
            found = {k: v for k, v in state.items() if isinstance(v, Tensor)}
            tensors |= {f"{number}.{index}.{name}": value for name, value in found.items()}
    generators = {"random numbers": torch.get_rng_state()}
    local = {k: getattr(v, "_local_tensor", v).detach().clone() for k, v in tensors.items()}
    return local | generators


def values_of(made: pl.Trainer) -> dict[str, float]:
    """The monitor's values, without what depends on the clock."""
    timed = ("seconds", "overhead", "failures")
    return {
        key: float(value)
        for key, value in made.callback_metrics.items()
        if key.startswith("aopc/") and not key.endswith(timed)
    }
