"""AOPC of a data set, from as many of its images as a wanted precision takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.aopc_estimate import AOPCEstimate, BatchKey, Quantity, quantity
from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.metrics.functional.aopc import AOPCResult, batch_results
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.protocol import (
    SUGGESTED_SAMPLED_STEPS,
    PerturbationProtocol,
    at_most,
)
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.perturbation.replacements import DataRange
from aopc_monitor.precision import accumulator_dtype, standard_error
from aopc_monitor.utilities.batches import images_of
from aopc_monitor.utilities.checks import checked_images, checked_seed
from aopc_monitor.utilities.distributed import from_all_processes, sums_over_processes
from aopc_monitor.utilities.randomness import content_of
from aopc_monitor.utilities.setting_text import setting_text

# Of fewer images a standard error is itself too uncertain to stop by it.
FEWEST_IMAGES = 50


_OF_PROTOCOL = ("replacement", "repeats", "score")
_EXECUTION = ("chunk_size", "channels_last", "autocast", "compiled")


def estimate_aopc(
    model: nn.Module,
    batches: Iterable[Any],
    heatmap: str | Heatmap = "lrp",
    *,
    region_size: int,
    steps: int,
    data_range: DataRange,
    sampled_steps: int | None = SUGGESTED_SAMPLED_STEPS,
    target_sem: float | None = None,
    sem_of: Quantity = "aopc",
    control: bool = True,
    seed: int = 0,
    **choices: Any,
) -> AOPCEstimate:
    """AOPC of the images of a loader, with its random control; of no more than precision takes.

    Ties, sampled steps and noise depend on the seed and on the batch alone. So two estimates of the
    same batches, of another heatmap or at another checkpoint, differ by what is to be compared
    and not by chance: `difference` tells by how much.

    If torch's distributed package is initialised, each process gives batches of its own, and all
    get the estimate over all of them; all call this function.

    Args:
        model: network that returns (N, classes); left as it was.
        batches: batches of images (N, C, H, W), alone or with labels, which are not used: a loader
            that does not shuffle. Batches go to the device of the model.
        heatmap: a name from `heatmaps.names()` or a callable (model, images, target) -> (N, H, W).
        region_size: side of the square regions in pixels.
        steps: L, how many regions are perturbed.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel; for normalised images see `normalized_data_range`.
        sampled_steps: J, how many of the steps are evaluated for each image, drawn so that the AOPC
            is unbiased; None for all. The usual 4 are lowered where there are fewer steps. Few
            steps of many images are more precise than many steps of few.
        target_sem: the standard error at which no more images are taken, 50 at least; all images
            if not given.
        sem_of: whose error that is: "aopc", or "gain" for that over the random order.
        control: whether the random order is evaluated too, at as many forwards again.
        seed: seed of ties, sampled steps and noise.
        choices: `replacement`, `repeats` and `score` as in `AOPC`; `chunk_size`, `channels_last`,
            `autocast` and `compiled` too.

    Returns:
        An `AOPCEstimate`; printed, it tells AOPC, gain, images, forwards, and whether the target
        was reached.

    Raises:
        ValueError: for impossible values, or no images.
        TypeError: for an argument that does not exist, or batches without images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> batches = [torch.rand(64, 3, 16, 16) for _ in range(4)]
        >>> estimate = estimate_aopc(
        ...     model, batches, region_size=4, steps=8, data_range=(0.0, 1.0), target_sem=0.1)
        >>> estimate.num_images, estimate.reached
        (64, True)
    """
    _check_target(target_sem, sem_of, control)
    for name in choices:
        if name not in (*_OF_PROTOCOL, *_EXECUTION):
            raise TypeError(f"estimate_aopc() got an unexpected keyword argument {name!r}")
    execution = Execution(**{name: choices.pop(name) for name in _EXECUTION if name in choices})
    protocol = PerturbationProtocol(
        region_size,
        steps,
        data_range,
        sampled_steps=at_most(steps, sampled_steps),
        execution=execution,
        **choices,
    )
    made = with_data_range(get_seeded(heatmap, checked_seed(seed)), data_range)
    sizes = ChunkSizesByNetwork(execution.chunk_size)
    orders: tuple[Order, ...] = ("morf", "random") if control else ("morf",)

    def look(images: Tensor) -> list[AOPCResult]:
        return batch_results(model, images, made, orders, protocol, seed, sizes)

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    collection = _Collection(target_sem, sem_of)
    collection.collect(_images(batches, device, protocol), look, device)
    return collection.estimate(setting_text((protocol.comparable(), seed)))


def _check_target(target_sem: Any, sem_of: str, control: bool) -> None:
    is_number = isinstance(target_sem, Real) and not isinstance(target_sem, bool)
    if target_sem is not None and not (is_number and 0 < target_sem < float("inf")):
        raise ValueError(f"target_sem={target_sem!r} must be a positive number, or None")
    if sem_of not in ("aopc", "gain"):
        raise ValueError(f'sem_of={sem_of!r} is unknown: choose "aopc" or "gain"')
    if sem_of == "gain" and not control:
        raise ValueError('sem_of="gain" needs control=True: the gain is over the random order')


def _images(
    batches: Iterable[Any], device: torch.device, protocol: PerturbationProtocol
) -> Iterator[Tensor]:
    for number, batch in enumerate(batches):
        images = images_of(batch, "give batches of one of these kinds")
        images = checked_images(images)
        if number == 0:
            protocol.warn_outside(images)
        yield images.to(device, non_blocking=True)


class _Collection:
    """Areas of images, until their mean is as precise as was asked for."""

    def __init__(self, target_sem: float | None, sem_of: Quantity) -> None:
        self._target_sem, self._sem_of = target_sem, sem_of
        self._areas = _Areas()
        self._forwards = 0
        self._reached = False
        # Number, sum, sum of squares.
        self._sums = torch.zeros(3, dtype=torch.float64, device="cpu")

    def collect(
        self,
        images: Iterator[Tensor],
        look: Callable[[Tensor], list[AOPCResult]],
        device: torch.device,
    ) -> None:
        """Look at batches in turn; all processes stop after the same number of them."""
        has_more = True
        while has_more and not self._reached:
            batch = error = None
            try:
                batch = next(images, None)
                if batch is not None:
                    self._add(batch, look(batch))
            except Exception as raised:  # told to the other processes first, which would wait
                error = raised
            news = [batch is not None and error is None, error is not None]
            dtype = accumulator_dtype(device)
            totals = torch.cat([self._sums, torch.tensor(news, device="cpu")]).to(device, dtype)
            *sums, more, failures = sums_over_processes(totals).tolist()
            if failures:
                raise error or RuntimeError("estimate_aopc failed on another process")
            has_more = more > 0
            self._reached = self._is_reached(*sums)

    def estimate(self, settings: str) -> AOPCEstimate:
        """What all processes have found."""
        areas, forwards = _Areas(), 0
        for found, count in from_all_processes((self._areas.by_key, self._forwards)):
            forwards += count
            for (content, _), of_batch in found.items():
                areas.add(content, of_batch)
        if not areas.by_key:
            raise ValueError("batches holds no images: AOPC needs at least one")
        reached = None if self._target_sem is None else self._reached
        return AOPCEstimate(areas.by_key, forwards, settings, self._target_sem, reached)

    def _add(self, images: Tensor, results: Sequence[AOPCResult]) -> None:
        areas = torch.stack([result.per_image for result in results]).double().cpu()
        self._areas.add(content_of(images), areas)
        self._forwards += results[0].forwards
        values = quantity(areas, self._sem_of)
        self._sums += torch.stack(
            [values.new_tensor(len(values)), values.sum(), values.square().sum()]
        )

    def _is_reached(self, count: float, total: float, squares: float) -> bool:
        if self._target_sem is None or count < FEWEST_IMAGES:
            return False
        sums = torch.tensor([count, total, squares], dtype=torch.float64, device="cpu")
        return float(standard_error(*sums)) <= self._target_sem


class _Areas:
    """Areas by batch; one that comes again has a key of its own."""

    def __init__(self) -> None:
        self.by_key: dict[BatchKey, Tensor] = {}
        self._times: Counter[int] = Counter()

    def add(self, content: int, areas: Tensor) -> None:
        """Add a batch of this content."""
        self.by_key[content, self._times[content]] = areas
        self._times[content] += 1
