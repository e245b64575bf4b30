"""One evaluation by all processes of a trainer: each takes its share, all take one decision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import nn

from aopc_monitor.evaluation import Evaluation, evaluate
from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.probe import Probe
from aopc_monitor.protocol import PerturbationProtocol


class EvaluationError(RuntimeError):
    """An evaluation failed on this process or on another one."""


def evaluate_on_all_processes(
    trainer: Any,
    pl_module: Any,
    model: nn.Module,
    probe: Probe,
    heatmaps: Mapping[str, Heatmap],
    protocol: PerturbationProtocol,
    seed: int,
) -> Evaluation:
    """Evaluate the probe, split over the processes; the value does not depend on their number.

    Args:
        trainer: the Lightning trainer.
        pl_module: its module.
        model: the network to look at.
        probe: the images.
        heatmaps: the heatmaps by name.
        protocol: how to perturb.
        seed: seed of ties and noise.

    Returns:
        The same on every process.

    Raises:
        EvaluationError: on every process, if the evaluation failed on any.
    """
    own, error = None, None
    try:
        own = _own_share(trainer, pl_module, model, probe, heatmaps, protocol, seed)
    except Exception as caught:  # whatever a user's model or heatmap may raise
        error = caught
    # Before any other collective, so that no process waits for one that failed.
    failed = trainer.strategy.reduce_boolean_decision(error is not None, all=False)
    if failed or own is None:
        reason = f"{type(error).__name__}: {error}" if error else "it failed on another process"
        raise EvaluationError(reason) from error
    return own.with_vector(trainer.strategy.reduce(own.as_vector(), reduce_op="sum"))


def _own_share(
    trainer: Any,
    pl_module: Any,
    model: nn.Module,
    probe: Probe,
    heatmaps: Mapping[str, Heatmap],
    protocol: PerturbationProtocol,
    seed: int,
) -> Evaluation:
    share = list(probe.blocks(trainer.global_rank, trainer.world_size))
    # A process without images still has to know which sums there are.
    blocks = share or [next(probe.blocks())]
    parts = []
    precision = trainer.precision_plugin
    for images, labels in blocks:
        on_device = precision.convert_input(images.to(pl_module.device))
        with torch.inference_mode(False), precision.forward_context():
            parts.append(evaluate(model, on_device, labels, heatmaps, protocol, seed))
    total = reduce(add, parts)
    return total if share else total.emptied()
