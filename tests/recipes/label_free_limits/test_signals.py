from __future__ import annotations

import math
from typing import Any

import pytest

from recipes.label_free_limits.signals import Signal, signals

POINT = {
    "step": 300,
    "aopc/train/lrp": 0.5, "aopc/validation/lrp": 0.3,
    "aopc/train/random": 0.4, "aopc/validation/random": 0.2,
    "aopc/train/lrp_sem": 0.01, "aopc/train/random_sem": 0.01, "aopc/train/confidence_sem": 0.01,
    "aopc/train/confidence": 1.0, "aopc/validation/confidence": 0.8,
    "aopc/validation/lrp_gain": 0.1, "aopc/validation/lrp_srg": 0.16,
    "normalized/lrp": 0.7, "normalized/lrp_srg": 0.5,
    "rivals/confidence": 0.82, "rivals/negative_entropy": -0.4,
    "rivals/atc_confidence": 0.6, "rivals/atc_entropy": 0.61,
}  # fmt: skip

BY_HAND = {
    "step": 300,
    "confidence": 0.82, "negative_entropy": -0.4, "atc_confidence": 0.6, "atc_entropy": 0.61,
    "confidence_ratio": 0.8, "confidence_difference": -0.2,
    "random": 0.2, "random_relative": 0.25, "random_ratio": 0.5, "random_difference": -0.2,
    "random_relative_ratio": 0.625, "random_relative_difference": -0.15,
    "lrp": 0.3, "lrp_relative": 0.375, "lrp_ratio": 0.6, "lrp_difference": -0.2,
    "lrp_relative_ratio": 0.75, "lrp_relative_difference": -0.125,
    "lrp_gain": 0.1, "lrp_srg": 0.16, "lrp_srg_relative": 0.2,
    "lrp_normalized": 0.7, "lrp_srg_normalized": 0.5,
}  # fmt: skip


def by_name(*args: Any) -> dict[str, Signal]:
    return {signal.name: signal for signal in signals(*args)}


def test_every_signal_by_hand() -> None:
    found = {name: signal.of(POINT) for name, signal in by_name(["lrp"]).items()}
    assert found == pytest.approx(BY_HAND)


def test_heatmaps_do_not_take_each_others_numbers() -> None:
    """Signals are made in loops, where a late look at the loop's variable would show."""
    other = {key.replace("lrp", "other"): 2 * value for key, value in POINT.items() if "lrp" in key}
    found = by_name(["lrp", "other"])
    both = {**POINT, **other}
    assert {name: found[name].of(both) for name in BY_HAND} == pytest.approx(BY_HAND)
    assert found["other_relative"].of(both) == pytest.approx(0.75)


def test_names_and_definitions_are_each_ones_own() -> None:
    found = signals(["lrp", "sensitivity_l2"])
    assert len({signal.name for signal in found}) == len(found)
    assert len({signal.definition for signal in found}) == len(found)


def test_without_normalized_aopc() -> None:
    assert set(BY_HAND) - set(by_name(["lrp"], False)) == {"lrp_normalized", "lrp_srg_normalized"}


def test_the_control_has_no_value_where_nothing_is_trained() -> None:
    assert math.isnan(by_name(["lrp"])["step"].of({}))


@pytest.mark.parametrize(("measured", "has_value"), [(0.021, True), (0.02, False), (-0.5, False)])
def test_a_ratio_to_noise_has_no_value(measured: float, has_value: bool) -> None:
    point = {**POINT, "aopc/train/lrp": measured}
    for name in ("lrp_ratio", "lrp_relative_ratio"):
        signal = by_name(["lrp"])[name]
        assert math.isfinite(signal.of(point)) == has_value
        assert "no value unless AOPC of lrp of the training images is above 2" in signal.definition
    assert math.isfinite(by_name(["lrp"])["lrp_difference"].of(point))
    assert math.isfinite(by_name(["lrp"])["random_ratio"].of(point))
