"""The smallest network of each module of timm that registers models."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from torch import nn

from benchmarks.heatmap_coverage.family import cells_of
from benchmarks.heatmap_coverage.networks import CLASSES, Network, first_that_runs

SIZES = (64, 96, 128, 160)
ARGUMENTS: dict[str, dict[str, Any]] = {
    # The outputs of the others are of order one as well, far above the epsilon of LRP.
    "beit": {"head_init_scale": 1.0},
    "eva": {"head_init_scale": 1.0},
    # The smallest has 400 million parameters.
    "deepseek_vit": {"depth": 4},
}


def families() -> list[str]:
    """Every module of timm that registers models."""
    return list(timm.list_modules())


def cells(family: str) -> list[str]:
    """The row of a family."""
    return cells_of(lambda: make(family))


def make(family: str) -> Network:
    """The smallest network of a module, for small images where it takes them."""
    name = smallest(family)
    own = timm.get_pretrained_cfg(name)
    sizes = dict.fromkeys((*SIZES, 224, (own.input_size if own else (3, 224, 224))[-1]))
    return first_that_runs(name, sizes, lambda size: _build(name, size, ARGUMENTS.get(family, {})))


def smallest(family: str) -> str:
    """The model of a module with the fewest parameters; timm's own test models do not count."""
    names = [name for name in timm.list_models(module=family) if not name.startswith("test_")]
    return min(names, key=_number_of_parameters)


def _number_of_parameters(name: str) -> float:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=CLASSES)
    if model.num_classes != CLASSES:
        return math.inf  # an encoder of another network, without a classifier
    return sum(parameter.numel() for parameter in model.parameters())


def _build(name: str, size: int, arguments: dict[str, Any]) -> nn.Module:
    arguments = {"num_classes": CLASSES, **arguments}
    try:
        return timm.create_model(name, img_size=size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **arguments)
