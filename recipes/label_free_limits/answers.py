"""What a network answers to images: logits, and the features that they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aopc_monitor.network import untouched
from recipes.shared.training.beside import own_batches


@dataclass(frozen=True)
class Answers:
    """Logits (N, classes), and pooled features of the first images (M, D).

    Attributes:
        logits: float32.
        features: float32.
    """

    logits: Tensor
    features: Tensor

    @property
    def classes(self) -> Tensor:
        """The predicted classes (N,)."""
        return self.logits.argmax(dim=1)

    @property
    def probabilities(self) -> Tensor:
        """Class probabilities (N, classes), float64."""
        return self.logits.double().softmax(dim=1)

    def first(self, count: int) -> Answers:
        """The answers to the first images."""
        return Answers(self.logits[:count], self.features[:count])


def answers_of(
    trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module, loader: DataLoader[Any]
) -> Answers:
    """Answers to all images; each process takes its share of the batches.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module, which returns logits (N, classes).
        network: the network in it.
        loader: batches of (images, labels) of a data set in its order, the same on every process.

    Returns:
        The same on every process, on the CPU.
    """
    precision, strategy = trainer.precision_plugin, trainer.strategy

    def ask(batch: Any) -> tuple[Tensor, Tensor]:
        images, _ = strategy.batch_to_device(batch)
        with pooled_features(network) as features:
            logits = pl_module(precision.convert_input(images)).float()
        return logits, features[-1]

    with untouched(pl_module), torch.no_grad(), precision.forward_context():
        # A process without a batch of its own has to know how wide the answers are, too.
        logits, features = ask(loader.collate_fn([loader.dataset[0]]))
        classes = logits.shape[1]
        found = logits.new_zeros(len(loader.dataset), classes + features.shape[1])  # type: ignore[arg-type]
        for rows, batch in own_batches(loader, trainer.global_rank, trainer.world_size):
            found[rows] = torch.cat(ask(batch), dim=1)
    # What other processes looked at is zero here, so that the sum is what all of them saw.
    found = strategy.reduce(found, reduce_op="sum").cpu()
    return Answers(found[:, :classes].clone(), found[:, classes:])


@contextmanager
def pooled_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the features of each forward: one vector per image, (N, D) in float32.

    They are the mean over the image of what `network.features` gives, where there is such a part,
    and else what goes into the last linear layer.

    Args:
        network: any classifier.

    Raises:
        ValueError: if the network has neither.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> with pooled_features(network) as features:
        ...     _ = network(torch.ones(2, 3, 2, 2))
        >>> features[0].shape
        torch.Size([2, 5])
    """
    found: list[Tensor] = []
    part = getattr(network, "features", None)
    if isinstance(part, nn.Module):
        hook = part.register_forward_hook(lambda _, __, output: found.append(_pooled(output)))
    else:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError("network has no part `features` and no linear layer to take them from")
        hook = linear[-1].register_forward_pre_hook(
            lambda _, inputs: found.append(_pooled(inputs[0]))
        )
    try:
        yield found
    finally:
        hook.remove()


def _pooled(features: Tensor) -> Tensor:
    return features.float().flatten(2).mean(dim=2) if features.ndim > 2 else features.float()
