"""A network whose forward is a CUDA graph where the images have the shape that was captured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.subjects import Precision


class Graphed(nn.Module):
    """A network that is replayed: without the launches of its operations, one by one.

    Args:
        network: the network, in eval mode on a CUDA device.
        like: (M, C, H, W) images of the shape and layout that are replayed; others go through the
            network itself.
        precision: what it is captured under.
    """

    def __init__(self, network: nn.Module, like: Tensor, precision: Precision) -> None:
        super().__init__()
        self.network, self.shape = network, like.shape
        self._replay = captured(network, like, precision)

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (M, classes)."""
        if images.shape == self.shape:
            return self._replay(images)
        outputs: Tensor = self.network(images)
        return outputs


def captured(network: nn.Module, like: Tensor, precision: Precision) -> Callable[[Tensor], Tensor]:
    """Capture the forward of images of this shape and layout."""
    given = like.clone(memory_format=torch.preserve_format)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    # Weights that autocast keeps would be freed before the graph is replayed.
    cast = torch.autocast(
        "cuda",
        dtype=precision.autocast or torch.bfloat16,
        enabled=precision.autocast is not None,
        cache_enabled=False,
    )
    with torch.no_grad(), cast:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # what is set up once must not be captured
                network(given)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            outputs = network(given)

    def replay(images: Tensor) -> Tensor:
        given.copy_(images)
        graph.replay()
        return outputs.clone()

    return replay
