"""What is taken from a batch for images and for labels, and what is said of what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aopc_monitor.utilities.batches import (
    BatchFormError,
    class_labels,
    concatenated,
    images_of,
    labels_of,
)
from aopc_monitor.utilities.checks import plain_tensor

IMAGES = torch.rand(6, 3, 4, 4)
CLASSES = torch.tensor([0, 3, 1, 2, 3, 0])


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, CLASSES),
        [IMAGES],
        {"image": IMAGES, "label": CLASSES},
        {"pixel_values": IMAGES},
        {"inputs": {"image": IMAGES}, "y": CLASSES},
        {"x": torch.rand(6, 5), "img": IMAGES},
        {"image": ["a.png"], "input": [IMAGES, IMAGES]},
        ((IMAGES, "other view"), CLASSES),
    ],
)
def test_images_are_found(batch: Any) -> None:
    assert images_of(batch) is IMAGES


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            (torch.arange(6), IMAGES, CLASSES),
            r"\(6,\) int64, an index or a label; .*perhaps lambda batch: batch\[1\]",
        ),
        ({"x": torch.rand(6, 5), "scan": IMAGES}, r"perhaps lambda batch: batch\['scan'\]"),
        ({"a": IMAGES, "b": IMAGES}, r"keys 'a': \(6, 3, 4, 4\) float32; 'b': .*H, W\)\. Looked"),
        (CLASSES, r"that is \(6,\) int64, an index or a label: give images_fn="),
        ("text", "that is a str"),
        ([], "a list of nothing"),
    ],
)
def test_batches_without_images_are_told_by_what_they_hold(batch: Any, message: str) -> None:
    with pytest.raises(BatchFormError, match=message):
        images_of(batch)


@pytest.mark.parametrize(
    ("batch", "place"),
    [
        ((IMAGES, CLASSES), "batch[1]"),
        ({"image": IMAGES, "y": CLASSES}, "batch['y']"),
        ({"image": IMAGES, "label_idx": CLASSES}, "batch['label_idx']"),
        ({"label": CLASSES, "coarse_label": 2 * CLASSES}, "batch['label']"),
        ([IMAGES, CLASSES.tolist()], "batch[1]"),
    ],
)
def test_where_labels_are_looked_for(batch: Any, place: str) -> None:
    found = labels_of(batch, 6)
    assert found is not None
    assert found[1] == place
    assert concatenated([found[0]]).tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES,),
        {"fine_label": CLASSES, "coarse_label": CLASSES},
        (IMAGES, torch.tensor(3)),
        (IMAGES, {"id": 3}),
        (IMAGES, CLASSES[:4]),
        (IMAGES, "abcdef"),
    ],
)
def test_where_no_labels_are(batch: Any) -> None:
    assert labels_of(batch, 6) is None


@pytest.mark.parametrize(
    ("batch", "place"),
    [
        ({"data": {"scan": IMAGES, "meta": {"id": 1}}, "y": CLASSES}, "batch['data']['scan']"),
        ([CLASSES, {"views": [IMAGES, "left"]}], "batch[1]['views'][0]"),
    ],
)
def test_images_further_down_are_suggested(batch: Any, place: str) -> None:
    with pytest.raises(BatchFormError) as found:
        images_of(batch)
    assert f", perhaps lambda batch: {place}. Looked for" in str(found.value)
    assert images_of(eval(f"(lambda batch: {place})")(batch)) is IMAGES


def test_a_loader_of_labels_alone_is_told_of_dataloader() -> None:
    with pytest.raises(BatchFormError, match=r"H, W\), or dataloader=, a loader that has images"):
        images_of([CLASSES])


ONE_HOT = torch.nn.functional.one_hot(CLASSES, 4)


@pytest.mark.parametrize(
    "entry",
    [
        CLASSES,
        CLASSES.int(),
        CLASSES.byte(),
        CLASSES.float(),
        CLASSES.half(),
        CLASSES[:, None],
        CLASSES[:, None].double(),
        ONE_HOT,
        ONE_HOT.float(),
        ONE_HOT.bool(),
        CLASSES.numpy(),
        CLASSES.tolist(),
        [np.int64(label) for label in CLASSES],
    ],
)
def test_class_labels_of_all_kinds(entry: Any) -> None:
    found = class_labels(entry)
    assert found is not None
    assert found[0].dtype == torch.int64
    assert found[0].tolist() == CLASSES.tolist()


def test_binary_and_independent_labels() -> None:
    binary = class_labels(torch.tensor([True, False]))
    assert binary is not None
    assert binary[0].tolist() == [1, 0]
    several = class_labels(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert several is not None
    assert several[0].tolist() == [[True, True, False], [False, False, False]]
    assert several[1] == "3 independent labels"
    one_each = class_labels(ONE_HOT, "independent")
    assert one_each is not None
    assert one_each[0].tolist() == ONE_HOT.bool().tolist()
    assert one_each[1] == "4 independent labels"


@pytest.mark.parametrize(
    "entry",
    [
        torch.tensor([0.2, 1.0]),  # two labels mixed into one
        torch.tensor([[0.3, 0.7], [1.0, 0.0]]),
        torch.tensor([float("nan"), 1.0]),
        torch.tensor([[2, 0], [0, 1]]),
        torch.zeros(2, 4, 4),
        torch.zeros(0),
        ["cat", "dog"],
        [{"id": 1}, {"id": 2}],
    ],
)
def test_what_cannot_be_labels(entry: Any) -> None:
    assert class_labels(entry) is None


class Kept(Tensor):
    """Survives operations, as the images of MONAI and fastai do."""


def test_tensors_of_subclasses_become_plain_and_share_memory() -> None:
    kept = torch.rand(2, 3).as_subclass(Kept)
    assert type(kept + 1) is Kept
    plain = plain_tensor(kept)
    assert type(plain) is Tensor
    assert plain.data_ptr() == kept.data_ptr()
    assert plain_tensor(plain) is plain


def test_a_table_is_found_where_nothing_else_may_be_images() -> None:
    table, labels = torch.rand(4, 6), torch.arange(4)
    assert images_of([table, labels]) is table
    assert images_of({"x": table, "y": labels}) is table
    # Boxes beside an image under a key that is not known are none.
    with pytest.raises(BatchFormError, match=r"perhaps lambda batch: batch\['scan'\]"):
        images_of({"x": table, "scan": torch.rand(4, 3, 8, 8)})
    with pytest.raises(BatchFormError, match="no images were found"):
        images_of([labels, table])
