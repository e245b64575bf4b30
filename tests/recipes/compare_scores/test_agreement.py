"""Ranks and rank correlations of scores, against scipy and by hand."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr

from recipes.compare_scores.agreement import Measured
from recipes.compare_scores.scores import CONTROL, SCORES

NAMES = ("one", "two", "three", "four", CONTROL)


def measured() -> Measured:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, len(NAMES), len(SCORES), generator=generator, dtype=torch.float64)
    # The whole is more than the noise: heatmaps differ.
    return Measured(NAMES, values + torch.arange(len(NAMES)).double()[None, :, None] / 2)


def test_correlations_are_spearmans_with_each_score_turned_so_that_larger_is_better() -> None:
    found = measured()
    signs = [1 if score.higher_is_better else -1 for score in SCORES.values()]
    turned = found.values * torch.tensor(signs)
    expected = spearmanr(turned.mean(dim=0).numpy())[0]
    torch.testing.assert_close(found.of_means, torch.from_numpy(expected))
    within = sum(torch.from_numpy(spearmanr(image.numpy())[0]) for image in turned) / len(turned)
    torch.testing.assert_close(found.within_images, within)
    pairs = found.pairs()
    assert len(pairs) == len(SCORES) * (len(SCORES) - 1) / 2
    assert [pair[2] for pair in pairs] == sorted((pair[2] for pair in pairs), reverse=True)


def test_places_and_leads_know_which_way_is_better() -> None:
    values = torch.zeros(3, len(NAMES), len(SCORES), dtype=torch.float64)
    values += torch.tensor([3.0, 1.0, 2.0, 0.0, -1.0])[:, None]
    found = Measured(NAMES, values)
    for column, (name, score) in enumerate(SCORES.items()):
        places = found.ranks[:, column].tolist()
        assert places == ([1, 3, 2, 4, 5] if score.higher_is_better else [5, 3, 4, 2, 1])
        better = 4.0 if score.higher_is_better else -4.0
        assert found.lead("one", name).mean == better
    assert found.without_control.heatmaps == NAMES[:-1]
    assert found.without_control.values.shape == (3, 4, len(SCORES))


def test_an_undefined_value_is_left_out_and_a_score_that_never_differs_has_no_rank() -> None:
    values = measured().values
    values[2, 1, 3] = torch.nan
    values[:, :, 0] = 0.5
    found = Measured(NAMES, values)
    kept = values[[0, 1, 3, 4, 5], 1, 3]
    assert found.estimate("two", "deletion").mean == pytest.approx(float(kept.mean()))
    assert found.of_means[0].isnan().all()
    assert not found.of_means[3, 1:].isnan().any()
    assert not found.within_images[3, 1:].isnan().any()
