"""Compiled forwards: the call is compiled, never the module, and failing costs a warning."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.network.backends import compiled as backend
from tests.modules import small_network
from tests.settings import with_execution

has_compiler = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(not has_compiler, reason="no C++ compiler")


def images() -> Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return small_network()


def area(model: Any, **changes: Any) -> AOPCResult:
    # Chunks of one size, since another one would be compiled anew.
    settings = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0), "chunk_size": 8, **changes}
    return area_over_perturbation_curve(
        model, images(), images().mean(dim=1), **with_execution(settings)
    )


def train_a_step(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers after a step with dropout and BatchNorm from a seed."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()(images()).square().sum().backward()
    optimizer.step()
    return [*model.parameters(), *model.buffers()]


class Compiler:
    """Stands in for the compiler: runs what it is given as it is, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.count += 1
        return graph.forward


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    counting = Compiler()

    def call(model: nn.Module, x: Tensor) -> Any:
        return model(x)

    compiled = torch.compile(call, backend=counting)
    monkeypatch.setattr(backend, "_compiled_call", lambda _: compiled)
    yield counting
    torch.compiler.reset()


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def compiled(model: nn.Module, x: Tensor) -> Any:
        raise error

    monkeypatch.setattr(backend, "_compiled_call", lambda _: compiled)


@needs_compiler
def test_compiled_forwards_have_the_same_values_and_leave_the_module_alone() -> None:
    model, untouched = network().train(), network().train()
    parts, attributes = list(model.modules()), set(vars(model))
    state = copy.deepcopy(model.state_dict())
    eager = area(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message='backend="compile"')
        result = area(model, backend="compile")
    torch.testing.assert_close(result.curves, eager.curves, rtol=0, atol=1e-5)
    assert [id(part) for part in model.modules()] == [id(part) for part in parts]
    assert set(vars(model)) == attributes
    assert not any(isinstance(part, OptimizedModule) for part in parts)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for _ in range(2):
        for one, other in zip(train_a_step(model), train_a_step(untouched), strict=True):
            assert torch.equal(one, other)
        area(model, backend="compile")


def test_a_network_that_comes_back_is_compiled_once(compiler: Compiler) -> None:
    model = network().eval()
    eager = area(model)
    assert compiler.count == 0
    for _ in range(3):
        assert torch.equal(area(model, backend="compile").curves, eager.curves)
    assert compiler.count == 1


def test_new_weights_count_at_once(compiler: Compiler) -> None:
    """A compiled forward is that of the network as it is, not as it was when it was compiled."""
    model = network().eval()
    before = area(model, backend="compile")
    train_a_step(model)
    after = area(model, backend="compile")
    assert not torch.equal(after.curves, before.curves)
    assert torch.equal(after.curves, area(model).curves)
    assert compiler.count == 1


def test_a_network_that_does_not_compile_is_called_as_it_is_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail(monkeypatch, TypeError("no such instruction\nat line 3"))
    model = network().eval()
    with pytest.warns(UserWarning, match='backend="compile"') as caught:
        results = [area(model, backend="compile") for _ in range(2)]
    (warning,) = caught
    assert str(warning.message).endswith("called as it is. TypeError: no such instruction")
    for result in results:
        assert torch.equal(result.curves, area(model).curves)
    with pytest.warns(UserWarning, match='backend="compile"'):  # of another network
        area(network().eval(), backend="compile")


def test_too_little_memory_is_no_reason_not_to_compile(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller chunk may do, compiled."""
    subject, sizes = network().eval(), []
    compiled = backend._compiled_call(subject)

    def full(model: nn.Module, x: Tensor) -> Any:
        sizes.append(len(x))
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compiled(model, x)

    monkeypatch.setattr(backend, "_compiled_call", lambda _: full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = area(subject, backend="compile")
    assert sizes == [8] + [4] * (2 + 2 * 8)
    torch.testing.assert_close(result.curves, area(network().eval()).curves, rtol=0, atol=1e-6)
    assert compiler.count == 1


def test_a_network_with_compiled_parts_is_called_as_it_is_with_one_warning() -> None:
    """Its training needs what torch allows it to compile."""
    backend = Compiler()
    whole, part = network().eval(), network().eval()
    part[0] = torch.compile(part[0], backend=backend)  # type: ignore[assignment]
    in_place = network().eval()
    in_place[5].compile(backend=backend)
    for model in (torch.compile(whole, backend=backend), part, in_place):
        with pytest.warns(UserWarning, match='backend="compile": .*compiled already') as caught:
            results = [area(model, backend="compile") for _ in range(2)]
        assert len(caught) == 1
        for result in results:
            assert torch.equal(result.curves, area(network().eval()).curves)
    assert backend.count == 0


def test_compiled_forwards_are_cast_too(compiler: Compiler) -> None:
    model = network().eval()
    cast = area(model, backend="compile", autocast=torch.bfloat16)
    assert torch.equal(cast.curves, area(model, autocast=torch.bfloat16).curves)
    assert compiler.count == 1


def test_each_network_is_compiled_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch compiles one and the same function for eight of them."""
    counting = Compiler()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting))
    networks = [network().eval() for _ in range(10)]
    for model in networks:
        area(model, backend="compile")
    assert counting.count == len(networks)
    torch.compiler.reset()


def test_an_error_without_a_message_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, NotImplementedError())
    with pytest.warns(UserWarning, match="called as it is. NotImplementedError: $"):
        area(network().eval(), backend="compile")
