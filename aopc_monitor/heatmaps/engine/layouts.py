"""Memory layouts in which torch's own backward passes are right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import tensors_in

_BATCH_NORMALIZATIONS = frozenset({
    "batch_norm", "native_batch_norm", "native_batch_norm_legit", "cudnn_batch_norm",
    "native_batch_norm_legit_no_training",
})  # fmt: skip


def is_batch_norm(name: str) -> bool:
    """Whether the plain name of an operation is one of batch normalisation's."""
    return name.split(".")[0] in _BATCH_NORMALIZATIONS


def needs_order(images: Any) -> bool:
    """Whether a batch normalisation has to get its tensors in their order.

    On the CPU, torch 2.13 and 2.14 tell layouts apart by the strides of all dimensions, that of a
    batch of one too, which means nothing. Where features become tokens, as in hybrids of
    convolution and attention, gradients of (1, C, H, W) have such strides, and the backward pass of
    batch normalisation in eval mode reads them in the wrong order.
    """
    with torch._C.DisableTorchFunction():  # attributes are torch calls as well
        return isinstance(images, Tensor) and images.shape[0] == 1 and images.requires_grad


def order_signal(result: Any) -> None:
    """Have the signal that comes back to what was normalised put in its order."""
    with torch._C.DisableTorchFunction():  # no call of the network, which others would follow
        for normalized in tensors_in(result)[:1]:
            # There is no signal where what came after has another way round.
            normalized.register_hook(lambda signal: None if signal is None else signal.contiguous())
