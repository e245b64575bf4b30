"""What networks keep beside their parameters is put back, as far as it goes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torch import Tensor, nn

from aopc_monitor.heatmaps import Sensitivity
from aopc_monitor.network.isolation import ModelModifiedError, untouched
from tests.modules import small_network

IMAGES = torch.rand(4, 3, 16, 16)
Write = Callable[["Keeps"], object]


class Keeps(nn.Module):
    """A network with something beside it, which its forward writes to."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self.kept: Any = None
        self.write = write
        self.network = small_network()

    def forward(self, images: Tensor) -> Tensor:
        self.write(self)
        outputs: Tensor = self.network(images)
        return outputs

    def with_buffer(self, buffer: Tensor) -> Keeps:
        self.register_buffer("seen", buffer)
        return self


def in_training(model: Keeps) -> Keeps:
    """In the middle of a step: modes, frozen weights and gradients that are no matter of course."""
    write, model.write = model.write, lambda keeper: None
    model.train()
    model.network[1].eval()
    model.network[0].weight.requires_grad_(False)
    model(IMAGES).sum().backward()
    model.write = write
    return model


def training_state(model: nn.Module) -> list[Any]:
    modes = [(name, module.training) for name, module in model.named_modules()]
    parameters = [(name, p.requires_grad, id(p.grad)) for name, p in model.named_parameters()]
    return [modes, parameters]


def look(model: nn.Module) -> None:
    with untouched(model):
        model.requires_grad_(False)
        model(IMAGES)


# Buffers


def resize(keeper: Keeps) -> None:
    keeper.seen.resize_(7).fill_(3.0)


def double(keeper: Keeps) -> None:
    keeper.seen.mul_(2)


def double_in_inference_mode(keeper: Keeps) -> None:
    with torch.inference_mode():
        keeper.seen.mul_(2)


def made_in_inference_mode() -> Tensor:
    with torch.inference_mode():
        return torch.ones(3)


@pytest.mark.parametrize(
    ("buffer", "write"),
    [
        (torch.ones(3), resize),
        (torch.zeros(0), resize),
        (torch.eye(3).to_sparse(), double),
        (made_in_inference_mode(), double_in_inference_mode),
        (torch.tensor([float("nan"), 1.0]), double),
    ],
    ids=["resized", "resized from nothing", "sparse", "inference mode", "with NaN"],
)
def test_a_buffer_of_any_kind_has_its_values_back(buffer: Tensor, write: Write) -> None:
    before = buffer.clone()
    model = in_training(Keeps(write).with_buffer(buffer))
    expected = training_state(model)
    look(model)
    assert training_state(model) == expected
    assert model.seen is buffer
    assert buffer.shape == before.shape
    assert torch.equal(buffer.to_dense().nan_to_num(5.0), before.to_dense().nan_to_num(5.0))


def test_what_cannot_be_written_back_keeps_nothing_else_from_it() -> None:
    number = torch.ones(1)
    shared = number.expand(4)  # several places in the same memory, which torch does not write to
    last = nn.BatchNorm2d(8)
    model: Any = in_training(Keeps(lambda keeper: number.add_(1)).with_buffer(shared))
    model.calls, model.last = [1], last
    expected = training_state(model)
    with pytest.raises(ModelModifiedError, match=r"could not be put back.*RuntimeError"):
        look_and_write(model)
    assert training_state(model) == expected
    assert model.calls == [1]
    assert float(last.running_mean.sum()) == 0


def look_and_write(model: Any) -> None:
    with untouched(model):
        model(IMAGES)
        model.requires_grad_(False)
        model.calls.append(2)
        model.last.running_mean.add_(1)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)


class Stubborn(dict[str, int]):
    def clear(self) -> None:
        raise TypeError("Stubborn keeps what it has")


def test_a_container_that_cannot_be_emptied_is_named_and_the_rest_restored() -> None:
    def write(keeper: Keeps) -> None:
        keeper.kept["b"] = 2
        keeper.later.append(1)
        keeper.seen.mul_(2)

    model: Any = in_training(Keeps(write).with_buffer(torch.ones(3)))
    model.kept, model.later = Stubborn(a=1), []
    expected = training_state(model)
    with pytest.raises(ModelModifiedError, match="TypeError: Stubborn keeps what it has"):
        look(model)
    assert training_state(model) == expected
    assert model.later == []
    assert torch.equal(model.seen, torch.ones(3))


# What networks keep of their own


def test_a_tensor_that_is_no_buffer_has_its_values_back() -> None:
    def write(keeper: Keeps) -> None:
        keeper.kept += 1

    model = Keeps(write)
    model.kept = kept = torch.zeros(())
    look(model)
    assert model.kept is kept
    assert float(kept) == 0


def test_tensors_in_containers_within_containers_have_their_values_back() -> None:
    def write(keeper: Keeps) -> None:
        keeper.kept["means"][0].add_(1)
        keeper.kept["means"].append(torch.ones(2))
        keeper.kept["new"] = {}

    model = Keeps(write)
    first = torch.zeros(2)
    model.kept = {"means": [first]}
    look(model)
    assert list(model.kept) == ["means"]
    assert len(model.kept["means"]) == 1
    assert model.kept["means"][0] is first
    assert torch.equal(first, torch.zeros(2))


@pytest.mark.parametrize("as_list", [False, True])
def test_a_torchmetrics_state_is_as_it_was(as_list: bool) -> None:
    metric: Any = torchmetrics.CatMetric() if as_list else torchmetrics.MeanMetric()
    model = Keeps(lambda keeper: keeper.kept.update(torch.tensor([5.0])))
    model.kept = metric
    metric.update(torch.tensor([1.0]))
    look(model)
    assert metric.update_count == 1
    assert float(metric.compute()) == 1.0


class Averages(nn.Module):
    """Keeps the brightness so far, in a buffer and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)
        self.register_buffer("in_buffer", torch.zeros(()))
        self.in_attribute = torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        self.in_buffer += images.mean()
        self.in_attribute += images.mean()
        return self.layer(images.flatten(1)) * (1 + self.in_buffer + self.in_attribute)  # type: ignore[no-any-return]


def test_what_a_network_keeps_holds_no_graph_of_images_that_had_a_gradient() -> None:
    model, images = Averages(), torch.rand(4, 3, 2, 2)
    Sensitivity()(model, images)
    assert not model.in_buffer.requires_grad
    assert not model.in_attribute.requires_grad
    assert model.in_buffer == model.in_attribute == 0
    model(images).sum().backward()  # as a training does


class Holder:
    """Any object that a network may hold."""

    def __init__(self, generator: Any) -> None:
        self.inner = {"generators": [generator]}


def draw(generator: Any) -> float:
    if isinstance(generator, torch.Generator):
        return float(torch.rand((), generator=generator))
    return float(generator.random() if hasattr(generator, "random") else generator.rand())


GENERATORS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(1),
    "old numpy": lambda: np.random.RandomState(1),
    "python": lambda: random.Random(1),
}


@pytest.mark.parametrize("hide", [lambda g: g, lambda g: [g], Holder], ids=["own", "list", "held"])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_goes_on_where_it_was(name: str, hide: Callable[[Any], Any]) -> None:
    generator = GENERATORS[name]()
    model = Keeps(lambda keeper: draw(generator))
    model.kept = hide(generator)
    look(model)
    assert draw(generator) == draw(GENERATORS[name]())
