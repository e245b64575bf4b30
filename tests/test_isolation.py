from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.isolation import untouched
from tests.modules import small_network


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_generators_go_on_as_if_nothing_had_happened() -> None:
    def seeded(look: bool) -> list[float]:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        if look:
            with untouched(nn.Identity(), seed=5):
                inside.append(draws())
        return draws()

    inside: list[list[float]] = []
    assert seeded(look=True) == seeded(look=False)
    seeded(look=True)
    assert inside[0] == inside[1]


@pytest.mark.parametrize("fails", [False, True])
def test_modes_gradients_and_buffers_are_restored(fails: bool) -> None:
    model = small_network().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model(torch.rand(4, 3, 16, 16)).sum().backward()
    modes = [module.training for module in model.modules()]
    grads = [p.grad for p in model.parameters()]
    values = [None if g is None else g.clone() for g in grads]
    buffers = {name: b.clone() for name, b in model.named_buffers()}

    def look() -> None:
        with untouched(model):
            assert not any(module.training for module in model.modules())
            assert all(p.grad is None for p in model.parameters())
            model[0].weight.requires_grad_(True)
            model.train()
            model(torch.rand(4, 3, 16, 16)).sum().backward()
            model[1].running_mean = torch.ones(8)
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            look()
    else:
        look()
    assert [module.training for module in model.modules()] == modes
    assert not model[0].weight.requires_grad
    for parameter, grad, value in zip(model.parameters(), grads, values, strict=True):
        assert parameter.grad is grad
        if grad is not None and value is not None:
            assert torch.equal(grad, value)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name])


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_gradients_can_be_taken_anywhere(outer: Any) -> None:
    model = small_network()
    with outer():
        images = torch.rand(2, 3, 16, 16)
        with untouched(model):
            x = images.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(model(x).sum(), x)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (outer is torch.inference_mode)
    assert gradient.abs().sum() > 0


def write(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[0].weight.add_(1)


def replace(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(torch.zeros(8, 3, 3, 3))


@pytest.mark.parametrize("change", [write, replace])
def test_a_changed_parameter_is_an_error(change: Any) -> None:
    model = small_network()

    def look() -> None:
        with untouched(model):
            change(model)

    with pytest.raises(RuntimeError, match=r"0\.weight"):
        look()


def test_buffers_that_come_and_go_are_restored() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", None)
            self.register_buffer("unknown", torch.tensor([float("nan"), 1.0]))

        def forward(self, x: Tensor) -> Tensor:
            self.cache = x
            self.register_buffer("mask", x)
            del self.unknown
            return x

    model = Caches()
    unknown = model.unknown
    version = unknown._version
    with untouched(model):
        model(torch.ones(1))
    assert model.cache is None
    assert set(dict(model.named_buffers())) == {"unknown"}
    assert model.unknown is unknown
    assert unknown._version == version


def test_a_model_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), untouched(small_network()):
        raise ZeroDivisionError


def test_compiled_models_run_eagerly() -> None:
    compiles: list[int] = []

    def backend(graph: Any, inputs: list[Tensor]) -> Any:
        compiles.append(1)
        return graph.forward

    model = torch.compile(small_network(), backend=backend)
    with untouched(model):  # type: ignore[arg-type]
        model(torch.rand(2, 3, 16, 16))
    assert compiles == []
