from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.network.isolation import ModelModifiedError, untouched, unwritten
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


def add_one(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[0].weight.add_(1)


def add_one_unseen(model: Any) -> None:
    model[0].weight.data.add_(1)


def replace_data(model: Any) -> None:
    model[0].weight.data = model[0].weight.data + 1


def add_one_and_fail(model: nn.Sequential) -> None:
    add_one_unseen(model)
    raise ZeroDivisionError


def look(model: nn.Module, change: Any, context: Any = untouched) -> None:
    with context(model):
        change(model)


def test_a_changed_parameter_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"0\.weight"):
        look(small_network(), add_one)


@pytest.mark.parametrize("change", [add_one, add_one_unseen, replace_data, add_one_and_fail])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_unwritten_sees_each_change_of_a_value(change: Any, dtype: torch.dtype) -> None:
    model = small_network().to(dtype).to(memory_format=torch.channels_last)
    with pytest.raises(ModelModifiedError, match=r"looked at: 0\.weight\. A"):
        look(model, change, unwritten)


def test_unwritten_lets_the_untouched_pass() -> None:
    def swap_and_back(model: nn.Sequential) -> None:
        kept = model[0].weight.data
        model[0].weight.data = kept.abs()
        model[0].weight.data = kept

    look(small_network(), swap_and_back, unwritten)
    with pytest.raises(ZeroDivisionError):
        look(small_network(), lambda model: 1 / 0, unwritten)


def test_what_is_left_on_the_model_is_taken_away() -> None:
    model: Any = small_network()
    parameter, pooling, kept = model[0].weight, model[4], [1, 2]
    model.cache, model.seen, model.calls = {}, kept, 0

    def leave(model: Any) -> None:
        model[0].weight = nn.Parameter(torch.zeros(8, 3, 3, 3))
        model[0].register_forward_hook(lambda layer, inputs, output: output * 2)
        model[3].p = 0.9
        model[4] = nn.AvgPool2d(2)
        model.cache["a"], model.calls, model.extra = 1, model.calls + 1, nn.Linear(1, 1)
        model.seen.append(3)
        torch.set_default_dtype(torch.float64)

    look(model, leave)
    assert model[0].weight is parameter
    assert not model[0]._forward_hooks
    assert model[3].p == 0.25
    assert model[4] is pooling
    assert (model.cache, model.seen, model.calls) == ({}, [1, 2], 0)
    assert model.seen is kept
    assert not hasattr(model, "extra")
    assert torch.get_default_dtype() is torch.float32


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
