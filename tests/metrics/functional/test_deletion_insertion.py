"""Deletion and insertion: against a plain loop, and against torch-cam."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aopc_monitor.metrics import DeletionMeasure, deletion, insertion
from aopc_monitor.perturbation import Constant
from tests.metrics.functional.removals import Case, Score
from tests.metrics.functional.test_kinds import SHAPES


def area_by_loop(score: Score, order: list[int], _: int, *, steps: int, inserted: bool) -> float:
    count, area = len(order), 0.0
    size = ceil(count / steps)
    ends = [*range(0, count, size), count]
    gone = [order[end:] if inserted else order[:end] for end in ends]
    for k in range(1, len(ends)):
        width = (ends[k] - ends[k - 1]) / count
        area += width * (score(gone[k]) + score(gone[k - 1])) / 2
    return area


@pytest.mark.parametrize("steps", [1, 3, 100])
@pytest.mark.parametrize("kind", SHAPES)
def test_areas_are_those_of_a_plain_loop(kind: str, steps: int) -> None:
    case = Case(kind)
    for measure, inserted in ((deletion, False), (insertion, True)):
        result = measure(
            case.model, case.inputs, case.heatmaps, steps=steps, region_size=case.region_size
        )
        by_loop = partial(area_by_loop, steps=steps, inserted=inserted)
        expected = case.by_loop(by_loop)
        torch.testing.assert_close(result.per_image, expected, rtol=0, atol=1e-9)
        assert expected.std() > 1e-3


class Given:
    """What torch-cam's metric takes for a maker of heatmaps."""

    def __init__(self, model: nn.Module, heatmaps: Tensor) -> None:
        self.model, self.heatmaps = model, heatmaps

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:
        return [self.heatmaps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    _hooks_off = staticmethod(nullcontext)


@pytest.mark.parametrize("baseline", [0.0, 0.4])
@pytest.mark.parametrize("steps", [2, 5, 20, 1000])
@pytest.mark.parametrize("kind", ["images", "series", "volumes"])
def test_torch_cam_finds_the_same(kind: str, steps: int, baseline: float) -> None:
    metrics = pytest.importorskip("torchcam.metrics")
    case = Case(kind)
    peer = metrics.DeletionInsertionMetric(
        Given(case.model, case.heatmaps),
        partial(torch.softmax, dim=-1),
        steps=steps,
        baseline=torch.tensor(baseline),
    )
    peer.update(case.inputs)
    found = peer.summary()
    for measure, name in ((deletion, "deletion_auc"), (insertion, "insertion_auc")):
        result = measure(
            case.model,
            case.inputs,
            case.heatmaps,
            steps=steps,
            region_size=1,
            replacement=Constant(baseline),
        )
        assert float(result.mean) == pytest.approx(found[name], abs=1e-6)


@given(st.integers(1, 60), st.integers(1, 70))
@settings(max_examples=50, deadline=None)
def test_counts_are_equal_parts_and_a_rest(regions: int, steps: int) -> None:
    (counts,) = DeletionMeasure(steps).counts(torch.tensor([regions])).tolist()
    assert counts == [*range(0, regions, ceil(regions / steps)), regions]


def test_both_areas_of_a_linear_network_add_up_whatever_the_heatmap() -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).double()
    images = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    heatmaps = torch.rand(5, 4, 4)
    given: dict[str, Any] = {"region_size": 1, "steps": 5, "score": "value"}
    both = [
        measure(linear, images, heatmaps, **given).per_image for measure in (deletion, insertion)
    ]
    ends = linear(images)[:, 0] + linear(torch.zeros_like(images))[:, 0]
    torch.testing.assert_close(both[0] + both[1], ends.detach(), rtol=0, atol=1e-9)
    # The order counts all the same: the true one is the best of both.
    true = images[:, 0] * linear[1].weight.detach().view(4, 4)
    assert (deletion(linear, images, true, **given).per_image < both[0]).all()
    assert (insertion(linear, images, true, **given).per_image > both[1]).all()


def test_steps_that_there_cannot_be_are_told() -> None:
    case = Case("tables")
    with pytest.raises(ValueError, match="steps"):
        deletion(case.model, case.inputs, case.heatmaps, steps=0)
