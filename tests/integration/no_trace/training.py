"""One training of the matrix, and everything that it leaves behind."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from tests.integration.no_trace.cases import MESHES, Case
from tests.integration.no_trace.networks import lightning_module, loaders
from tests.integration.no_trace.sharding import content_of_folder, local_shards, strategy_of
from tests.modules import trainer

Callbacks: TypeAlias = Callable[[], list[pl.Callback]]
Trace: TypeAlias = dict[str, Any]

EPOCHS = 2
VALIDATION: dict[str, dict[str, Any]] = {
    "every_epoch": {},
    "val_check_interval": {"val_check_interval": 2},
    "limit_val_batches": {"limit_val_batches": 1},
}


class Recorder(Logger):
    """Keeps what is logged, but for what the monitor itself adds."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "recorder"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        own = without_monitor(metrics)
        if own:
            self.logged.append((step, own))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class InterruptionError(Exception):
    """As if the machine had gone down."""


class Interrupts(pl.Callback):
    """Ends a training when its second epoch starts, after the checkpoint of the first."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise InterruptionError


class Watcher(pl.Callback):
    """Sees after each batch, behind all other callbacks, what is gone when the training is over."""

    def __init__(self) -> None:
        self.seen: list[Trace] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        parameters = list(pl_module.parameters())
        self.seen.append(
            {
                "gradients": [None if p.grad is None else p.grad.clone() for p in parameters],
                **_modes(pl_module),
                **_generators(),
            }
        )


def without_monitor(metrics: Any) -> dict[str, Any]:
    own = {key: value for key, value in metrics.items() if not key.startswith("aopc/")}
    return own if own.keys() != {"epoch"} else {}  # which goes with the monitor's values


def train(case: Case, folder: Path, extra: Callbacks, processes: int) -> tuple[Trace, list[Any]]:
    """A whole training from a fixed seed.

    Args:
        case: which one.
        folder: of its checkpoints; the same for both trainings, as their paths are in their states.
        extra: makes the callbacks under test, anew for a training that is resumed.
        processes: how many take part.

    Returns:
        What it left behind, and the callbacks under test.
    """
    torch._dynamo.reset()
    pl.seed_everything(7, verbose=False)
    recorder, watcher = Recorder(), Watcher()
    module = lightning_module(case)
    start = None
    try:
        if case.resumed == "yes":
            first = _trainer(case, folder, [*extra(), Interrupts()], recorder, watcher)
            start = _interrupted(first, module, loaders(case, processes), folder)
            module = lightning_module(case)
        under_test = extra()
        fit = _trainer(case, folder, under_test, recorder, watcher)
        fit.fit(module, *loaders(case, processes), ckpt_path=start)
        trace = {
            **_trace(fit, module),
            "logged": recorder.logged,
            "after each batch": watcher.seen,
            "files": _checkpoints(folder),
        }
    finally:
        # Lightning leaves it switched on for the process.
        torch.use_deterministic_algorithms(False)
    if dist.is_initialized():
        dist.barrier()
    shutil.rmtree(folder, ignore_errors=True)
    return local_shards(trace), under_test


def _interrupted(fit: pl.Trainer, module: Any, data: Any, folder: Path) -> str:
    try:
        fit.fit(module, *data)
    except InterruptionError:
        return str(next(folder.glob("epoch=0*.ckpt")))
    raise AssertionError("the training was not interrupted")


def _trainer(
    case: Case, folder: Path, extra: list[Any], recorder: Recorder, watcher: Watcher
) -> pl.Trainer:
    others: list[Any] = []
    if case.averaging == "ema":
        others = [pl.callbacks.EMAWeightAveraging(decay=0.9)]
    elif case.averaging == "swa":
        others = [pl.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1)]
    others.append(
        pl.callbacks.ModelCheckpoint(
            folder, monitor="loss/val", save_top_k=-1, save_on_train_epoch_end=True
        )
    )
    callbacks = [*extra, *others] if case.monitor == "first" else [*others, *extra]
    return trainer(folder, *callbacks, watcher, logger=recorder, **_settings(case))


def _settings(case: Case) -> dict[str, Any]:
    return {
        "max_epochs": EPOCHS,
        "enable_checkpointing": True,
        "log_every_n_steps": 1,
        "precision": case.precision,
        "accumulate_grad_batches": int(case.accumulation),
        "gradient_clip_val": None if case.clipping == "none" else float(case.clipping),
        "overfit_batches": int(case.overfit_batches),
        "num_sanity_val_steps": 2 if case.sanity_check == "on" else 0,
        "deterministic": case.debugging == "deterministic",
        "detect_anomaly": case.debugging == "detect_anomaly",
        "sync_batchnorm": case.normalization == "sync_batch_norm",
        **VALIDATION[case.validation],
        **_devices(case),
    }


def _devices(case: Case) -> dict[str, Any]:
    if case.processes == "1":
        return {}
    if case.processes in MESHES:
        return {"devices": MESHES[case.processes][0], "strategy": strategy_of(case)}
    options = {
        "ddp": {},
        "ddp_static_graph": {"static_graph": True},
        "ddp_find_unused": {"find_unused_parameters": True},
    }[case.processes]
    # The processes are there already.
    strategy = DDPStrategy(cluster_environment=LightningEnvironment(), **options)
    return {
        "devices": 2,
        "strategy": strategy,
        "accelerator": "cuda" if case.normalization == "sync_batch_norm" else "cpu",
    }


def _trace(fit: pl.Trainer, module: nn.Module) -> Trace:
    states = {name: value.clone() for name, value in module.state_dict().items()}
    schedulers = [config.scheduler.state_dict() for config in fit.lr_scheduler_configs]
    return {
        "weights and buffers": states,
        "optimizers": [optimizer.state_dict() for optimizer in fit.optimizers],
        "schedulers": schedulers,
        "callback metrics": without_monitor(fit.callback_metrics),
        "logged metrics": without_monitor(fit.logged_metrics),
        **_modes(module),
        **_generators(),
    }


def _modes(module: nn.Module) -> Trace:
    return {
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "modes": [submodule.training for submodule in module.modules()],
    }


def _generators() -> Trace:
    used = torch.cuda.is_initialized()
    return {
        "random torch": torch.get_rng_state(),
        "random accelerators": torch.cuda.get_rng_state_all() if used else [],
        "random numpy": np.random.get_state(),  # noqa: NPY002
        "random python": random.getstate(),
    }


def _content(path: Path) -> Any:
    if path.is_dir():
        return content_of_folder(path)
    try:
        return torch.load(path, weights_only=True)
    except UnpicklingError:  # what StochasticWeightAveraging of Lightning 2.5 writes
        return torch.load(path, weights_only=False)


def _checkpoints(folder: Path) -> dict[str, Any]:
    """What a resumed training would read, without the state of the monitor."""
    files = {}
    for path in sorted(folder.glob("**/*.ckpt")):
        content = _content(path)
        callbacks = content["callbacks"].items()
        kept = {k: state for k, state in callbacks if not k.startswith("AOPCMonitor")}
        files[path.name] = {**content, "callbacks": kept}
    assert len(files) >= EPOCHS
    return files
