"""The operation at which a network stops depending on its images, for the message that says so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.heatmaps.engine.calls import Operation, plain_name, tensors_in
from aopc_monitor.heatmaps.engine.explained_network import Network


def reaches(tensor: Tensor, start: Any) -> bool:
    """Whether a tensor's graph goes back to the node `start`, the `grad_fn` of another one.

    Example:
        >>> x, w = (torch.ones(2, requires_grad=True).clone() for _ in range(2))
        >>> reaches((x * w).sum(), x.grad_fn), reaches(w.sum(), x.grad_fn)
        (True, False)
    """
    nodes: list[Any] = [tensor.grad_fn]
    seen: set[Any] = set()
    while nodes:
        node = nodes.pop()
        if node is start:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            nodes.extend(following for following, _ in node.next_functions)
    return False


class _LastLoss(TorchFunctionMode):
    """Follows what was made of the images, and remembers the operation that cut it off."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.from_images: Any = WeakIdKeyDictionary()
        self.from_images[images] = True
        self.name = ""

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [t for t in tensors_in((args, kwargs or {})) if t in self.from_images]
        for tensor in tensors_in(result) if inputs else ():
            self.from_images[tensor] = True
            cut = tensor.is_floating_point() and not tensor.requires_grad
            if cut and any(signal.requires_grad for signal in inputs):
                self.name = plain_name(func)
        return result


def where_it_ends(network: Network, images: Tensor) -> str:
    """A clause that names the operation after which nothing depends on the images any more."""
    entrance = images.detach().clone().requires_grad_().clone()
    with torch.enable_grad(), _LastLoss(entrance) as follower:
        network.outputs(entrance)
    names = {"data": ".data", "detach": ".detach()"}
    if follower.name:
        found = names.get(follower.name, follower.name)
        return f": the last operation that cut the dependence off is {found}"
    return ": look for .detach(), .data, torch.no_grad or rounding in forward"
