"""Forwards that turn gradients off, or cut values off from their images."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps.engine.dependence import CutOffWarning

Forward = Callable[["Two", Tensor], Tensor]
METHODS = ("lrp", "sensitivity_l2", "grad_cam", "deconvolution_l2", "integrated_gradients")


def features() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))


class Two(nn.Module):
    """Two branches, of which the first is computed somehow."""

    seen: Tensor

    def __init__(self, how: Forward) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second, self.how = features(), features(), how
        self.register_buffer("seen", torch.zeros(3))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def whole(net: Two, x: Tensor) -> Tensor:
    return 4 * net.first(x) + net.second(x)


def under_no_grad(net: Two, x: Tensor) -> Tensor:
    with torch.no_grad():
        first = net.first(x)
    return 4 * first + net.second(x)


def under_set_grad_enabled(net: Two, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(net.training):
        first = net.first(x)
    return 4 * first + net.second(x)


def under_inference_mode(net: Two, x: Tensor) -> Tensor:
    with torch.inference_mode():
        first = net.first(x)
    return 4 * first.clone() + net.second(x)


def with_a_buffer_written_under_no_grad(net: Two, x: Tensor) -> Tensor:
    with torch.no_grad():
        net.seen.mul_(0.9).add_(x.mean(dim=(0, 2, 3)))
        first = net.first(x)
    return 4 * first + net.second(x)


@torch.no_grad()
def decorated(net: Two, x: Tensor) -> Tensor:
    return net.first(x)


def by_a_decorated_function(net: Two, x: Tensor) -> Tensor:
    return 4 * decorated(net, x).requires_grad_(False) + net.second(x)


@pytest.mark.parametrize("how", [
    under_no_grad, under_set_grad_enabled, under_inference_mode, by_a_decorated_function,
    with_a_buffer_written_under_no_grad,
])  # fmt: skip
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_on_wherever_that_can_be(name: str, how: Forward) -> None:
    x, target = images(), torch.tensor([0, 1, 2])
    wanted = heatmaps.get(name)(Two(whole), x, target)
    network = Two(how)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = heatmaps.get(name)(network, x, target)
        report = heatmaps.check(network, x, name, target)
    torch.testing.assert_close(found, wanted)
    assert report.is_fine
    assert not network.seen.any()
    assert not network.seen.requires_grad
    assert torch.is_grad_enabled()


def test_gradients_stay_off_where_the_whole_forward_is_without() -> None:
    outputs = []
    network = Two(whole)
    network.register_forward_hook(lambda module, args, out: outputs.append(out))
    heatmaps.get("occlusion")(network, images(), torch.tensor([0, 1, 2]))
    assert not any(out.requires_grad for out in outputs)


def by_detach(net: Two, x: Tensor) -> Tensor:
    return 4 * net.first(x).detach() + net.second(x)


def by_detached_images(net: Two, x: Tensor) -> Tensor:
    return 4 * net.first(x.detach()) + net.second(x)


def by_data(net: Two, x: Tensor) -> Tensor:
    return 4 * net.first(x).data + net.second(x)


def by_numpy(net: Two, x: Tensor) -> Tensor:
    return 4 * torch.from_numpy(np.tanh(net.first(x).detach().numpy())) + net.second(x)


def by_lists(net: Two, x: Tensor) -> Tensor:
    return 4 * torch.tensor(net.first(x).tolist()) + net.second(x)


def by_copy(net: Two, x: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch advises against it, too
        warnings.simplefilter("ignore")
        first = torch.tensor(net.first(x))
    return 4 * first + net.second(x)


def by_new_tensor(net: Two, x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = x.new_tensor(net.first(x).detach())
    return 4 * first + net.second(x)


def by_scalars(net: Two, x: Tensor) -> Tensor:
    rows = [torch.tensor(list(row)) for row in net.first(x)]
    return 4 * torch.stack(rows) + net.second(x)


def by_dlpack(net: Two, x: Tensor) -> Tensor:
    return 4 * torch.from_dlpack(net.first(x).detach()) + net.second(x)


def by_constructor(net: Two, x: Tensor) -> Tensor:
    return 4 * torch.Tensor(net.first(x).detach()) + net.second(x)


def by_constructor_of_a_type(net: Two, x: Tensor) -> Tensor:
    first = torch.FloatTensor(net.first(x).data)
    return net.second(x).add(first, alpha=4)


def in_place(net: Two, x: Tensor) -> Tensor:
    return 4 * net.first(x).detach_() + net.second(x)


def as_numbers(net: Two, x: Tensor) -> Tensor:
    return float(net.first(x).mean()) * net.second(x)


@pytest.mark.parametrize(("how", "said"), [
    (by_detach, ".detach()"), (by_detached_images, ".detach()"), (by_data, ".data"),
    (by_numpy, ".numpy()"), (by_lists, ".tolist()"), (in_place, ".detach()"),
    (as_numbers, "float()"), (by_copy, "torch.tensor()"), (by_new_tensor, ".detach()"),
    (by_scalars, "torch.tensor()"), (by_dlpack, "from_dlpack"),
    (by_constructor, ".detach()"), (by_constructor_of_a_type, ".data"),
])  # fmt: skip
@pytest.mark.parametrize("name", METHODS)
def test_what_cuts_off_is_named_with_the_way_out(name: str, how: Forward, said: str) -> None:
    x, target = images(), torch.tensor([0, 1, 2])
    network = Two(how)
    with pytest.warns(CutOffWarning, match="requires_grad_") as caught:
        heatmaps.get(name)(network, x, target)
    (message,) = [str(w.message) for w in caught if w.category is CutOffWarning]
    assert said in message
    assert '"occlusion"' in message
    report = heatmaps.check(network, x, name, target)
    assert not report.is_fine
    assert said in report.line()


def kept_for_a_log(net: Two, x: Tensor) -> Tensor:
    first = net.first(x)
    net.last = first.detach()
    net.mean = first.mean().item()
    return 4 * first + net.second(x)


def maximum_before_softmax(net: Two, x: Tensor) -> Tensor:
    logits = whole(net, x)
    return (logits - logits.amax(dim=1, keepdim=True).detach()).softmax(dim=1)


def shapes_alone(net: Two, x: Tensor) -> Tensor:
    return torch.zeros_like(net.first(x).detach()) + whole(net, x)


@pytest.mark.parametrize("how", [kept_for_a_log, maximum_before_softmax, shapes_alone, whole])
@pytest.mark.parametrize("name", ["sensitivity_l2", "grad_cam", "deconvolution_l2"])
def test_nothing_is_said_of_what_changes_nothing(name: str, how: Forward) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heatmaps.get(name)(Two(how), images(), torch.tensor([0, 1, 2]))


def test_a_whole_backbone_is_refused_with_the_way_out() -> None:
    network = Two(lambda net, x: net.first[3](net.first[:3](x).detach()))
    with pytest.raises(ValueError, match=r"\.detach\(\); freeze layers by requires_grad_\(False\)"):
        heatmaps.get("lrp")(network, images(), torch.tensor([0, 1, 2]))


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + (q - x).detach()": lambda x, q: x + (q - x).detach(),
    "(q - x).detach() + x": lambda x, q: (q - x).detach() + x,
    "x - (x - q).detach()": lambda x, q: x - (x - q).detach(),
    "q.detach() - x.detach() + x": lambda x, q: q.detach() - x.detach() + x,
    "x + (q - x).data": lambda x, q: x + (q - x).data,
    "q.detach() + x - x.detach()": lambda x, q: q.detach() + x - x.detach(),
    "x + q.detach() - x.detach()": lambda x, q: x + q.detach() - x.detach(),
    "x - x.detach() + q.detach()": lambda x, q: x - x.detach() + q.detach(),
    "q.detach() + (x - x.detach())": lambda x, q: q.detach() + (x - x.detach()),
    "constant + x - x.detach()": lambda x, q: torch.ones_like(q) + x - x.detach(),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", METHODS)
def test_straight_through_estimators_are_recognised(name: str, estimator: str) -> None:
    def rounded(net: Two, x: Tensor) -> Tensor:
        hidden = net.first[:2](x)
        return net.first[2:](ESTIMATORS[estimator](hidden, (hidden * 4).round() / 4))

    x, target = images(), torch.tensor([0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = heatmaps.get(name)(Two(rounded), x, target)
    assert bool((found != 0).any())


@pytest.mark.parametrize(
    "combined",
    [
        lambda q, x: q + x - x.detach(),  # q has a gradient of its own
        lambda q, x: x - x.detach() + q,
        lambda q, x: q.detach() + x - q.detach(),
        lambda q, x: q.detach() + 2 * x - x.detach(),
        lambda q, x: (x - x) + q.detach(),
        lambda q, x: q.detach() + (x - q.detach()) + x,
        lambda q, x: torch.sub(q.detach() + x, x.detach(), alpha=2),
    ],
)
def test_sums_that_only_look_like_estimators_keep_their_gradient(
    combined: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, target = images(), torch.tensor([0, 1, 2])
    network = Two(lambda net, x: combined(net.first(x), net.second(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = heatmaps.get("gradient_x_input")(network, x, target)
    x.requires_grad_()
    network(x).gather(1, target[:, None]).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(found, (x.grad * x).detach().sum(dim=1))


def test_what_was_cut_off_before_an_estimator_is_told() -> None:
    def network(net: Two, x: Tensor) -> Tensor:
        hidden = net.second(x) + 4 * net.first(x).detach()
        return hidden + (hidden.round() - hidden).detach()

    with pytest.warns(UserWarning, match="cuts values off by .detach"):
        heatmaps.get("gradient_x_input")(Two(network), images(), torch.tensor([0, 1, 2]))


def test_a_straight_through_estimator_conserves_relevance() -> None:
    def rounded(net: Two, x: Tensor) -> Tensor:
        hidden = net.first[:2](x)
        return net.first[2:](hidden + ((hidden * 4).ceil() / 4 - hidden).detach())

    network, x = Two(rounded).double(), images().double()
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.zeros_(layer.bias)
    relevance = heatmaps.LRPEpsilon(epsilon=1e-9)(network, x, torch.tensor([0, 1, 2]))
    scores = network(x)[range(3), [0, 1, 2]].detach()
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), scores, rtol=1e-5, atol=1e-7)
