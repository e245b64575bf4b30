"""DeepLIFT: how each operation turns differences from a reference into differences.

The engine passes multipliers, m = (difference of output) / (difference of input), where it passes
gradients otherwise. The reference goes through the network first, and what each nonlinearity made
of it is remembered call by call.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aopc_monitor.heatmaps.base import NetworkHeatmap
from aopc_monitor.heatmaps.baseline import Baseline, baseline_images
from aopc_monitor.heatmaps.deeplift_rules import EXACT, Reference, deeplift_rules
from aopc_monitor.heatmaps.engine.backward_pass import backward_pass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.engine.vmapped import vmap_as_loop
from aopc_monitor.heatmaps.pooling import pooled


@dataclass(frozen=True)
class DeepLIFT(NetworkHeatmap):
    """DeepLIFT with the rescale rule (Shrikumar et al. 2017), summed over channels: signed.

    The relevance of an image sums to f(x) - f(x') for networks of linear layers, elementwise
    nonlinearities, products, quotients, and maxima (max pooling, `amax`, `maximum`). Softmax,
    attention and normalisations by the image's own statistics have no rule and are named in a
    warning.

    Attributes:
        baseline: the reference x', a number, one number per channel, or a `(C, *space)` tensor, in
            the network's input space.

    Raises:
        ValueError: for a baseline that does not fit the images.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> DeepLIFT()(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    baseline: Baseline = 0.0

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """Differences times multipliers."""
        reference = baseline_images(self.baseline, images)
        memory = Reference()
        table = deeplift_rules(memory)
        entrance = reference.clone().requires_grad_().clone()
        rules_of_reference = BackwardRules("the reference of DeepLIFT", table, EXACT, entrance)
        with vmap_as_loop():
            network.outputs(entrance, rules_of_reference)
        memory.is_complete = True

        def rules(entrance: Tensor) -> BackwardRules:
            return BackwardRules("DeepLIFT", table, EXACT, entrance)

        result = backward_pass(network, images, target, rules)
        return pooled((images - reference) * result.signal, "sum")
