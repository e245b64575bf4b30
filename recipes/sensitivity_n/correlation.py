"""Sensitivity-n of several attribution methods on the same inputs and the same subsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from aopc_monitor import heatmaps, metrics
from aopc_monitor.heatmaps import Heatmap, LRPEpsilon, Occlusion
from aopc_monitor.perturbation import Constant
from recipes.shared.heatmap_study import predicted_classes

PREDICTION = "prediction"
# Theirs, by our names; a pixel is removed by making it 0, which is black, and a
# word by making its vector 0.
METHODS: dict[str, Heatmap] = {
    "gradient_x_input": heatmaps.get("gradient_x_input"),
    "integrated_gradients": heatmaps.get("integrated_gradients"),
    "lrp": LRPEpsilon(epsilon=1e-4),
    "deeplift": heatmaps.get("deeplift"),
    "occlusion": Occlusion(region_size=1, replacement=Constant(0.0)),
    "sensitivity_l2": heatmaps.get("sensitivity_l2"),
    "random": heatmaps.get("random"),
}


@dataclass(frozen=True)
class Correlations:
    """Correlates relevance with the drop of the logit, for blocks of images or texts.

    Attributes:
        methods: names of `METHODS`.
        sizes: numbers n of removed pixels or words.
        subsets: random subsets of each image and n, the same for all methods.
    """

    methods: Sequence[str]
    sizes: tuple[int, ...]
    subsets: int

    @property
    def parts(self) -> dict[str, str]:
        """One part for each method, and one for the prediction."""
        how = f"{self.sizes} {self.subsets}"
        return {PREDICTION: "", **{name: f"{METHODS[name]} {how}" for name in self.methods}}

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Explain the predictions for images (N, 1, H, W) or texts (N, T), and remove features.

        Returns:
            By part "relevance" (N, H, W) or (N, T) and "correlations" (N, K), or "predicted" (N,).
        """
        predicted = predicted_classes(network, images)
        found = {}
        for part in parts:
            if part == PREDICTION:
                found[part] = {"predicted": predicted.cpu()}
            else:
                found[part] = self._of_method(network, images, predicted, METHODS[part])
        return found

    def _of_method(
        self, network: nn.Module, images: Tensor, predicted: Tensor, method: Heatmap
    ) -> dict[str, Tensor]:
        relevance = method(network, images, predicted).detach()
        result = metrics.sensitivity_n(
            network,
            images,
            relevance,
            n=self.sizes,
            subsets=self.subsets,
            target=predicted,
        )
        return {"relevance": relevance.cpu(), "correlations": result.correlations.cpu()}
