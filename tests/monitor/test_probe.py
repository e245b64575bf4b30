from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from aopc_monitor.monitor.batch_reading import BatchReading
from aopc_monitor.monitor.collection import collect_probe
from aopc_monitor.monitor.loaders import first_loader
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.utilities.batches import BatchFormError

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
    seen = [b.images for rank in range(world_size) for b in probe.blocks(rank, world_size)]
    assert sorted(torch.cat(seen)[:, 0, 0, 0].tolist()) == list(range(100))
    alone = {tuple(block.images[:, 0, 0, 0].tolist()) for block in probe.blocks()}
    assert {tuple(block[:, 0, 0, 0].tolist()) for block in seen} == alone


def test_first_loader() -> None:
    assert first_loader({"a": ["x", "y"]}) == "x"
    assert first_loader([]) is None
    assert first_loader(None) is None


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([], ValueError, "gave no batch"),
        (DataLoader(TensorDataset(IMAGES[:0])), ValueError, "gave no batch"),
        ([{"name": 1}], BatchFormError, "keys 'name': a int: give images_fn="),
        (["text"], BatchFormError, "a batch that is a str"),
        ([IMAGES[:2], IMAGES[:2, :, :3]], ValueError, "differ in shape"),
        ([torch.zeros(4, *[2] * 5)], ValueError, r"images has shape \(4, 2, 2, 2, 2, 2\)"),
        ([torch.zeros(2, 3, 4, 4, dtype=torch.uint8)], TypeError, "images is torch.uint8"),
    ],
)
def test_what_gives_no_images_is_named(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        collect_probe(source, 4)


def test_functions_find_the_rest() -> None:
    reading = BatchReading(lambda batch: batch["scan"], lambda batch: batch["meta"]["class"])
    batch = {"scan": IMAGES, "meta": {"class": LABELS[:, None]}}
    probe = collect_probe([batch], 3, reading=reading)
    assert torch.equal(probe.images, IMAGES[:3])
    assert probe.labels is not None
    assert probe.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (
            BatchReading(lambda batch: batch["scan"]),
            "raised KeyError: 'scan' for a batch",
        ),
        (BatchReading(labels_fn=lambda batch: batch[1][:3]), r"labels_fn gave \(3,\) int64"),
        (BatchReading(labels_fn=lambda batch: batch[1] + 0.5), "is not taken for labels: wanted"),
    ],
)
def test_functions_that_find_something_else_are_told(reading: Any, message: str) -> None:
    scans: list[Any] = [{"image": IMAGES}] if reading.images_fn else [(IMAGES, LABELS)]
    with pytest.raises(BatchFormError, match=message):
        collect_probe(scans, 4, reading=reading)


def test_what_was_taken_for_labels_is_told() -> None:
    assert collect_probe([(IMAGES, LABELS)], 100).notes == ("labels from batch[1] (int64, 0 to 9)",)
    (note,) = collect_probe([(IMAGES, torch.rand(100, 5))], 100).notes
    assert note == "batch[1] ((100, 5) float32) is not taken for labels"
    assert collect_probe([IMAGES], 100).notes == ()


def test_labels_are_taken_for_what_they_are_over_all_batches() -> None:
    # In the first batch alone these rows of independent labels look like one-hot ones.
    rows = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    batches = [(IMAGES[:2], rows[:2]), (IMAGES[2:4], rows[2:])]
    probe = collect_probe(batches, 4)
    assert probe.labels is not None
    assert torch.equal(probe.labels, rows.bool())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_valid_is_left_out_and_counted(bad: float) -> None:
    images = IMAGES.clone()
    images[3, 0, 0, 0] = images[50, 2, 3, 3] = bad
    probe = collect_probe([(images, LABELS)], 60)
    assert len(probe.images) == 58
    assert torch.isfinite(probe.images).all()
    assert probe.labels is not None
    assert torch.equal(probe.images[:, 0, 0, 0].long() // 10, probe.labels)
    assert "left out, with NaN or infinite values: 2 images" in probe.notes


def test_a_batch_without_a_valid_image_is_left_out_and_a_whole_probe_raises() -> None:
    bad = torch.full_like(IMAGES[:4], torch.nan)
    assert torch.equal(collect_probe([bad, IMAGES[:4]], 8).images, IMAGES[:4])
    with pytest.raises(ValueError, match="all 4 images of the probe hold NaN"):
        collect_probe([bad], 8)


def test_images_of_a_subclass_become_plain() -> None:
    class Kept(torch.Tensor):
        pass

    probe = collect_probe([(IMAGES.as_subclass(Kept), LABELS.as_subclass(Kept))], 4)
    assert type(probe.images) is torch.Tensor
    assert probe.labels is not None
    assert type(probe.labels) is torch.Tensor
    assert len(probe.fingerprint) == 16


def test_fewer_images_than_asked_for_is_told() -> None:
    assert collect_probe([IMAGES[:7]], 20).notes == ("no more than 7 images, where num_images=20",)
