"""Targets of batches and of metrics: AOPC and estimates over images of several labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aopc_monitor import AOPC, area_over_perturbation_curve, difference, estimate_aopc
from aopc_monitor.metrics import SymmetricRelevanceGain
from tests.modules import small_network

SETTINGS: dict[str, Any] = {
    "region_size": 4, "steps": 6, "data_range": (0.0, 1.0), "score": "sigmoid",
}  # fmt: skip
IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.rand(8, 4, generator=torch.Generator().manual_seed(1)) > 0.5
LABELS[~LABELS.any(dim=1), 0] = True
LABELS[2] = False


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


@pytest.mark.parametrize("metric", [AOPC, SymmetricRelevanceGain])
@pytest.mark.parametrize("relative", [False, True])
def test_images_without_a_label_are_left_out_and_counted(metric: Any, relative: bool) -> None:
    model, found = network(), metric("lrp", relative=relative, **SETTINGS)
    found.update(model, IMAGES, target=LABELS)
    assert int(found.left_out) == 1
    assert int(found.count) == 7
    others = [0, 1, 3, 4, 5, 6, 7]
    # Noise depends on the batch, so that another batch is one of other noise.
    again = metric("lrp", relative=relative, replacement="mean", **SETTINGS)
    again.update(model, IMAGES, target=LABELS)
    wanted = metric("lrp", relative=relative, replacement="mean", **SETTINGS)
    for n in others:
        wanted.update(model, IMAGES[n : n + 1], target=LABELS[n : n + 1])
    torch.testing.assert_close(again.compute(), wanted.compute())
    torch.testing.assert_close(again.curve(), wanted.curve())
    torch.testing.assert_close(again.standard_error(), wanted.standard_error())
    wanted.update(model, IMAGES[2:3], target=LABELS[2:3])
    assert int(wanted.left_out) == 1
    torch.testing.assert_close(again.compute(), wanted.compute())


def test_each_label_has_its_own_heatmap() -> None:
    model, metric = network(), AOPC("gradient_x_input", replacement="mean", **SETTINGS)
    metric.update(model, IMAGES, target=LABELS)
    by_hand = []
    for n, row in enumerate(LABELS):
        areas = []
        for k in row.nonzero()[:, 0].tolist():
            one = AOPC("gradient_x_input", replacement="mean", **SETTINGS)
            one.update(model, IMAGES[n : n + 1], target=torch.tensor([k]))
            areas.append(float(one.compute()))
        by_hand += [sum(areas) / len(areas)] if areas else []
    assert float(metric.compute()) == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)


def test_a_target_of_the_metric_and_one_of_a_batch() -> None:
    model = network()
    least: Any = lambda outputs: outputs.argmin(dim=1)  # noqa: E731
    by_metric, by_batch = AOPC("lrp", target=least, **SETTINGS), AOPC("lrp", **SETTINGS)
    by_metric.update(model, IMAGES)
    by_batch.update(model, IMAGES, target=model(IMAGES).argmin(dim=1))
    assert by_metric.compute() == by_batch.compute()
    by_metric.reset()
    by_metric.update(model, IMAGES, target="predicted")
    predicted = AOPC("lrp", target="predicted", **SETTINGS)
    predicted.update(model, IMAGES)
    assert by_metric.compute() == predicted.compute()
    with pytest.raises(ValueError, match="merge_state: the other AOPC was measured under other"):
        by_batch.merge_state(predicted)
    with pytest.raises(ValueError, match=r"target=\(8, 4\) is no way to choose targets"):
        AOPC("lrp", target=LABELS, **SETTINGS)  # type: ignore[arg-type]


def test_estimates_leave_out_what_has_no_label() -> None:
    model = network()

    def chosen(outputs: torch.Tensor) -> torch.Tensor:
        above = outputs > outputs.median(dim=0).values
        return above & (torch.arange(len(outputs)) != 3)[:, None]

    each = chosen(model(IMAGES))
    missing = int((~each.any(dim=1)).sum())
    assert 0 < missing < 8
    estimate = estimate_aopc(model, [IMAGES], target=chosen, **SETTINGS)
    assert estimate.left_out == missing
    assert estimate.num_images == 8 - missing
    assert estimate.per_image().shape == (8,)
    assert f"of {8 - missing} images ({missing} left out, without a label) in" in str(estimate)
    result = area_over_perturbation_curve(model, IMAGES, IMAGES[:, 0], target=each, **SETTINGS)
    assert torch.equal(result.per_image.isnan(), estimate.per_image().isnan())
    assert estimate.forwards == 8 + 2 * 4 * int(each.sum())
    other = estimate_aopc(model, [IMAGES], "random", target=chosen, **SETTINGS)
    assert difference(estimate, other).sem > 0
    with pytest.raises(ValueError, match="measured under other settings"):
        difference(estimate, estimate_aopc(model, [IMAGES], **SETTINGS))


def test_a_precision_is_reached_by_what_has_a_label() -> None:
    model, batches = network(), [torch.rand(32, 3, 16, 16) for _ in range(4)]

    def half(outputs: torch.Tensor) -> torch.Tensor:
        likeliest = torch.eye(4)[outputs.argmax(dim=1)].bool()
        return likeliest & (torch.arange(len(outputs)) % 2 == 0)[:, None]

    estimate = estimate_aopc(model, batches, target=half, target_sem=1.0, **SETTINGS)
    assert estimate.reached
    assert (estimate.num_images, estimate.left_out) == (64, 64)
