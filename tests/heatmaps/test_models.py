"""Whole classifiers of torchvision, timm and transformers: sane heatmaps, and no trace of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps

torchvision = pytest.importorskip("torchvision")

METHODS = (
    "sensitivity_l2",
    "deconvolution_l2",
    "lrp",
    "lrp_alpha2_beta1",
    "lrp_epsilon_plus",
    "attnlrp",
)
LONG = pytest.mark.long
SMALL = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
    "swin_t", "vit_b_16",
)  # fmt: skip
TORCHVISION = [
    name if name in SMALL else pytest.param(name, marks=LONG)
    for name in torchvision.models.list_models(module=torchvision.models)
]
# What some models ask for: a few patches, or an image at least that large.
SIZES = {"vit_b_16": 32, "vit_b_32": 64, "vit_l_16": 32, "vit_l_32": 64, "vit_h_14": 28}
SIZES |= {"inception_v3": 80, "maxvit_t": 224}
TIMM = {
    "convnextv2_atto": {},
    "efficientvit_b0": {},
    "mobilenetv4_conv_small": {},
    "resnetv2_50": {},
    "vit_tiny_patch16_224": {"img_size": 32},
}


def from_torchvision(name: str) -> tuple[nn.Module, int]:
    size, options = SIZES.get(name, 64), {}
    if name.startswith("vit_"):
        options["image_size"] = size
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return torchvision.models.get_model(name, weights=None, **options), size


def from_timm(name: str) -> tuple[nn.Module, int]:
    model = pytest.importorskip("timm").create_model(name, pretrained=False, **TIMM[name])
    return model, TIMM[name].get("img_size", 64)


def from_transformers(name: str) -> tuple[nn.Module, int]:
    transformers = pytest.importorskip("transformers")
    configuration, model = (
        getattr(transformers, f"{name}{kind}") for kind in ("Config", "ForImageClassification")
    )
    return model(configuration(**TRANSFORMERS[name])), 32


TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ViT": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "image_size": 32, "patch_size": 8,
    },
    "ConvNext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    "Swin": {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2],
        "num_heads": [2, 4], "window_size": 4,
    },
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
}  # fmt: skip


def trained(model: nn.Module) -> nn.Module:
    """Weights that let a signal through: new models start some of them at zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.02)
            elif name.endswith(("layer_scale", "gamma", "lambda")):
                parameter.fill_(0.5)
    return model


def classes(outputs: Any) -> Tensor:
    """What a model in either mode returns for class scores."""
    found: Tensor = outputs if isinstance(outputs, Tensor) else outputs.logits
    return found


class Trace:
    """What a heatmap could leave behind on a model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = dict(model.named_parameters())
        self.versions = {name: p._version for name, p in self.parameters.items()}
        self.grads = {name: p.grad for name, p in self.parameters.items()}
        self.state = copy.deepcopy(model.state_dict())
        self.modes = [(module, module.training) for module in model.modules()]
        self.attributes = [set(vars(module)) for module in model.modules()]

    def check(self) -> None:
        """Nothing is left behind."""
        now = dict(self.model.named_parameters())
        assert all(now[name] is parameter for name, parameter in self.parameters.items())
        assert {name: p._version for name, p in now.items()} == self.versions
        assert all(now[name].grad is grad for name, grad in self.grads.items())
        assert all(p.requires_grad for p in now.values())
        assert all(torch.equal(v, self.state[k]) for k, v in self.model.state_dict().items())
        assert all(module.training == mode for module, mode in self.modes)
        assert [set(vars(module)) for module in self.model.modules()] == self.attributes
        for module in self.model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert not module._backward_hooks


def in_training(model: nn.Module) -> nn.Module:
    """In training, but for one submodule, with gradients of a step that is yet to come."""
    model.train()
    next(m for m in model.modules() if not list(m.children())).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.01) if number % 2 else None
    return model


def check_heatmaps(model: nn.Module, x: Tensor, target: Tensor) -> None:
    for name in METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = heatmaps.get(name)(model, x, target)
        assert result.shape == (2, *x.shape[2:]), name
        assert bool(torch.isfinite(result).all()), name
        assert bool((result.flatten(1).std(dim=1) > 0).all()), name


def evaluated(model: nn.Module, x: Tensor) -> Tensor:
    """Outputs in eval mode; the modes stay what they are."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.no_grad():
        outputs = classes(model.eval()(x))
    for module, mode in modes:
        module.training = mode
    return outputs


class Failing(nn.Module):
    """Runs part of the way in which a network goes, and then fails."""

    def __init__(self, network: nn.Module, failing: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.failing = [failing(network)]  # not a submodule of its own

    def forward(self, x: Tensor) -> Tensor:
        (late,) = self.failing
        handle = late.register_forward_pre_hook(self._fail)
        try:
            return self.network(x)  # type: ignore[no-any-return]
        finally:
            handle.remove()

    def _fail(self, *_: Any) -> None:
        raise ZeroDivisionError


def leaves_in_order(model: nn.Module, x: Tensor) -> list[nn.Module]:
    """Modules without children, as an evaluation calls them."""
    executed: list[nn.Module] = []
    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [m.register_forward_pre_hook(lambda m, _: executed.append(m)) for m in leaves]
    evaluated(model, x)
    for handle in handles:
        handle.remove()
    return executed


def check_model(model: nn.Module, size: int) -> None:
    """Heatmaps are sane, nothing is left behind, and training goes on."""
    model = in_training(trained(model))
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    before, trace = evaluated(model, x), Trace(model)
    # Classes whose score is above zero, where a ReLU is the last operation.
    check_heatmaps(model, x, before.argmax(dim=1))
    trace.check()
    executed = leaves_in_order(model, x)
    failing = Failing(model, lambda _: executed[len(executed) // 2])
    with pytest.raises(ZeroDivisionError):
        heatmaps.get("lrp")(failing, x, before.argmax(dim=1))
    trace.check()
    after = evaluated(model, x)
    assert torch.equal(before, after)
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not torch.equal(evaluated(model, x), after)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    torch.manual_seed(0)
    check_model(*from_torchvision(name))


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    torch.manual_seed(0)
    check_model(*from_timm(name))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    torch.manual_seed(0)
    check_model(*from_transformers(name))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("network", "late"),
    [("resnet18", lambda model: model.layer4), ("mobilenet_v3_small", lambda m: m.classifier)],
)
def test_a_model_that_fails_half_way_is_left_as_it_was(
    name: str, network: str, late: Callable[[nn.Module], nn.Module]
) -> None:
    model = in_training(Failing(from_torchvision(network)[0], late))
    trace, x = Trace(model), torch.randn(2, 3, 64, 64)
    with pytest.raises(ZeroDivisionError):
        heatmaps.get(name)(model, x, torch.tensor([0, 1]))
    trace.check()
    assert model.network(x).shape == (2, 1000)  # no mode of ours is left on the stack
