"""What is found out about an operation is kept for a table that nobody changes, and no other."""

from __future__ import annotations

import torch

from aopc_monitor.heatmaps import LRPEpsilon
from aopc_monitor.heatmaps.engine import treatments
from aopc_monitor.heatmaps.engine.operations import GRADIENT_IS_LRP
from aopc_monitor.heatmaps.engine.treatments import FixedRules, known_treatments, treatment_of


def test_they_are_kept_for_the_table_and_the_exact_operations() -> None:
    rules = FixedRules({"relu": print})
    known = known_treatments(rules, GRADIENT_IS_LRP)
    known[torch.relu] = treatment_of(torch.relu, rules, GRADIENT_IS_LRP)
    assert known_treatments(rules, GRADIENT_IS_LRP)[torch.relu].rule is print
    assert known_treatments(rules, None) == {}
    assert known_treatments(FixedRules(rules), GRADIENT_IS_LRP) == {}
    assert known_treatments(dict(rules), GRADIENT_IS_LRP) == {}


def test_those_of_functions_made_for_one_call_do_not_pile_up() -> None:
    rules = FixedRules({})
    for number in range(treatments.MOST_TREATMENTS + 2):
        known_treatments(rules, None)[lambda number=number: number] = treatment_of(
            torch.relu, rules, None
        )
    assert len(known_treatments(rules, None)) <= treatments.MOST_TREATMENTS


def test_lrp_epsilon_has_one_table_for_each_setting() -> None:
    images = torch.zeros(1, 3, 8, 8)
    assert LRPEpsilon().table(images) is LRPEpsilon().table(images)
    assert LRPEpsilon(0.1).table(images) is not LRPEpsilon().table(images)
