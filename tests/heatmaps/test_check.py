"""`heatmaps.check` tells what a heatmap did, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from tests.modules import small_network

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Before(nn.Module):
    """The small network after a function of the images."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.network = small_network()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(self.function(images))
        return outputs


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_operations_are_counted_with_their_rules() -> None:
    report = heatmaps.check(small_network(), IMAGES, "lrp")
    counts = {use.name: (use.rule, use.count) for use in report.operations}
    epsilon = "epsilon rule (epsilon=0.01, relative=False)"
    assert counts == {
        "batch_norm": (epsilon, 1),
        "conv2d": (epsilon, 2),
        "dropout": ("its gradient", 1),
        "dropout2d": ("its gradient", 1),
        "flatten": ("its gradient", 1),
        "linear": (epsilon, 1),
        "max_pool2d": ("its gradient", 1),
        "relu": ("its gradient", 2),
    }
    assert report.is_fine
    assert report.forward_difference == 0
    assert report.line().startswith("lrp: fine, 10 calls of 8 operations understood, ")
    error, absorbed = f"{report.conservation_error:.2g}", f"{report.absorbed:.2g}"
    assert f"reaches the pixels misses the score by {error} of it (mean size" in report.line()
    assert f"constants take {absorbed} of it (mean with the sign)" in report.line()
    assert "\n  conv2d         2 x  epsilon rule" in str(report)


@pytest.mark.parametrize("name", [name for name in heatmaps.names() if name != "random"])
def test_every_heatmap_is_fine_on_a_plain_network(name: str) -> None:
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    report = heatmaps.check(small_network(), IMAGES, heatmap, name=name)
    assert report.is_fine, report.line()
    assert report.line().startswith(f"{name}: fine")


def test_conservation_error_is_what_biases_absorb_when_epsilon_is_small() -> None:
    model = small_network().double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    images, target = IMAGES[:1].double(), torch.tensor([2])
    heatmap = heatmaps.LRPEpsilon(1e-12)
    report = heatmaps.check(model, images, heatmap, target)
    assert report.conservation_error is not None
    assert report.absorbed is not None
    score = float(model.eval()(images)[0, 2].detach())
    missing = score - float(heatmap(model, images, target).sum())
    assert report.absorbed == pytest.approx(missing / score, rel=1e-6)
    assert report.conservation_error == pytest.approx(abs(missing / score), rel=1e-6)
    assert report.conservation_error > 1e-3


def test_added_constants_are_counted_as_absorbing() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.rand(4, 8).double())
            self.token = nn.Parameter(torch.rand(1, 1, 8).double())
            self.norm = nn.LayerNorm(8).double()
            self.embed = nn.Linear(3 * 64, 8).double()
            self.head = nn.Linear(5 * 8, 4).double()

        def forward(self, images: Tensor) -> Tensor:
            patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5)
            tokens = self.embed(patches.reshape(len(images), 4, -1)) + self.position
            tokens = torch.cat([self.token.expand(len(images), -1, -1), tokens], dim=1)
            outputs: Tensor = self.head(self.norm(tokens).flatten(1))
            return outputs

    torch.manual_seed(0)
    report = heatmaps.check(Embedded(), IMAGES[:1].double(), heatmaps.LRPEpsilon(1e-12))
    assert report.conservation_error is not None
    assert report.absorbed is not None
    assert report.conservation_error == pytest.approx(abs(report.absorbed), rel=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: Doubled.apply(x), r"a hidden operation \(DoubledBackward\) \(1 x\)"),
        (lambda x: torch.sinc(x + 0.5), r"no rule: sinc \(1 x\)"),
        (lambda x: x + 0.2 * torch.rand_like(x), None),
    ],
)
def test_problems_are_named(function: Callable[[Tensor], Tensor], message: str | None) -> None:
    report = heatmaps.check(Before(function), IMAGES, "lrp")
    if message is None:
        message = "outputs differ by"
    assert not report.is_fine
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(report.line())
    assert report.line().startswith("lrp: WARNING: ")


def test_operations_that_no_relevance_passes_through_are_no_problem() -> None:
    def scaled_by_a_constant(x: Tensor) -> Tensor:
        return x / torch.sinc(x + 0.5).sum(dim=(1, 2, 3), keepdim=True)

    report = heatmaps.check(Before(scaled_by_a_constant), IMAGES, "lrp")
    assert report.is_fine, report.line()
    assert ("sinc", "gradient (no rule)") in [(u.name, u.rule) for u in report.operations]


@pytest.mark.parametrize(
    ("heatmap", "message"),
    [
        (lambda model, images, target: images, "it returned"),
        (lambda model, images, target: images[:, 0] * float("nan"), "NaN"),
        (lambda model, images, target: torch.zeros(3, 16, 16), "constant on 3 of 3 images"),
    ],
)
def test_broken_callables_are_named(heatmap: Any, message: str) -> None:
    report = heatmaps.check(small_network(), IMAGES, heatmap, name="mine")
    assert message in report.line()
    assert report.line().startswith("mine: WARNING")


def test_a_last_layer_of_zeros_is_a_problem_and_no_error() -> None:
    model = small_network()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    assert "constant on 3 of 3 images" in heatmaps.check(model, IMAGES, "lrp").line()


def test_the_model_is_left_alone() -> None:
    model = small_network().train()
    versions = [p._version for p in model.parameters()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    heatmaps.check(model, IMAGES, "lrp")
    assert model.training
    assert [p._version for p in model.parameters()] == versions
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda x: x.detach(), r"cut the dependence off is \.detach\(\)"),
        (lambda x: x.data, r"cut the dependence off is \.data"),
        (lambda x: F.one_hot((x * 3).long(), 4)[..., 0].float(), "rounding"),
    ],
)
def test_where_a_network_loses_its_images_is_named(
    cut: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        heatmaps.get("lrp")(Before(cut), IMAGES, torch.tensor([0, 1, 2]))


def test_functions_are_looked_after_as_in_an_evaluation() -> None:
    def gradient(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        x = images.clone().requires_grad_()
        model(x).gather(1, target[:, None]).sum().backward()
        assert x.grad is not None
        return x.grad.sum(dim=1)

    model = small_network().train()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    assert heatmaps.check(model, IMAGES, gradient).is_fine
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "name", ["lrp_alpha2_beta1", "lrp_epsilon_plus", "deep_taylor", "lrp_epsilon_gamma_box"]
)
def test_a_network_that_normalises_can_be_checked(name: str) -> None:
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    report = heatmaps.check(Before(lambda x: (x - 0.5) / 0.25), IMAGES, heatmap)
    assert report.is_fine, report.line()


def test_warnings_of_other_heatmaps_are_problems() -> None:
    report = heatmaps.check(Before(lambda x: Doubled.apply(x)), IMAGES, "deeplift")
    assert "DeepLIFT has no rule for: a hidden operation" in report.line()


def test_masks_of_minus_infinity_absorb_nothing() -> None:
    def masked(x: Tensor) -> Tensor:
        mask = torch.eye(16, dtype=torch.bool)
        return (x @ x).masked_fill(mask, float("-inf")).softmax(dim=3) @ x

    report = heatmaps.check(Before(masked), IMAGES, heatmaps.AttnLRP())
    assert report.absorbed is not None
    assert abs(report.absorbed) < float("inf")


def test_a_rule_that_loses_relevance_behind_a_relu_is_named() -> None:
    everywhere = heatmaps.LRP({"conv2d": heatmaps.linear(heatmaps.flat_rule)})
    line = heatmaps.check(small_network(), IMAGES, everywhere).line()
    assert "given to activations of zero" in line
    first = heatmaps.LRP({"first layer": heatmaps.linear(heatmaps.flat_rule)})
    report = heatmaps.check(small_network(), IMAGES, first)
    assert report.is_fine, report.line()
    assert ("first layer", "flat rule") in [(use.name, use.rule) for use in report.operations]


@pytest.mark.parametrize("name", ["lrp", "sensitivity_l2"])
def test_a_check_asks_the_network_four_times(name: str) -> None:
    """For its classes; without rules, with them, and as the heatmap itself does."""
    calls = list[int]()

    def counted(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images

    assert heatmaps.check(Before(counted), IMAGES, name).is_fine
    # Which layout suits a network is found out once, with fewer images.
    assert calls.count(len(IMAGES)) == 4
