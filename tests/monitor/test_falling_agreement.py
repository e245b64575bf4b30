"""When the warning sign is given: not for noise, not for what falls altogether, and once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aopc_monitor.monitor.falling_agreement import falling_agreement

Looks = Sequence[tuple[float, float, float]]


def history(looks: Looks, sem: float = 0.02) -> list[dict[str, float]]:
    return [
        {
            "step": 10 * place,
            "aopc/agreement": agreement,
            "aopc/agreement_sem": sem,
            "aopc/lrp": aopc,
            "aopc/confidence": confidence,
        }
        for place, (agreement, aopc, confidence) in enumerate(looks)
    ]


FALLS: Looks = [(0.1, 0.1, 0.2), (0.5, 0.2, 0.4), (0.44, 0.3, 0.5), (0.45, 0.4, 0.6)]


def test_it_names_the_maximum_and_is_given_at_the_second_look() -> None:
    records = history([*FALLS, (0.3, 0.5, 0.7), (0.2, 0.6, 0.8)])
    found = falling_agreement(records, "aopc", "", "lrp")
    assert found is not None
    assert found.best is records[1]
    assert found.seen is records[3]
    line = found.line()
    assert "warning sign at step 30: aopc/agreement has fallen from its maximum at step 10" in line
    assert "0.500 ± 0.020 to 0.450, while aopc/lrp 0.200 to 0.400" in line
    assert falling_agreement(records[:3], "aopc", "", "lrp") is None


@pytest.mark.parametrize(
    "looks",
    [
        [*FALLS[:2], (0.47, 0.3, 0.5), (0.47, 0.4, 0.6)],  # within two standard errors
        [*FALLS[:3], (0.48, 0.4, 0.6), (0.4, 0.5, 0.7)],  # not in a row
        [*FALLS[:2], (0.4, 0.3, 0.3), (0.4, 0.4, 0.3)],  # confidence falls, too
        [*FALLS[:2], (0.4, 0.1, 0.5), (0.4, 0.1, 0.6)],  # AOPC falls, too
        [*FALLS[:3], (0.6, 0.4, 0.6), (0.5, 0.5, 0.7)],  # a new maximum
    ],
)
def test_what_is_no_sign(looks: Looks) -> None:
    assert falling_agreement(history(looks), "aopc", "", "lrp") is None


def test_the_larger_standard_error_counts() -> None:
    records = history(FALLS)
    records[2]["aopc/agreement_sem"] = 0.04
    assert falling_agreement(records, "aopc", "", "lrp") is None


def test_looks_without_agreement_are_passed_over() -> None:
    records = history(FALLS)
    records.insert(3, {"step": 25, "aopc/lrp": 0.3})
    found = falling_agreement(records, "aopc", "", "lrp")
    assert found is not None
    assert found.seen["step"] == 30
    assert falling_agreement(records, "aopc", "far", "lrp") is None
