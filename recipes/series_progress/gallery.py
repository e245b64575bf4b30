"""Series of the test with their relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from aopc_monitor import heatmaps
from aopc_monitor.figures import series_gallery
from recipes.shared.data.labelled_tensors import TensorData
from recipes.shared.heatmap_study import predicted_classes, spread_over_classes

# The same series in every gallery.
SEED = 0


def gallery(
    network: nn.Module, data: TensorData, names: Sequence[str], count: int, title: str
) -> Any:
    """Test series, spread over the classes, coloured by relevance for the predicted class.

    Args:
        network: on the CPU.
        data: the series.
        names: of the heatmaps.
        count: how many series.
        title: of all.

    Returns:
        A matplotlib Figure: `figure.savefig(path)`.
    """
    rows = spread_over_classes(data.test.labels, count, SEED)
    series, labels = data.test.tensors[rows], data.test.labels[rows]
    predicted = predicted_classes(network, series)
    maps = {name: heatmaps.get(name)(network, series, predicted).detach().numpy() for name in names}
    titles = [
        data.classes[guess] + ("" if guess == label else f" (is {data.classes[label]})")
        for guess, label in zip(predicted.tolist(), labels.tolist(), strict=True)
    ]
    return series_gallery(series.numpy(), maps, titles, title)
