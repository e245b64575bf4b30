from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import Execution, area_over_perturbation_curve
from aopc_monitor.metrics import Survival, survival
from aopc_monitor.perturbation import Constant
from tests.modules import small_network

COUNT, SIZE, STEPS = 6, 8, 7
SETTINGS: dict[str, Any] = {"region_size": 2, "steps": STEPS, "data_range": (0.0, 1.0)}


def network() -> nn.Module:
    torch.manual_seed(3)
    return small_network().eval()


def images(channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(COUNT, channels, size, size, generator=torch.Generator().manual_seed(0))


def relevance(size: int = 16) -> Tensor:
    return torch.randn(COUNT, size, size, generator=torch.Generator().manual_seed(1))


def linear(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, classes)).eval()


def kept(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs.argmax(dim=1) == target).double()


def slowly(model: nn.Module, x: Tensor, heatmaps: Tensor, least_first: bool) -> list[float]:
    """Image by image, region by region."""
    found = []
    for image, heatmap in zip(x, heatmaps, strict=True):
        cells = [(r, c) for r in range(0, SIZE, 2) for c in range(0, SIZE, 2)]
        of_cells = {(r, c): float(heatmap[r : r + 2, c : c + 2].sum()) for r, c in cells}
        cells.sort(key=of_cells.__getitem__, reverse=not least_first)
        perturbed, survived, predicted = image.clone(), 0, int(model(image[None]).argmax())
        for r, c in cells[:STEPS]:
            perturbed[:, r : r + 2, c : c + 2] = 0.25
            survived += int(model(perturbed[None]).argmax()) == predicted
        found.append(survived / STEPS)
    return found


def test_shares_are_those_of_a_plain_loop() -> None:
    model, x = linear(), images(1, SIZE)
    heatmaps = relevance(SIZE)
    found = survival(model, x, heatmaps, region_size=2, steps=STEPS, replacement=Constant(0.25))
    assert found.morf.tolist() == pytest.approx(slowly(model, x, heatmaps, least_first=False))
    assert found.lerf.tolist() == pytest.approx(slowly(model, x, heatmaps, least_first=True))
    assert torch.equal(found.gap, found.lerf - found.morf)
    assert 0 < float(found.morf.mean()) < 1


@pytest.mark.parametrize("sampled_steps", [None, 2, 4])
@pytest.mark.parametrize("repeats", [1, 3])
def test_it_is_aopc_of_decisions(sampled_steps: int | None, repeats: int) -> None:
    """In all orders, under the same noise and steps: the mean over 1 ... L, and not 0 ... L."""
    how = {**SETTINGS, "sampled_steps": sampled_steps, "repeats": repeats}
    found = survival(network(), images(), relevance(), **how)
    for order in ("morf", "random", "lerf"):
        area = area_over_perturbation_curve(
            network(), images(), relevance(), **how, order=order, score=kept
        ).per_image
        expected = 1 - area * (STEPS + 1) / STEPS
        torch.testing.assert_close(getattr(found, order), expected, rtol=0, atol=1e-10)


def test_a_heatmap_turned_over_changes_the_ends() -> None:
    found = survival(network(), images(), relevance(), **SETTINGS)
    turned = survival(network(), images(), -relevance(), **SETTINGS)
    assert torch.equal(found.morf, turned.lerf)
    assert torch.equal(found.random, turned.random)
    assert torch.equal(found.gap, -turned.gap)
    scaled = survival(network(), images(), 7 * relevance() + 2, **SETTINGS)
    assert torch.equal(found.morf, scaled.morf)


def test_shares_lie_between_0_and_1_and_a_network_that_never_changes_its_mind_has_1() -> None:
    found = survival(network(), images(), relevance(), **SETTINGS)
    for of_order in (found.morf, found.random, found.lerf):
        assert of_order.shape == (COUNT,)
        assert ((of_order >= 0) & (of_order <= 1)).all()
    sure = network()
    sure[-1].bias.data[0] += 1e3
    found = survival(sure, images(), relevance(), **SETTINGS)
    assert [float(x.mean()) for x in (found.morf, found.random, found.lerf)] == [1, 1, 1]


def test_a_network_of_one_number_has_its_sign_for_a_class() -> None:
    one, x, how = linear(1), images(1, SIZE), {"region_size": 2, "steps": STEPS}
    with torch.no_grad():
        one[1].bias -= one(x).median()
    two = linear(2)
    two[1].weight.data = torch.cat([-one[1].weight.data, one[1].weight.data])
    two[1].bias.data = torch.cat([-one[1].bias.data, one[1].bias.data])
    found = survival(one, x, relevance(SIZE), **how, replacement="mean", score="sigmoid")
    expected = survival(two, x, relevance(SIZE), **how, replacement="mean")
    assert torch.equal(found.morf, expected.morf)
    assert torch.equal(found.lerf, expected.lerf)
    assert 0 < float(found.random.mean()) < 1


def test_model_and_global_random_numbers_are_left_alone() -> None:
    model = network().train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    survival(model, images(), relevance(), **SETTINGS)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_chunks_change_nothing() -> None:
    usual = survival(network(), images(), relevance(), **SETTINGS)
    found = survival(network(), images(), relevance(), **SETTINGS, execution=Execution(5))
    assert isinstance(found, Survival)
    assert torch.equal(found.random, usual.random)


@pytest.mark.parametrize("score", ["value", "segmentation"])
def test_scores_without_a_class_are_refused(score: Any) -> None:
    with pytest.raises(ValueError, match=f"score='{score}': an image has no one predicted class"):
        survival(network(), images(), relevance(), **SETTINGS, score=score)


def test_one_number_whose_meaning_is_not_told_is_refused() -> None:
    with pytest.raises(ValueError, match="one number"):
        survival(
            linear(1),
            images(1, SIZE),
            relevance(SIZE),
            **SETTINGS,
            score=lambda outputs, target: outputs[:, 0],
        )


def test_bad_input_is_named() -> None:
    with pytest.raises(TypeError, match="model is a Tensor"):
        survival(images(), images(), relevance(), **SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heatmaps has shape"):
        survival(network(), images(), relevance(8), **SETTINGS)
