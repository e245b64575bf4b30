"""The row of one network: what works on it, and how well LRP conserves relevance."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import LRPEpsilon
from benchmarks.heatmap_coverage.networks import Subject
from benchmarks.peers import EPSILON

METHODS = ("sensitivity_l2", "deconvolution_l2", "lrp", "lrp_alpha2_beta1", "lrp_epsilon_plus")
LIMIT = 1e-6
CHANGED = "no: it changed the model"


def works(subject: Subject) -> list[str]:
    """For each method the word yes, or what went wrong."""
    return [_works(subject, method) for method in METHODS]


def _works(subject: Subject, method: str) -> str:
    model = subject.model
    before = fingerprint(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            relevance = heatmaps.get(method)(model, subject.images, subject.target)
    except Exception as error:
        return f"no: {type(error).__name__}"
    if not bool(torch.isfinite(relevance).all()) or not bool(relevance.std() > 0):
        return "no: constant or not finite"
    return "yes" if fingerprint(model) == before else CHANGED


def conservation(subject: Subject, relevance: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> str:
    """Largest |sum R - f| / |f| over the images, or what was raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sums = relevance(subject.model, subject.images, subject.target).sum(dim=(1, 2))
    except Exception as caught:
        return f"raises {type(caught).__name__}"
    scores = subject.scores()
    return in_bold_above(float(((sums - scores).abs() / scores.abs()).max()), LIMIT)


@dataclass
class Losses:
    """Where relevance went that does not reach the pixels, in units of the score.

    Attributes:
        absorbed: by constants, as `heatmaps.check` reports it; the image with the most.
        left: what neither the pixels nor these constants have; the image with the most.
        without_rule: operations that relevance passed by their plain gradient.
    """

    absorbed: float = 0.0
    left: float = 0.0
    without_rule: set[str] = field(default_factory=set)


def losses(subject: Subject, epsilon: float = EPSILON) -> Losses:
    """What `heatmaps.check` says of LRP-epsilon, asked of each image by itself."""
    found = Losses()
    lrp = LRPEpsilon(epsilon)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in subject.alone():
            report = heatmaps.check(one.model, one.images, lrp, one.target)
            reached = float(lrp(one.model, one.images, one.target).sum() / one.scores())
            absorbed = float(report.absorbed or 0.0)
            found.absorbed = max(found.absorbed, absorbed, key=abs)
            found.left = max(found.left, abs(reached + absorbed - 1))
            found.without_rule.update(report.without_rule)
    return found


def in_bold_above(value: float, limit: float) -> str:
    """A number, in bold where it is wrong."""
    return f"{value:.1e}" if value < limit else f"**{value:.1e}**"


def fingerprint(model: nn.Module) -> list[object]:
    """What must be the same after a heatmap: parameters and buffers to the last bit."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bits = [(name, id(tensor), _sum_of_bits(tensor)) for name, tensor in tensors]
    gradients = [(p._version, p.requires_grad, p.grad is None) for p in model.parameters()]
    of_modules = [
        (
            m.training,
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            len(m._backward_hooks),
            sorted(vars(m)),
        )
        for m in model.modules()
    ]
    return [bits, gradients, of_modules]


def _sum_of_bits(tensor: Tensor) -> int:
    """Changes with any change of a single value."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    return int(real.contiguous().view(whole[real.element_size()]).sum())
