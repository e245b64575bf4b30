"""Networks and images that are the same on every device."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor import area_over_perturbation_curve
from aopc_monitor.network.execution import Execution
from recipes.shared.training.networks import build
from tests.modules import small_network

SIDES = {"cnn": 16, "resnet": 32}
SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 12, "data_range": (0.0, 1.0)}


def network(name: str, device: torch.device) -> nn.Module:
    """With BatchNorm, and probabilities that are not all alike."""
    torch.manual_seed(0)
    model = small_network() if name == "cnn" else build("small_resnet", 4, SIDES[name])
    return decided(model.eval(), images(name)).to(device)


def decided(model: nn.Module, x: Tensor) -> nn.Module:
    """The network with outputs that tell images apart, as after a training."""
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        outputs = model(x)
        scale = 1 / (outputs - outputs.mean(dim=0)).std()
        last.bias.copy_(scale * (last.bias - outputs.mean(dim=0)))
        last.weight.mul_(scale)
    return model


def images(name: str = "cnn", count: int = 6) -> Tensor:
    """Coarse patterns of colours, which differ more than noise does, with a little noise.

    Without it pooled values would be equal, and each device would take another one of them.
    """
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    patterns = F.interpolate(coarse, size=SIDES[name], mode="nearest")
    return 0.8 * patterns + 0.2 * torch.rand(patterns.shape, generator=generator)


def curves(
    model: nn.Module,
    x: Tensor,
    generator: torch.Generator | None = None,
    steps: int = SETTINGS["steps"],
    **execution: Any,
) -> Tensor:
    """Perturbation curves on the device of a model, under noise from a generator on the CPU."""
    device = next(model.parameters()).device
    result = area_over_perturbation_curve(
        copy.deepcopy(model),
        x.to(device),
        x.mean(dim=1).to(device),
        generator=generator or torch.Generator().manual_seed(2),
        execution=Execution(**execution),
        **{**SETTINGS, "steps": steps},
    )
    assert result.curves.device.type == device.type
    found = result.curves.cpu()
    assert found.std() > 0.01
    return found


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    difference = found.double().cpu() - expected.double().cpu()
    return float(difference.norm() / expected.double().norm())


def largest_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference."""
    return float((found.double().cpu() - expected.double().cpu()).abs().max())
