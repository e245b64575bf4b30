"""The box of what differs is the smallest there is, for any numbers in the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.network.backends.patches.changed_box import ChangedBox

LAST: dict[str, Any] = {"memory_format": torch.channels_last}


@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_the_smallest_box(sides: tuple[int, int, int], seed: int) -> None:
    height, width, channels = sides
    generator = torch.Generator().manual_seed(seed)
    before = torch.rand(3, channels, height, width, generator=generator).contiguous(**LAST)
    differ = torch.rand(before.shape, generator=generator) < 0.05
    now = torch.where(differ, before + 1, before).contiguous(**LAST)
    box = ChangedBox.between(before, now)
    sizes = []
    for image, (top, left) in enumerate(zip(box.top, box.left, strict=True)):
        rows, columns = torch.where(differ[image].any(dim=0))
        if len(rows):
            assert (top, left) == (rows.min(), columns.min())
            sizes.append((rows.max() - top + 1, columns.max() - left + 1))
        else:
            sizes.append((1, 1))
    assert box.size == tuple(map(max, zip(*sizes, strict=True)))


@pytest.mark.parametrize(("was", "is_now", "rows"), [(torch.nan, torch.nan, 1), (0.0, -0.0, 2)])
def test_bits_are_compared(was: float, is_now: float, rows: int) -> None:
    before = torch.full((1, 3, 8, 8), was).contiguous(**LAST)
    now = before.clone()
    now[:, :, 4:6] = is_now
    assert ChangedBox.between(before, now).size[0] == rows


def test_boxes_stay_inside_the_images() -> None:
    before = torch.zeros(2, 1, 8, 8).contiguous(**LAST)
    now = before.clone()
    now[0, 0, 7, 7] = now[1, 0, 0, 2] = 1.0
    top, left = ChangedBox.between(before, now).places((3, 2), (8, 8))
    assert (top.tolist(), left.tolist()) == ([5, 0], [6, 2])
