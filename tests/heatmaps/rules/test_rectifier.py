"""ReLU behind a layer with a stabiliser: the same relevance as by the two one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor.heatmaps import LRP, LRPEpsilon, check, epsilon_rule, linear, lrp_rules
from aopc_monitor.heatmaps.rules.stabilizer import damp, damp_rectified
from aopc_monitor.heatmaps.rules.table import Rules
from aopc_monitor.network.layout import suits_channels_last

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


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z * 2

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:  # type: ignore[override]
        return signal * 2


class RectifiedInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        z.relu_()
        z.mul_(2)
        ctx.mark_dirty(z)
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * signal * (ctx.saved_tensors[0] > 0)


def traced_double() -> Way:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
        traced: Way = torch.jit.trace(lambda z: z * 2.0, torch.ones(1, 4, 2, 2))
    return traced


def after(other: Way) -> Way:
    """What another operation made of z, beside its ReLU in place afterwards."""

    def way(z: Tensor) -> Tensor:
        made = other(z)
        return z.relu_() + made

    return way


def held_by_an_object(z: Tensor) -> Tensor:
    owner = nn.Module()
    owner.out = z
    return F.relu(owner.out, inplace=True) + owner.out


def viewed_before(z: Tensor) -> Tensor:
    view = z.view(len(z), -1)
    z.relu_()
    return z + view.view_as(z)


def sliced_before(z: Tensor) -> Tensor:
    part = z[:, :2]
    z.relu_()
    return torch.cat([part, z[:, 2:]], dim=1) + z


def slice_rectified(z: Tensor) -> Tensor:
    z[:, :2].relu_()
    return z


def returned_with_it(z: Tensor) -> Tensor:
    rectified = torch.relu_(z)
    return z + rectified


def written_through_data(z: Tensor) -> Tensor:
    z.data.add_(0.3)
    return torch.relu(z)


def written_through_data_in_place(z: Tensor) -> Tensor:
    z.data.add_(0.3)
    return z.relu_()


def doubled_rectified(z: Tensor) -> Tensor:
    return torch.relu(z) + torch.relu(z)


# Ways with a ReLU in place, and what they compute without one.
TWINS: dict[str, tuple[Way, Way]] = {
    "TorchScript": (after(traced_double()), lambda z: torch.relu(z) + z * 2),
    "autograd function": (after(Doubled.apply), lambda z: torch.relu(z) + z * 2),
    "clone": (after(torch.clone), lambda z: torch.relu(z) + z),
    "by name": (after(lambda z: torch.add(input=z, other=z)), lambda z: torch.relu(z) + z * 2),
    "vmap": (after(torch.vmap(lambda z: z * 2)), lambda z: torch.relu(z) + z * 2),
    "iterated": (after(lambda z: torch.stack(list(z))), lambda z: torch.relu(z) + z),
    "attribute": (held_by_an_object, doubled_rectified),
    "residual": (returned_with_it, doubled_rectified),
    "view": (viewed_before, doubled_rectified),
    "slice": (sliced_before, doubled_rectified),
    "only a slice": (
        slice_rectified,
        lambda z: torch.cat([z[:, :2].relu(), z[:, 2:]], dim=1),
    ),
    "function in place": (RectifiedInPlace.apply, lambda z: torch.relu(z) * 2),
    "data": (written_through_data_in_place, written_through_data),
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


@pytest.mark.filterwarnings("ignore:.*has no rule for")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", TWINS)
def test_in_place_the_forward_and_the_relevance_are_those_without(name: str, norm: bool) -> None:
    """Also where z went before into an operation that nobody sees."""
    torch.manual_seed(0)
    network, images = Block(TWINS[name][0], norm).eval(), torch.randn(2, 3, 6, 6)
    if suits_channels_last(network, images, is_half=False):  # as it is asked then
        images = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = network(images)
    seen: list[Tensor] = []
    network.last.register_forward_hook(lambda *call: seen.append(call[2].detach().clone()))
    found = LRPEpsilon()(network, images, torch.tensor([0, 3]))
    assert seen
    assert all(torch.equal(outputs, plain) for outputs in seen)
    network.way = TWINS[name][1]
    apart: Rules = {**lrp_rules(), "relu": by_itself}
    for expected in (LRPEpsilon(), LRP(rules=apart)):
        relevance = expected(network, images, torch.tensor([0, 3]))
        largest = float(relevance.abs().max())
        torch.testing.assert_close(found, relevance, rtol=0, atol=2e-6 * largest)


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

    copies({})  # chooses the layout
    assert copies({}) < copies({"relu": by_itself})


def test_the_share_of_a_rectified_output_is_that_of_any_other() -> None:
    signal, outputs = torch.randn(50), torch.randn(50).relu()
    assert torch.equal(damp_rectified(signal, outputs, 0.1), damp(signal, outputs, 0.1))
    wide = damp_rectified(signal.double(), outputs, 0.1)
    assert wide.dtype == torch.float64
