"""A network as the table wants it: random weights, float64, and images that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.calibration import calibrate, remove_constants

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A network of a library.

    Attributes:
        name: what the library calls it.
        model: in float64 and eval mode; returns (N, classes), or something with that as `.logits`.
        size: height and width of the images that it takes.
    """

    name: str
    model: nn.Module
    size: int


@dataclass(frozen=True)
class Subject:
    """What heatmaps are tried on.

    Attributes:
        network: its weights are such that relevance should be conserved.
        images: (2, 3, H, W).
        target: (2,) predicted classes.
    """

    network: Network
    images: Tensor
    target: Tensor

    @property
    def model(self) -> nn.Module:
        """The model of the network."""
        return self.network.model

    def scores(self) -> Tensor:
        """(2,) outputs for the predicted classes."""
        with torch.no_grad():
            return outputs_of(self.model, self.images).gather(1, self.target[:, None])[:, 0]

    def alone(self) -> list[Subject]:
        """Each image by itself."""
        pairs = zip(self.images.split(1), self.target.split(1), strict=True)
        return [Subject(self.network, image, target) for image, target in pairs]


def subject(make: Callable[[], Network]) -> Subject:
    """A network that adds no constants, two images, and the classes that it predicts."""
    torch.manual_seed(0)
    network = make()
    remove_constants(network.model)
    images = torch.randn(4, 3, network.size, network.size, dtype=torch.float64)
    calibrate(network.model, images)
    with torch.no_grad():
        # Not any class: the error is relative to the score, which for some class is almost zero.
        target = outputs_of(network.model, images[:2]).argmax(dim=1)
    return Subject(network, images[:2], target)


def outputs_of(model: nn.Module, images: Tensor) -> Tensor:
    """(N, classes) outputs: the answer, its `.logits`, or the first tensor that it holds."""
    answer = model(images)
    if isinstance(answer, Mapping):
        answer = answer["logits"] if "logits" in answer else next(iter(answer.values()))
    outputs: Tensor = answer
    return outputs


def first_that_runs(name: str, sizes: Iterable[int], build: Callable[[int], nn.Module]) -> Network:
    """The network for the first image size that it can be built for and works on.

    Args:
        name: what the library calls it.
        sizes: heights (and widths) of images, in the order in which they are tried.
        build: makes the network for images of a size.

    Raises:
        ImportError: if a package is missing.
        RuntimeError: with what was raised for each size, if none works.
    """
    said = []
    for size in sizes:
        try:
            model = build(size).double().eval()
            with torch.no_grad():
                outputs = outputs_of(model, torch.randn(2, 3, size, size, dtype=torch.float64))
        except ImportError:
            raise
        except Exception as error:  # whatever a library raises for a size that does not suit
            said.append(f"{size} x {size}: {type(error).__name__}: {error}")
            continue
        if isinstance(outputs, Tensor) and outputs.ndim == 2:
            return Network(name, model, size)
        said.append(f"{size} x {size}: the outputs are not (N, classes)")
    raise RuntimeError("; ".join(said))
