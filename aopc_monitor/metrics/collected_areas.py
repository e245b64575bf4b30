"""Areas of images, batch by batch and over processes, until their mean is precise enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.utilities.distributed import from_all_processes, sums_over_processes
from aopc_monitor.utilities.randomness import content_of
from aopc_monitor.utilities.statistics import accumulator_dtype, standard_error

Quantity = Literal["aopc", "gain"]
# A batch is known by its content, and by how often the same had come before.
BatchKey = tuple[int, int]
# The standard error of fewer images is itself too uncertain to stop by it.
FEWEST_IMAGES = 50


def quantity(areas: Tensor, of: Quantity) -> Tensor:
    """(n,) "aopc" or "gain" of each image, from `AOPCEstimate.areas` of a batch."""
    if of == "aopc":
        return areas[0]
    if len(areas) < 2:
        raise ValueError("the gain needs the random order: measure with control=True")
    return areas[0] - areas[1]


class CollectedAreas:
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
        batches: Iterator[tuple[InputBatch, bool]],
        look: Callable[[InputBatch], list[AOPCResult]],
        device: torch.device,
    ) -> None:
        """Look at batches in turn; all processes stop after the same number of them.

        Args:
            batches: what each holds, and whether it counts.
            look: at a batch.
            device: where processes exchange.
        """
        has_more = True
        while has_more and not self._reached:
            found = error = None
            try:
                found = next(batches, None)
                if found is not None:
                    batch, counts = found
                    results = look(batch)
                    if counts:
                        self._add(batch.images, results)
            except Exception as raised:  # told to the other processes first, which would wait
                error = raised
            news = [found is not None and error is None, error is not None]
            dtype = accumulator_dtype(device)
            totals = torch.cat([self._sums, torch.tensor(news, device="cpu")]).to(device, dtype)
            *sums, more, failures = sums_over_processes(totals).tolist()
            if failures:
                raise error or RuntimeError("estimate_aopc failed on another process")
            has_more = more > 0
            self._reached = self._is_reached(*sums)

    def of_all_processes(self) -> tuple[Mapping[BatchKey, Tensor], int]:
        """Areas by batch (see `AOPCEstimate`) and forwards, of all processes together."""
        areas, forwards = _Areas(), 0
        for found, count in from_all_processes((self._areas.by_key, self._forwards)):
            forwards += count
            for (content, _), of_batch in found.items():
                areas.add(content, of_batch)
        if not areas.by_key:
            raise ValueError("batches holds no images: AOPC needs at least one")
        return areas.by_key, forwards

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; None if there is none."""
        return None if self._target_sem is None else self._reached

    def _add(self, images: Tensor, results: Sequence[AOPCResult]) -> None:
        areas = torch.stack([result.per_image for result in results]).double().cpu()
        self._areas.add(content_of(images), areas)
        self._forwards += results[0].forwards
        values = quantity(areas, self._sem_of)
        values = values[~values.isnan()]  # of images of which a class is explained
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
