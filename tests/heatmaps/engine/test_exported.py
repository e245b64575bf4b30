"""Networks that torch.export made: every heatmap is that of the network as it was written."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operation_names import plain_name

IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
METHODS = [name for name in heatmaps.names() if name not in ("random", "occlusion")]


class Recurrent(nn.Module):
    """Rows as steps of a layer in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 2, 3, 2, bias=False)
        self.layer = nn.GRU(10, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.embed(x).transpose(1, 2).flatten(2)
        outputs: Tensor = self.head(self.layer(steps)[0].mean(1))
        return outputs


class Convolutional(nn.Module):
    """Fused, gated, pooled and resized, in place and not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.first(x)), inplace=True)
        x = F.interpolate(F.pad(x, (1, 1)), size=(6, 6), mode="bilinear")
        x = F.leaky_relu(self.up(x), 0.1)
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        x += 1
        outputs: Tensor = self.head(F.max_pool2d(F.relu6(x), 2).amax((2, 3)))
        return outputs


class Attending(nn.Module):
    """Tokens, normalised and attended to."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.embed(x).flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        outputs: Tensor = self.head(F.gelu(tokens)[:, 1:].mean(1))
        return outputs


def warned_heatmap(name: str, model: nn.Module) -> tuple[Tensor, set[str]]:
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (-4.0, 4.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        relevance = heatmap(model, IMAGES, torch.tensor([1, 2]))
    return relevance, {str(warning.message) for warning in caught}


@cache
def pair(kind: type[nn.Module]) -> tuple[nn.Module, nn.Module]:
    """A network, and what was exported of it."""
    torch.manual_seed(0)
    model = kind().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a recurrent layer keeps a list of its parameters
        return model, torch.export.export(model, (IMAGES,)).module()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", [Convolutional, Attending, Recurrent])
def test_exported_networks_have_the_heatmaps_of_what_was_exported(
    kind: type[nn.Module], name: str
) -> None:
    model, exported = pair(kind)
    expected, warned = warned_heatmap(name, model)
    ours, also_warned = warned_heatmap(name, exported)
    torch.testing.assert_close(ours, expected)
    assert also_warned == warned


def test_operators_of_other_libraries_keep_the_name_of_their_library() -> None:
    with torch.library._scoped_library("aopc_tests", "DEF") as library:
        library.define("relu(Tensor x) -> Tensor")
        packet = torch.ops.aopc_tests.relu
        assert plain_name(packet) == plain_name(packet.default) == "aopc_tests::relu"


def test_operators_that_write_into_their_argument_are_in_place() -> None:
    x = torch.ones(2)
    assert Call(torch.ops.aten.add_.Tensor, (x, x), {}).in_place
    assert not Call(torch.ops.aten.add.Tensor, (x, x), {}).in_place
