"""Grad-CAM finds the channels where a layer has them: (N, C, h, w) or (N, h, w, C)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import GradCAM
from aopc_monitor.heatmaps.grad_cam import EarlyLayerWarning


class ChannelsLast(nn.Module):
    """Patches (N, h, w, C), normalised and mixed, as in Swin."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.norm, self.mix = nn.LayerNorm(channels), nn.Linear(channels, channels)
        self.act, self.moved = nn.GELU(), nn.Identity()
        self.head = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.moved(self.patches(x).permute(0, 2, 3, 1))
        x = self.act(self.mix(self.norm(x))) ** 2
        out: Tensor = self.head(x.mean(dim=(1, 2)))
        return out


def by_hand(model: ChannelsLast, x: Tensor, target: Tensor, layer: nn.Module) -> Tensor:
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, out: kept.append(out))
    scores = model(x).gather(1, target[:, None]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(scores, kept[0])
    coarse = F.relu((kept[0] * gradient.mean(dim=(1, 2), keepdim=True)).sum(dim=-1))
    return F.interpolate(coarse[:, None], x.shape[2:], mode="bilinear")[:, 0].detach()


# Channels as many as places make the shape alone unclear: (2, 8, 8, 8).
@pytest.mark.parametrize(("channels", "size"), [(6, (32, 32)), (6, (32, 48)), (8, (32, 32))])
@pytest.mark.parametrize("layer", ["norm", "mix", "act"])
def test_channels_last(layer: str, channels: int, size: tuple[int, int]) -> None:
    model, target = ChannelsLast(channels).eval(), torch.tensor([0, 2])
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    wanted = by_hand(model, x, target, getattr(model, layer))
    torch.testing.assert_close(GradCAM(layer)(model, x, target), wanted)
    assert bool((wanted > 0).any())


def test_channels_second_where_the_shape_is_unclear() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4))
    x, target = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    rows = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4))
    rows.load_state_dict(model.state_dict())
    kept = model[:2](x).detach().requires_grad_()
    scores = model[2:](kept).gather(1, target[:, None]).sum()
    (gradient,) = torch.autograd.grad(scores, kept)
    wanted = F.relu((kept * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1)).detach()
    torch.testing.assert_close(GradCAM("1")(model, x, target), wanted)


def test_refused_where_nothing_tells() -> None:
    with pytest.raises(ValueError, match=r"layer='moved' gave \(2, 8, 8, 8\), of which either"):
        GradCAM("moved")(ChannelsLast(8).eval(), torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))


def test_a_patch_embedding_as_default_is_said() -> None:
    model, x = ChannelsLast(6).eval(), torch.rand(2, 3, 32, 32)
    with pytest.warns(EarlyLayerWarning, match="patch embedding"):
        GradCAM()(model, x)
    report = heatmaps.check(model, x, "grad_cam")
    assert not report.is_fine
    assert "name a later layer" in report.line()
