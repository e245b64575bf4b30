"""Signals have on a device the values that they have on a CPU, and stay on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import metrics
from tests.gpu.conftest import Within

SOURCE = torch.Generator().manual_seed(0)
A, B = torch.randint(5, (2, 300), generator=SOURCE)
LOGITS = 3 * torch.randn(300, 5, generator=SOURCE, dtype=torch.float64)
FEATURES, TRAINING = torch.randn(2, 300, 16, generator=SOURCE)
RATES = LOGITS.softmax(dim=1)

CALLS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "contingency": (metrics.contingency, (A, B)),
    "cohen_kappa": (metrics.cohen_kappa, (A, B)),
    "cohen_kappa_standard_error": (metrics.cohen_kappa_standard_error, (A, B)),
    "mutual_information": (metrics.mutual_information, (A, B)),
    "disagreement": (metrics.disagreement, (A, B)),
    "confidence": (metrics.confidence, (RATES,)),
    "negative_entropy": (metrics.negative_entropy, (RATES,)),
    "nuclear_norm": (metrics.nuclear_norm, (RATES,)),
    "mano": (metrics.mano, (LOGITS,)),
    "cot": (metrics.cot, (RATES, A)),
    "nearest_labels": (metrics.nearest_labels, (FEATURES, TRAINING, A)),
    "heatmap_persistence": (metrics.heatmap_persistence, (FEATURES, TRAINING)),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_are_those_of_a_cpu(name: str, device: torch.device, within: Within) -> None:
    if name == "cot":
        pytest.importorskip("scipy")
    function, given = CALLS[name]
    found = function(*(value.to(device) for value in given))
    assert found.device.type == device.type
    within(float((found.cpu() - function(*given)).abs().max()), 1e-10)


def test_agreement_and_survival_follow_the_images(device: torch.device, within: Within) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).double()
    images, heatmaps = torch.rand(2, 40, 1, 8, 8, dtype=torch.float64)
    how = {"region_size": 2, "steps": 8, "replacement": "mean"}
    found = []
    for where in (torch.device("cpu"), device):
        agreement = metrics.Agreement(lambda x: x.flatten(1)[:, :5], num_classes=5).to(where)
        agreement.update(model.to(where), images.to(where))
        kept = metrics.survival(model, images.to(where), heatmaps[:, 0].to(where), **how)
        assert agreement.compute().device.type == kept.gap.device.type == where.type
        found.append((agreement.compute(), kept.morf.mean(), kept.lerf.mean()))
    within(max(abs(float(a) - float(b)) for a, b in zip(*found, strict=True)), 1e-6)
