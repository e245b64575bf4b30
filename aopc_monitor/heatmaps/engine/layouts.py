"""Memory layouts in which torch's own backward passes are right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aopc_monitor.heatmaps.engine.calls import Call, Operation, tensors_in

_BATCH_NORMALIZATIONS = frozenset({
    "batch_norm", "native_batch_norm", "native_batch_norm_legit", "cudnn_batch_norm",
    "native_batch_norm_legit_no_training",
})  # fmt: skip


class OrderedSingleImages(TorchFunctionMode):
    """Within this context, batch normalisation of one image gets its tensors in their order.

    On the CPU, torch 2.13 and 2.14 tell layouts apart by the strides of all dimensions, that of a
    batch of one too, which means nothing. Where features become tokens, as in hybrids of
    convolution and attention, gradients of (1, C, H, W) have such strides, and the backward pass of
    batch normalisation in eval mode reads them in the wrong order.
    """

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch call, and put what it reads in order if it needs that."""
        # Asked of every torch call, so without a `Call` where the name alone tells.
        if "batch_norm" not in getattr(func, "__name__", ""):
            return func(*args, **(kwargs or {}))
        call = Call(func, args, kwargs or {})
        if call.name.split(".")[0] not in _BATCH_NORMALIZATIONS:
            return func(*args, **(kwargs or {}))
        images = call.first
        if not isinstance(images, Tensor) or len(images) != 1 or not images.requires_grad:
            return func(*args, **(kwargs or {}))
        ordered = call.with_first(images.contiguous())
        result = ordered.operation(*ordered.args, **ordered.kwargs)
        with torch._C.DisableTorchFunction():  # no call of the network, which others would follow
            for normalized in list(tensors_in(result))[:1]:
                normalized.register_hook(lambda signal: signal.contiguous())
        return result
