"""Every image classifier of transformers, with a small configuration."""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.heatmap_coverage.family import cells_of
from benchmarks.heatmap_coverage.guarded import NotMeasuredError
from benchmarks.heatmap_coverage.networks import CLASSES, Network, first_that_runs

# For whatever a configuration calls by these names; widths of stages, which have to fit each
# other, stay as they are.
SMALL = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_self_attends_per_block": 3,
    "num_latents": 16,
    "d_latents": 64,
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "num_cross_attention_heads": 1,
    # At the usual 0.02, narrow layers would make almost nothing of their inputs.
    "initializer_range": 0.1,
}
OF_MODELS: dict[str, dict[str, Any]] = {
    # Its batch normalisation adds 1e-3 to variances, which must not be below that.
    "efficientnet": {"initializer_range": 0.3},
    "timm_wrapper": {"architecture": "resnet10t"},
}
DEEPEST_STAGE = 2
SIZES = (64, 32, 224)
NO_IMAGES = {
    "ImageGPTForImageClassification": "it takes whole numbers that stand for colours, no images",
    "ShieldGemma2ForImageClassification": "it takes a text beside the image, and has no classes",
}


def families() -> list[str]:
    """Every class whose name says that it classifies images."""
    found = (name for name in dir(transformers) if "ForImageClassification" in name)
    return [name for name in found if not name.startswith("Auto") and not name.endswith("Output")]


def cells(family: str) -> list[str]:
    """The row of a family."""
    return cells_of(lambda: make(family))


def make(family: str) -> Network:
    """A network of a class with random weights.

    Raises:
        NotMeasuredError: for a class whose networks do not go from images to classes.
    """
    if family in NO_IMAGES:
        raise NotMeasuredError(NO_IMAGES[family])
    kind = getattr(transformers, family)
    return first_that_runs(kind.config_class.model_type, SIZES, lambda size: _build(kind, size))


def _build(kind: Any, size: int) -> nn.Module:
    values = _small_values(kind.config_class(), size)
    values.update(OF_MODELS.get(kind.config_class.model_type, {}))
    configuration = kind.config_class(num_labels=CLASSES, **values)
    model: nn.Module = kind(configuration)
    if kind is transformers.Siglip2ForImageClassification:
        return _OfPatches(model, configuration.vision_config.patch_size)
    return model


def _small_values(default: Any, size: int) -> dict[str, Any]:
    """What to give a configuration, in place of its defaults, for a small network."""
    values: dict[str, Any] = {}
    for name, value in default.to_dict().items():
        if name == "vision_config":
            values[name] = _small_values(default.vision_config, size)
        elif name == "image_size":
            values[name] = size if isinstance(value, int) else [size] * len(value)
        elif name == "depths":
            values[name] = [min(depth, DEEPEST_STAGE) for depth in value]
        elif name in SMALL and isinstance(value, (int, float)):
            values[name] = SMALL[name]
    return values


class _OfPatches(nn.Module):
    """SigLIP 2, whose processor cuts images into rows of patches, on images."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model = model
        self.side = side

    def forward(self, images: Tensor) -> Any:
        """What the model returns."""
        side = self.side
        patches = F.unfold(images, side, stride=side).transpose(1, 2)
        count = images.shape[-1] // side
        shapes = images.new_tensor([[count, count]] * len(images)).long()
        mask = images.new_ones(patches.shape[:2]).long()
        return self.model(patches, mask, shapes)
