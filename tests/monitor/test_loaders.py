"""Which images a probe is drawn from, and that nobody notices the drawing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

from aopc_monitor.monitor.loaders import batches_of
from aopc_monitor.network.isolation import untouched

HELD_OUT = list(range(60, 100, 2))


class Numbers(Dataset[Tensor]):
    """A hundred images, each filled with its own number."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((1, 4, 4), float(index))


class EverySecond(Sampler[int]):
    """A sampler of somebody's own."""

    def __iter__(self) -> Iterator[int]:
        return iter(HELD_OUT)

    def __len__(self) -> int:
        return len(HELD_OUT)


class Pairs(BatchSampler):
    """A batch sampler of somebody's own, which Lightning makes anew with another sampler."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from ([index, 99 - index] for index in self.sampler if index < 10)


def weighted(**kwargs: Any) -> WeightedRandomSampler:
    return WeightedRandomSampler([float(i in HELD_OUT) for i in range(100)], 200, **kwargs)


def numbers(loader: Any, num_images: int = 1000) -> list[int]:
    """The images that are drawn as the monitor draws them, by their numbers."""
    with untouched(torch.nn.Identity()):
        return torch.cat(list(batches_of(loader, num_images, seed=0)))[:, 0, 0, 0].int().tolist()


SAMPLERS: dict[str, Callable[[], Any]] = {
    "subset": lambda: SubsetRandomSampler(HELD_OUT),
    "own": EverySecond,
    "weighted": weighted,
}


# What is drawn from


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_probe_holds_only_images_that_the_sampler_gives(name: str) -> None:
    loader = DataLoader(Numbers(), batch_size=8, sampler=SAMPLERS[name]())
    found = numbers(loader)
    # With replacement some may not come up.
    assert set(found) <= set(HELD_OUT) if name == "weighted" else found == HELD_OUT
    assert numbers(loader) == found
    some = numbers(loader, 8)
    assert len(some) == len(set(some)) == 8
    assert set(some) < set(HELD_OUT)


def test_a_probe_holds_only_images_that_a_batch_sampler_gives() -> None:
    found = numbers(DataLoader(Numbers(), batch_sampler=Pairs(range(100), 2, False)))
    assert found == [*range(10), *range(90, 100)]


def test_indices_of_any_kind_are_handed_on() -> None:
    class ByName(Numbers):
        def __getitem__(self, index: Any) -> Tensor:
            return super().__getitem__(int(index[1]))

    names = [("item", index) for index in HELD_OUT]
    loader: Any = DataLoader(ByName(), batch_size=4, sampler=names)  # type: ignore[arg-type]
    assert numbers(loader) == HELD_OUT


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_process_draws_the_same_probe_from_a_sampler(name: str) -> None:
    """Lightning puts a sampler of its own around it, which gives each process a part."""

    def share(rank: int) -> DataLoader[Tensor]:
        around: Any = DistributedSamplerWrapper(SAMPLERS[name](), num_replicas=2, rank=rank)
        return DataLoader(Numbers(), batch_size=8, sampler=around)

    alone = numbers(DataLoader(Numbers(), batch_size=8, sampler=SAMPLERS[name]()), 8)
    assert numbers(share(0), 8) == numbers(share(1), 8) == alone


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_process_draws_the_same_probe_from_all_images(shuffle: bool) -> None:
    def share(rank: int) -> DataLoader[Tensor]:
        part: Any = DistributedSampler(Numbers(), num_replicas=2, rank=rank, shuffle=shuffle)
        return DataLoader(Numbers(), batch_size=8, sampler=part)

    assert numbers(share(0), 8) == numbers(share(1), 8) == numbers(DataLoader(Numbers()), 8)


def test_each_process_draws_the_same_probe_from_a_batch_sampler() -> None:
    """Lightning makes one anew on each process, around a sampler of the process' part."""

    def share(rank: int) -> DataLoader[Tensor]:
        part: Any = DistributedSampler(Numbers(), num_replicas=2, rank=rank, shuffle=False)
        return DataLoader(Numbers(), batch_sampler=Pairs(part, 2, False))

    alone = numbers(DataLoader(Numbers(), batch_sampler=Pairs(range(100), 2, False)), 8)
    assert numbers(share(0), 8) == numbers(share(1), 8) == alone


def test_combined_loaders_are_drawn_from_as_their_first_one() -> None:
    loader = DataLoader(Numbers(), batch_size=8)
    assert numbers(CombinedLoader({"a": loader, "b": loader}, "sequential"), 8) == numbers(
        loader, 8
    )


def test_an_endless_batch_sampler_comes_to_an_end() -> None:
    class Endless(BatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return cycle([[1, 2], [3, 4]])

    assert numbers(DataLoader(Numbers(), batch_sampler=Endless(range(4), 2, False))) == [1, 2, 3, 4]


# How items are fetched


class ByBatch(Numbers):
    """A store that is read a batch at a time, already stacked."""

    def __getitem__(self, index: int) -> Tensor:
        raise TypeError("this store is read by batches")

    def __getitems__(self, indices: list[int]) -> Tensor:
        return torch.stack([Numbers.__getitem__(self, index) for index in indices])


class OtherwiseAlone(ByBatch):
    """What it gives for a single index is not what a loader fetches."""

    def __getitem__(self, index: int) -> Tensor:
        return Numbers.__getitem__(self, index)[None] + 0.5


class Pieces(ByBatch):
    """A list of items, to be put together by the loader."""

    def __getitems__(self, indices: list[int]) -> Any:
        return list(super().__getitems__(indices))


def same(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(ByBatch(), 8, collate_fn=same),
        DataLoader(OtherwiseAlone(), 8, collate_fn=same),
        DataLoader(Pieces(), 8),
        DataLoader(Subset(ByBatch(), list(range(100))), 8, collate_fn=same),
        DataLoader(Subset(Pieces(), range(100)), 8),
    ],
)
def test_data_sets_that_are_fetched_by_lists_of_indices(loader: Any) -> None:
    assert numbers(loader, 20) == numbers(DataLoader(Numbers(), 8), 20)


class Store(Numbers):
    """A file that only workers open."""

    file: list[float] | None = None

    def __getitem__(self, index: int) -> Tensor:
        assert self.file is not None
        return torch.full((1, 4, 4), self.file[index])


class OpenedLater(Store):
    """One whose first item opens it, in a worker."""

    def __getitem__(self, index: int) -> Tensor:
        worker: Any = get_worker_info()
        self.file = [index + 0.0 * worker.id for index in range(100)]
        return super().__getitem__(index)


class Closed(Store):
    """Readable in this process too, but not as it is in workers."""

    file: list[float] | None = [0.0] * 100


def open_file(worker: int) -> None:
    dataset: Any = get_worker_info().dataset  # type: ignore[union-attr]
    dataset.file = list(map(float, range(100)))


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(Store(), 8, num_workers=2, worker_init_fn=open_file),
        lambda: DataLoader(
            Store(), 8, num_workers=1, worker_init_fn=open_file, persistent_workers=True
        ),
        lambda: DataLoader(OpenedLater(), 8, num_workers=1),
        lambda: DataLoader(Closed(), 8, num_workers=1, worker_init_fn=open_file),
    ],
)
def test_data_sets_that_workers_open(loader: Callable[[], Any]) -> None:
    made = loader()
    state = torch.get_rng_state()
    assert numbers(made, 20) == numbers(DataLoader(Numbers(), 8), 20)
    assert torch.equal(torch.get_rng_state(), state)
    assert made._iterator is None
    assert getattr(made.dataset, "file", None) in (None, [0.0] * 100)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_no_worker_can_read_raises_its_own_error(workers: int) -> None:
    class Broken(Numbers):
        def __getitem__(self, index: int) -> Tensor:
            raise OSError("no such file")

    with pytest.raises(OSError, match=r"^no such file$"):
        numbers(DataLoader(Broken(), 8, num_workers=workers))


# That nobody notices


class Noisy(Numbers):
    """Augments by a generator that is held somewhere."""

    def __init__(self, held: Any, generator: torch.Generator) -> None:
        self.held, self.draws = held, lambda: float(torch.rand((), generator=generator))

    def __getitem__(self, index: int) -> Tensor:
        return super().__getitem__(index) + self.draws()


class Step:
    """One of several transforms, or what puts items together."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __call__(self, items: list[Tensor]) -> Tensor:
        return torch.stack(items) + torch.rand((), generator=self.generator)


class Compose:
    def __init__(self, *transforms: Any) -> None:
        self.transforms = list(transforms)


class Layer(torch.nn.Module):  # as torchvision's newer transforms are
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator


class Shuffled(BatchSampler):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(range(100), 4, False)
        self.generator = generator

    def __iter__(self) -> Iterator[list[int]]:
        yield from torch.randperm(100, generator=self.generator).view(-1, 4).tolist()


HOLDERS: dict[str, Callable[[torch.Generator], Any]] = {
    "data set": lambda g: DataLoader(Noisy(g, g), batch_size=4),
    "transform": lambda g: DataLoader(Noisy(Compose(Step(g)), g), batch_size=4),
    "sampler": lambda g: DataLoader(Numbers(), batch_size=4, sampler=weighted(generator=g)),
    "loader": lambda g: DataLoader(Numbers(), batch_size=4, shuffle=True, generator=g),
}
FURTHER_AWAY: dict[str, Callable[[torch.Generator], Any]] = {
    "transform, in a subset": lambda g: DataLoader(Subset(Noisy(Compose(Step(g)), g), range(80))),
    "transform, beside many items": lambda g: DataLoader(
        Noisy([Compose(Step(g)), *([(i,) for i in range(600)] for _ in range(2))], g)
    ),
    "transform that is a layer": lambda g: DataLoader(Noisy(Layer(g), g), batch_size=4),
    "batch sampler": lambda g: DataLoader(Numbers(), batch_sampler=Shuffled(g)),
    "collate_fn": lambda g: DataLoader(Numbers(), batch_size=4, collate_fn=Step(g)),
}


@pytest.mark.parametrize("name", [*HOLDERS, *FURTHER_AWAY])
def test_a_generator_that_training_shares_goes_on_where_it_was(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    loader = {**HOLDERS, **FURTHER_AWAY}[name](generator)
    before = generator.get_state()
    list(batches_of(loader, 8, seed=0))
    assert torch.equal(generator.get_state(), before)


class Huge(Numbers):
    def __len__(self) -> int:
        return 1_000_000_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux only")
@pytest.mark.parametrize("sampler", [SequentialSampler, RandomSampler, DistributedSampler])
def test_drawing_from_a_huge_data_set_takes_no_gigabytes(sampler: Any) -> None:
    ranks = {"num_replicas": 2, "rank": 0} if sampler is DistributedSampler else {}
    loader = DataLoader(Huge(), batch_size=4, sampler=sampler(Huge(), **ranks))
    limits: Any = importlib.import_module("resource")
    own, kept = limits.RLIMIT_AS, limits.getrlimit(limits.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits.setrlimit(own, (pages * limits.getpagesize() + 2**30, kept[1]))
    try:
        found = numbers(loader, 40)
    finally:
        limits.setrlimit(own, kept)
    assert len(set(found)) == 40
    assert max(found) > 5 * 10**8
    assert found == numbers(loader, 40)
