"""The parts of a network are those that torch finds, in its order."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from aopc_monitor.network.parts import modules_of, parameters_of


def tied() -> nn.Module:
    """A network with a module in two places, a parameter in two modules, and an empty place."""
    shared, first, second = nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, shared, nn.Sequential(second, shared))
    model.register_module("none", None)
    return model


NETWORKS = {
    "tied": tied,
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))),
}


@pytest.mark.filterwarnings("ignore:.*jit:")
@pytest.mark.parametrize("name", NETWORKS)
def test_modules_and_parameters_are_those_of_torch(name: str) -> None:
    model = NETWORKS[name]()
    modules, parameters = modules_of(model), parameters_of(modules_of(model))
    assert [id(module) for module in modules] == [id(module) for module in model.modules()]
    found, wanted = ([p.data_ptr() for p in of] for of in (parameters, model.parameters()))
    assert found == wanted
