"""Whether a network is still what it was."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from aopc_monitor.network.backends.state import is_same, state_of
from tests.modules import small_network


def test_a_copy_is_the_same_whatever_it_holds() -> None:
    model: Any = small_network()
    model.nan, model.function = torch.tensor([float("nan")]), lambda x: x
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    model.register_buffer("bfloat16_ones", torch.ones(2, dtype=torch.bfloat16))
    model.table = {"a": (1, [torch.ones(2)])}
    copied = copy.deepcopy(model)
    assert is_same(state_of(model), state_of(copied))
    copied.table["a"][1][0][0] = 2
    assert not is_same(state_of(model), state_of(copied))
    del copied.table
    assert not is_same(state_of(model), state_of(copied))


def test_the_types_of_numbers_count() -> None:
    model = nn.Linear(2, 2)
    state = state_of(copy.deepcopy(model))
    assert is_same(state, state_of(model))
    assert not is_same(state, state_of(model.double()))
