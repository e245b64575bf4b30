"""Other libraries' attributions as heatmaps, and any function's.

None of these libraries is imported here; the caller has them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps.pooling import POOLS, pooled
from aopc_monitor.network.isolation import untouched
from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@dataclass(frozen=True)
class AdaptedHeatmap:
    """A function (model, images, target) -> attributions as a heatmap.

    Attributes:
        function: returns (N, C, H, W), (N, 1, H, W) or (N, H, W), or the same of another kind of
            input: a tensor or a numpy array.
        pool: how channels are pooled: "sum" (signed), "l2" or "linf".
        name: what logs and reports call it.

    Raises:
        ValueError: for an unknown pool.
    """

    function: Callable[..., Any] = field(repr=False)
    pool: str = "sum"
    name: str = "adapted"

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise ValueError(f"pool={self.pool!r} is unknown: choose one of {', '.join(POOLS)}")
        if not callable(self.function):
            raise TypeError(f"function={self.function!r} is not callable")

    @property
    def __name__(self) -> str:
        """The name, as functions have one."""
        return self.name

    def __call__(self, model: nn.Module, images: Tensor, target: Tensor | None = None) -> Tensor:
        """`(N, *space)` relevance; the model is left as it was.

        Raises:
            RuntimeError: if the function changed parameters or left hooks on the model; the hooks
                are removed.
            ValueError: if what it returned does not have the shape of the images.
        """
        images = checked_inputs(images)
        with untouched(model), _left_as_it_was(model):
            images = images.detach().clone()
            if target is None:
                with torch.no_grad():
                    target = model(images).argmax(dim=1)
            found = self.function(model, images, target)
        return self._checked(torch.as_tensor(found).detach().to(images.device), images)

    def _checked(self, attribution: Tensor, images: Tensor) -> Tensor:
        """The attribution, pooled over channels if it has them."""
        kind, shape = kind_of(images), attribution.shape
        some_channels = attribution.ndim == images.ndim and shape[1] in (1, images.shape[1])
        if some_channels:
            attribution = pooled(attribution, self.pool)
        if attribution.shape != kind.locations(images):
            or_pooled = ", or it with one channel or none" if kind.has_channels else ""
            raise ValueError(
                f"{self.name} returned attributions of shape {tuple(shape)} for {kind.name} of "
                f"shape {tuple(images.shape)}; wanted is that shape{or_pooled}"
            )
        return attribution


def from_callable(function: Callable[..., Any], pool: str = "sum") -> AdaptedHeatmap:
    """Any function (model, images, target) -> attributions of the images as a heatmap.

    Quantus's explanation functions take numpy arrays and return them: give
    `lambda model, images, target: explain(model, images.numpy(), target.numpy())`.

    Args:
        function: returns (N, C, H, W), (N, 1, H, W) or (N, H, W), or the same of another kind of
            input: a tensor or a numpy array.
        pool: how channels are pooled: "sum", "l2" or "linf".

    Example:
        >>> brightness = from_callable(lambda model, images, target: images)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> brightness(model, torch.ones(1, 3, 2, 2))
        tensor([[[3., 3.],
                 [3., 3.]]])
    """
    return AdaptedHeatmap(function, pool, _name_of(function))


def from_captum(attribution: Any, pool: str = "sum", **kwargs: Any) -> AdaptedHeatmap:
    """A captum attribution as a heatmap.

    Args:
        attribution: a class such as `captum.attr.Saliency`, a function from a model to an
            attribution object, which are given a copy of the model; or such an object, which then
            works for its own model only.
        pool: how channels are pooled: "sum", "l2" or "linf".
        **kwargs: for its `attribute`, besides images and target.

    Example:
        >>> import captum.attr
        >>> heatmap = from_captum(captum.attr.Saliency, pool="l2", abs=False)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
        >>> heatmap(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """
    is_bound = hasattr(attribution, "attribute") and not inspect.isclass(attribution)

    def attribute(model: nn.Module, images: Tensor, target: Tensor) -> Any:
        # captum's LRP changes the parameters for a while, so it gets a copy.
        bound = attribution if is_bound else attribution(copy.deepcopy(model))
        owner = getattr(bound, "model", None) or getattr(bound, "forward_func", None)
        if is_bound and owner is not model:
            raise ValueError(
                f"{name} was made for another model than the one to explain: give the class, such "
                "as captum.attr.Saliency, and not an object of it"
            )
        return bound.attribute(images.requires_grad_(), target=target, **kwargs)

    name = type(attribution).__name__ if is_bound else _name_of(attribution)
    return AdaptedHeatmap(attribute, pool, f"captum_{name}")


def from_zennit(composite: Any, pool: str = "sum") -> AdaptedHeatmap:
    """A zennit composite as a heatmap: relevance of the class score, by zennit's gradient.

    zennit's canonizers merge batch normalisation into layers and replace their parameters, after
    which an optimizer would go on with tensors that the model does not use any more. So this works
    on a copy of the model, made for each batch.

    Args:
        composite: such as `zennit.composites.EpsilonPlusFlat(canonizers=[...])`.
        pool: how channels are pooled: "sum", "l2" or "linf".

    Example:
        >>> from zennit.composites import EpsilonPlus
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> from_zennit(EpsilonPlus())(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    def attribute(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        copied = copy.deepcopy(model)
        images = images.requires_grad_()
        with composite.context(copied) as modified:
            outputs = modified(images)
            scores = outputs.gather(1, target.to(outputs.device)[:, None])
            (relevance,) = torch.autograd.grad(scores, images, scores.detach())
        return relevance

    return AdaptedHeatmap(attribute, pool, f"zennit_{type(composite).__name__}")


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Remove hooks and attributes that were left on the model.

    captum and others take theirs away themselves, but not if something raised in between. Hooks
    that stay without any error are named.
    """
    named = [(name or "the model", module) for name, module in model.named_modules()]
    hooks = [(name, getattr(m, kind)) for name, m in named for kind in _HOOKS]
    known = [set(kept) for _, kept in hooks]
    attributes = [(module, set(vars(module))) for _, module in named]
    left = []
    try:
        yield
    finally:
        for (name, kept), keys in zip(hooks, known, strict=True):
            for key in set(kept) - keys:
                del kept[key]
                left.append(name)
        for module, keys in attributes:
            for key in set(vars(module)) - keys:
                del vars(module)[key]
    if left:
        raise RuntimeError(f"a heatmap left hooks on {', '.join(sorted(set(left)))}; now removed")


def _name_of(function: Any) -> str:
    name: str = getattr(function, "__name__", type(function).__name__)
    return name
