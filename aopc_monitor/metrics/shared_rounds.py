"""Batches of several processes, so that all ask a sharded model as often as each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from aopc_monitor.network.further_inputs import selected
from aopc_monitor.network.sharded import is_first_copy, is_sharded
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.utilities.distributed import are_several, from_all_processes, own_rank


def rounds_of(
    model: nn.Module, batches: Iterator[InputBatch], device: torch.device
) -> Iterator[tuple[InputBatch, bool]]:
    """Batches, and whether they count; of a sharded model as many on each process."""
    if are_several() and is_sharded(model):
        return in_equal_rounds(batches, is_first_copy(model), device)
    return ((batch, True) for batch in batches)


def in_equal_rounds(
    batches: Iterator[InputBatch], counts: bool, device: torch.device
) -> Iterator[tuple[InputBatch, bool]]:
    """Batches of the same size on all processes in each round, and whether they count.

    A process that has no batch of a size, or none any more, is given other images in its place: in
    the forwards of a sharded model all wait for each other.

    Args:
        batches: those of this process.
        counts: whether it is the one that counts of those that hold parts of the same layers.
        device: where they are.

    Raises:
        RuntimeError: if taking a batch failed on another process; here its own error.
    """
    last: InputBatch | None = None
    while True:
        batch, error = None, None
        try:
            batch = next(batches, None)
        except Exception as caught:  # whatever a user's loader may raise
            error = caught
        news = from_all_processes((error is not None, 0 if batch is None else len(batch.images)))
        if any(failed for failed, _ in news):
            raise error or RuntimeError("taking a batch failed on another process")
        sizes = sorted({size for _, size in news if size})
        if not sizes:
            return
        last = _some_batch(last if batch is None else batch).to(device)
        for size in sizes:
            if batch is not None and len(batch.images) == size:
                yield batch, counts
            else:
                yield _of_size(last, size), False


def _some_batch(own: InputBatch | None) -> InputBatch:
    """Its own, or that of another process for one that never had any."""
    lacking = from_all_processes(own is None)
    if not any(lacking):
        return own  # type: ignore[return-value]
    giving = lacking.index(False)
    gives = own is not None and giving == own_rank()
    given = from_all_processes(own.to(torch.device("cpu")) if own is not None and gives else None)
    found: InputBatch = given[giving] if own is None else own
    return found


def _of_size(batch: InputBatch, size: int) -> InputBatch:
    """So many rows of a batch, some of them again if it has fewer."""
    rows = torch.arange(size, device=batch.images.device) % len(batch.images)
    words = None if batch.words is None else batch.words[rows]
    return InputBatch(batch.images[rows], selected(batch.inputs, size, rows), words)
