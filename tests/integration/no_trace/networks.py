"""What is trained: networks, Lightning modules and data for every factor of the matrix."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.integration.no_trace.cases import MESHES, Case
from tests.integration.no_trace.sharding import shard
from tests.kinds import data_of, network_of
from tests.modules import Quadrants
from tests.texts import classifier, texts

CLASSES = 4
REENTRANT = {"reentrant": True, "non_reentrant": False}
Method = TypeVar("Method", bound=Callable[..., Any])


def not_compiled(method: Method) -> Method:
    """For what the compiler would break into many pieces, over which it takes long."""
    opaque: Any = torch.compiler.disable(method)
    return opaque


class Network(nn.Module):
    """On (N, 3, 16, 16); its middle is computed twice under activation checkpointing."""

    def __init__(self, case: Case, classes: int = CLASSES) -> None:
        super().__init__()
        self.checkpointing = case.checkpointing
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), _normalization(case), nn.ReLU(inplace=True)
        )
        self.middle = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1),
            _normalization(case),
            nn.ReLU(),
            nn.Dropout(0.25 if case.dropout == "on" else 0.0),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 8, classes))

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        if self.training and self.checkpointing != "off":
            use_reentrant = REENTRANT[self.checkpointing]
            features = checkpoint(self.middle, features, use_reentrant=use_reentrant)
        else:
            features = self.middle(features)
        outputs: Tensor = self.head(features)
        return outputs


def _normalization(case: Case) -> nn.Module:
    # The trainer turns BatchNorm into synchronized BatchNorm.
    return nn.Identity() if case.normalization == "none" else nn.BatchNorm2d(8)


class Classifier(pl.LightningModule):
    """Automatic optimization."""

    def __init__(self, case: Case, classes: int = CLASSES) -> None:
        super().__init__()
        self.case = case
        network = network_for(case, classes)
        if case.normalization == "frozen_batch_norm":
            for layer in (network.middle[0], *_batch_norms(network)):
                layer.requires_grad_(False)
        wanted = case.compile.startswith("network")
        self.network = compiled(network, case) if wanted else network

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        return outputs

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.case.normalization == "frozen_batch_norm":
            for layer in _batch_norms(self):
                layer.eval()
        return self

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("loss/train", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        outputs = self(images)
        self.report("loss/val", F.cross_entropy(outputs, labels))
        self.report("accuracy/val", (outputs.argmax(1) == labels).float().mean())

    @not_compiled
    def report(self, name: str, value: Tensor) -> None:
        self.log(name, value, sync_dist=True)

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.parameters() if p.requires_grad]
        if self.case.optimization == "sgd":
            optimizer: Any = torch.optim.SGD(learning, lr=0.05, momentum=0.9)
            scheduler: Any = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
            return [optimizer], [scheduler]
        optimizer = torch.optim.Adam(learning, lr=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class ShardedClassifier(Classifier):
    """Spreads its network over the processes; tensor parallelism needs two linear layers."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        layers = [nn.Linear(8 * 8 * 8, 16), nn.ReLU(), nn.Linear(16, CLASSES)]
        self.network.head = nn.Sequential(nn.Flatten(), *layers)

    def configure_model(self) -> None:
        shard(self.network, self.device_mesh)


class TextClassifier(Classifier):
    """Batches are mappings, as tokenizers give them."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.network(input_ids=input_ids, attention_mask=attention_mask)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step((batch, batch["labels"]), batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step((batch, batch["labels"]), batch_idx)

    def __call__(self, *given: Any, **named: Any) -> Any:
        if given and isinstance(given[0], dict):  # a whole batch, in a step
            batch = given[0]
            answer = super().__call__(batch["input_ids"], batch["attention_mask"])
            return getattr(answer, "logits", answer)
        return super().__call__(*given, **named)


def network_for(case: Case, classes: int) -> nn.Module:
    """Of the kind of input of the case."""
    if case.kind == "images":
        return Network(case, classes)
    if case.kind.startswith("texts"):
        return classifier("Bert" if case.kind == "texts of BERT" else "CNN").float().train()
    return network_of(case.kind)


class Gan(Classifier):
    """Manual optimization: a generator against a classifier that knows one class more, "made"."""

    def __init__(self, case: Case) -> None:
        super().__init__(case, CLASSES + 1)
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3 * 16 * 16))

    def made(self, count: int) -> Tensor:
        noise = torch.randn(count, 8, device=self.device, dtype=self.dtype)
        return self.generator(noise).sigmoid().view(-1, 3, 16, 16)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        both = torch.cat([images, self.made(len(images)).detach()])
        self.learn(0, both, torch.cat([labels, torch.full_like(labels, CLASSES)]))
        self.learn(1, self.made(len(labels)), labels)

    def learn(self, which: int, images: Tensor, labels: Tensor) -> None:
        self.begin(which)
        loss = F.cross_entropy(self(images), labels)
        self.end(which, loss)

    @not_compiled
    def begin(self, which: int) -> None:
        optimizer: Any = self.optimizers()[which]  # type: ignore[index]
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()

    @not_compiled
    def end(self, which: int, loss: Tensor) -> None:
        optimizer: Any = self.optimizers()[which]  # type: ignore[index]
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)
        self.log(f"loss/{which}", loss.detach(), on_step=True, on_epoch=True)

    def on_train_epoch_end(self) -> None:
        for scheduler in self.lr_schedulers():  # type: ignore[union-attr]
            scheduler.step()

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.network.parameters() if p.requires_grad]
        optimizers = [
            torch.optim.SGD(learning, lr=0.05, momentum=0.9),
            torch.optim.Adam(self.generator.parameters(), lr=1e-3),
        ]
        return optimizers, [torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5) for o in optimizers]


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def compiled(module: nn.Module, case: Case) -> nn.Module:
    backend = "inductor" if case.compile.endswith("inductor") else "aot_eager"
    wrapped: Any = torch.compile(module, backend=backend)
    return wrapped


def lightning_module(case: Case) -> nn.Module:
    if case.processes in MESHES:
        return ShardedClassifier(case)
    kind = TextClassifier if case.kind.startswith("texts") else Classifier
    module = Gan(case) if case.optimization == "gan" else kind(case)
    return compiled(module, case) if case.compile.startswith("module") else module


class Augmented(Dataset[tuple[Tensor, int]]):
    """Each item asks one of the global random generators how bright it is."""

    def __init__(self, count: int, augmentation: str, seed: int) -> None:
        self.items = Quadrants(count, seed=seed)
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.items[index]
        drawn = {
            "none": lambda: 0.5,
            "torch": lambda: float(torch.rand(())),
            "numpy": np.random.rand,
            "python": random.random,
        }[self.augmentation]()
        return (image * (0.9 + 0.2 * drawn)).clamp(0, 1), label


def data_for(case: Case, count: int, seed: int) -> Any:
    """Of the kind of input of the case."""
    if case.kind == "images":
        return Augmented(count, case.augmentation, seed)
    if not case.kind.startswith("texts"):
        return TensorDataset(*data_of(case.kind, count, seed))
    batch = texts(tuple(4 + i % 6 for i in range(count)), seed)
    words = [[-1 if word is None else word for word in row] for row in batch.pop("word_ids")]
    batch |= {"word_ids": torch.tensor(words), "labels": batch["input_ids"][:, 1] % 3}
    return [{name: entry[i] for name, entry in batch.items()} for i in range(count)]


def loaders(case: Case, processes: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Six batches per process for training and two for validation."""
    workers = int(case.num_workers)
    settings: dict[str, Any] = {
        "batch_size": 8,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        # Processes that were spawned would spawn their workers, which takes long.
        "multiprocessing_context": "fork" if workers else None,
    }
    train, val = (
        data_for(case, 8 * batches * processes, seed) for seed, batches in enumerate((6, 2))
    )
    return DataLoader(train, shuffle=True, **settings), DataLoader(val, **settings)
