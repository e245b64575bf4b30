from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from aopc_monitor.monitor.loaders import first_loader
from aopc_monitor.monitor.probe import Probe, collect_probe, images_of, labels_of

IMAGES = torch.arange(100.0).view(100, 1, 1, 1).expand(100, 3, 4, 4).clone()
LABELS = torch.arange(100) // 10


def test_probe_is_drawn_over_the_whole_set_and_always_the_same() -> None:
    # Sorted by class, as image folders are, and shuffled anew by its loader.
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=7, shuffle=True)
    state = torch.get_rng_state()
    first, second = collect_probe(loader, 40), collect_probe(loader, 40)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.images, second.images)
    assert first.labels is not None
    assert len(first.labels.unique()) == 10
    assert torch.equal(first.images[:, 0, 0, 0].long() // 10, first.labels)
    other = collect_probe(loader, 40, seed=1)
    assert not torch.equal(first.images, other.images)


def test_fewer_images_than_wanted_are_all_taken() -> None:
    probe = collect_probe(DataLoader(TensorDataset(IMAGES), batch_size=8), 1000)
    assert torch.equal(probe.images, IMAGES)
    assert probe.labels is None


def test_streams_are_read_from_their_start() -> None:
    class Stream(IterableDataset[Any]):
        def __len__(self) -> int:
            return 100

        def __iter__(self) -> Iterator[Any]:
            yield from zip(IMAGES, LABELS, strict=True)

    probe = collect_probe(DataLoader(Stream(), batch_size=8), 20)
    assert torch.equal(probe.images, IMAGES[:20])
    listed = collect_probe([IMAGES[:8], IMAGES[8:16]], 12)
    assert torch.equal(listed.images, IMAGES[:12])


def test_images_themselves_and_transfer() -> None:
    drawn = collect_probe(IMAGES, 5).images[:, 0, 0, 0]
    assert len(drawn.unique()) == 5
    assert drawn.max() > 20
    halved = collect_probe([IMAGES], 5, transfer=lambda batch: batch / 2)
    assert torch.equal(halved.images, IMAGES[:5] / 2)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_blocks_share_all_images_among_processes(world_size: int) -> None:
    probe = Probe(IMAGES, LABELS)
    seen = [block for rank in range(world_size) for block, _ in probe.blocks(rank, world_size)]
    assert sorted(torch.cat(seen)[:, 0, 0, 0].tolist()) == list(range(100))
    alone = {tuple(block[:, 0, 0, 0].tolist()) for block, _ in probe.blocks()}
    assert {tuple(block[:, 0, 0, 0].tolist()) for block in seen} == alone


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, LABELS),
        [IMAGES],
        {"image": IMAGES, "label": LABELS},
        {"pixel_values": IMAGES},
        ((IMAGES, "other view"), LABELS),
    ],
)
def test_images_are_found(batch: Any) -> None:
    assert images_of(batch) is IMAGES


def test_labels_are_found_only_where_they_are_labels() -> None:
    assert labels_of((IMAGES, LABELS), 100) is LABELS
    assert labels_of({"y": LABELS}, 100) is LABELS
    assert labels_of((IMAGES, torch.zeros(100, 10)), 100) is None
    assert labels_of((IMAGES, torch.zeros(100)), 100) is None
    assert labels_of(IMAGES, 100) is None


def test_first_loader() -> None:
    assert first_loader({"a": ["x", "y"]}) == "x"
    assert first_loader([]) is None
    assert first_loader(None) is None


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([], ValueError, "gave no batch"),
        (DataLoader(TensorDataset(IMAGES[:0])), ValueError, "gave no batch"),
        ([{"name": 1}], TypeError, "a dict with the keys name: give images_fn="),
        (["text"], TypeError, "a batch that is a str"),
        ([IMAGES[:2], IMAGES[:2, :, :3]], ValueError, "differ in shape"),
        ([torch.zeros(4, 4)], ValueError, r"images has shape \(4, 4\)"),
        ([torch.zeros(2, 3, 4, 4, dtype=torch.uint8)], TypeError, "images is torch.uint8"),
    ],
)
def test_what_gives_no_images_is_named(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        collect_probe(source, 4)


def test_images_fn_finds_the_rest() -> None:
    probe = collect_probe([{"scan": IMAGES}], 3, images_fn=lambda batch: batch["scan"])
    assert torch.equal(probe.images, IMAGES[:3])
