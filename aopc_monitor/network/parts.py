"""The modules and parameters of a network, each once, in a fraction of the time that torch takes.

A heatmap of a few images takes little longer than finding them several times over.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def modules_of(model: nn.Module) -> list[nn.Module]:
    """A model and all modules inside, each once, in the order of `model.modules()`.

    Example:
        >>> shared = nn.ReLU()
        >>> model = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(shared))
        >>> modules_of(model) == list(model.modules())
        True
    """
    found: dict[nn.Module, None] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found[module] = None
        inside = module._modules
        if len(inside) > 0:
            waiting += [part for part in reversed(list(inside.values())) if part is not None]
    return list(found)


def parameters_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters that modules have themselves, each once.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> [p is q for p, q in zip(parameters_of([layer]), layer.parameters(), strict=True)]
        [True, True]
    """
    found = [p for module in modules for p in module._parameters.values() if p is not None]
    return list({id(parameter): parameter for parameter in found}.values())
