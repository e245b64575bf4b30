"""What the reference of a monitor predicts of a probe: asked once, since neither changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.agreement import tensor_of_reference
from aopc_monitor.metrics.reference_classes import ReferenceClasses
from aopc_monitor.monitor.consensus import together
from aopc_monitor.monitor.errors import ConfigurationError, warn
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.monitor.trainers import callbacks_watching, is_dry_run, without_logging
from aopc_monitor.network.further_inputs import Inputs, accepted, called, moved
from aopc_monitor.network.isolation import untouched, unwritten
from aopc_monitor.network.memory import is_out_of_memory
from aopc_monitor.utilities.batches import told_of
from aopc_monitor.utilities.configured import imported, is_path
from aopc_monitor.utilities.error_text import said_by, shortened
from aopc_monitor.utilities.setting_text import setting_text

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

WANTED = "wanted are scores (N, classes), or class indices (N,)"
WITHOUT_ONE_CLASS = ("value", "segmentation")


def checked_reference(reference: Any, score: Any) -> Callable[..., Any] | None:
    """The reference as it is called; None for none.

    Raises:
        TypeError: for what cannot be called.
        ValueError: under a score that knows no class of an image.
    """
    if reference is None:
        return None
    if is_path(reference):
        reference = imported(reference, "reference")
    if inspect.isclass(reference) or not callable(reference):
        told = reference.__name__ if inspect.isclass(reference) else told_of(reference)
        raise TypeError(
            f"reference={told} cannot be asked of images: give FixedReference.fit(loader), or any "
            "callable from images to scores (N, classes) or classes (N,)"
        )
    if score in WITHOUT_ONE_CLASS:
        raise ValueError(
            f"reference= is compared with the one class that a network predicts of an image, and "
            f"under score={score!r} there is none: leave it out"
        )
    found: Callable[..., Any] = reference
    return found


def compared(
    trainer: Trainer,
    pl_module: LightningModule,
    probe: Probe,
    reference: Callable[..., Any],
    seed: int,
    agreement: str,
    name: str = "",
) -> Probe:
    """The probe with what the reference predicts of it: the same on every process.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module, which the reference may share parts with.
        probe: the images.
        reference: what is asked.
        seed: of the global random generators meanwhile.
        agreement: the key that the agreement is logged under.
        name: of the probe, for messages.

    Raises:
        ConfigurationError: on every process, if it fails on any, or gives no classes.
    """
    shielded: AbstractContextManager[Any] = nullcontext()
    if isinstance(reference, nn.Module):
        shielded = untouched(reference, seed)

    def work() -> ReferenceClasses:
        with (
            unwritten(pl_module),
            untouched(pl_module, seed),
            without_logging(pl_module),
            shielded,
            torch.no_grad(),
        ):
            return _classes(probe, reference)

    own = together(trainer, work)
    # Processes may round otherwise, and tables have to be of one size.
    found: ReferenceClasses = trainer.strategy.broadcast(own, src=0)
    if len(found.named) > 1:
        # In one line: a network's own text has a line for each layer.
        is_network = isinstance(reference, nn.Module)
        told = type(reference).__name__ if is_network else setting_text(reference)
        note = f"compared with {shortened(told)}"
        return replace(probe, reference=found, notes=(*probe.notes, note))
    _say_no_value(trainer, probe, int(found.named[0]), agreement, name)
    return probe


def _say_no_value(trainer: Trainer, probe: Probe, only: int, agreement: str, name: str) -> None:
    """Warn of a reference that predicts one class of all images; raise where a value is awaited."""
    of_probe = f" {name!r}" if name else ""
    reason = (
        f"{agreement} has no value: reference= predicts class {only} of all "
        f"{len(probe.images)} images of the probe{of_probe}. Agreement beyond chance needs several "
        "classes: give a probe that has them, by dataloader= or a larger num_images="
    )
    watching = callbacks_watching(trainer, agreement)
    if watching and not is_dry_run(trainer):
        raise ConfigurationError(f"{', '.join(watching)} waits for a value. {reason}")
    if trainer.is_global_zero:
        warn(reason)


def _classes(probe: Probe, reference: Callable[..., Any]) -> ReferenceClasses:
    classes = torch.empty(len(probe.images), dtype=torch.long)
    columns: set[int | None] = set()
    device = _device_of(reference)
    for rows in probe.rows_of_blocks():
        block = probe.part(rows)
        images = block.images.to(device, copy=True)
        found, count = _checked(_asked(reference, images, moved(block.inputs, device)), images)
        classes[list(rows)] = found
        columns.add(count)
    if len(columns) > 1:
        listed = ", ".join(map(str, columns))
        raise ConfigurationError(f"reference= gave different numbers of classes: {listed}")
    return ReferenceClasses.of(classes, columns.pop())


def _device_of(reference: Any) -> torch.device:
    """That of a network's parameters; the CPU for any other callable."""
    if not isinstance(reference, nn.Module):
        return torch.device("cpu")
    tensors = chain(reference.parameters(), reference.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _asked(reference: Callable[..., Any], images: Tensor, inputs: Inputs) -> Any:
    inputs = accepted(inputs, reference)
    try:
        return called(reference, images, inputs if _takes(reference, images, inputs) else ())
    except Exception as error:  # whatever a user's callable may raise
        if is_out_of_memory(error):
            raise
        raise ConfigurationError(
            f"reference= raised {type(error).__name__}: {said_by(error)} on {told_of(images)} on "
            f"{images.device}"
        ) from error


def _takes(reference: Callable[..., Any], images: Tensor, inputs: Inputs) -> bool:
    """Whether it may be given what the network's forward takes after the images."""
    function = reference.forward if isinstance(reference, nn.Module) else reference
    try:
        called(inspect.signature(function).bind, images, inputs)
    except (TypeError, ValueError):
        return False
    return True


def _checked(found: Any, images: Tensor) -> tuple[Tensor, int | None]:
    """The classes (N,) on the CPU, and how many there are, if that is known."""
    told = f"reference= gave {told_of(found)} for {told_of(images)}"
    try:
        answer = tensor_of_reference(found, len(images)).detach().cpu()
    except TypeError as error:
        raise ConfigurationError(f"{told}; {WANTED}") from error
    except RuntimeError as error:  # such as a device that holds no numbers
        raise ConfigurationError(f"{told}; {WANTED}. {said_by(error)}") from error
    is_whole = not (answer.is_floating_point() or answer.is_complex() or answer.dtype == torch.bool)
    if answer.shape == (len(images),) and is_whole:
        if int(answer.min()) < 0:
            raise ConfigurationError(f"{told}, down to {int(answer.min())}; {WANTED} from 0 on")
        return answer.long(), None
    if answer.ndim != 2 or len(answer) != len(images) or answer.shape[1] < 2:
        raise ConfigurationError(f"{told}; {WANTED}")
    if answer.dtype == torch.bool or answer.is_complex():
        raise ConfigurationError(f"{told}; {WANTED}, whole or floating-point numbers")
    if answer.isnan().any():
        bad = int(answer.isnan().any(dim=1).sum())
        raise ConfigurationError(f"{told}, of which {bad} rows hold NaN; {WANTED}")
    return answer.argmax(dim=1), answer.shape[1]
