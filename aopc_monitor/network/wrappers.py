"""The network inside what trains it: DistributedDataParallel, DeepSpeed, Fabric's modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


class CalledNetwork(nn.Module):
    """A callable from images to outputs as a network.

    Args:
        call: the callable.
        owner: the module whose parameters it works with.
    """

    def __init__(self, call: Callable[..., Any], owner: nn.Module) -> None:
        super().__init__()
        self.call, self.owner = call, owner
        self.training = owner.training

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the callable returns."""
        return self.call(*inputs, **named)


@contextmanager
def network_of(model: nn.Module, images: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
    """The network inside wrappers, and the images as the wrappers would hand them on.

    Wrappers take forwards for those of training: DistributedDataParallel then leaves out the next
    exchange of buffers, and Fabric wants its own backward. What they do for precision is done here.

    Args:
        model: a network, wrapped or not.
        images: (N, C, H, W).

    Example:
        >>> inner = nn.Linear(2, 2)
        >>> with network_of(DataParallel(inner), Tensor(1, 3, 4, 4)) as (network, _):
        ...     network is inner
        True
    """
    with ExitStack() as stack:
        while (precision := _precision(model)) is not None or _is_parallel(model):
            if precision is not None:
                images = precision.convert_input(images)
                stack.enter_context(precision.forward_context())
            inner: Any = model.module
            model = inner
        yield model, images


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside wrappers."""
    while _is_parallel(model) or _precision(model) is not None:
        inner: Any = model.module
        model = inner
    return model


def _is_parallel(model: nn.Module) -> bool:
    # DeepSpeed may be missing. A pipeline's engine, derived from this one, has a part alone.
    is_engine = type(model).__name__ == "DeepSpeedEngine"
    return is_engine or isinstance(model, (DataParallel, DistributedDataParallel))


def _precision(model: nn.Module) -> Any:
    """Fabric's precision of a module that it has wrapped; by name, since Fabric may be missing."""
    if type(model).__name__ != "_FabricModule":
        return None
    return model._strategy.precision  # type: ignore[union-attr]
