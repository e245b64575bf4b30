"""One forward pass under rules and its backward pass, from the class scores to the images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.dependence import where_it_ends
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.engine.vmapped import vmap_as_loop
from aopc_monitor.network.sharded import is_sharded
from aopc_monitor.utilities.checks import check_target

MakeRules: TypeAlias = Callable[[Tensor], BackwardRules | None]


class BackwardPass(NamedTuple):
    """What came of a forward pass under rules and its backward pass.

    Attributes:
        outputs: (N, classes).
        scores: (N,) outputs of the explained class, where the backward pass started.
        signal: (N, C, H, W) at the images.
        carried: (N, C, H, W) relevance that came on its own way (see `carried_relevance`), if any.
    """

    outputs: Tensor
    scores: Tensor
    signal: Tensor
    carried: Tensor | None


def backward_pass(
    network: Network,
    images: Tensor,
    target: Tensor,
    rules: MakeRules | None = None,
    start: Callable[[Tensor], Tensor] | None = None,
) -> BackwardPass:
    """One forward pass under rules, and the backward pass from the score of the target class.

    Args:
        network: whose outputs are explained.
        images: (N, C, H, W).
        target: (N,) classes.
        rules: makes the rules of the forward pass from the tensor that goes in.
        start: from the (N,) scores to the signal that each starts with; 1 if not given.

    Raises:
        ValueError: for a target out of range, or if the outputs do not depend on the images.
    """
    images = images.detach().requires_grad_()
    outputs, explained, mode = _forward(network, images, rules)
    if mode is not None and mode.wrote_over_used:  # TorchScript does not tell what it is given
        outputs, explained, mode = _forward(network, images, rules, spares_copies=False)
    target = target.to(outputs.device)
    check_target(target, *outputs.shape)
    scores = explained.gather(1, target[:, None])[:, 0]
    signals: list[Tensor | None] = [None, None]
    if scores.requires_grad:
        carried = None if mode is None else mode.carriers.relevance
        ends = [images] if carried is None else [images, carried]
        weights = torch.ones_like(scores) if start is None else start(scores.detach())
        starts, given = [scores], [weights]
        if explained is not outputs and outputs.requires_grad and is_sharded(network.model):
            # A block's weights come once a signal reaches its outputs: here those of a softmax,
            # which the relevance does not start from.
            starts, given = [scores, outputs], [weights, torch.zeros_like(outputs)]
        signals = [*_gradients(starts, ends, given), None][:2]
    if mode is not None:
        mode.warn()
    if signals[0] is None and signals[1] is None:
        raise ValueError(
            "the model's outputs do not depend differentiably on its images, so there is nothing "
            f"to show{where_it_ends(network, images)}"
        )
    signal = torch.zeros_like(images) if signals[0] is None else signals[0]
    return BackwardPass(outputs.detach(), scores.detach(), signal, signals[1])


def _forward(
    network: Network,
    images: Tensor,
    rules: MakeRules | None,
    *,
    spares_copies: bool = True,
) -> tuple[Tensor, Tensor, BackwardRules | None]:
    """Outputs, where the backward pass starts (see `start_of`), and what the rules found."""
    # The network gets a clone, so that its first operation may work in place.
    entrance = images.clone()
    mode = None if rules is None else rules(entrance)
    if mode is not None:
        mode.spares_copies = spares_copies
    with nullcontext() if mode is None else vmap_as_loop():
        outputs = network.outputs(entrance, mode)
    return outputs, outputs if mode is None else mode.start_of(outputs), mode


def _gradients(
    starts: list[Tensor], ends: list[Tensor], given: list[Tensor]
) -> list[Tensor | None]:
    """Signals at the ends, from those given at the starts; None at an end that none reaches."""
    try:
        # autograd.grad and not .backward(): the parameters' .grad stays out of it.
        return list(torch.autograd.grad(starts, ends, given, allow_unused=True))
    except RuntimeError as error:
        # The second forward pass, which saves memory, does not know of the rules.
        if "checkpoint" in str(error).lower():
            raise RuntimeError(
                "the model uses activation checkpointing also in eval mode, whose second "
                "forward pass knows nothing of heatmaps: switch it on `if self.training` only"
            ) from error
        raise
