"""How forwards are carried out is one argument of every metric; what it was before is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from aopc_monitor import Execution, metrics
from tests.modules import small_network

X = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
REGIONS: dict[str, Any] = {"region_size": 8, "steps": 3, "data_range": (0.0, 1.0)}


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def updated(metric: Any) -> float:
    metric.update(network(), X)
    return float(metric.compute())


CALLS: dict[str, Callable[..., float]] = {
    "AOPC": lambda **how: updated(metrics.AOPC("sensitivity_l2", **REGIONS, **how)),
    "SymmetricRelevanceGain": lambda **how: updated(
        metrics.SymmetricRelevanceGain("sensitivity_l2", **REGIONS, **how)
    ),
    "SensitivityN": lambda **how: updated(
        metrics.SensitivityN("sensitivity_l2", n=2, region_size=8, **how)
    ),
    "area_over_perturbation_curve": lambda **how: float(
        metrics.area_over_perturbation_curve(network(), X, X.mean(1), **REGIONS, **how).mean
    ),
    "estimate_aopc": lambda **how: (
        metrics.estimate_aopc(network(), [X], "sensitivity_l2", **REGIONS, **how).aopc.mean
    ),
    "aopc_bounds": lambda **how: float(
        metrics.aopc_bounds(network(), X, **REGIONS, **how).upper.mean()
    ),
    "sensitivity_n": lambda **how: float(
        metrics.sensitivity_n(network(), X, X.mean(1), n=2, region_size=8, **how).mean
    ),
}


def test_every_metric_that_asks_a_network_is_here() -> None:
    asking = [kind for kind in metrics.METRICS if "execution" in str(inspect.signature(kind))]
    # Decisions are the same in a lower precision; Agreement is tested beside what it does.
    elsewhere = {"Agreement"}
    names = {kind.__name__ for kind in asking} | {"SymmetricRelevanceGain"}
    assert names - elsewhere <= set(CALLS)
    assert metrics.HeatmapComplexity not in asking


@pytest.mark.parametrize("name", CALLS)
def test_the_execution_is_used_and_changes_the_cost_only(name: str) -> None:
    usual = CALLS[name]()
    for execution in (Execution(2), Execution(channels_last=True)):
        assert CALLS[name](execution=execution) == pytest.approx(usual, abs=1e-5)
    assert CALLS[name](execution=Execution(autocast=torch.bfloat16)) != usual


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("keyword", [field.name for field in fields(Execution)])
def test_a_keyword_that_has_moved_is_told(name: str, keyword: str) -> None:
    message = rf"^{name}\(\) takes no {keyword}: give execution=Execution\({keyword}=\.\.\.\)$"
    with pytest.raises(TypeError, match=message):
        CALLS[name](**{keyword: 1})


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.AOPC("lrp", chunk_size=8),  # type: ignore[call-arg]
        lambda: metrics.SymmetricRelevanceGain("lrp", chunk_size=8),
        lambda: metrics.area_over_perturbation_curve(chunk_size=8),  # type: ignore[call-arg]
    ],
)
def test_a_keyword_that_has_moved_is_told_before_those_that_are_missing(
    call: Callable[[], object],
) -> None:
    with pytest.raises(TypeError, match="takes no chunk_size: give execution=Execution"):
        call()


@pytest.mark.parametrize("name", ["area_over_perturbation_curve", "estimate_aopc", "aopc_bounds"])
def test_a_keyword_that_never_was_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'step'$"):
        CALLS[name](step=1)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("given", [{"chunk_size": 3}, {}, 0, False])
def test_what_is_no_execution_is_told(name: str, given: Any) -> None:
    with pytest.raises(TypeError, match=r"^execution=.* is no Execution: give Execution\(chunk"):
        CALLS[name](execution=given)
