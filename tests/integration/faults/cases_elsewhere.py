"""What breaks outside a training, in a logger, and before the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.integration.faults import injection as broken
from tests.integration.faults.cases_in_training import BROKEN_MODEL
from tests.integration.faults.fault import FROM_STEP_1, SAME_EVERYWHERE, Fault
from tests.integration.faults.injection import Act, Injection, Make, always, raises
from tests.integration.faults.sources import IMAGES, batches, bytes_as_they_come, labelled
from tests.integration.faults.training import STEPS, Victim


def refuses_the_monitor(metrics: Any) -> None:
    if any(key.startswith("aopc/") for key in metrics):
        raise ConnectionError("the server is gone")


def also_in_logger(make: Make) -> Make:
    def both(armed: bool) -> Injection:
        return replace(make(armed), log_metrics=refuses_the_monitor) if armed else make(armed)

    return both


LOGGERS = [
    Fault(
        "the logger raises on the monitor's values",
        broken.in_logger(refuses_the_monitor),
        on_loggers=len(STEPS),
    ),
    Fault(
        "the logger raises on the monitor's values, and the model raises",
        also_in_logger(broken.in_model(BROKEN_MODEL)),
        FROM_STEP_1,
        "ValueError: a broken layer",
        on_loggers=1 + len(FROM_STEP_1),
    ),
]

EMPTY = broken.in_loader(batches(), labelled)

OUTSIDE = [
    Fault(f"{name} in `trainer.{entry}`", make, (0,), message, entry=entry)
    for entry in ("validate", "test", "predict")
    for name, make, message in (
        ("the model raises", broken.in_model(BROKEN_MODEL, always), "ValueError: a broken layer"),
        ("`dataloader=` is empty", EMPTY, "list gave no batch"),
    )
]


def several_devices(module: Any) -> nn.Module:
    return nn.Sequential(module.network, nn.Linear(4, 4, device="meta"))


class NoForward(Victim):
    forward = pl.LightningModule.forward


class KeepsBytes(Victim):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


def of_class(kind: type[Victim], make: Make) -> Make:
    return lambda armed: replace(make(armed), victim=kind)


def sharded(trainer: Any) -> None:
    trainer.strategy.__class__ = type("FSDPStrategy", (type(trainer.strategy),), {})


def settings(name: str, message: str, **monitor: Any) -> Fault:
    return Fault(
        name,
        lambda armed: Injection(monitor=monitor),
        message=message,
        is_local=False,
        ends="ValueError",
        leaves="untrained",
        columns=SAME_EVERYWHERE,
    )


def unknown_form(name: str, content: Any, message: str) -> Fault:
    """A batch whose form will be the same at the next evaluation."""
    make = broken.in_loader(batches(content), labelled)
    name = f"`dataloader=` gives {name}"
    return Fault(name, make, message=message, ends="ConfigurationError", leaves="untrained")


def first(name: str, act: Act, message: str, where: Any = broken.in_heatmap) -> Fault:
    """What raises in the very first evaluation."""
    make = where(act, always)
    return Fault(name, make, message=message, ends="EvaluationError", leaves="untrained")


def asked(name: str, change: Callable[[Tensor], Tensor], message: str) -> Fault:
    """A reference, and what becomes of its scores."""

    def make(armed: bool) -> Injection:
        return Injection(monitor={"reference": lambda x: change(scores(x)) if armed else scores(x)})

    def scores(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 2).flatten(1)

    ends, leaves = "ConfigurationError", "untrained"
    return Fault(f"`reference=` {name}", make, message=message, ends=ends, leaves=leaves)


def raised(scores: Tensor) -> Tensor:
    raise KeyError("no such layer")


MISTAKES = [
    asked("raises", raised, "reference= raised KeyError"),
    asked("gives NaN", lambda scores: scores * float("nan"), "rows hold NaN"),
    asked("gives one number for each image", lambda scores: scores[:, 0], "wanted are scores"),
    asked("answers for one image too few", lambda scores: scores[1:], "wanted are scores"),
    asked("answers on another device", lambda scores: scores.to("meta"), "wanted are scores"),
    settings("`region_size` larger than the images", "does not fit images", region_size=17),
    settings("more `steps` than regions", "steps=17 is more than the 16 regions", steps=17),
    settings(
        "`data_range` for other channels",
        "4 numbers for images of 3 channels",
        data_range=([0.0] * 4, [1.0] * 4),
    ),
    settings(
        "a data range that cannot be read off constant images",
        "in which all channels are constant",
        data_range=None,
        dataloader=torch.zeros(40, 3, 16, 16),
    ),
    replace(
        settings("a model on several devices", r"several devices \(cpu, meta\)"),
        make=lambda armed: Injection(monitor={"model_fn": several_devices}),
        ends="ConfigurationError",
    ),
    replace(
        settings("a module without `forward`", r"NoForward has no forward\(\)"),
        make=lambda armed: Injection(victim=NoForward),
        ends="ConfigurationError",
    ),
    replace(
        settings("a strategy that shards the model", "cannot look at a model under FSDPStrategy"),
        make=lambda armed: Injection(alter=sharded),
        ends="ConfigurationError",
    ),
    Fault(
        "integer images, and no hook of the module to convert them",
        broken.in_loader(bytes_as_they_come, labelled),
        message="torch.uint8, not floating point: there was no batch hook to change them so",
        ends="ConfigurationError",
        leaves="untrained",
    ),
    Fault(
        "integer images that a hook of the module leaves so",
        of_class(KeepsBytes, broken.in_loader(bytes_as_they_come, labelled)),
        message=r"floating point: the hooks KeepsBytes\.on_after_batch_transfer left them so",
        ends="ConfigurationError",
        leaves="untrained",
    ),
    unknown_form(
        "dicts without a known key", {"pictures": IMAGES}, "a dict with the keys 'pictures'"
    ),
    unknown_form(
        "images of six dimensions", IMAGES[:, None, None], r"shape \(40, 1, 1, 3, 16, 16\)"
    ),
    unknown_form("texts", "a text", "a batch that is a str"),
    first(
        "the model raises in the first evaluation",
        BROKEN_MODEL,
        "ValueError: a broken layer",
        broken.in_model,
    ),
    first(
        "the heatmap raises in the first evaluation",
        raises(ZeroDivisionError, "no pixels"),
        "ZeroDivisionError: no pixels",
    ),
    first(
        "the heatmap is of the wrong shape in the first evaluation",
        lambda module, made: made[:, :4],
        r"heatmaps has shape \(16, 4, 16\)",
    ),
    replace(
        first(
            "a heatmap writes to a parameter in the first evaluation",
            broken.writes_to_parameter,
            r"parameters of the model changed .* network\.0\.bias",
        ),
        leaves="anything",
    ),
]
