"""Heatmaps of torchvision's networks for video; under LRP, relevance sums to the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import GradCAM, LRPEpsilon
from tests.heatmaps.networks import without_biases

video: Any = pytest.importorskip("torchvision").models.video
TARGET = torch.tensor([1, 3])
LONG = pytest.mark.long


def clips(frames: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, frames, side, side, generator=generator, dtype=torch.float64)


def small_mvit(*, relative: bool) -> nn.Module:
    """The blocks of MViT v2 (relative positions, residual pooling) or v1, two of them."""
    block = video.mvit.MSBlockConfig
    settings = [
        block(1, 16, 16, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        block(2, 16, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
    ]
    return video.MViT(  # type: ignore[no-any-return]
        spatial_size=(32, 32), temporal_size=4, block_setting=settings, num_classes=5,
        residual_pool=relative, residual_with_cls_embed=not relative,
        rel_pos_embed=relative, proj_after_attn=relative,
    )  # fmt: skip


def lively(model: nn.Module) -> nn.Module:
    """With weights under which activations keep their size: S3D's own let them vanish."""
    for parameter in model.parameters():
        if parameter.ndim == 5:
            nn.init.kaiming_normal_(parameter)
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "r3d_18": (lambda: video.r3d_18(num_classes=5), (4, 16)),
    "r2plus1d_18": (lambda: video.r2plus1d_18(num_classes=5), (4, 16)),
    "swin3d_t": (lambda: video.swin3d_t(num_classes=5), (4, 32)),
    "mvit of version 2, small": (lambda: small_mvit(relative=True), (4, 32)),
    "mvit of version 1, small": (lambda: small_mvit(relative=False), (4, 32)),
    "s3d": (lambda: lively(video.s3d(num_classes=5)), (16, 224)),
    "mvit_v2_s": (lambda: video.mvit_v2_s(num_classes=5), (16, 224)),
    "mvit_v1_b": (lambda: video.mvit_v1_b(num_classes=5), (16, 224)),
}
LARGE = ("s3d", "mvit_v2_s", "mvit_v1_b")


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    return make().double().eval(), clips(*size)[: 1 if name in LARGE else 2]


def without_constants(model: nn.Module) -> nn.Module:
    """Neither biases nor added positions and class tokens, so that all relevance is of voxels."""
    for name, parameter in without_biases(model).named_parameters():
        if name.endswith(("class_token", "spatial_pos", "temporal_pos", "class_pos")):
            nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG) if name in LARGE else name for name in NETWORKS]
)
@pytest.mark.filterwarnings("error")
def test_lrp_sums_to_the_score(name: str) -> None:
    model, x = made(name)
    without_constants(model)
    target = TARGET[: len(x)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    relevance = LRPEpsilon(epsilon=1e-9)(model, x, target)
    with torch.no_grad():
        scores = model(x).gather(1, target[:, None])[:, 0]
    assert relevance.shape == x[:, 0].shape
    torch.testing.assert_close(relevance.sum(dim=(1, 2, 3)), scores, rtol=1e-6, atol=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["r3d_18", "swin3d_t", "mvit of version 2, small"])
@pytest.mark.parametrize("heatmap", ["sensitivity_l2", "lrp_epsilon_gamma_box", "attnlrp"])
def test_one_clip_alone_has_the_heatmap_that_it_has_in_company(heatmap: str, name: str) -> None:
    model, x = made(name)
    method = heatmaps.with_data_range(heatmaps.get(heatmap), (-5.0, 5.0))
    both = method(model, x, TARGET)
    alone = [method(model, x[i : i + 1], TARGET[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(torch.cat(alone), both, rtol=1e-6, atol=1e-9)
    assert bool((both.flatten(1).std(dim=1) > 0).all())


def test_grad_cam_finds_the_channels_of_swin_last() -> None:
    """Its activations are (N, d, h, w, C), with frames thinned out otherwise than pixels."""
    model, x = made("swin3d_t")
    kept: list[Tensor] = []
    layer = "features.0"
    handle = model.get_submodule(layer).register_forward_hook(lambda m, a, out: kept.append(out))
    scores = model(x).gather(1, TARGET[:, None]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(scores, kept[0])
    weights = gradient.mean(dim=(1, 2, 3), keepdim=True)
    coarse = (kept[0] * weights).sum(dim=-1).relu().detach()
    wanted = nn.functional.interpolate(coarse[:, None], x.shape[2:], mode="trilinear")[:, 0]
    torch.testing.assert_close(GradCAM(layer)(model, x, TARGET), wanted)
    assert bool((wanted > 0).any())
