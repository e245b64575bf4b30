"""What evaluations will cost, told before they are paid for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.evaluation import evaluate, num_orders, plan
from aopc_monitor.monitor.measurement import FORWARDS_PER_BACKWARD_PASS, Measurement
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.network.asked import AskedNetwork, asked_for
from aopc_monitor.network.isolation import untouched

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def plan_of(
    measurements: Mapping[str, Measurement],
    range_read_off: bool,
    share: float | None = None,
    figures: bool = False,
) -> str:
    """What is measured and what it costs, in a line for people; figures cost more than that."""
    lines = []
    for name, m in measurements.items():
        line = plan(m.probe.images, m.heatmaps, m.protocol, range_read_off, m.lerf)
        line = "; ".join([line, *m.probe.notes])
        lines.append(f"{name}: {line}" if name else line)
    if share is not None:
        line = f"evaluations will take about {share:.1%} of the training time"
        lines.append(f"{line}, figures not counted" if figures else line)
    return "; ".join(lines)


@dataclass(frozen=True)
class Cost:
    """What an evaluation costs, measured on this machine.

    Attributes:
        forwards: images that an evaluation sends through the network.
        seconds: wall time of an evaluation by one process.
        step_seconds: wall time of a forward and a backward pass of the batch: a training step
            without its optimizer and its data.
        every_n_steps: steps from one evaluation to the next, if they are a fixed number.

    Example:
        >>> cost = Cost(1152, seconds=2.0, step_seconds=0.1, every_n_steps=500)
        >>> round(cost.share(), 3), cost.interval(max_overhead=0.05)
        (0.038, 380)
        >>> print(cost)
        1,152 forwards, 2 s an evaluation, the time of 20 training steps.
        Every 500 steps: 3.8% of the training time; 5% would be every 380 steps
    """

    forwards: int
    seconds: float
    step_seconds: float
    every_n_steps: int | None = None

    def share(self, every_n_steps: float | None = None) -> float:
        """Share of the training time, 0 to 1, that an evaluation every so many steps takes.

        Raises:
            ValueError: without a number of steps, neither here nor in the monitor.
        """
        steps = every_n_steps or self.every_n_steps
        if steps is None:
            raise ValueError("every_n_steps is missing: the monitor has no fixed number of them")
        return self.seconds / (self.seconds + steps * self.step_seconds)

    def interval(self, max_overhead: float = 0.05) -> int:
        """Steps from one evaluation to the next for that share of the training time."""
        return math.ceil(self.seconds * (1 / max_overhead - 1) / self.step_seconds)

    def __str__(self) -> str:
        steps, now = self.seconds / self.step_seconds, ""
        if self.every_n_steps is not None:
            now = f"Every {self.every_n_steps:,} steps: {self.share():.1%} of the training time; "
        return (
            f"{self.forwards:,} forwards, {self.seconds:.2g} s an evaluation, the time of "
            f"{steps:,.0f} training steps.\n{now}5% would be every {self.interval():,} steps"
        )


def measured(
    model: nn.Module,
    batch: Probe,
    measurement: Measurement,
    total: int,
    every_n_steps: int | None = None,
) -> Cost:
    """Time an evaluation of a few images and a step of the batch; the model is left as it was.

    Args:
        model: the network.
        batch: a training batch on the model's device.
        measurement: of the first images of the batch.
        total: size of the probe.
        every_n_steps: steps from one evaluation to the next.
    """
    part, images = measurement.probe, batch.images
    heatmaps, protocol, seed = measurement.heatmaps, measurement.protocol, measurement.seed

    def look() -> None:
        lerf, inputs = measurement.lerf, part.inputs
        evaluate(
            model, part.images, None, heatmaps, protocol, seed, lerf=lerf, inputs=inputs
        ).summary()

    def step() -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        outputs = asked(images)
        if parameters:
            torch.autograd.grad(outputs.sum(), parameters, allow_unused=True)

    with untouched(model):
        score, output_fn = protocol.score, protocol.output_fn
        found = asked_for(model, images, score, output_fn, batch.inputs).network
        asked = found if isinstance(found, AskedNetwork) else AskedNetwork(found)
        seconds, step_seconds = _seconds(look, images), _seconds(step, images)
    forwards = protocol.forwards(total, num_orders(len(heatmaps), measurement.lerf))
    return Cost(forwards, seconds * total / len(part.images), step_seconds, every_n_steps)


def _seconds(work: Callable[[], None], images: Tensor) -> float:
    work()  # the first call of anything is slow
    _finish(images)
    begin = time.perf_counter()
    work()
    _finish(images)
    return time.perf_counter() - begin


def _finish(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def expected_share(
    trainer: Trainer, every_n_steps: int | Sequence[int] | None, at_validation: bool, cost: float
) -> float | None:
    """Share of the training time that evaluations will take, from counts alone.

    Args:
        trainer: the Lightning trainer, ready to train.
        every_n_steps: the monitor's schedule.
        at_validation: whether it evaluates at validations.
        cost: of an evaluation, in forwards of one image, by all processes.

    Returns:
        0 to 1, or None if the loader does not tell how much there is to train on. A training step
        counts as three forwards of its batch.
    """
    try:
        return _expected_share(trainer, every_n_steps, at_validation, cost)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None  # a trainer of a kind that is not known here; nothing but a line depends on it


def _expected_share(
    trainer: Trainer, every_n_steps: int | Sequence[int] | None, at_validation: bool, cost: float
) -> float | None:
    batches = trainer.num_training_batches
    batch_size = _batch_size(trainer.train_dataloader)
    if batch_size is None or not math.isfinite(batches) or batches < 1:
        return None
    steps = batches / trainer.accumulate_grad_batches
    evaluations = _validations(trainer, batches) if at_validation else 0.0
    if isinstance(every_n_steps, int):
        evaluations = max(evaluations, steps / every_n_steps)
    elif every_n_steps is not None:
        epochs = max(trainer.max_epochs or 1, 1)
        evaluations += sum(step <= steps * epochs for step in every_n_steps) / epochs
    training = FORWARDS_PER_BACKWARD_PASS * batches * batch_size * trainer.world_size
    return evaluations * cost / (evaluations * cost + training)


def _validations(trainer: Trainer, batches: float) -> float:
    """Validations in an epoch."""
    if not trainer.enable_validation:
        return 0.0
    if trainer.val_check_batch is None:
        raise ValueError("validations are due by the clock")
    every = trainer.check_val_every_n_epoch
    if every is None:  # counted in batches over epochs
        return batches / float(trainer.val_check_batch)
    within = batches / trainer.val_check_batch if math.isfinite(trainer.val_check_batch) else 1.0
    return max(1.0, float(within)) / float(every)


def _batch_size(loader: Any) -> int | None:
    sampler = getattr(loader, "batch_sampler", None)
    size = getattr(loader, "batch_size", None) or getattr(sampler, "batch_size", None)
    return size if isinstance(size, int) else None


def check_max_overhead(max_overhead: Any) -> None:
    """Raise ValueError unless it is None or a share between 0 and 1."""
    if max_overhead is None:
        return
    is_number = isinstance(max_overhead, (int, float)) and not isinstance(max_overhead, bool)
    if not is_number or not 0 < max_overhead < 1:
        raise ValueError(
            f"max_overhead={max_overhead!r} must be a share of the wall time between 0 and 1, such "
            "as 0.05, or None"
        )


@dataclass
class Overhead:
    """Wall time of a run, from its start on, and what of it went into evaluations.

    Attributes:
        clock: seconds from some moment on.
        spent: seconds of evaluations and figures so far.
        last: seconds of the last evaluation.
        last_figures: seconds of the last figures.
    """

    clock: Callable[[], float] = time.perf_counter
    spent: float = 0.0
    last: float = 0.0
    last_figures: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what is done inside as an evaluation, also if it fails."""
        begin = self.clock()
        try:
            yield
        finally:
            self.last = self.clock() - begin
            self.spent += self.last

    @contextmanager
    def timed_figures(self) -> Iterator[None]:
        """Count what is done inside as figures, also if it fails."""
        begin = self.clock()
        try:
            yield
        finally:
            self.last_figures = self.clock() - begin
            self.spent += self.last_figures

    def share(self) -> float:
        """Share of the wall time so far that went into evaluations, 0 to 1."""
        elapsed = self.clock() - self.started
        return self.spent / elapsed if elapsed > 0 else 0.0

    def allows(self, seconds: float, max_overhead: float) -> bool:
        """Whether all of it stays under a share of the wall time if so many seconds are added now.

        Example:
            >>> now = [0.0]
            >>> overhead = Overhead(clock=lambda: now[0])
            >>> with overhead.timed():
            ...     now[0] += 2.0
            >>> overhead.allows(overhead.last, max_overhead=0.1)
            False
            >>> now[0] = 40.0
            >>> overhead.allows(overhead.last, max_overhead=0.1)
            True
        """
        elapsed = self.clock() - self.started
        return self.spent + seconds <= max_overhead * (elapsed + seconds)
