"""Callbacks that average weights, and which weights the monitor therefore sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aopc_monitor.monitor.trainers import callbacks_of

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

# What the values of the weights as they train are logged under where validations see averages.
CURRENT = "current"
# Lightning's; EMAWeightAveraging is a WeightAveraging.
AT_VALIDATIONS = ("WeightAveraging",)
AT_THE_END = ("WeightAveraging", "StochasticWeightAveraging")


def sees_averages(trainer: Trainer, monitor: Any) -> bool:
    """Whether a monitor sees averaged weights at validations, and current ones at other looks."""
    found = _listed_after(trainer, monitor, AT_VALIDATIONS)
    return monitor.at_validation and trainer.enable_validation and bool(found)


def changes_the_end(trainer: Trainer, monitor: Any) -> str:
    """Who puts other weights in place when a monitor has looked for the last time."""
    return " and ".join(_listed_after(trainer, monitor, AT_THE_END)) or "another callback"


def _listed_after(trainer: Trainer, monitor: Any, kinds: tuple[str, ...]) -> list[str]:
    callbacks = callbacks_of(trainer)
    places = [place for place, callback in enumerate(callbacks) if callback is monitor]
    later = callbacks[places[0] + 1 :] if places else []
    return [
        type(callback).__name__
        for callback in later
        if any(kind.__name__ in kinds for kind in type(callback).__mro__)
    ]
