"""Taking batches from a loader without its sampler, workers or random generators noticing."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from aopc_monitor.network.snapshot import Snapshot

# Small enough for a backward pass on any device. The blocks are what processes share among them
# and what noise is drawn for, so the size is part of the result and not a setting.
BLOCK_SIZE = 16
# Beyond this many items a permutation of all of them takes gigabytes.
MOST_PERMUTED = 10_000_000


def first_loader(loaders: Any) -> Any:
    """The first of several loaders in a list, tuple, dict or Lightning's combination of these."""
    while True:
        if type(loaders).__name__ == "CombinedLoader":
            loaders = loaders.iterables
        if not isinstance(loaders, (list, tuple, Mapping)):
            return loaders
        if not loaders:
            return None
        loaders = next(iter(loaders.values() if isinstance(loaders, Mapping) else loaders))


def batches_of(loader: Tensor | Iterable[Any], num_images: int, seed: int) -> Iterator[Any]:
    """Batches with at least so many images, if there are, the same for the same seed.

    From a tensor, or a `DataLoader` over a data set with a length, items are drawn at random from
    those that its sampler would give, and fetched and put together as the loader does it: in this
    process, or by workers of its own where the loader's prepare the data set, or this process
    cannot read it. Any other loader is iterated from its start.

    Args:
        loader: a loader of batches, or the images themselves, (N, C, H, W).
        num_images: how many.
        seed: which ones.
    """
    if isinstance(loader, Tensor):
        yield loader[_drawn(len(loader), num_images, seed)]
        return
    if type(loader).__name__ == "CombinedLoader":
        loader = first_loader(loader)
    dataset: Any = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    by_items = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    # An iterable data set has __getitem__ too, which only raises.
    by_items = by_items and not isinstance(dataset, IterableDataset)
    with _generators_kept(loader, dataset):
        if not by_items or collate is None or getattr(loader, "batch_sampler", None) is None:
            yield from _copy_of(loader)
            return
        items = _items(loader, dataset)
        parts = _drawn(len(items), num_images, seed).split(BLOCK_SIZE)
        yield from _fetched(loader, [[items[int(i)] for i in part] for part in parts if len(part)])


@contextmanager
def _generators_kept(loader: Any, dataset: Any) -> Iterator[None]:
    """A data set may augment, and a sampler shuffle, by a generator that training shares."""
    parts = ("sampler", "batch_sampler", "collate_fn", "generator")
    kept = Snapshot.of_generators(dataset, *(getattr(loader, part, None) for part in parts))
    try:
        yield
    finally:
        kept.restore()


def _copy_of(loader: Any, **changes: Any) -> Any:
    """A loader whose iterator is not the one that the trainer goes on with."""
    if not isinstance(loader, DataLoader):
        return loader
    copied: Any = copy.copy(loader)
    vars(copied).update(_iterator=None, persistent_workers=False, **changes)
    return copied


def _fetched(loader: Any, parts: Sequence[list[Any]]) -> Iterator[Any]:
    """The batches of these indices, fetched and put together as the loader would."""
    has_workers = isinstance(loader, DataLoader) and loader.num_workers > 0
    if has_workers and _prepares_workers(loader):
        yield from _by_workers(loader, parts)
        return
    for number, part in enumerate(parts):
        try:
            batch = loader.collate_fn(_items_at(loader.dataset, part))
        except Exception as error:  # a file that each worker opens for itself, for instance
            if not has_workers:
                raise
            try:
                yield from _by_workers(loader, parts[number:])
            except Exception:  # then it is not for want of workers
                raise error from None
            return
        yield batch


def _items_at(dataset: Any, indices: list[Any]) -> Any:
    """Items as torch's loaders fetch them: all at once from a data set that can."""
    fetch = getattr(dataset, "__getitems__", None)
    return fetch(indices) if fetch else [dataset[index] for index in indices]


def _by_workers(loader: Any, parts: Sequence[list[Any]]) -> Any:
    """The loader with workers of its own and with these batches."""
    return _copy_of(loader, batch_sampler=parts, num_workers=min(loader.num_workers, len(parts)))


def _prepares_workers(loader: Any) -> bool:
    """Whether its workers begin with something of the user's, such as the opening of a file."""
    begin = loader.worker_init_fn
    # Lightning puts one that seeds the generators there.
    return begin is not None and "lightning" not in getattr(begin, "func", begin).__module__


def _items(loader: Any, dataset: Any) -> Sequence[Any]:
    """Indices of the items that the loader's sampler would give, in a fixed order."""
    batch_sampler = loader.batch_sampler
    while hasattr(batch_sampler, "_batch_sampler"):  # Lightning's, which remembers indices
        batch_sampler = batch_sampler._batch_sampler
    sampler = _of_all_processes(getattr(batch_sampler, "sampler", None), dataset)
    if type(batch_sampler) is not BatchSampler:  # one of the user's may leave items out
        batch_sampler = copy.copy(batch_sampler)
        if sampler is not None:
            batch_sampler.sampler = sampler
        indices = (index for batch in batch_sampler for index in batch)
        return _without_repeats(islice(indices, len(dataset)))
    if isinstance(sampler, SubsetRandomSampler):
        return _without_repeats(sampler.indices)
    if isinstance(sampler, (range, SequentialSampler, RandomSampler)):
        return range(len(dataset))
    return _without_repeats(islice(sampler, len(dataset)))


def _of_all_processes(sampler: Any, dataset: Any) -> Any:
    """The sampler that Lightning has put one of each process' part around, or in the place of."""
    while isinstance(sampler, DistributedSampler):
        sampler = getattr(sampler.dataset, "_sampler", range(len(dataset)))
    return sampler


def _without_repeats(indices: Iterable[Any]) -> list[Any]:
    found = list(dict.fromkeys(int(i) if isinstance(i, Tensor) else i for i in indices))
    return sorted(found) if all(isinstance(index, int) for index in found) else found


def _drawn(total: int, num_images: int, seed: int) -> Tensor:
    # At random: data sets are often sorted by class, and then the first images are all of one.
    if total > MOST_PERMUTED:
        chosen = Random(seed).sample(range(total), min(num_images, total))
        return torch.tensor(sorted(chosen))
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(total, generator=generator)[:num_images].sort().values
