"""ReLU behind a layer with a stabiliser: the same relevance as by the two one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor.heatmaps import LRP, LRPEpsilon, check, epsilon_rule, linear, lrp_rules
from aopc_monitor.heatmaps.rules.stabilizer import damp, damp_rectified
from aopc_monitor.heatmaps.rules.table import Rules

Way = Callable[[Tensor], Tensor]


def by_itself(call: Any, mode: Any) -> Any:
    return call.run()


def used_before(z: Tensor) -> Tensor:
    other = z * 0.5
    return F.relu(z, inplace=True) + other


def used_as_a_list_before(z: Tensor) -> Tensor:
    both = torch.cat([z, z], dim=1)
    z.relu_()
    return torch.cat([both, z], dim=1)[:, -4:] + both[:, :4]


def written_afterwards(z: Tensor) -> Tensor:
    a = torch.relu(z)
    a += z
    return a


WAYS: dict[str, Way] = {
    "function": torch.relu,
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "used before": used_before,
    "used as a list before": used_as_a_list_before,
    "used afterwards": lambda z: torch.relu(z) + z,
    "twice": lambda z: torch.relu(z) - 0.3 * torch.relu(z),
    "written before": lambda z: torch.relu(z.add_(0.1)),
    "through a view": lambda z: z.flatten(1).relu_().view_as(z) + z,
}


class Block(nn.Module):
    def __init__(self, way: Way, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        if isinstance(self.norm, nn.BatchNorm2d):
            nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
            nn.init.normal_(self.norm.running_mean)
        self.second, self.last, self.way = nn.Conv2d(4, 4, 3), nn.Linear(4, 5), way

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.way(self.norm(self.first(images)))
        scores: Tensor = self.last(self.way(self.second(hidden)).mean(dim=(2, 3)))
        return scores


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_relevance_is_that_of_both_by_themselves(way: str, norm: bool) -> None:
    torch.manual_seed(0)
    network, images = Block(WAYS[way], norm).eval(), torch.randn(2, 3, 6, 6)
    apart: Rules = {**lrp_rules(), "relu": by_itself}
    expected = LRP(rules=apart)(network, images)
    largest = float(expected.abs().max())
    found = LRPEpsilon()(network, images)
    # Where several take z, their signals are added up in another order.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * largest)
    assert largest > 0


def test_what_is_written_over_later_is_kept() -> None:
    """As plain gradients do not allow."""
    torch.manual_seed(0)
    network, images = Block(written_afterwards, norm=False).eval(), torch.randn(2, 3, 6, 6)
    found = LRPEpsilon()(network, images)
    network.way = WAYS["used afterwards"]
    assert torch.equal(found, LRPEpsilon()(network, images))


def test_a_stabilizer_of_the_users_own_is_kept_as_well() -> None:
    torch.manual_seed(0)
    network, images = Block(nn.ReLU(), norm=False).eval(), torch.randn(2, 3, 6, 6)
    found = []
    for epsilon in (0.01, 5.0):
        rules: Rules = {"conv2d": linear(epsilon_rule, epsilon=epsilon)}
        found.append(LRP(rules=rules)(network, images))
        apart = LRP(rules={**rules, "relu": by_itself})(network, images)
        torch.testing.assert_close(found[-1], apart, rtol=1e-6, atol=0)
    assert found[1].abs().sum() < 0.5 * found[0].abs().sum()


def test_a_report_calls_it_its_gradient() -> None:
    network = Block(nn.ReLU(), norm=False).eval()
    report = check(network, torch.randn(2, 3, 6, 6), LRPEpsilon())
    assert "its gradient" in str(report)
    assert not report.problems


@pytest.mark.parametrize("inplace", [False, True])
def test_less_memory_is_taken_than_by_both_by_themselves(inplace: bool) -> None:
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(4 * 36, 3))
    ).eval()
    images = torch.randn(2, 3, 8, 8)

    def copies(rules: Rules) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            LRP(rules=rules)(network, images, torch.tensor([0, 1]))
        kinds = ("aten::clone", "aten::abs")
        return sum(event.count for event in seen.key_averages() if event.key in kinds)

    assert copies({}) < copies({"relu": by_itself})


def test_the_share_of_a_rectified_output_is_that_of_any_other() -> None:
    signal, outputs = torch.randn(50), torch.randn(50).relu()
    assert torch.equal(damp_rectified(signal, outputs, 0.1), damp(signal, outputs, 0.1))
    wide = damp_rectified(signal.double(), outputs, 0.1)
    assert wide.dtype == torch.float64
