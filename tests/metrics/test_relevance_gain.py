from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, SymmetricRelevanceGain
from tests.modules import small_network

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 16, "data_range": (0.0, 1.0)}


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def images(count: int = 12) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def updated(metric: AOPC, x: Tensor) -> AOPC:
    metric.update(network(), x)
    return metric


def test_gain_is_the_difference_of_both_orders_under_the_same_noise() -> None:
    gain = updated(SymmetricRelevanceGain("lrp", **SETTINGS), images())
    morf, lerf = (updated(AOPC("lrp", order=o, **SETTINGS), images()) for o in ("morf", "lerf"))  # type: ignore[arg-type]
    torch.testing.assert_close(gain.compute(), morf.compute() - lerf.compute())
    torch.testing.assert_close(gain.curve(), lerf.curve() - morf.curve())
    # Where everything is replaced, both orders have arrived at the same noise.
    assert float(gain.curve()[-1]) == pytest.approx(0, abs=1e-6)


def test_turning_a_heatmap_over_turns_the_gain_over() -> None:
    def brightness(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return x.mean(dim=1)

    def darkness(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return -x.mean(dim=1)

    one = updated(SymmetricRelevanceGain(brightness, **SETTINGS), images())
    other = updated(SymmetricRelevanceGain(darkness, **SETTINGS), images())
    torch.testing.assert_close(one.compute(), -other.compute())


def test_a_constant_heatmap_gains_nothing() -> None:
    def constant(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    assert float(updated(SymmetricRelevanceGain(constant, **SETTINGS), images()).compute()) == 0


def test_relative_area_is_a_share_of_the_clean_score() -> None:
    one = images(1)
    plain, relative = (updated(AOPC(relative=r, **SETTINGS), one) for r in (False, True))
    confidence = network()(one).softmax(1).max()
    torch.testing.assert_close(relative.compute(), plain.compute() / confidence)
    gain = updated(SymmetricRelevanceGain(relative=True, **SETTINGS), one)
    whole = updated(SymmetricRelevanceGain(**SETTINGS), one)
    torch.testing.assert_close(gain.compute(), whole.compute() / confidence)


def test_relative_needs_positive_scores() -> None:
    with pytest.raises(ValueError, match="relative=True, but f"):
        updated(AOPC(relative=True, score="log_probability", **SETTINGS), images())


def test_metrics_of_different_kinds_do_not_merge() -> None:
    with pytest.raises(ValueError, match="other settings"):
        AOPC(**SETTINGS).merge_state(SymmetricRelevanceGain(**SETTINGS))
    with pytest.raises(ValueError, match="other settings"):
        AOPC(**SETTINGS).merge_state(AOPC(relative=True, **SETTINGS))


def test_the_order_is_not_to_choose() -> None:
    with pytest.raises(TypeError, match="always takes both"):
        SymmetricRelevanceGain("lrp", order="morf", **SETTINGS)
