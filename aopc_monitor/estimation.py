"""AOPC of a data set, from as many of its images as a wanted precision takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aopc_monitor.batches import images_of
from aopc_monitor.checks import check_images, checked_seed
from aopc_monitor.execution import Execution
from aopc_monitor.functional import AOPCResult, batch_results
from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.heatmaps.table import get_seeded
from aopc_monitor.memory import ChunkSizes
from aopc_monitor.paired import Estimate
from aopc_monitor.perturbations import DataRange
from aopc_monitor.precision import accumulator_dtype, standard_error
from aopc_monitor.processes import from_all_processes, sums_over_processes
from aopc_monitor.protocol import SUGGESTED_SAMPLED_STEPS, PerturbationProtocol, at_most
from aopc_monitor.randomness import content_of
from aopc_monitor.regions import Order
from aopc_monitor.setting_text import setting_text

Quantity = Literal["aopc", "gain"]
# Of fewer images a standard error is itself too uncertain to stop by it.
FEWEST_IMAGES = 50

# A batch is known by its content, and by how often the same had come before.
BatchKey = tuple[int, int]


@dataclass(frozen=True)
class AOPCEstimate:
    """AOPC over images of a data set, with its control and its error.

    Attributes:
        areas: by batch the area of each image, (2, n): of the heatmap, and of the random order
            under the same noise; (1, n) without the control. On the CPU.
        forwards: images that went through the network.
        settings: a text that is the same for estimates that compare.
        target_sem: the standard error that was asked for, or None.
        reached: whether it was reached before the images ended; None if none was asked for.
    """

    areas: Mapping[BatchKey, Tensor]
    forwards: int
    settings: str
    target_sem: float | None = None
    reached: bool | None = None

    @property
    def aopc(self) -> Estimate:
        """AOPC (eq. 12): mean over images, its standard error, and `z`."""
        return Estimate.of(self.per_image("aopc"))

    @property
    def gain(self) -> Estimate:
        """AOPC minus that of the random order, image by image.

        Raises:
            ValueError: if it was measured without its control.
        """
        return Estimate.of(self.per_image("gain"))

    @property
    def num_images(self) -> int:
        """Images looked at."""
        return sum(areas.shape[1] for areas in self.areas.values())

    def per_image(self, of: Quantity = "aopc") -> Tensor:
        """(N,) "aopc" or "gain" of each image, in the order in which they were looked at."""
        return torch.cat([_of(areas, of) for areas in self.areas.values()])

    def __str__(self) -> str:
        has_control = all(len(areas) == 2 for areas in self.areas.values())
        gain = f", gain {self.gain} (z = {self.gain.z:.1f})" if has_control else ""
        ending = {
            None: "",
            True: f"; a standard error of {self.target_sem} was reached",
            False: f"; the images ended before a standard error of {self.target_sem}",
        }[self.reached]
        return (
            f"AOPC {self.aopc}{gain}, of {self.num_images:,} images in {self.forwards:,} forwards"
            f"{ending}"
        )


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
            is unbiased; None for all. Few steps of many images are more precise than many
            steps of few.
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
    chunks = ChunkSizes.of(execution.chunk_size, searching=True)
    orders: tuple[Order, ...] = ("morf", "random") if control else ("morf",)

    def look(images: Tensor) -> list[AOPCResult]:
        return batch_results(model, images, made, orders, protocol, seed, chunks)

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    collection = _Collection(target_sem, sem_of)
    collection.collect(_images(batches, device, protocol), look, device)
    return collection.estimate(_comparable(protocol, seed))


def difference(a: AOPCEstimate, b: AOPCEstimate, of: Quantity = "aopc") -> Estimate:
    """How much larger `a` is than `b`, from the differences of the same images.

    Its error is much smaller than those of `a` and `b`: what the images, the sampled steps and the
    noise have to do with the size of an AOPC is the same in both.

    Args:
        a: an estimate.
        b: one of the same batches and settings, of another heatmap or network.
        of: "aopc", or "gain" for the differences of gains.

    Returns:
        The mean over the images that both have looked at, its standard error, and `z`.

    Raises:
        ValueError: if their settings differ, or they have no batch in common.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> batches = [torch.rand(64, 3, 16, 16)]
        >>> settings = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}
        >>> before = estimate_aopc(model, batches, **settings)
        >>> _ = model[1].weight.data.mul_(1.1)  # as training goes on
        >>> after = estimate_aopc(model, batches, **settings)
        >>> difference(after, before).sem < after.aopc.sem / 2
        True
    """
    if a.settings != b.settings:
        raise ValueError(
            "a and b were measured under other settings, so that their difference means nothing: "
            f"{a.settings}; {b.settings}"
        )
    common = [key for key in a.areas if key in b.areas]
    if not common:
        raise ValueError(
            f"a ({a.num_images} images) and b ({b.num_images} images) have no batch in common: "
            "measure both on the same batches in the same order, without shuffling"
        )
    return Estimate.of(torch.cat([_of(a.areas[key], of) - _of(b.areas[key], of) for key in common]))


_EXECUTION = ("chunk_size", "channels_last", "autocast", "compiled")


def _of(areas: Tensor, of: Quantity) -> Tensor:
    if of == "aopc":
        return areas[0]
    if len(areas) < 2:
        raise ValueError("the gain needs the random order: measure with control=True")
    return areas[0] - areas[1]


def _check_target(target_sem: Any, sem_of: str, control: bool) -> None:
    if target_sem is not None and not (
        isinstance(target_sem, (int, float)) and 0 < target_sem < float("inf")
    ):
        raise ValueError(f"target_sem={target_sem!r} must be a positive number, or None")
    if sem_of not in ("aopc", "gain"):
        raise ValueError(f'sem_of={sem_of!r} is unknown: choose "aopc" or "gain"')
    if sem_of == "gain" and not control:
        raise ValueError('sem_of="gain" needs control=True: the gain is over the random order')


def _comparable(protocol: PerturbationProtocol, seed: int) -> str:
    """What two estimates must share; how many images went at once is not of it."""
    values = Execution(autocast=protocol.execution.autocast)
    return setting_text((replace(protocol, execution=values), seed))


def _images(
    batches: Iterable[Any], device: torch.device, protocol: PerturbationProtocol
) -> Iterator[Tensor]:
    for number, batch in enumerate(batches):
        images = images_of(batch)
        check_images(images)
        if number == 0:
            protocol.warn_outside(images)
        # Beside the work on the last batch, where the loader pins its memory.
        yield images.to(device, non_blocking=True)


class _Collection:
    """Areas of images, until their mean is as precise as was asked for."""

    def __init__(self, target_sem: float | None, sem_of: Quantity) -> None:
        self._target_sem, self._sem_of = target_sem, sem_of
        self._areas: dict[BatchKey, Tensor] = {}
        self._forwards = 0
        self._reached = False
        self._sums = torch.zeros(3, dtype=torch.float64)  # number, sum, sum of squares

    def collect(
        self,
        images: Iterator[Tensor],
        look: Callable[[Tensor], list[AOPCResult]],
        device: torch.device,
    ) -> None:
        """Look at batches in turn; all processes stop after the same number of them."""
        has_more = True
        while has_more and not self._reached:
            error = None
            try:
                batch = next(images, None)
                if batch is not None:
                    self._add(batch, look(batch))
            except Exception as raised:  # told to the other processes first, which would wait
                error = raised
            news = [batch is not None and error is None, error is not None]
            dtype = accumulator_dtype(device)
            totals = torch.cat([self._sums, torch.tensor(news)]).to(device, dtype)
            *sums, more, failures = sums_over_processes(totals).tolist()
            if failures:
                raise error or RuntimeError("estimate_aopc failed on another process")
            has_more = more > 0
            self._reached = self._is_reached(*sums)

    def estimate(self, settings: str) -> AOPCEstimate:
        """What all processes have found."""
        areas: dict[BatchKey, Tensor] = {}
        forwards = 0
        for found, count in from_all_processes((self._areas, self._forwards)):
            forwards += count
            for (content, _), of_batch in found.items():
                areas[_key(content, areas)] = of_batch
        if not areas:
            raise ValueError("batches holds no images: AOPC needs at least one")
        reached = None if self._target_sem is None else self._reached
        return AOPCEstimate(areas, forwards, settings, self._target_sem, reached)

    def _add(self, images: Tensor, results: Sequence[AOPCResult]) -> None:
        areas = torch.stack([result.per_image for result in results]).double().cpu()
        self._areas[_key(content_of(images), self._areas)] = areas
        self._forwards += results[0].forwards
        values = _of(areas, self._sem_of)
        self._sums += torch.stack(
            [values.new_tensor(len(values)), values.sum(), values.square().sum()]
        )

    def _is_reached(self, count: float, total: float, squares: float) -> bool:
        if self._target_sem is None or count < FEWEST_IMAGES:
            return False
        sums = torch.tensor([count, total, squares], dtype=torch.float64)
        return float(standard_error(*sums)) <= self._target_sem


def _key(content: int, areas: Mapping[BatchKey, Tensor]) -> BatchKey:
    return content, sum(known == content for known, _ in areas)
