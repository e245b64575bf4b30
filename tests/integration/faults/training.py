"""One short run with a monitor, and all that can be seen of it afterwards."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from aopc_monitor import AOPCMonitor
from aopc_monitor.network.sharded import local_part
from tests.integration.faults.injection import Injection, heatmap
from tests.modules import Classifier, loaders, trainer

EPOCHS, STEPS_PER_EPOCH = 2, 3
STEPS = tuple(range(EPOCHS * STEPS_PER_EPOCH + 1))
SETTINGS: dict[str, Any] = {
    "heatmap": {"custom": heatmap(lambda module, made: made, armed=False)},
    "num_images": 40,
    "every_n_steps": 1,
    "region_size": 4,
    "steps": 3,
    "data_range": (0.0, 1.0),
}
# Wall time differs from process to process and from run to run.
CLOCK = ("seconds", "overhead")


class Victim(Classifier):
    """Trains and validates by its network, so that only the monitor calls its forward."""

    def __init__(self, injection: Injection) -> None:
        super().__init__()
        self.injection = injection

    def configure_model(self) -> None:
        """Nothing, where Lightning asks for it: it is done already, see `sharded_by_fsdp2`."""

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        disturb = self.injection.disturb
        return outputs if disturb is None else disturb(self, outputs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy/val", (self.network(images).argmax(1) == labels).float().mean())

    test_step = validation_step

    def predict_step(self, batch: Any, *args: Any) -> Tensor:
        return self.network(batch[0]).argmax(1)  # type: ignore[no-any-return]


class Recorder(Logger):
    """Keeps what it gets, unless it breaks."""

    name, version = "recorder", 0

    def __init__(self, injection: Injection) -> None:
        super().__init__()
        self.injection = injection
        self.calls: list[dict[str, float]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.injection.log_metrics(metrics)
        self.calls.append({"x": float(step or 0), **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


@dataclass
class Seen:
    """What a run left behind on one process.

    Attributes:
        ended: the exception that ended it and its text; empty if it ended normally.
        initial: weights and buffers before.
        trace: what training with and without a monitor must have in common.
        returned: what `trainer.validate`, `trainer.test` or `trainer.predict` did.
        warnings: those of the monitor.
        logged: all that the logger got.
        callback_metrics: what other callbacks can see.
        histories: of the monitors, by their prefix.
        notes: what the broken part has counted, by the step.
    """

    ended: str = ""
    initial: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    returned: Any = None
    warnings: list[str] = field(default_factory=list)
    logged: list[dict[str, float]] = field(default_factory=list)
    callback_metrics: dict[str, float] = field(default_factory=dict)
    histories: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    notes: dict[int, int] = field(default_factory=dict)


def run(
    injection: Injection,
    folder: Path,
    count: int = 1,
    entry: str = "fit",
    watched: bool = True,
    sharded: bool = False,
) -> Seen:
    """A whole run from a fixed seed, on this process.

    Args:
        injection: what is broken here.
        folder: where Lightning may write.
        count: how many processes take part.
        entry: "fit", "validate", "test" or "predict".
        watched: with the monitors or without.
        sharded: whether FSDP2 spreads the network over the processes, or DDP keeps it whole.
    """
    pl.seed_everything(3, verbose=False)
    module, logger = (injection.victim or Victim)(injection), Recorder(injection)
    if sharded:
        sharded_by_fsdp2(module.network)
    watch = monitors(injection) if watched else []
    made = trainer(folder, *watch, logger=logger, **_settings(count, sharded))
    injection.alter(made)
    seen = Seen(initial=own_parts(module.state_dict()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            seen.returned = _start(made, module, entry)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            seen.ended = f"{type(error).__name__}: {error}"
    seen.trace = trace(made, module, logger)
    seen.warnings = [str(w.message) for w in caught if "AOPCMonitor" in str(w.message)]
    seen.logged = logger.calls
    seen.callback_metrics = {key: float(v) for key, v in made.callback_metrics.items()}
    seen.histories = {m.settings.prefix: m.history for m in watch}
    seen.notes = dict(injection.notes)
    return seen


def monitors(injection: Injection) -> list[AOPCMonitor]:
    found = [AOPCMonitor(**{**SETTINGS, **injection.monitor})]
    if injection.other is not None:
        found.append(AOPCMonitor(**{**SETTINGS, "prefix": "other", **injection.other}))
    return found


def _start(made: pl.Trainer, module: Victim, entry: str) -> Any:
    training, validation = loaders()
    if entry == "fit":
        return made.fit(module, training, validation)
    options = {} if entry == "predict" else {"verbose": False}
    return getattr(made, entry)(module, validation, **options)


def _settings(count: int, sharded: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_epochs": EPOCHS, "limit_train_batches": STEPS_PER_EPOCH}
    if count > 1:
        # The processes are there already, and so is their process group.
        strategy: Any = DDPStrategy(cluster_environment=LightningEnvironment())
        if sharded:
            strategy = ModelParallelStrategy(data_parallel_size=count, tensor_parallel_size=1)
            strategy.cluster_environment = LightningEnvironment()
        settings |= {"devices": count, "strategy": strategy}
    return settings


def sharded_by_fsdp2(network: Any) -> None:
    """Spread over all processes there are, layer by layer."""
    for layer in network:
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    fully_shard(network)


def own_parts(state: Any) -> Any:
    """A state with copies of what this process holds of its tensors."""
    if isinstance(state, Tensor):
        return local_part(state).detach().clone()
    if isinstance(state, dict):
        return {name: own_parts(value) for name, value in state.items()}
    return [own_parts(value) for value in state] if isinstance(state, list) else state


def trace(made: pl.Trainer, module: Victim, logger: Recorder) -> dict[str, Any]:
    return {
        **state_of(module),
        "optimizers": own_parts([optimizer.state_dict() for optimizer in made.optimizers]),
        # The epoch goes with the monitor's values, too.
        "logged": [own for own in map(of_user, logger.calls) if own.keys() - {"x", "epoch"}],
        "callback metrics": of_user(made.callback_metrics),
    }


def state_of(module: Victim) -> dict[str, Any]:
    """Of a module and of the global random generators."""
    return {
        "weights and buffers": own_parts(module.state_dict()),
        "gradients": own_parts([p.grad for p in module.parameters()]),
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "modes": [submodule.training for submodule in module.modules()],
        "random torch": torch.get_rng_state(),
        "random numpy": np.random.get_state(),  # noqa: NPY002
        "random python": random.getstate(),
    }


def of_user(metrics: Any) -> dict[str, Any]:
    return {k: v for k, v in metrics.items() if not k.startswith(("aopc/", "other/"))}
