"""Fidelity by random removals: against what the network was in fact asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.metrics import (
    comprehensiveness,
    fidelity_minus,
    fidelity_plus,
    sufficiency,
)
from tests.metrics.functional.removals import Case
from tests.metrics.functional.test_kinds import SHAPES

DRAWS = 40
SHARES = (0.25, 0.5)
REGIONS = 16


def recorded(asked: list[Tensor]) -> nn.Module:
    """A network, and what it is asked about goes into a list."""

    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            layers = nn.Flatten(), nn.Linear(REGIONS, 6), nn.Tanh(), nn.Linear(6, 3)
            self.layers = nn.Sequential(*layers)

        def forward(self, images: Tensor) -> Tensor:
            # Not a list of its own, which would afterwards be as it was before.
            asked.append(images.detach().clone())
            return self.layers(images)  # type: ignore[no-any-return]

    return Recorded().double().eval()


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (0.3, 1.0)])
@pytest.mark.parametrize("measure", [fidelity_plus, fidelity_minus])
def test_drops_are_those_of_what_was_removed(measure: Any, alpha: float, beta: float) -> None:
    seen: list[Tensor] = []
    model = recorded(seen)
    image = 1 + torch.rand(1, 1, 4, 4, dtype=torch.float64)
    heatmap = torch.randperm(REGIONS, generator=torch.Generator().manual_seed(3)).view(1, 4, 4)
    result = measure(
        model, image, heatmap.double(), region_size=1, shares=SHARES, alpha=alpha, beta=beta,
        draws=DRAWS,
    )  # fmt: skip
    asked = torch.cat(seen)[-DRAWS * len(SHARES) :].flatten(1)
    gone = (asked == 0).view(DRAWS, len(SHARES), REGIONS)
    target = int(model(image).argmax())
    with torch.no_grad():
        scores = model(asked.view(-1, 1, 4, 4)).softmax(1)[:, target].view(DRAWS, -1).mean(0)
        drops = model(image).softmax(1)[0, target] - scores
    torch.testing.assert_close(result.scores[0], scores, rtol=0, atol=1e-9)
    assert float(result.mean) == pytest.approx(float(drops.mean()), abs=1e-9)
    # Each removal is a random part of the explanation, or of what is not in it.
    for number, share in enumerate(SHARES):
        is_in = heatmap.flatten() >= REGIONS - round(share * REGIONS)
        is_in = is_in if measure is fidelity_plus else ~is_in
        assert not gone[:, number][:, ~is_in].any()
        rate = min(alpha, beta * REGIONS / int(is_in.sum()))
        trials = DRAWS * int(is_in.sum())
        error = (rate * (1 - rate) / trials) ** 0.5
        assert abs(float(gone[:, number][:, is_in].double().mean()) - rate) < 3 * error
        # Regions go by themselves, and not all together.
        assert len({tuple(row) for row in gone[:, number].tolist()}) > DRAWS // 4


@pytest.mark.parametrize("kind", SHAPES)
def test_all_of_it_removed_is_comprehensiveness_or_sufficiency(kind: str) -> None:
    case = Case(kind)
    given: dict[str, Any] = {"shares": (0.2, 0.6), "region_size": case.region_size}
    whole = {**given, "alpha": 1.0, "beta": 1.0, "draws": 2}
    for random, plain in ((fidelity_plus, comprehensiveness), (fidelity_minus, sufficiency)):
        found = random(case.model, case.inputs, case.heatmaps, **whole)
        expected = plain(case.model, case.inputs, case.heatmaps, **given)
        torch.testing.assert_close(found.per_image, expected.per_image, rtol=0, atol=1e-9)
        assert found.forwards == len(case.inputs) * (1 + 2 * 2)


def test_the_papers_score_is_whether_the_label_is_predicted() -> None:
    case = Case("images")
    labels = torch.tensor([0, 1, 2])
    result = fidelity_plus(
        case.model, case.inputs, case.heatmaps, region_size=case.region_size, target=labels,
        score=lambda outputs, target: (outputs.argmax(dim=1) == target).float(), draws=4,
    )  # fmt: skip
    is_right = (case.model(case.inputs).argmax(dim=1) == labels).double()
    assert torch.equal(result.scores * 4, (result.scores * 4).round())
    torch.testing.assert_close(result.per_image, is_right - result.scores.mean(dim=1))


def test_the_same_images_get_the_same_removals() -> None:
    case = Case("images")
    given: dict[str, Any] = {"region_size": case.region_size, "draws": 3}
    one, same = (
        fidelity_plus(case.model, case.inputs, case.heatmaps, **given).per_image for _ in range(2)
    )
    generator = torch.Generator().manual_seed(9)
    other = fidelity_plus(case.model, case.inputs, case.heatmaps, **given, generator=generator)
    assert torch.equal(one, same)
    assert not torch.equal(one, other.per_image)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"beta": 1.5}, "beta=1.5"),
        ({"draws": 0}, "draws"),
        ({"alpha": "a"}, "alpha='a'"),
    ],
)
def test_what_cannot_be_is_told(wrong: dict[str, Any], message: str) -> None:
    case = Case("tables")
    with pytest.raises(ValueError, match=message):
        fidelity_plus(case.model, case.inputs, case.heatmaps, **wrong)
