from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aopc_monitor.metrics.functional.subsets import random_subsets, subset_sizes
from aopc_monitor.metrics.sensitivity_n import SensitivityN
from aopc_monitor.utilities.checks import NotFiniteError
from tests.metrics.functional.test_sensitivity_n import (
    HEATMAPS,
    IMAGES,
    SETTINGS,
    found,
    network,
    seeded,
)


def test_subsets_are_uniform() -> None:
    sizes = torch.tensor([1, 3, 6, 8]).repeat(5000)
    subsets = random_subsets(sizes, 8, seeded())
    assert torch.equal(subsets.sum(dim=1), sizes)
    for size in (1, 3, 6):
        share = subsets[sizes == size].double().mean(dim=0)
        torch.testing.assert_close(share, torch.full_like(share, size / 8), rtol=0, atol=0.03)
        pairs = subsets[sizes == size].double()
        together = (pairs[:, 0] * pairs[:, 5]).mean()
        assert float(together) == pytest.approx(size * (size - 1) / 56, abs=0.03)


def test_sizes_are_spaced_evenly_in_their_logarithm() -> None:
    assert subset_sizes(1) == [1]
    assert subset_sizes(10, count=40) == list(range(1, 9))
    assert subset_sizes(50176, count=3, largest=1.0) == [1, 224, 50176]
    assert found(network(), IMAGES, HEATMAPS, n=np.array([1, 4])).sizes == (1, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n=0 must be"),
        ({"n": []}, r"n=\[\] must be"),
        ({"n": [1, 2, 2]}, "different ones"),
        ({"n": 2.5}, "n=2.5 must be"),
        ({"subsets": 2}, "subsets=2"),
        ({"region_size": 0}, "region_size=0"),
        ({"baseline": "blur"}, "baseline='blur' is unknown"),
        ({"baseline": float("nan")}, "baseline=nan is not finite"),
        ({"score": "loss"}, "score='loss' is unknown"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        found(network(), IMAGES, HEATMAPS, **changes)
    with pytest.raises(ValueError, match=message):
        SensitivityN(**{**SETTINGS, **changes})


def test_what_does_not_fit_the_images_is_named() -> None:
    with pytest.raises(ValueError, match="n=17 is more than the 16 features"):
        found(network(), IMAGES, HEATMAPS, n=[3, 17])
    with pytest.raises(ValueError, match="heatmaps has shape"):
        found(network(), IMAGES, HEATMAPS[:2])
    with pytest.raises(NotFiniteError, match="heatmaps holds NaN"):
        found(network(), IMAGES, HEATMAPS * torch.nan)
    with pytest.raises(ValueError, match="baseline has shape"):
        found(network(), IMAGES, HEATMAPS, baseline=[1.0, 2.0])
    with pytest.raises(ValueError, match="returns probabilities already"):
        found(nn.Sequential(network(), nn.Softmax(1)), IMAGES, HEATMAPS)
