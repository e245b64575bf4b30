"""What processes ask of each other in the forwards of a sharded model: noted, and joined in.

A process that fails in the middle of a forward leaves the others waiting for its part of the next
exchange. It can join in all the same, with zeros: what comes of it is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Exchange:
    """One exchange between the processes of a group.

    Attributes:
        kind: a name of `KINDS`.
        group: which of the groups that this process belongs to, in the order of their making.
        shapes: of the tensors.
        dtype: of the tensors, as a text.
    """

    kind: str
    group: int
    shapes: Shapes
    dtype: str

    def ranks(self) -> list[int]:
        """The processes that take part, if this one does."""
        groups = own_groups()
        if self.group >= len(groups):
            return []
        return list(dist.get_process_group_ranks(groups[self.group]))

    def join(self, device: torch.device) -> None:
        """Take part, with zeros."""
        dtype = getattr(torch, self.dtype.removeprefix("torch."))
        tensors = [torch.zeros(shape, dtype=dtype, device=device) for shape in self.shapes]
        KINDS[self.kind](tensors, own_groups()[self.group])


def own_groups() -> list[Any]:
    """The process groups that this process belongs to, in the order of their making."""
    return list(dist.distributed_c10d._world.pg_map)


# How to take part, given the tensors of the operator in their order.
_Join = Callable[[list[Tensor], Any], object]
KINDS: dict[str, _Join] = {
    "c10d::_allgather_base_": lambda t, g: dist.all_gather_into_tensor(t[0], t[1], group=g),
    "c10d::allgather_": lambda t, g: dist.all_gather(t[:-1], t[-1], group=g),
    "c10d::_reduce_scatter_base_": lambda t, g: dist.reduce_scatter_tensor(t[0], t[1], group=g),
    "c10d::allreduce_": lambda t, g: [dist.all_reduce(one, group=g) for one in t],
    "c10d::broadcast_": lambda t, g: dist.broadcast(t[0], group=g, group_src=0),
    "c10d::barrier": lambda t, g: dist.barrier(group=g),
    "c10d::alltoall_base_": lambda t, g: dist.all_to_all_single(t[0], t[1], group=g),
    "_c10d_functional::all_gather_into_tensor": lambda t, g: dist.all_gather_into_tensor(
        t[0].new_empty(dist.get_world_size(g) * t[0].shape[0], *t[0].shape[1:]), t[0], group=g
    ),
    "_c10d_functional::all_reduce": lambda t, g: dist.all_reduce(t[0], group=g),
    "_c10d_functional::all_reduce_": lambda t, g: dist.all_reduce(t[0], group=g),
    "_c10d_functional::reduce_scatter_tensor": lambda t, g: dist.reduce_scatter_tensor(
        t[0].new_empty(t[0].shape[0] // dist.get_world_size(g), *t[0].shape[1:]), t[0], group=g
    ),
    "_c10d_functional::all_to_all_single": lambda t, g: dist.all_to_all_single(
        torch.empty_like(t[0]), t[0], group=g
    ),
}
_LIBRARIES = ("c10d", "_c10d_functional")
_WITHOUT_PARTNERS = ("wait_tensor", "_wrap_tensor_autograd")
# Tensors that are worked on by operations of other tensors, and these are what is to be seen.
_MADE_OF_OTHERS = ("DTensor", "AsyncCollectiveTensor")


class OutOfStepError(RuntimeError):
    """Processes ask a sharded model for different things, so that they would wait for ever."""


class UnknownExchangeError(RuntimeError):
    """A network exchanges something between its processes in a way that is not known here."""


class Exchanges(TorchDispatchMode):
    """Within this context, each exchange is told before it is made.

    Args:
        tell: called with it; raises to keep it from being made.
    """

    def __init__(self, tell: Callable[[Exchange], None]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator."""
        if any(kind.__name__ in _MADE_OF_OTHERS for kind in types):
            return NotImplemented
        kwargs = kwargs or {}
        if func.namespace in _LIBRARIES and func.overloadpacket.__name__ not in _WITHOUT_PARTNERS:
            self._tell(exchange_of(func, (*args, *kwargs.values())))
        return func(*args, **kwargs)


def exchange_of(func: Any, arguments: tuple[Any, ...]) -> Exchange:
    """What a call of an operator of torch's distributed package exchanges."""
    kind = func.overloadpacket._qualified_op_name
    group = next((found for found in map(_group, arguments) if found is not None), None)
    tensors = list(_tensors(arguments))
    if kind not in KINDS or group is None or not tensors:
        raise UnknownExchangeError(
            f"the network calls {kind} between its processes, which a look at a sharded model "
            "does not know how to take part in: tell us what makes this call"
        )
    shapes = tuple(tuple(tensor.shape) for tensor in tensors)
    return Exchange(kind, own_groups().index(group), shapes, str(tensors[0].dtype))


def _group(argument: Any) -> Any:
    """The process group that an argument is, or names."""
    if isinstance(argument, str):
        return next((g for g in own_groups() if g.group_name == argument), None)
    if isinstance(argument, torch.ScriptObject) and "ProcessGroup" in str(argument._type()):
        return dist.ProcessGroup.unbox(argument)
    return None


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from _tensors(member)
