"""What Lightning's trainer and module have to be, and how they lend us their data and network.

`Callback` is the class of whichever Lightning is installed: `lightning`, `pytorch_lightning` or
both. Their classes are unrelated to each other, and a callback that derives from both is accepted
by the trainer and the command line of either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from aopc_monitor.monitor.batch_reading import BatchReading
from aopc_monitor.monitor.collection import collect_probe
from aopc_monitor.monitor.consensus import together
from aopc_monitor.monitor.errors import ConfigurationError, EvaluationError, Outcome, text_of
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.network.isolation import untouched
from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of
from aopc_monitor.utilities.batches import BatchFormError

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

LOGGING = ("log", "log_dict")
REFUSED_STRATEGIES = ("FSDPStrategy", "XLAFSDPStrategy")
BATCH_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def check_strategy(trainer: Trainer) -> None:
    """Raise ConfigurationError where parameters are spread over processes in an unknown way."""
    strategy: Any = trainer.strategy
    names = [kind.__name__ for kind in type(strategy).__mro__]
    refused = next((name for name in names if name in REFUSED_STRATEGIES), None)
    if "DeepSpeedStrategy" in names:  # its other stages leave parameters whole
        refused = "DeepSpeedStrategy(stage=3)" if strategy.zero_stage_3 else None
    if refused is not None:
        raise ConfigurationError(
            f"AOPCMonitor cannot look at a model under {refused}: its parameters are spread over "
            "processes in a way that it does not know. Train with ModelParallelStrategy (FSDP2, "
            "tensor parallel), DeepSpeedStrategy(stage=2) or DDP, or use the AOPC metric on a "
            "loaded checkpoint"
        )


def check_forward(pl_module: LightningModule) -> None:
    """Raise ConfigurationError for a LightningModule that defines no forward."""
    forward = getattr(type(pl_module), "forward", None)
    if getattr(forward, "__qualname__", "") == "LightningModule.forward":
        raise ConfigurationError(
            f"{type(pl_module).__name__} has no forward(): define forward(images) -> (N, classes), "
            "or give model_fn=lambda module: module.NETWORK"
        )


def check_model(model: nn.Module) -> None:
    """Raise ConfigurationError for parameters that are on several devices, or not made yet."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        raise ConfigurationError(
            "AOPCMonitor cannot look at a model whose lazy parameters are not made yet: send a "
            "batch through it before training, in configure_model() for instance"
        )
    devices = {str(parameter.device) for parameter in model.parameters()}
    if len(devices) > 1:
        raise ConfigurationError(
            f"AOPCMonitor cannot look at a model on several devices ({', '.join(sorted(devices))}):"
            " it would not know where the images go. Keep the model on one device, choose a part "
            "that is by model_fn=, or use the AOPC metric with images on the first device"
        )


# The two that follow read attributes that Lightning's classes do not declare.
def callbacks_of(trainer: Any) -> list[Any]:
    """The callbacks of a trainer."""
    callbacks: list[Any] = trainer.callbacks
    return callbacks


def is_dry_run(trainer: Any) -> bool:
    """Whether the trainer makes a few steps to see that they work (`fast_dev_run`)."""
    return bool(trainer.fast_dev_run)


def callbacks_watching(trainer: Trainer, prefix: str) -> list[str]:
    """Callbacks of the trainer that watch a key that begins so, as people write them."""
    return [
        f"{type(callback).__name__}(monitor={callback.monitor!r})"
        for callback in callbacks_of(trainer)
        if str(getattr(callback, "monitor", "")).startswith(prefix)
    ]


def validation_loaders(trainer: Trainer, pl_module: LightningModule) -> Any:
    """The trainer's validation loaders, made now if the trainer only makes them later."""
    if trainer.val_dataloaders is None and trainer.enable_validation:
        loop = trainer.fit_loop.epoch_loop.val_loop
        before = dict(vars(loop))
        with _as_validation(trainer), untouched(pl_module):
            loop.setup_data()
            loaders = trainer.val_dataloaders
            # Lightning makes its own when they are due, with what the user's hook does beside.
            vars(loop).clear()
            vars(loop).update(before)
        return loaders
    return trainer.val_dataloaders


def probe_on_all_processes(
    trainer: Trainer,
    pl_module: LightningModule,
    source: Any,
    num_images: int,
    seed: int,
    reading: BatchReading,
    name: str = "",
) -> Probe:
    """Take the probe from a loader: the same on every process.

    Args:
        trainer: the Lightning trainer; its hooks on batches are applied.
        pl_module: its module.
        source: a loader, or the images themselves.
        num_images: how many to take.
        seed: which ones.
        reading: where a batch has its images and labels.
        name: of the probe, for messages.

    Raises:
        EvaluationError: on every process, if the probe could not be taken on any.
        ConfigurationError: if the images are not what the network sees.
    """

    def transfer(batch: Any) -> Any:
        if isinstance(source, Tensor):  # given as the network sees them
            return batch
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def check(images: Any) -> None:
        _check_images(images, source, trainer, pl_module)

    def work() -> Probe:
        with (
            _errors_of_probe(name),
            _as_validation(trainer),
            untouched(pl_module, seed),
            torch.no_grad(),
        ):
            return collect_probe(
                source, num_images, seed=seed, reading=reading, transfer=transfer, check=check
            )

    probe = together(trainer, work)
    # Streams differ from process to process, and so may random augmentation.
    shared: Probe = trainer.strategy.broadcast(probe, src=0)
    return shared


@contextmanager
def _errors_of_probe(name: str) -> Iterator[None]:
    """Tell settings that never will work from data that may be better the next time."""
    try:
        yield
    except ConfigurationError:
        raise
    except BatchFormError as error:
        raise ConfigurationError(str(error)) from error
    except Exception as error:  # whatever a user's data set or batch hook may raise
        which = f"probe {name!r}" if name else "probe"
        reason = f"The {which} could not be taken: {text_of(error)}"
        raise EvaluationError(reason, Outcome.CIRCUMSTANCES) from error


def _check_images(images: Any, source: Any, trainer: Trainer, pl_module: LightningModule) -> None:
    try:
        is_dense = kind_of(images).is_dense
        if is_dense and isinstance(images, Tensor) and not images.is_floating_point():
            raise ConfigurationError(_not_floating(images, source, trainer, pl_module))
        checked_inputs(images)
    except (TypeError, ValueError) as error:  # no later batch will be of another form
        raise ConfigurationError(f"the probe cannot be taken: {error}") from error


@contextmanager
def without_logging(pl_module: LightningModule) -> Iterator[None]:
    """A module that logs in its forward must not log perturbed images."""
    own: dict[str, Any] = {n: vars(pl_module)[n] for n in LOGGING if n in vars(pl_module)}
    vars(pl_module).update(dict.fromkeys(LOGGING, _log_nothing))
    try:
        yield
    finally:
        for name in LOGGING:
            del vars(pl_module)[name]
        vars(pl_module).update(own)


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    pass


@contextmanager
def _as_validation(trainer: Trainer) -> Iterator[None]:
    """Users' hooks on batches augment `if self.trainer.training`: a probe is not training."""
    stage = trainer.state.stage
    trainer.validating = True
    try:
        yield
    finally:
        trainer.state.stage = stage


def _not_floating(images: Tensor, source: Any, trainer: Trainer, pl_module: LightningModule) -> str:
    owners = (pl_module, getattr(trainer, "datamodule", None))
    hooks = [f"{type(o).__name__}.{h}" for o in owners for h in BATCH_HOOKS if _overrides(o, h)]
    if isinstance(source, Tensor) and hooks:
        why = f"a tensor skips the hooks {', '.join(hooks)}: give dataloader= a loader instead"
    elif isinstance(source, Tensor):
        why = "give them as the network sees them, converted and normalised"
    else:
        who = f"the hooks {', '.join(hooks)} left" if hooks else "there was no batch hook to change"
        why = (
            f"{who} them so. If training_step converts them, let on_after_batch_transfer do it, or "
            "images_fn=; if forward does, give it whole numbers by images_fn=, too, as "
            "lambda batch: batch[0].float()"
        )
    return f"the probe's images are {images.dtype}, not floating point: {why}"


def _overrides(owner: Any, hook: str) -> bool:
    """Whether a module or data module has a hook of its own, and not Lightning's."""
    own = getattr(type(owner), hook, None)
    return own is not None and own.__qualname__ != f"DataHooks.{hook}"


def _callback_classes() -> tuple[type, ...]:
    found = []
    for package in ("lightning.pytorch", "pytorch_lightning"):
        with suppress(ModuleNotFoundError):
            found.append(import_module(package).Callback)
    if not found:
        raise ModuleNotFoundError(
            "AOPCMonitor needs Lightning: pip install pytorch-lightning (or lightning). The metric "
            "AOPC and the heatmaps work without it"
        )
    return tuple(found)


Callback = type("Callback", _callback_classes(), {"__doc__": "Base of AOPCMonitor."})
