"""Small networks that tests of the engine share, and what relevance has to fulfil."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap


class Apply(nn.Module):
    """A function, or a module used as one, as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def held(value: Tensor) -> Tensor:
    """The value as a constant, for networks that others are compared with; nobody is warned."""
    with torch._C.DisableTorchFunction():
        return value.detach()


def between_convolutions(middle: nn.Module, *, bias: bool = True) -> nn.Sequential:
    """A network on (N, 3, 8, 8) with 4 classes; the middle maps (N, 6, 6, 6) to its own shape."""
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=bias),
            middle,
            nn.Conv2d(6, 4, 3, bias=bias),
            nn.Flatten(),
            nn.Linear(64, 4, bias=bias),
        )
        .double()
        .eval()
    )


def without_biases(model: nn.Module) -> nn.Module:
    """The model with every bias at zero, so that nothing but pixels can take relevance."""
    for name, parameter in model.named_parameters():
        last = name.rpartition(".")[2]
        if last.endswith("bias") or last.startswith("bias_"):  # the latter of recurrent layers
            nn.init.zeros_(parameter)
    return model


def assert_conserved(
    heatmap: Heatmap, model: nn.Module, images: Tensor, relative: float = 1e-6
) -> Tensor:
    """Relevance sums to the score of the class, and nothing is without a rule."""
    target = torch.arange(len(images))
    with torch.no_grad():
        # A copy: a model may work on its images in place.
        scores = model(images.clone()).gather(1, target[:, None])[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance = heatmap(model, images, target)
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), scores, rtol=relative, atol=0)
    return relevance
