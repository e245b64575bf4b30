"""Several labels of texts, and of images that see each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, area_over_perturbation_curve
from aopc_monitor.perturbation import Constant

LABELS = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]])


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.vectors, self.convolution = nn.Embedding(50, 8), nn.Conv1d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        features = self.convolution(self.vectors(input_ids).transpose(1, 2)).relu()
        return 3 * self.head(features.amax(dim=2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("heatmap", ["lrp", "occlusion"])
def test_each_label_of_a_text_is_explained_by_itself(heatmap: str) -> None:
    model, ids = Words().eval(), torch.randint(1, 50, (5, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    settings: dict[str, Any] = {"steps": 3, "score": "sigmoid"}
    whole = AOPC(heatmap, **settings)
    whole.update(model, batch, target=LABELS)
    areas = []
    for n, row in enumerate(LABELS):
        of_text = []
        for k in row.nonzero()[:, 0]:
            one = AOPC(heatmap, **settings)
            part = {name: entry[n : n + 1] for name, entry in batch.items()}
            one.update(model, part, target=k[None])
            of_text.append(float(one.compute()))
        areas += [sum(of_text) / len(of_text)] if of_text else []
    assert float(whole.compute()) == pytest.approx(sum(areas) / 4, abs=1e-6)
    assert int(whole.left_out) == 1


def test_images_that_see_each_other_have_one_class_each() -> None:
    torch.manual_seed(0)
    layers = [nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(192, 3)]
    brightness = torch.linspace(0.1, 1, 6)[:, None, None, None]
    metric = AOPC(
        "lrp", region_size=4, steps=2, data_range=(0.0, 1.0), score="sigmoid", target="predicted"
    )
    with (
        pytest.warns(UserWarning, match="depends on the other images"),
        pytest.raises(ValueError, match=r"several classes of an image.* give one class for each"),
    ):
        metric.update(nn.Sequential(*layers), torch.rand(6, 3, 8, 8) * brightness)


@pytest.mark.parametrize("tokens", [4, 9])  # as many as labels, and more
def test_heatmaps_of_each_label_are_taken_of_texts_and_tables(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (5, tokens), generator=generator)
    heatmaps = torch.rand(5, 4, tokens, generator=generator)
    table = nn.Linear(tokens, 4)
    settings: dict[str, Any] = {"steps": 3, "score": "sigmoid"}
    of_table = settings | {"replacement": Constant(0.0)}
    for model, inputs, chosen in ((Words(), ids, settings), (table, ids / 50, of_table)):
        whole = area_over_perturbation_curve(model, inputs, heatmaps, target=LABELS, **chosen)
        shared = area_over_perturbation_curve(
            model, inputs, heatmaps[:, 0], target=LABELS, **chosen
        )
        for n, row in enumerate(LABELS):
            labels = row.nonzero()[:, 0]
            given = inputs[n : n + 1].repeat(len(labels), 1)
            for found, maps in ((whole, heatmaps[n, labels]), (shared, heatmaps[n, :1])):
                if len(labels):
                    alone = area_over_perturbation_curve(
                        model, given, maps.expand(len(given), -1), target=labels, **chosen
                    )
                    torch.testing.assert_close(found.per_image[n], alone.per_image.mean())
