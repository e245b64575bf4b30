from __future__ import annotations

from typing import Any

import pytest
import torch

from aopc_monitor import heatmaps
from aopc_monitor.metrics import CleanBatch
from aopc_monitor.perturbation import PerturbationProtocol
from recipes.compare_heatmaps import areas
from recipes.compare_heatmaps.areas import Comparison, part_of
from tests.modules import small_network


@pytest.mark.parametrize(("num_images", "images_to_come"), [(0, 4), (100, 100)])
def test_a_block_tells_the_planner_of_the_forwards_of_all_blocks(
    num_images: int, images_to_come: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    class Noted(CleanBatch):
        @classmethod
        def of(cls, *args: Any, **keywords: Any) -> CleanBatch:
            told.append(keywords["to_come"])
            return CleanBatch.of(*args, **keywords)

    monkeypatch.setattr(areas, "CleanBatch", Noted)
    protocols = {size: PerturbationProtocol(size, 2, (0.0, 1.0)) for size in (2, 4)}
    named = heatmaps.named_heatmaps(["lrp", "sensitivity_l2"])
    comparison = Comparison(named, protocols, 0, num_images)
    found = comparison(small_network(), torch.rand(4, 3, 16, 16), [part_of(2), part_of(4)])
    assert found[part_of(4)]["curves"].shape == (4, 3, 3)
    assert told == [2 * images_to_come * (1 + 3 * 2)]
