"""All classification models of torchvision."""

from __future__ import annotations

from typing import Any

import torchvision

from aopc_monitor.heatmaps import LRPEpsilon
from benchmarks.heatmap_coverage.measured import conservation, works
from benchmarks.heatmap_coverage.networks import Network, subject
from benchmarks.peers import EPSILON, captum_lrp, zennit_epsilon

ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}
SIZES = {"inception_v3": 96, "maxvit_t": 224}


def families() -> list[str]:
    """Every model, since there are few."""
    return list(torchvision.models.list_models(module=torchvision.models))


def make(name: str) -> Network:
    """A model with random weights."""
    arguments = dict(ARGUMENTS.get(name, {}))
    size = SIZES.get(name, 64)
    if name.startswith("vit"):
        size = 56 if name == "vit_h_14" else 64
        arguments["image_size"] = size
    model = torchvision.models.get_model(name, weights=None, **arguments)
    return Network(name, model.double().eval(), size)


def cells(name: str) -> list[str]:
    """The row of a model."""
    tried = subject(lambda: make(name))
    relevances = (LRPEpsilon(EPSILON), captum_lrp, zennit_epsilon)
    return [*works(tried), *(conservation(tried, relevance) for relevance in relevances)]
