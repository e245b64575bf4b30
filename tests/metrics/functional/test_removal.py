"""Several measures at once: they share forwards and draws; networks, targets and bad input."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import Execution, area_over_perturbation_curve
from aopc_monitor.metrics import (
    ComprehensivenessMeasure,
    DeletionMeasure,
    FidelityMinusMeasure,
    FidelityPlusMeasure,
    InsertionMeasure,
    RemovalMeasure,
    SaCoMeasure,
    SufficiencyMeasure,
    deletion,
    removal_measures,
)
from aopc_monitor.perturbation import Constant
from tests.metrics.functional.removals import Case
from tests.modules import small_network

ALL: list[RemovalMeasure] = [
    DeletionMeasure(steps=4),
    FidelityPlusMeasure(draws=3),
    InsertionMeasure(steps=4),
    ComprehensivenessMeasure(shares=(0.5,)),
    SufficiencyMeasure(shares=(0.25, 0.5)),
    SaCoMeasure(groups=4),
    FidelityMinusMeasure(draws=3),
]
IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def test_together_they_find_what_each_finds_alone() -> None:
    model, heatmaps = network(), IMAGES.mean(dim=1)
    given: dict[str, Any] = {"region_size": 4, "replacement": "blur"}
    together = removal_measures(model, IMAGES, heatmaps, ALL, **given)
    for measure, result in zip(ALL, together, strict=True):
        if not measure.draws:
            (alone,) = removal_measures(model, IMAGES, heatmaps, [measure], **given)
            torch.testing.assert_close(result.per_image, alone.per_image, rtol=0, atol=1e-6)
            torch.testing.assert_close(result.scores, alone.scores, rtol=0, atol=1e-6)
    # 16 regions: 4, 8, 12, 16 first ones; all but 0, 4, 8, 12, of which all but 0 are all; the 8
    # and the 4, 8 of the shares come again, and so do the first and the last group of 4; two more.
    random = 2 * 5 * 3
    assert together[0].forwards == 5 * (1 + 4 + 3 + 2 + random)


def test_a_full_removal_is_shared_by_deletion_and_insertion() -> None:
    case = Case("images")
    both = removal_measures(
        case.model, case.inputs, case.heatmaps, [DeletionMeasure(), InsertionMeasure()],
        region_size=1,
    )  # fmt: skip
    parts = both[0].scores.shape[1]
    assert both[0].forwards == len(case.inputs) * (1 + 2 * parts - 1)
    assert torch.equal(both[0].scores[:, -1], both[1].scores[:, 0])


def test_deletion_in_single_steps_is_the_curve_of_aopc() -> None:
    model, heatmaps = network(), IMAGES.mean(dim=1)
    given: dict[str, Any] = {"region_size": 4, "replacement": Constant(0.3), "steps": 16}
    curves = area_over_perturbation_curve(model, IMAGES, heatmaps, **given).curves
    found = deletion(model, IMAGES, heatmaps, **given)
    torch.testing.assert_close(found.scores, curves[:, 1:], rtol=0, atol=1e-6)
    areas = torch.trapezoid(curves, dx=1 / 16, dim=1)
    torch.testing.assert_close(found.per_image, areas, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_the_chunk_size_changes_nothing(chunk_size: int) -> None:
    model, heatmaps = network(), IMAGES.mean(dim=1)
    noise: dict[str, Any] = {"region_size": 4, "replacement": "uniform", "data_range": (0.0, 1.0)}
    usual = removal_measures(model, IMAGES, heatmaps, ALL, **noise, repeats=2)
    parts = removal_measures(
        model, IMAGES, heatmaps, ALL, **noise, repeats=2, execution=Execution(chunk_size)
    )
    for one, other in zip(usual, parts, strict=True):
        torch.testing.assert_close(one.per_image, other.per_image, rtol=0, atol=1e-6)


def test_a_network_is_left_as_it_was() -> None:
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    removal_measures(model, IMAGES, IMAGES.mean(dim=1), ALL, region_size=4)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_each_label_of_an_image_is_explained_by_itself() -> None:
    model = network()
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])
    labels = torch.nn.functional.pad(labels, (0, model(IMAGES).shape[1] - 3))
    heatmaps, target = IMAGES.mean(dim=1), labels.bool()
    found = removal_measures(model, IMAGES, heatmaps, ALL[:1], region_size=4, target=target)[0]
    assert found.per_image.isnan().tolist() == [False, True, False, False, False]
    alone = [
        float(deletion(model, IMAGES[:1], heatmaps[:1], steps=4, region_size=4,
                       target=torch.tensor([label])).mean)
        for label in (0, 2)
    ]  # fmt: skip
    assert float(found.per_image[0]) == pytest.approx(sum(alone) / 2, abs=1e-6)
    kept = found.per_image[~found.per_image.isnan()]
    assert float(found.mean) == pytest.approx(float(kept.mean()))
    assert float(found.sem) == pytest.approx(float(kept.std() / 2))
    nothing = torch.zeros_like(target)
    none = removal_measures(model, IMAGES, heatmaps, ALL, region_size=4, target=nothing)
    assert all(result.per_image.isnan().all() for result in none)


class MeetingImages(nn.Module):
    """A network whose answer to an image depends on the others of its batch."""

    def forward(self, images: Tensor) -> Tensor:
        own = images.flatten(1).mean(dim=1)
        return torch.stack([own, 2 * own - own.mean()], dim=1)


def test_images_that_meet_go_on_meeting_the_same_ones() -> None:
    images, model = IMAGES[:, :1], MeetingImages()
    found = deletion(model, images, images[:, 0], steps=4, region_size=4, score="logit")
    regions = images.view(5, 4, 4, 4, 4).mean(dim=(2, 4)).flatten(1)
    target = model(images).argmax(dim=1)
    order = regions.argsort(dim=1, descending=True)
    for k in range(1, 5):
        gone = torch.zeros(5, 16).scatter(1, order[:, : 4 * k], 1.0).view(5, 1, 4, 4)
        mask = gone.repeat_interleave(4, 2).repeat_interleave(4, 3)
        scores = model(images * (1 - mask)).gather(1, target[:, None])[:, 0]
        torch.testing.assert_close(found.scores[:, k - 1].float(), scores, rtol=0, atol=1e-6)


def test_a_single_image_has_no_standard_error_and_no_warning() -> None:
    found = deletion(network(), IMAGES[:1], IMAGES[:1].mean(dim=1), region_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.sem.isnan()


def test_measures_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="measures is empty"):
        removal_measures(network(), IMAGES, IMAGES.mean(dim=1), [], region_size=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"region": 4}, "region=4 is unknown here: choose of region_size"),
        ({"region_size": 99}, "region_size=99 does not fit"),
        ({"region_size": 4, "replacement": "uniform"}, "data_range"),
        ({"region_size": 4, "heatmaps": IMAGES}, "heatmaps"),
    ],
)
def test_what_does_not_fit_is_told(wrong: dict[str, Any], message: str) -> None:
    given = {"heatmaps": IMAGES.mean(dim=1), **wrong}
    with pytest.raises((TypeError, ValueError), match=message):
        deletion(network(), IMAGES, **given)
