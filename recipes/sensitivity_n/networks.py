"""The networks whose attributions are compared, of digits and of texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from recipes.shared.training.text_networks import TextCNN, TextLSTM

_PIXELS, _CLASSES, _WIDTH = 28 * 28, 10, 256


def linear() -> nn.Module:
    """One linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(_PIXELS, _CLASSES))


def perceptron(nonlinearity: Callable[[], nn.Module], bias: bool = True) -> nn.Module:
    """Two hidden layers.

    Args:
        nonlinearity: makes one.
        bias: whether the layers have additive biases.

    Example:
        >>> import torch
        >>> perceptron(nn.Tanh, bias=False)(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(_PIXELS, _WIDTH, bias=bias),
        nonlinearity(),
        nn.Linear(_WIDTH, _WIDTH, bias=bias),
        nonlinearity(),
        nn.Linear(_WIDTH, _CLASSES, bias=bias),
    )


def convolutions() -> nn.Module:
    """Two convolutions with ReLU and max pooling, one hidden layer.

    Example:
        >>> import torch
        >>> convolutions()(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, _CLASSES),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": linear,
    "mlp_relu": lambda: perceptron(nn.ReLU),
    "mlp_tanh": lambda: perceptron(nn.Tanh, bias=False),
    "mlp_sigmoid": lambda: perceptron(nn.Sigmoid),
    "cnn_relu": convolutions,
}
# Made of the size of the vocabulary and the number of classes.
TEXT_NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "text_lstm": TextLSTM,
    "text_cnn": partial(TextCNN, pooled=True),
}
