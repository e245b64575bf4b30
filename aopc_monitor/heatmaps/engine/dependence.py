"""Where a network, or a part of it, stops depending on its images differentiably."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aopc_monitor.heatmaps.engine.calls import tensors_in
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.engine.operation_names import Operation, plain_name
from aopc_monitor.heatmaps.engine.tensor_table import TensorTable

WAY_OUT = (
    "freeze layers by requires_grad_(False) instead of cutting their activations off, or use the "
    'heatmap "occlusion", which needs no gradient'
)
# A gradient that changes by less, in units of its largest value, was cut off without effect.
CUT_TOLERANCE = 1e-3


class CutOffWarning(UserWarning):
    """A part of the network hands no gradient on, so that a heatmap leaves it out."""


def warn_of_cuts(network: Network, images: Tensor, target: Tensor) -> None:
    """Warn if the network's last forward pass cut off what its scores depend on."""
    names = network.cut_offs
    if names and _cuts_matter(network, images, target):
        message = (
            f"a part of the network hands no gradient on: its forward cuts values off by "
            f"{', '.join(names)}, so the heatmap leaves out what they depend on. If that is not "
            f"meant, {WAY_OUT}"
        )
        warnings.warn(CutOffWarning(message), stacklevel=3)


def _cuts_matter(network: Network, images: Tensor, target: Tensor) -> bool:
    """Whether scores or their gradient are others where cuts are undone.

    They are not where a cut only shields a constant (a maximum subtracted before a softmax, values
    kept for a log).
    """
    plain, undone = (_scores_and_gradient(network, images, target, undo) for undo in (False, True))
    pairs = zip(plain, undone, strict=True)
    return any((a - b).abs().max() > CUT_TOLERANCE * b.abs().max() for a, b in pairs)


def _scores_and_gradient(
    network: Network, images: Tensor, target: Tensor, undo: bool
) -> tuple[Tensor, Tensor]:
    images = images.detach().requires_grad_()
    outputs = network.outputs(images.clone(), undo_cuts=undo)
    scores = outputs.gather(1, target.to(outputs.device)[:, None])
    if not scores.requires_grad:
        return scores, torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(scores.sum(), images, allow_unused=True)
    return scores.detach(), torch.zeros_like(images) if gradient is None else gradient


class _LastLoss(TorchFunctionMode):
    """Follows what was made of the images, and remembers the operation that cut it off."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.from_images: TensorTable[bool] = TensorTable()
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
    ways = f"{WAY_OUT}, or give AOPCMonitor model_fn=, for a network without the cut"
    if follower.name:
        found = names.get(follower.name, follower.name)
        return f": the last operation that cut the dependence off is {found}; {ways}"
    return f": look for .detach(), .data, numpy or rounding in forward; {ways}"
