"""Heatmaps that differ in their norm are made in one backward pass, and are what they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.heatmaps.base import NormHeatmap
from aopc_monitor.heatmaps.deconvolution import guide, rectifier_rules, rectify_signal
from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.several_norms import SeveralNorms, in_passes
from aopc_monitor.metrics import CleanBatch
from aopc_monitor.network import ChunkSizes, Execution, untouched
from tests.modules import small_network

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NAMES = ("sensitivity_linf", "lrp", "deconvolution_l2", "sensitivity_l2", "deconvolution_linf")


@dataclass(frozen=True)
class Squared(NormHeatmap):
    """One that pools in a way of its own."""

    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        return result.signal.square().sum(dim=1) if self.norm == "l2" else result.signal[:, 0]


@dataclass(frozen=True)
class RuledByNorm(heatmaps.Deconvolution):
    """One whose rules depend on the norm."""

    def backward_rules(self, images: Tensor) -> BackwardRules:
        rule = rectify_signal if self.norm == "l2" else guide
        return BackwardRules("of the norm", rectifier_rules(rule, rule), None, images)


class Constructed(heatmaps.Sensitivity):
    """One with a constructor of its own, and something that is no field."""

    def __init__(self, power: int, **others: Any) -> None:
        super().__init__(**others)
        object.__setattr__(self, "power", power)


@dataclass(frozen=True)
class Uncompared(heatmaps.Sensitivity):
    """One with a field that does not count for equality."""

    rule: Any = field(default=None, kw_only=True, compare=False)


@dataclass(frozen=True)
class WithTensor(heatmaps.Sensitivity):
    """One whose equality has no truth value."""

    baseline: Tensor = field(default_factory=lambda: torch.zeros(3), kw_only=True)


@dataclass(frozen=True, slots=True)
class WithSlots(heatmaps.Sensitivity):
    """One whose members are not in its dictionary."""

    power: int = field(default=1, kw_only=True)


def _made(makers: list[Heatmap], calls: list[int], target: Tensor | None = None) -> list[Tensor]:
    torch.manual_seed(0)
    model, chunks = small_network().eval(), ChunkSizes.of(2, IMAGES)
    with untouched(model):
        clean = CleanBatch.of(model, IMAGES, "probability", Execution(), chunks, target)
        model.register_forward_hook(lambda *_: calls.append(1))
        return clean.all_heatmaps(makers, chunks)


def test_they_are_what_each_is_alone_in_fewer_passes() -> None:
    makers = [heatmaps.get(name) for name in NAMES]
    calls: list[int] = []
    together = _made(makers, calls)
    assert len(calls) == 3 * 3  # three passes of three chunks
    for make, found in zip(makers, together, strict=True):
        (alone,) = _made([make], [])
        assert found.equal(alone)
        assert found.is_contiguous()


def test_a_class_of_the_users_may_have_rules_that_depend_on_the_norm() -> None:
    found = _made([RuledByNorm(norm=norm) for norm in ("l2", "linf")], [])
    alike = [heatmaps.Deconvolution(norm="l2"), heatmaps.GuidedBackpropagation(norm="linf")]
    for one, expected in zip(found, _made(alike, []), strict=True):
        assert one.equal(expected)


def test_where_nothing_is_explained_there_are_as_many_without_rows() -> None:
    no_label = torch.zeros(len(IMAGES), 4, dtype=torch.bool)
    found = _made([heatmaps.get(name) for name in NAMES], [], no_label)
    assert [one.shape for one in found] == [(0, 16, 16)] * len(NAMES)


@pytest.mark.parametrize(
    "pair",
    [
        (Squared(), Squared(norm="linf")),
        (heatmaps.Sensitivity(), heatmaps.Sensitivity(norm="linf", keep_precision=True)),
        (heatmaps.Sensitivity(), heatmaps.Deconvolution(norm="linf")),
        (heatmaps.SmoothGrad(), heatmaps.SmoothGrad(norm="linf")),
        (heatmaps.LRPEpsilon(), heatmaps.LRPEpsilon()),
        (Constructed(1), Constructed(2)),
        (Uncompared(rule=min), Uncompared(rule=max)),
        (WithTensor(), WithTensor(baseline=torch.ones(3))),
        (WithSlots(), WithSlots(power=2)),
    ],
)
def test_what_differs_in_more_keeps_its_own_pass(pair: tuple[Heatmap, Heatmap]) -> None:
    (first, places), (second, others) = in_passes(pair)
    assert (first is pair[0], places, second is pair[1], others) == (True, [0], True, [1])


def test_all_else_is_that_of_the_heatmap() -> None:
    def logits(answer: Tensor) -> Tensor:
        return answer

    pair = [heatmaps.GuidedBackpropagation(norm=norm, output_fn=logits) for norm in ("l2", "linf")]
    ((made, places),) = in_passes(pair)
    assert isinstance(made, SeveralNorms)
    assert (made.output_fn, made.norms, places) == (logits, ("l2", "linf"), [0, 1])
