"""Every heatmap of the table: what all of them promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from tests.modules import small_network

NAMES = heatmaps.names()
# Backward passes by rules, which know a softmax at the end.
BY_RULES = ("deconvolution", "guided", "lrp", "attnlrp", "deep_taylor")
# These have to be told the range of valid pixels.
NEED_A_RANGE: dict[str, heatmaps.Heatmap] = {
    "deep_taylor": heatmaps.DeepTaylor(data_range=(0, 1)),
    "lrp_epsilon_gamma_box": heatmaps.LRPEpsilonGammaBox(data_range=(0, 1)),
}


def made(name: str) -> heatmaps.Heatmap:
    return NEED_A_RANGE.get(name) or heatmaps.get(name)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_finiteness(name: str) -> None:
    result = made(name)(small_network(), images(), torch.tensor([0, 1, 3]))
    assert result.shape == (3, 16, 16)
    assert not result.requires_grad
    assert torch.isfinite(result).all()
    assert result.std() > 0


class Kept(Tensor):
    """A subclass that survives operations, as images of MONAI and fastai are."""


class Activation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu_(x)


@pytest.mark.parametrize("activation", [lambda: nn.ReLU(inplace=True), Activation])
@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_subclass_give_the_same_heatmap(name: str, activation: Any) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), activation(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(16, 4)).eval()
    x, target = images(), torch.tensor([0, 1, 3])
    found = made(name)(model, x.as_subclass(Kept), target.as_subclass(Kept))
    assert type(found) is Tensor
    assert torch.equal(found, made(name)(model, x, target))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
def test_batch_equals_single_images(name: str) -> None:
    model, x = small_network().double().eval(), images(40).double()
    heatmap = made(name)
    target = model(x).argmax(1)
    whole = heatmap(model, x, target)
    single = torch.cat(
        [heatmap(model, one[None], t[None]) for one, t in zip(x, target, strict=True)]
    )
    torch.testing.assert_close(whole, single)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_model_in_training_is_left_as_it_was(name: str, outer: Any) -> None:
    model = small_network().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images()).sum().backward()
    parameters = list(model.parameters())
    values = [p.detach().clone() for p in parameters]
    grads = [p.grad.clone() for p in parameters if p.grad is not None]
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    versions = [p._version for p in parameters]
    state = torch.get_rng_state()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with outer():
        x = images()
        target = torch.tensor([0, 1, 2])
        made(name)(model, x, target)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert [p._version for p in parameters] == versions
    assert all(torch.equal(p, v) for p, v in zip(parameters, values, strict=True))
    after = [p.grad for p in parameters if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(after, grads, strict=True))
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert all(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    optimizer.step()
    assert not any(torch.equal(p, v) for p, v in zip(parameters, values, strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
def test_probabilities_and_logits_are_both_explained(name: str) -> None:
    model = small_network().eval()
    x, target = images(), torch.tensor([0, 1, 3])
    heatmap = made(name)
    outer = heatmap(nn.Sequential(model, nn.Softmax(dim=1)), x, target)
    assert outer.std() > 0
    if name.startswith(BY_RULES):
        torch.testing.assert_close(outer, heatmap(model, x, target))


class Shifts(nn.Module):
    """A network that shifts what it is given, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images.sub_(0.5))
        return scores


@pytest.mark.parametrize("name", ["lrp", "gradient_x_input", "integrated_gradients"])
def test_a_network_that_writes_into_its_images_is_explained_as_it_is(name: str) -> None:
    torch.manual_seed(0)
    network, images = Shifts().eval(), torch.rand(2, 3, 16, 16)
    predicted = network(images.clone()).argmax(dim=1)
    heatmap: Any = heatmaps.get(name)
    before = images.clone()
    assert torch.equal(heatmap(network, images), heatmap(network, images, predicted))
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("random", "occlusion")])
def test_detached_model_is_named(name: str) -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean(dim=(2, 3))

    message = "do not depend differentiably on its images.* give AOPCMonitor model_fn="
    with pytest.raises(ValueError, match=message):
        made(name)(Detached(), images(), torch.tensor([0, 1, 2]))


def test_sensitivity_is_the_norm_of_the_gradient() -> None:
    model, x, target = small_network().eval(), images(), torch.tensor([0, 1, 3])
    leaf = x.clone().requires_grad_()
    scores = model(leaf).gather(1, target[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), leaf)
    for norm, expected in {
        "l2": gradient.square().sum(1).sqrt(),
        "linf": gradient.abs().amax(1),
    }.items():
        torch.testing.assert_close(heatmaps.Sensitivity(norm=norm)(model, x, target), expected)  # type: ignore[arg-type]
    torch.testing.assert_close(
        heatmaps.GradientTimesInput()(model, x, target), (gradient * x).sum(1)
    )


def test_random_order_follows_images_and_seed() -> None:
    make, x = heatmaps.RandomOrder, images()
    assert torch.equal(make(0)(nn.Identity(), x), make(0)(nn.Identity(), x))
    assert not torch.equal(make(0)(nn.Identity(), x), make(1)(nn.Identity(), x))
    assert not torch.equal(make(0)(nn.Identity(), x), make(0)(nn.Identity(), x + 1))


def test_autocast_does_not_reach_the_backward_pass() -> None:
    model, x = small_network().eval(), images()
    target = model(x).argmax(1)
    plain = heatmaps.get("lrp")(model, x, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(heatmaps.get("lrp")(model, x, target), plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heatmaps.get("lpr"), "heatmap='lpr' is unknown: choose one of sensitivity_l2"),
        (lambda: heatmaps.Sensitivity(norm="l3"), "norm='l3' is unknown"),  # type: ignore[arg-type]
        (lambda: heatmaps.LRPEpsilon(epsilon=0), "epsilon=0 must be positive"),
        (lambda: heatmaps.LRPAlphaBeta(alpha=2, beta=1), "alpha=2 and beta=1 must sum to 1"),
        (
            lambda: heatmaps.get("deep_taylor")(small_network(), images(1), torch.tensor([0])),
            "data_range is missing",
        ),
        (lambda: heatmaps.named_heatmaps("random"), "always measured beside"),
        (lambda: heatmaps.named_heatmaps([]), "one or more heatmaps"),
        (lambda: heatmaps.named_heatmaps(["lrp", "lrp"]), "different names"),
    ],
)
def test_wrong_choices_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match="heatmap=3 is neither a name nor a callable"):
        heatmaps.get(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"images is torch\.uint8"):
        heatmaps.get("lrp")(small_network(), images().to(torch.uint8), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="from 0 to 4; the model has 4"):
        heatmaps.get("lrp")(small_network(), images(), torch.tensor([0, 1, 4]))


class Darkened(heatmaps.NetworkHeatmap):
    """A heatmap of a user's own that works in place on the images it is given."""

    def relevance(self, network: Any, images: Tensor, target: Tensor) -> Tensor:
        return images.mul_(0.5).mean(dim=1)


def test_a_heatmap_that_writes_into_its_images_does_not_reach_those_of_the_caller() -> None:
    x = images()
    Darkened()(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), x, torch.tensor([0, 1, 3]))
    assert torch.equal(x, images())
