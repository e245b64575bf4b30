"""Reaches hold all that a change of the images can change, and patches what they are made of."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from aopc_monitor.network.backends.patches.reach import FAR, Reach, Window


@st.composite
def windows(draw: st.DrawFn) -> Window:
    numbers = st.integers(1, 4)
    size, dilation = draw(numbers), draw(st.integers(1, 3))
    return Window(size, draw(numbers), dilation, draw(st.integers(0, (size - 1) * dilation)))


def outputs_of(window: Window, inputs: torch.Tensor) -> torch.Tensor:
    kernel = torch.arange(1.0, window.size + 1).view(1, 1, -1)
    how = (window.stride, window.padding, window.dilation)
    return F.conv1d(inputs.view(1, 1, -1), kernel, None, *how)[0, 0]


@given(length=st.integers(13, 24), size=st.integers(1, 5), first=windows(), second=windows())
def test_what_changes_lies_in_the_reach(
    length: int, size: int, first: Window, second: Window
) -> None:
    reach, inputs = Reach.of_images(length, size), torch.arange(1.0, length + 1)
    if first.outputs(length) < second.span:
        return
    reaches = [reach, reach.through(first), reach.through(first).through(second)]
    for place in range(len(reach.first)):
        changed = inputs.clone()
        changed[place : place + size] += 1000
        ends = [inputs, changed]
        for window, of in zip((first, second), reaches[1:], strict=True):
            ends = [outputs_of(window, values) for values in ends]
            assert len(ends[0]) == of.length
            (differ,) = torch.where(ends[0] != ends[1])
            begins, patch_ends = of.start[place], of.start[place] + of.size
            assert 0 <= begins <= of.first[place]
            assert of.end[place] <= patch_ends <= of.length
            assert all(of.first[place] <= one < of.end[place] for one in differ.tolist())


@given(length=st.integers(13, 24), size=st.integers(1, 5), window=windows())
def test_a_patch_is_made_of_these_inputs(length: int, size: int, window: Window) -> None:
    values = torch.arange(1.0, length + 1)
    reach = Reach.of_images(length, size).through(window)
    positions, has_outside = reach.inputs(window, length)
    assert has_outside == (positions == FAR).any()
    alone = Window(window.size, 1 if window.size == 1 else window.stride, window.dilation)
    for place, start in enumerate(reach.start):
        taken = [0.0 if one == FAR else float(values[one]) for one in positions[place]]
        found = outputs_of(alone, torch.tensor(taken))
        assert found.equal(outputs_of(window, values)[start : start + reach.size])


def test_reaches_of_several_maps_are_joined() -> None:
    images = Reach.of_images(9, 2)
    wide = images.through(Window(3, padding=1))
    both = wide.joined(images)
    assert both.has_patches_of(wide)
    assert not both.has_patches_of(images)
    assert images.joined(images) is images
    moved = images.moved(2, 1)
    assert moved is images.moved(2, 1)
    assert moved.length == 12
    assert (moved.start == images.start + 2).all()
    assert not moved.has_patches_of(images)


@given(length=st.integers(13, 24), window=windows())
def test_outputs_of_pooling_with_ceil_mode(length: int, window: Window) -> None:
    if 2 * window.padding > window.size:
        return
    how = (window.size, window.stride, window.padding, window.dilation, True)
    found = F.max_pool1d(torch.zeros(1, 1, length), *how).shape[2]
    assert dataclasses.replace(window, is_ceil=True).outputs(length) == found
