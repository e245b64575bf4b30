"""One image alone has the heatmap that it has in company."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps

NETWORKS: dict[str, Callable[[], nn.Module]] = {}
LOOKING_AT_IMAGES = [name for name in heatmaps.names() if name != "random"]


def known(function: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    NETWORKS[function.__name__] = function
    return function


class Hybrid(nn.Module):
    """Convolutions, whose places become tokens."""

    def __init__(self, tokens: Callable[[Tensor], Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1),
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(6) if norm is None else norm
        self.tokens, self.head = tokens, nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.tokens(self.norm(self.body(x)))).mean(dim=1)
        return out


@known
def places_to_tokens() -> nn.Module:
    return Hybrid(lambda x: x.flatten(2).transpose(1, 2))


@known
def places_to_tokens_by_permutation() -> nn.Module:
    return Hybrid(lambda x: x.permute(0, 2, 3, 1).flatten(1, 2))


@known
def tokens_to_places_and_back() -> nn.Module:
    class AsTokens(nn.Module):
        """Batch normalisation of what was tokens: its input has their strides."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mix = nn.BatchNorm2d(6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.mix(x.flatten(2).transpose(1, 2))
            out: Tensor = self.norm(tokens.transpose(1, 2).unflatten(2, x.shape[2:])) + 0.0
            return out.contiguous()

    return Hybrid(lambda x: x.flatten(2).mT.contiguous(), AsTokens())


@known
def depth_of_one() -> nn.Module:
    class Volume(nn.Module):
        """A BatchNorm3d, as networks for video have."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm3d(6)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(x.unflatten(2, (2, -1))).flatten(2, 3)
            return out

    return Hybrid(lambda x: x.flatten(2).transpose(1, 2), Volume())


def trained(network: nn.Module) -> nn.Module:
    """Running statistics and affine parameters that are not those of the start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.5)
    return network.double().eval()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", LOOKING_AT_IMAGES)
def test_alone_as_in_a_batch(name: str, network: str) -> None:
    model = trained(NETWORKS[network]())
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    if name == "grad_cam":
        heatmap = heatmaps.GradCAM(layer="body.0")
    target = torch.tensor([1, 1])
    both = heatmap(model, x, target)
    assert bool((both != 0).any())
    for place in range(2):
        alone = heatmap(model, x[place : place + 1], target[:1])
        torch.testing.assert_close(alone[0], both[place], rtol=1e-6, atol=1e-9)
