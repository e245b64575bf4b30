"""Tables by tensors: what they know, and when they forget it."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.tensor_table import TensorSet, TensorTable


def test_tensors_are_told_apart_by_identity() -> None:
    table, one, equal = TensorTable[int](), torch.ones(2), torch.ones(2)
    table[one] = 1
    table[one] = 2
    assert one in table
    assert equal not in table
    assert table[one] == table.get(one) == 2
    assert table.get(equal) is None
    assert table.get(equal, 3) == 3
    assert len(table) == 1
    table.discard(equal)
    table.discard(one)
    assert not table


def test_entries_go_with_their_tensors() -> None:
    table = TensorTable[int]()
    kept = [torch.ones(1) for _ in range(3)]
    for number in range(100):  # ids of tensors that are gone are given to others
        table[torch.ones(1)] = number
    for number, tensor in enumerate(kept):
        assert tensor not in table
        table[tensor] = number
    assert [table[tensor] for tensor in kept] == [0, 1, 2]
    assert len(table) == 3


def test_a_tensor_that_only_the_graph_holds_is_known_again() -> None:
    table, x = TensorTable[str](), torch.ones(2, requires_grad=True)
    y = x.exp()
    table[y] = "result"
    z = y.sum()
    del y
    gc.collect()
    (result,) = (z.grad_fn.next_functions[0][0]._saved_result,)  # type: ignore[union-attr]
    assert table.get(result) in (None, "result")  # known, or forgotten, and nothing else


def test_a_table_and_what_it_holds_go_without_the_garbage_collector() -> None:
    table, tensor = TensorTable[tuple[Tensor, object]](), torch.ones(2)
    held = torch.zeros(2)
    table[tensor] = (tensor, held)  # holds its own key, as layers hold their outputs
    seen = weakref.ref(held)
    gc.disable()
    try:
        del table, tensor, held
        assert seen() is None
    finally:
        gc.enable()


def test_a_set_tells_tensors_apart_by_identity() -> None:
    seen, one, equal = TensorSet(), torch.ones(2), torch.ones(2)
    assert seen.has_all([])
    assert not seen.has_all([one])
    seen.add(one)
    assert seen.has_all([one, one])
    assert not seen.has_all([one, equal])
    assert [tensor is one for tensor in seen.tensors()] == [True]


def test_a_set_knows_no_tensor_by_the_id_of_one_that_is_gone() -> None:
    seen = TensorSet()
    kept = [torch.ones(1) for _ in range(3)]
    for _ in range(100):
        seen.add(torch.ones(1))
    assert not any(seen.has_all([tensor]) for tensor in kept)
    assert seen.tensors() == []


def test_a_set_of_tensors_that_only_the_graph_holds() -> None:
    seen, x = TensorSet(), torch.ones(2, requires_grad=True)
    y = x.exp()
    seen.add(y)
    z = y.sum()
    del y
    gc.collect()
    assert z.requires_grad
    assert all(isinstance(tensor, Tensor) for tensor in seen.tensors())
