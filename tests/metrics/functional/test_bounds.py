from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.metrics.functional.bounds import aopc_bounds
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.replacements import Constant
from tests.modules import small_network

SETTINGS: dict[str, Any] = {
    "region_size": 8, "steps": 3, "data_range": (0.0, 1.0), "replacement": Constant(0.2),
}  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def area(model: nn.Module, x: Tensor, heatmaps: Tensor) -> Tensor:
    return area_over_perturbation_curve(model, x, heatmaps, **SETTINGS).per_image


def areas_of_all_orders(model: nn.Module, x: Tensor) -> Tensor:
    """(24, N) areas: every order of the 4 regions as a heatmap."""
    return torch.stack(
        [
            area(model, x, torch.tensor(order).view(2, 2).repeat_interleave(8, 0)
                 .repeat_interleave(8, 1).float().expand(len(x), -1, -1))
            for order in permutations(range(4))
        ]
    )  # fmt: skip


def test_a_beam_that_holds_every_set_finds_the_bounds_of_all_orders() -> None:
    model, x = network(), images()
    every = areas_of_all_orders(model, x)
    bounds = aopc_bounds(model, x, beam_size=6, **SETTINGS)
    torch.testing.assert_close(bounds.lower, every.amin(dim=0), atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(bounds.upper, every.amax(dim=0), atol=1e-7, rtol=1e-5)
    normalized = bounds.normalized(every[7])
    assert ((normalized > -1e-6) & (normalized < 1 + 1e-6)).all()


def test_greedy_search_is_within_and_cheaper() -> None:
    model, x = network(), images()
    wide, greedy = (aopc_bounds(model, x, beam_size=size, **SETTINGS) for size in (6, 1))
    assert (greedy.lower >= wide.lower - 1e-9).all()
    assert (greedy.upper <= wide.upper + 1e-9).all()
    assert greedy.forwards == 4 * (1 + 2 * (4 + 3 + 2))
    assert wide.forwards > greedy.forwards


def test_images_do_not_depend_on_each_other() -> None:
    model, x = network(), images()
    together = aopc_bounds(model, x, **SETTINGS)
    alone = [aopc_bounds(model, one[None], execution=Execution(2), **SETTINGS) for one in x]
    torch.testing.assert_close(together.upper, torch.cat([b.upper for b in alone]))


def test_an_image_that_no_order_changes_has_no_share() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).requires_grad_(False)
    model[0:2][1].weight.zero_()
    bounds = aopc_bounds(model, images(), **SETTINGS)
    assert bounds.normalized(bounds.upper).isnan().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"beam_size": 0}, "beam_size=0"), ({"steps": 5}, "steps=5 is more than the 4 regions")],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        aopc_bounds(network(), images(), **{**SETTINGS, **changes})


class Painter:
    """A user's replacement that paints over what it is given."""

    is_random = fresh_each_step = False

    def __call__(
        self, images: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        return images.fill_(0.2)


def test_images_stay_whole_under_a_replacement_that_paints_over_them() -> None:
    model, x = network(), images()
    before = x.clone()
    painted = aopc_bounds(model, x, **{**SETTINGS, "replacement": Painter()})
    assert torch.equal(x, before)
    assert torch.equal(painted.upper, aopc_bounds(model, x, **SETTINGS).upper)
