from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, heatmaps
from aopc_monitor.heatmaps import (
    Sensitivity,
    from_callable,
    from_captum,
    from_zennit,
    named_heatmaps,
)
from tests.modules import small_network

captum_attr = pytest.importorskip("captum.attr")
pytest.importorskip("zennit")

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 3, 1])


def test_captum_classes_functions_and_objects() -> None:
    model = small_network().eval()
    expected = Sensitivity("l2")(model, IMAGES, TARGET)
    for attribution in (
        captum_attr.Saliency,
        lambda model: captum_attr.Saliency(model),
        captum_attr.Saliency(model),
    ):
        heatmap = from_captum(attribution, pool="l2", abs=False)
        torch.testing.assert_close(heatmap(model, IMAGES, TARGET), expected)
    assert named_heatmaps(from_captum(captum_attr.Saliency)).keys() == {"captum_Saliency"}


def test_a_captum_object_of_another_model_is_refused() -> None:
    heatmap = from_captum(captum_attr.Saliency(small_network()))
    with pytest.raises(ValueError, match="Saliency was made for another model"):
        heatmap(small_network(), IMAGES, TARGET)


def test_zennit_leaves_the_parameters_that_the_optimizer_knows() -> None:
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus

    model = small_network().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, values = list(model.parameters()), copy.deepcopy(model.state_dict())
    heatmap = from_zennit(EpsilonPlus(canonizers=[SequentialMergeBatchNorm()]))
    relevance = heatmap(model, IMAGES, TARGET)
    assert relevance.std() > 0
    assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    model(IMAGES).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, values["0.weight"])


def test_zennit_epsilon_is_ours() -> None:
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon, Norm, Pass
    from zennit.types import Activation, AvgPool, Convolution, Linear

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, 4)
    ).double()
    rules = [(Activation, Pass()), (AvgPool, Norm()), (Convolution, Epsilon(0.1)),
             (Linear, Epsilon(0.1))]  # fmt: skip
    theirs = from_zennit(LayerMapComposite(layer_map=rules))(model, IMAGES.double(), TARGET)
    ours = heatmaps.LRPEpsilon(0.1)(model, IMAGES.double(), TARGET)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("made", "pool", "expected"),
    [
        (lambda x: x - 0.5, "sum", (IMAGES - 0.5).sum(1)),
        (lambda x: x, "l2", IMAGES.norm(dim=1)),
        (lambda x: x - 1, "linf", (IMAGES - 1).abs().amax(1)),
        (lambda x: x[:, :1], "sum", IMAGES[:, 0]),
        (lambda x: x[:, 0], "l2", IMAGES[:, 0]),
        (lambda x: x.numpy(), "sum", IMAGES.sum(1)),
        (lambda x: np.asarray(x[:, 0]), "sum", IMAGES[:, 0]),
    ],
)
def test_any_function(made: Any, pool: str, expected: Tensor) -> None:
    heatmap = from_callable(lambda model, images, target: made(images), pool=pool)
    torch.testing.assert_close(heatmap(small_network(), IMAGES, TARGET), expected)


def test_target_is_the_prediction_if_not_given() -> None:
    model = small_network().eval()
    predicted = model(IMAGES).argmax(dim=1)
    given: list[Tensor] = []

    def remember(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        given.append(target)
        return images

    from_callable(remember)(model, IMAGES)
    assert torch.equal(given[0], predicted)


def test_hooks_that_are_left_are_removed_and_named() -> None:
    model = small_network()
    own = model[0].register_forward_hook(lambda module, args, output: None)

    def careless(model: Any, images: Tensor, target: Tensor) -> Tensor:
        model[2].register_forward_hook(lambda module, args, output: None)
        return images

    with pytest.raises(RuntimeError, match=r"left hooks on 2; now removed"):
        from_callable(careless)(model, IMAGES, TARGET)
    assert not model[2]._forward_hooks
    assert list(model[0]._forward_hooks) == [own.id]

    def raising(model: Any, images: Tensor, target: Tensor) -> Tensor:
        model[2].register_forward_hook(lambda module, args, output: None)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        from_callable(raising)(model, IMAGES, TARGET)
    assert not model[2]._forward_hooks


def test_captum_leaves_nothing_when_the_forward_raises() -> None:
    class Raising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("half-way")

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ReLU(), Raising())
    attributes = [set(vars(module)) for module in model.modules()]
    for method in (captum_attr.DeepLift, captum_attr.GuidedBackprop):
        with pytest.raises(RuntimeError, match="half-way"):
            from_captum(method)(model, IMAGES, TARGET)
        assert [set(vars(module)) for module in model.modules()] == attributes
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="pool='max'"):
        from_callable(lambda model, images, target: images, pool="max")
    with pytest.raises(TypeError, match="function=3 is not callable"):
        from_callable(3)  # type: ignore[arg-type]
    heatmap = from_callable(lambda model, images, target: images[..., :8])
    with pytest.raises(ValueError, match=r"attributions of shape \(3, 3, 16, 8\)"):
        heatmap(small_network(), IMAGES, TARGET)


def test_they_can_be_measured() -> None:
    metric = AOPC(from_captum(captum_attr.Saliency), region_size=4, steps=3, data_range=(0.0, 1.0))
    metric.update(small_network(), IMAGES)
    assert torch.isfinite(metric.compute())
