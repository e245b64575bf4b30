"""Sensitivity-n beside its definition, one subset at a time, and beside Captum and Quantus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.metrics.functional.subsets import random_subsets
from aopc_monitor.perturbation.regions import Grid
from tests.metrics.functional.test_sensitivity_n import (
    HEATMAPS,
    IMAGES,
    SETTINGS,
    found,
    network,
    random,
    seeded,
)
from tests.reference import regions_of


def drawn(num_images: int, num_regions: int) -> Iterator[tuple[int, int, Tensor]]:
    """Image, size and subsets (S, R), drawn all at once in the order that is promised."""
    sizes = torch.tensor(SETTINGS["n"]).repeat_interleave(SETTINGS["subsets"]).repeat(num_images)
    groups = random_subsets(sizes, num_regions, seeded()).split(SETTINGS["subsets"])
    for position, group in enumerate(groups):
        yield *divmod(position, len(SETTINGS["n"])), group


def by_hand(
    model: nn.Module, image: Tensor, heatmap: Tensor, subsets: Tensor, removed: Tensor, grid: Grid
) -> tuple[list[float], list[float]]:
    """Sums of relevance and drops of the predicted logit, one subset at a time."""
    clean = model(image[None])[0]
    target, sums, drops = int(clean.argmax()), [], []
    for subset in subsets:
        perturbed, total = image.clone(), 0.0
        for region in [r for r, taken in zip(regions_of(grid), subset, strict=True) if taken]:
            perturbed[:, region[0], region[1]] = removed[:, region[0], region[1]]
            total += float(heatmap[region].double().sum())
        sums.append(total)
        drops.append(float(clean[target] - model(perturbed[None])[0, target]))
    return sums, drops


@pytest.mark.parametrize("region_size", [3, 4])
@pytest.mark.parametrize(
    "baseline", [0.0, 0.7, [0.1, -0.2, 0.3], "mean", random(3, 16, 16, seed=5)]
)
@torch.no_grad()
def test_definition_one_subset_at_a_time(region_size: int, baseline: Any) -> None:
    model, grid = network().double(), Grid((16, 16), region_size)
    images = IMAGES[:2].double()
    result = found(model, images, HEATMAPS[:2], region_size=region_size, baseline=baseline)
    for i, k, subsets in drawn(2, grid.num_regions):
        if isinstance(baseline, str):
            removed = images[i].mean(dim=(1, 2))[:, None, None].expand(3, 16, 16)
        else:
            values = torch.as_tensor(baseline, dtype=torch.double)
            removed = (values[:, None, None] if values.ndim == 1 else values).expand(3, 16, 16)
        sums, drops = by_hand(model, images[i], HEATMAPS[i], subsets, removed, grid)
        expected = np.corrcoef(sums, drops)[0, 1]
        assert float(result.correlations[i, k]) == pytest.approx(expected, abs=1e-9)
    assert result.forwards == 2 * (1 + 3 * 20)


@torch.no_grad()
def test_captum_on_the_same_subsets() -> None:
    """Captum's infidelity is a mean squared difference, and those make up a correlation."""
    infidelity = pytest.importorskip("captum.metrics").infidelity
    model, images = network().double(), IMAGES[:2].double()
    result = found(model, images, HEATMAPS[:2], region_size=1)
    for i, k, subsets in drawn(2, 256):
        # What captum takes for the perturbation is what it weighs the attributions with.
        masks = subsets.view(-1, 1, 16, 16).double()
        target = int(model(images[i : i + 1]).argmax())

        def error(
            heatmap: Tensor, i: int = i, masks: Tensor = masks, target: int = target
        ) -> float:
            attribution = heatmap.double().expand(1, 3, 16, 16) / 3
            spread = masks.expand(-1, 3, -1, -1)
            each = infidelity(
                model, lambda x: (spread, x * (1 - masks)), images[i : i + 1], attribution,
                target=target, n_perturb_samples=len(masks),
            )  # fmt: skip
            return float(each)

        heatmap = HEATMAPS[i].double()
        sums = (masks[:, 0] * heatmap).sum(dim=(1, 2))
        squares = error(torch.zeros(16, 16))
        product = (error(-heatmap) - error(heatmap)) / 4
        # A relevance of 1/n everywhere sums to 1 in every subset.
        mean = (
            squares + 1 - error(torch.full((16, 16), 1 / SETTINGS["n"][k], dtype=torch.double))
        ) / 2
        spread_of_both = (squares - mean**2) ** 0.5 * float(sums.std(correction=0))
        expected = (product - float(sums.mean()) * mean) / spread_of_both
        assert float(result.correlations[i, k]) == pytest.approx(expected, abs=1e-6)


def test_quantus_on_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its faithfulness correlation is this for one n; its "SensitivityN" is something else."""
    quantus = pytest.importorskip("quantus")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    images, heatmaps = random(3, 1, 8, 8), random(3, 8, 8, seed=1)
    target = model(images).argmax(dim=1)
    result = found(model, images, heatmaps, n=9, subsets=20, region_size=1, baseline=0.25)
    subsets = random_subsets(torch.full((60,), 9), 64, seeded()).view(3, 20, 64)
    order = iter(subsets.transpose(0, 1).flatten(0, 1))
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(order).nonzero()[:, 0].numpy())
    peer = quantus.FaithfulnessCorrelation(
        nr_runs=20, subset_size=9, normalise=False, perturb_baseline=0.25, return_aggregate=False,
        disable_warnings=True,
    )  # fmt: skip
    theirs = peer(
        model=model, x_batch=images.numpy(), y_batch=target.numpy(),
        a_batch=heatmaps[:, None].numpy(), softmax=False,
    )  # fmt: skip
    np.testing.assert_allclose(result.per_image.numpy(), theirs, atol=1e-5)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(random(5, 3, 16, 16, seed=7).double())

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.weight) + 3


@pytest.mark.parametrize("baseline", [0.0, 0.7, "mean", [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("region_size", [1, 4])
def test_contributions_to_a_linear_model_foretell_it_exactly(
    region_size: int, baseline: Any
) -> None:
    model, images = Linear(), IMAGES.double()
    target = model(images).argmax(dim=1)
    reference = torch.tensor(baseline).view(-1, 1, 1) if baseline != "mean" else None
    difference = images - (images.mean((2, 3), True) if reference is None else reference)
    heatmaps = (model.weight[target] * difference).sum(dim=1).detach()
    regions = Grid((16, 16), region_size).num_regions
    result = found(
        model, images, heatmaps, n=range(1, regions, 1 + regions // 16), subsets=10,
        region_size=region_size, baseline=baseline,
    )  # fmt: skip
    torch.testing.assert_close(result.correlations, torch.ones_like(result.correlations))
    again = found(model, images, -heatmaps, n=3, baseline=baseline, region_size=region_size)
    torch.testing.assert_close(again.mean, torch.tensor(-1.0).double())
