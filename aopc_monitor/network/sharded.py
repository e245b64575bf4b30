"""Models whose parameters are spread over processes: their local parts, and leaving no trace there.

FSDP2 (`fully_shard`) puts whole parameters in place for the forward and the backward of a block and
takes them away again; tensor parallelism keeps each process's part. In both a parameter at rest is
a `DTensor`, of which this process holds a part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

# Nearly all tensors are of these types, of which none is a `DTensor`.
_PLAIN = (Tensor, nn.Parameter)


def is_sharded(model: nn.Module) -> bool:
    """Whether no process has all parameters of a model, so that its forwards take all processes.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    return any(map(_is_dtensor, model.parameters())) or any(_states(model.modules()))


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is a `DTensor`.

    Example:
        >>> parameter = nn.Parameter(torch.ones(2))
        >>> local_part(parameter) is parameter
        True
    """
    if type(tensor) in _PLAIN or not _is_dtensor(tensor):
        return tensor
    local: Tensor = tensor._local_tensor  # type: ignore[attr-defined]
    return local


def brings_weights(hook: Any) -> bool:
    """Whether a hook on a tensor is one by which FSDP gathers the weights of a backward pass.

    Without it the backward pass would read memory that is no longer there.
    """
    return str(getattr(hook, "__module__", "")).startswith("torch.distributed.")


def compute_device(model: nn.Module) -> torch.device:
    """Where a model computes, which is elsewhere than its parameters where these are offloaded."""
    state = next(_states(model.modules()), None)
    if state is not None:
        device: torch.device = state._device
        return device
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def is_first_copy(model: nn.Module) -> bool:
    """Whether this process is the first of those that hold parts of the same layers.

    These have to be given the same images, which count once: tensor parallelism cuts layers, and
    FSDP spreads parameters over processes with images of their own.
    """
    data = {
        name
        for state in _states(model.modules())
        for group in _groups(state)
        for name in group.mesh_info.mesh.mesh_dim_names or (None,)
    }
    for parameter in model.parameters():
        if _is_dtensor(parameter):
            mesh = parameter.device_mesh  # type: ignore[attr-defined]
            names = mesh.mesh_dim_names or (None,) * mesh.ndim
            places = zip(names, mesh.get_coordinate(), strict=True)
            if any(place != 0 for name, place in places if name not in data):
                return False
    return True


def gathered_now(model: nn.Module) -> str:
    """Which blocks have their whole parameters in place, so that they are not gathered again."""
    groups = [group for state in _states(model.modules()) for group in _groups(state)]
    places = [str(place) for place, group in enumerate(groups) if group.is_unsharded]
    return f" ({' '.join(places)} in place)" if places else ""


# Of the models that are looked at now.
_GROUPS: list[Any] = []


def are_in_blocks() -> bool:
    """Whether a model is looked at whose parameters FSDP2 gathers block by block."""
    return bool(_GROUPS)


def bring_back(parameters: Iterable[Tensor | None]) -> None:
    """Gather the whole parameters of blocks in the middle of a backward pass, as FSDP2 does itself.

    It does when a signal comes to what a block returned, and a rule that takes two blocks for one
    layer has the signal go another way. Nothing is done for parameters that are in place.
    """
    wanted = {id(parameter) for parameter in parameters if parameter is not None}
    for group in _GROUPS:
        if any(id(getattr(p, "_unsharded_param", None)) in wanted for p in group.fsdp_params):
            group.pre_backward(False)


class UnsupportedShardingError(RuntimeError):
    """The parameters of a model are spread over processes in a way that a look cannot take."""


def check_sharding(modules: Iterable[nn.Module]) -> None:
    """Raise UnsupportedShardingError for FSDP1 and DeepSpeed's stage 3.

    Between their forwards parameters lie in memory that was given back; to read it ends a process.
    """
    how = None
    modules = list(modules)
    if any(kind.__name__ == "FullyShardedDataParallel" for kind in set(map(type, modules))):
        how = "FullyShardedDataParallel (FSDP1)"
    elif any(hasattr(p, "ds_tensor") for m in modules for p in m._parameters.values()):
        how = "DeepSpeed's ZeRO stage 3"
    if how is not None:
        raise UnsupportedShardingError(
            f"the model is under {how}, whose parameters are not there between forwards: use FSDP2 "
            "(torch.distributed.fsdp.fully_shard) or ZeRO's stages 1 and 2, or look at a loaded "
            "checkpoint"
        )


def at_rest(modules: Iterable[nn.Module]) -> None:
    """Take whole parameters away that a forward has left in place, as after a validation.

    Raises:
        UnsupportedShardingError: see `check_sharding`.
    """
    modules = list(modules)
    check_sharding(modules)
    for state in _states(modules):
        # The outermost has to be the first that ever runs, while a part may be looked at alone.
        state._lazy_init()
        for group in _groups(state):
            if group.is_unsharded and _is_idle(group):
                group.reshard()


@contextmanager
def untouched_shards(modules: Iterable[nn.Module]) -> Iterator[None]:
    """What FSDP2 keeps beside the parameters is afterwards as it was, also after an exception.

    Inside, a backward pass reduces no gradients, and finds none: those that a training accumulates
    wait in the same place, and would go along.
    """
    states = list(_states(modules))
    groups = [group for state in states for group in _groups(state)]
    reduces = [group.reduce_grads for group in groups]
    indices = [list(group._post_forward_indices) for group in groups]
    orders = [(order, list(order)) for order in _orders(states)]
    gradients = [(parameter, _exchanged(parameter, (None, None))) for parameter in _inside(groups)]
    for group in groups:
        group.reduce_grads = False
        group._post_forward_indices.clear()
    for order, _ in orders:  # a backward pass gathers what was last in a forward before its own
        order.clear()
    _GROUPS.extend(groups)
    try:
        yield
    finally:
        del _GROUPS[len(_GROUPS) - len(groups) :]
        for state in states:
            _reset(state)
        for group, reduce, index in zip(groups, reduces, indices, strict=True):
            group.reduce_grads = reduce
            group._post_forward_indices[:] = index
        for order, before in orders:
            order[:] = before
        for parameter, kept in gradients:
            _exchanged(parameter, kept)


def _inside(groups: list[Any]) -> Iterator[Any]:
    """What FSDP2 knows of each parameter."""
    return chain.from_iterable(group.fsdp_params for group in groups)


def _exchanged(parameter: Any, gradients: tuple[Tensor | None, Tensor | None]) -> Any:
    """The unreduced gradients of a parameter, in whose place are others from here on."""
    before = parameter.unsharded_accumulated_grad, None
    parameter.unsharded_accumulated_grad = gradients[0]
    if hasattr(parameter, "_unsharded_param"):  # once it was gathered
        before = before[0], parameter._unsharded_param.grad
        parameter._unsharded_param.grad = gradients[1]
    return before


def _reset(state: Any) -> None:
    """Leave a forward or backward that was broken off; gradients stay where they are."""
    state._comm_ctx.all_gather_state = None
    state._state_ctx.iter_forward_root = None
    state._state_ctx.post_backward_final_callback_queued = False
    state._training_state = type(state._training_state).IDLE
    getattr(state, "_modules_to_run_forward", set()).clear()
    for group in _groups(state):
        _take_in(group)
        group._training_state = type(group._training_state).IDLE
        if not group.is_sharded:
            group.reshard()


def _take_in(group: Any) -> None:
    """Wait for parameters that were asked for and are not needed any more."""
    pending = group._all_gather_result
    if pending is None:
        return
    if pending.all_gather_event is not None:
        group.device_handle.current_stream().wait_event(pending.all_gather_event)
    if hasattr(pending.all_gather_work, "wait"):
        pending.all_gather_work.wait()
    group._all_gather_result = None


def _states(modules: Iterable[nn.Module]) -> Iterator[Any]:
    """FSDP2's states of a model's modules, outermost first; several may share one."""
    if "torch.distributed.fsdp" not in sys.modules:
        return
    from torch.distributed.fsdp import FSDPModule

    modules = list(modules)
    if not any(issubclass(kind, FSDPModule) for kind in set(map(type, modules))):
        return
    seen: set[int] = set()
    for module in modules:
        if isinstance(module, FSDPModule):
            state = module._get_fsdp_state()
            if id(state) not in seen:
                seen.add(id(state))
                yield state


def _groups(state: Any) -> list[Any]:
    """The parameters that are gathered together: one group for each module in earlier versions."""
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    group = state._fsdp_param_group
    return [] if group is None else [group]


def _orders(states: list[Any]) -> list[list[Any]]:
    """In which order forwards went; shared by the states of one root."""
    shared = {id(state._comm_ctx): state._comm_ctx for state in states}
    return [context.post_forward_order for context in shared.values()]


def _is_idle(group: Any) -> bool:
    return bool(group._training_state == type(group._training_state).IDLE)


def _is_dtensor(tensor: Tensor) -> bool:
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)
