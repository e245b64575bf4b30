from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aopc_monitor.heatmaps import DeepLIFT, GradientTimesInput
from tests.heatmaps.networks import Apply

captum_attr = pytest.importorskip("captum.attr")

TARGET = torch.tensor([0, 2, 1])


def network(*middle: nn.Module, features: int = 4 * 7 * 7) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), *middle, nn.Flatten(),
        nn.Linear(features, 6), nn.ReLU(), nn.Linear(6, 3),
    ).double().eval()  # fmt: skip


def images(size: int = 16) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(
    ("middle", "features"),
    [
        ([nn.ReLU()], 784),
        ([nn.Tanh()], 784),
        # The identity between them keeps captum's hooks of two neighbours apart: without it, its
        # relevance does not sum to the difference of the scores.
        ([nn.ReLU(), Apply(lambda x: x * 1.0), nn.MaxPool2d(2)], 196),
        # Not overlapping windows: captum then loses what one pixel gets from several of them.
        ([nn.Sigmoid(), nn.MaxPool2d(3)], 64),
        ([nn.BatchNorm2d(4), nn.ELU(), nn.AvgPool2d(2)], 196),
    ],
)
@pytest.mark.parametrize("baseline", [0.0, -0.3])
def test_agrees_with_captum(middle: list[nn.Module], features: int, baseline: float) -> None:
    model = network(*middle, features=features)
    theirs = captum_attr.DeepLift(model, eps=1e-10).attribute(
        images(), baselines=torch.full_like(images(), baseline), target=TARGET
    )
    ours = DeepLIFT(baseline)(model, images(), TARGET)
    torch.testing.assert_close(ours, theirs.sum(dim=1).detach(), rtol=1e-8, atol=1e-10)


# Operations that LRP has a rule for, or whose gradient is LRP's.
MENDED: dict[str, Callable[[Tensor], Tensor]] = {
    "amax": lambda x: x.amax(dim=(2, 3)),
    "amax of all channels": lambda x: x.amax(1, keepdim=True),
    "amin": lambda x: x.amin(dim=-1),
    "max": lambda x: x.max(dim=2).values,
    "min": lambda x: torch.min(x, 3, True)[0],
    "maximum": lambda x: torch.maximum(x, x.flip(2).tanh()),
    "minimum": lambda x: torch.minimum(x.sum(dim=1, keepdim=True), x),
    "max of two": lambda x: torch.max(x, x.square() - 1),
    "maximum with a constant": lambda x: torch.maximum(x, torch.full_like(x, 0.2)),
    "quotient": lambda x: x / (1 + x.square()),
    "quotient of a constant": lambda x: torch.full_like(x, 2.0) / (x.square() + 1),
    "quotient of a number": lambda x: 1 / (x.exp() + 1),
    "quotient by a smaller one": lambda x: x / (1 + x.abs().sum(dim=1, keepdim=True)),
    "glu": lambda x: F.glu(x, dim=1),
    "vecdot": lambda x: torch.linalg.vecdot(x, x.tanh(), dim=2),
    "cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 1:].tanh(), dim=1),
    "nan_to_num": lambda x: x.nan_to_num(),
    "tril": torch.tril,
}


@given(
    seed=st.integers(0, 1000),
    middle=st.sampled_from([
        nn.ReLU(), nn.GELU(), nn.SiLU(inplace=True), nn.MaxPool2d(2, padding=1), nn.Softplus(),
        nn.AdaptiveMaxPool2d(5), nn.LeakyReLU(inplace=True),
        Apply(lambda x: x * x.sigmoid()), Apply(lambda x: x[..., :7] * x[..., 7:]),
        Apply(lambda x: x @ x.transpose(2, 3).tanh()),
        Apply(lambda x: torch.einsum("nchw,nchv->nhwv", x, x.tanh())),
        *map(Apply, MENDED.values()),
    ]),
    baseline=st.floats(-1, 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_relevance_sums_to_the_difference_of_scores(
    seed: int, middle: nn.Module, baseline: float
) -> None:
    torch.manual_seed(seed)
    first = nn.Conv2d(3, 4, 3).double()
    x = torch.randn(2, 3, 16, 16).double()
    features = middle(first(x)).flatten(1).shape[1]
    model = nn.Sequential(first, middle, nn.Flatten(), nn.Linear(features, 3)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance = DeepLIFT(baseline)(model, x, TARGET[:2])
    with torch.no_grad():
        difference = (model(x) - model(torch.full_like(x, baseline)))[range(2), TARGET[:2]]
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), difference, rtol=1e-6, atol=1e-7)


def test_without_a_difference_it_is_the_gradient() -> None:
    """A pixel that is as in the reference has the plain derivative behind it."""
    model = network(nn.Tanh(), features=784)
    x = images()
    close = DeepLIFT(baseline=x[0] - 1e-6)(model, x[:1], TARGET[:1]) / 1e-6
    slope = GradientTimesInput()(model, x[:1], TARGET[:1])
    entrance = x[:1].clone().requires_grad_()
    model(entrance)[0, 0].backward()
    assert entrance.grad is not None
    torch.testing.assert_close(close, entrance.grad.sum(dim=1), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(close, slope)


def test_what_has_no_rule_is_named() -> None:
    model = network(Apply(lambda x: x.softmax(dim=1)), features=784)
    with pytest.warns(UserWarning, match="DeepLIFT has no rule for: softmax"):
        DeepLIFT()(model, images(), TARGET)


def test_networks_that_do_different_things_are_refused() -> None:
    def fickle(x: Tensor) -> Tensor:
        return x.tanh() if bool(x.mean() > 0) else x.relu()

    model = nn.Sequential(Apply(fickle), nn.Flatten(), nn.Linear(768, 3)).double()
    with pytest.raises(ValueError, match="DeepLIFT met tanh on the images where it met relu"):
        DeepLIFT(baseline=-1.0)(model, images().abs(), TARGET)


class Residual(nn.Module):
    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(784, 3)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.one(x))
        y = nn.functional.silu(self.other(x))
        if self.in_place:
            y += x
        else:
            y = y + x
        outputs: Tensor = self.head(y.flatten(1))
        return outputs


def test_outputs_that_are_written_over_are_remembered() -> None:
    ours, expected = (
        DeepLIFT()(Residual(in_place=flag).double(), images(), TARGET) for flag in (True, False)
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nn.BatchNorm2d(3, track_running_stats=False).double(), "by statistics of the batch"),
        (lambda x: nn.functional.linear(x, x[0, 0]), "with weights made of the images"),
    ],
)
def test_linear_operations_that_are_not_are_named(function: Any, message: str) -> None:
    model = nn.Sequential(Apply(function), nn.Flatten(), nn.Linear(768, 3)).double()
    with pytest.warns(UserWarning, match=message):
        DeepLIFT()(model, images(), TARGET)


def test_a_constant_to_the_power_of_a_signal() -> None:
    model = nn.Sequential(Apply(lambda x: 2**x), nn.Flatten(), nn.Linear(768, 3)).double()
    relevance = DeepLIFT()(model, images(), TARGET).sum(dim=(1, 2))
    with torch.no_grad():
        difference = (model(images()) - model(0 * images()))[range(3), TARGET]
    torch.testing.assert_close(relevance, difference)


@pytest.mark.parametrize("name", MENDED)
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_each_operation_with_a_rule_accounts_for_the_difference(name: str, baseline: float) -> None:
    torch.manual_seed(3)
    first, middle = nn.Conv2d(3, 4, 3).double(), MENDED[name]
    features = middle(first(images())).flatten(1).shape[1]
    head = nn.Linear(features, 3).double()
    model = nn.Sequential(first, Apply(middle), nn.Flatten(), head)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance = DeepLIFT(baseline)(model, images(), TARGET)
    with torch.no_grad():
        difference = (model(images()) - model(torch.full_like(images(), baseline)))[
            range(3), TARGET
        ]
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("baseline", [0.0, -0.3])
def test_global_max_pooling_by_a_reduction_agrees_with_captum(baseline: float) -> None:
    """Which knows max pooling as a module alone."""
    pooled = network(nn.Sigmoid(), nn.MaxPool2d(14), features=4)
    theirs = captum_attr.DeepLift(pooled, eps=1e-10).attribute(
        images(), baselines=torch.full_like(images(), baseline), target=TARGET
    )
    for reduced in (lambda x: x.amax(dim=(2, 3)), lambda x: x.flatten(2).max(dim=2).values):
        model = network(nn.Sigmoid(), Apply(reduced), features=4)
        ours = DeepLIFT(baseline)(model, images(), TARGET)
        torch.testing.assert_close(ours, theirs.sum(dim=1).detach(), rtol=1e-8, atol=1e-10)


def test_an_extreme_by_loops() -> None:
    """m - y' goes to the image's position, y - m to the reference's."""
    torch.manual_seed(0)
    x, reference, weight = torch.randn(2, 5).double(), torch.randn(5).double(), 1.5
    ways: list[tuple[Callable[[Tensor], Tensor], Callable[..., float]]] = [
        (lambda v: weight * v.amax(dim=1, keepdim=True), max),
        (lambda v: weight * v.amin(dim=1, keepdim=True), min),
    ]
    shift = Apply(lambda v: v + reference)
    for way, pick in ways:
        model = nn.Sequential(shift, Apply(way))
        found = DeepLIFT(baseline=0.0)(model, x - reference, torch.tensor([0, 0]))
        for row, relevance in zip(x, found, strict=True):
            y, y_reference = pick(row.tolist()), pick(reference.tolist())
            extreme = pick(y, y_reference)
            expected = torch.zeros(5).double()
            expected[row.tolist().index(y)] += weight * (extreme - y_reference)
            expected[reference.tolist().index(y_reference)] += weight * (y - extreme)
            torch.testing.assert_close(relevance, expected)


def test_a_quotient_that_rounds_is_named() -> None:
    model = network(Apply(lambda x: torch.div(x, x.abs() + 1, rounding_mode="floor")), features=784)
    with pytest.warns(UserWarning, match="div that rounds, by a value that depends on the images"):
        DeepLIFT()(model, images(), TARGET)
