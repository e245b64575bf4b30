"""Heatmaps of series, volumes and tables against plain loops, dense matrices and captum."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import (
    Deconvolution,
    DeepLIFT,
    GradCAM,
    GuidedBackpropagation,
    Heatmap,
    IntegratedGradients,
    LRPEpsilon,
    LRPEpsilonPlus,
    Occlusion,
    Sensitivity,
    SmoothGrad,
    from_captum,
    from_zennit,
)
from aopc_monitor.perturbation import Constant
from tests.heatmaps.networks import Apply, without_biases
from tests.heatmaps.spaces import SHAPES, TARGET, classifier, inputs

captum_attr = pytest.importorskip("captum.attr")
SPACES = ["series", "volumes"]


def as_matrix(layer: nn.Module, shape: torch.Size) -> tuple[nn.Linear, torch.Size]:
    """A linear layer of flat inputs that computes what another one does, and its output shape."""
    with torch.no_grad():
        zero = torch.zeros(1, *shape, dtype=torch.float64)
        basis = torch.eye(zero.numel(), dtype=torch.float64).view(-1, *shape)
        bias = layer(zero)
        weight = (layer(basis) - bias).flatten(1).T
        dense = nn.Linear(*weight.T.shape).double()
        dense.weight.copy_(weight)
        dense.bias.copy_(bias.flatten())
    return dense, bias.shape[1:]


def convolutions(kind: str) -> nn.Sequential:
    """Convolutions alone, so that all is a matrix or elementwise; no biases, for all rules."""
    torch.manual_seed(0)
    convolution: Any = {"series": nn.Conv1d, "volumes": nn.Conv3d}[kind]
    transposed: Any = {"series": nn.ConvTranspose1d, "volumes": nn.ConvTranspose3d}[kind]
    return nn.Sequential(
        convolution(2, 4, 3, stride=2, padding=1), nn.ReLU(),
        transposed(4, 4, 2, stride=2), nn.ReLU(),
        convolution(4, 4, 3, stride=3), nn.ReLU(),
    ).double()  # fmt: skip


def twins(kind: str) -> tuple[nn.Sequential, nn.Sequential]:
    """A network of convolutions, and the same of matrices on tables of the flat inputs."""
    body, dense, shape = convolutions(kind), [], inputs(kind).shape[1:]
    for layer in body:
        if isinstance(layer, nn.ReLU):
            dense.append(nn.ReLU())
        else:
            matrix, shape = as_matrix(layer, shape)
            dense.append(matrix)
    head = nn.Linear(shape.numel(), 3).double()
    return nn.Sequential(*body, nn.Flatten(), head), nn.Sequential(*dense, head)


# Composites treat convolutions and matrices by different rules.
MATRIX_METHODS = [
    *("sensitivity_l2", "sensitivity_linf", "gradient_x_input", "integrated_gradients"),
    *("deconvolution_l2", "guided_backpropagation_l2", "lrp", "lrp_alpha2_beta1"),
    *("deep_taylor", "attnlrp", "deeplift"),
]


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", MATRIX_METHODS)
def test_a_convolution_is_a_matrix(name: str, kind: str) -> None:
    x = inputs(kind) - 0.3
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (-0.3, 0.7))
    of_space, of_table = twins(kind)
    flat = heatmap(of_table, x.flatten(1), TARGET).view_as(x)
    if name.endswith("_l2"):
        wanted = flat.square().sum(dim=1).sqrt()
    else:
        wanted = flat.amax(dim=1) if name.endswith("_linf") else flat.sum(dim=1)
    torch.testing.assert_close(heatmap(of_space, x, TARGET), wanted, rtol=1e-8, atol=1e-11)
    assert bool((wanted != 0).any())


@pytest.mark.parametrize("name", ["lrp_epsilon_plus", "lrp_epsilon_gamma_box", "deep_taylor"])
def test_series_are_images_of_one_row(name: str) -> None:
    of_series, _ = twins("series")
    layers: list[nn.Module] = []
    for layer in of_series:
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            kind: Any = nn.Conv2d if isinstance(layer, nn.Conv1d) else nn.ConvTranspose2d
            size, stride, padding = (v[0] for v in (layer.kernel_size, layer.stride, layer.padding))
            wide = kind(
                layer.in_channels, layer.out_channels, (1, size), (1, stride), (0, padding)
            ).double()  # fmt: skip
            wide.weight.data, wide.bias.data = layer.weight[:, :, None].data, layer.bias.data
            layer = wide
        layers.append(layer)
    x = inputs("series") - 0.3
    bounds = ([-0.3, -0.4], [0.7, 0.9])
    heatmap = heatmaps.with_data_range(heatmaps.get(name), bounds)
    wanted = heatmap(nn.Sequential(*layers), x[:, :, None], TARGET)[:, 0]
    torch.testing.assert_close(heatmap(of_series, x, TARGET), wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["lrp_epsilon_plus", "lrp_epsilon_gamma_box", "deep_taylor"])
def test_volumes_of_one_slice_are_images(name: str) -> None:
    torch.manual_seed(0)
    flat = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 2)
    deep = nn.Conv3d(2, 4, (1, 3, 3)), nn.Conv3d(4, 4, (1, 2, 2))
    for one, other in zip(flat, deep, strict=True):
        other.weight.data, other.bias.data = one.weight[:, :, None].data, one.bias.data
    head = nn.Linear(4 * 5 * 4, 3)
    of_images, of_volumes = (
        nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), nn.Flatten(), head).double()
        for a, b in (flat, deep)
    )
    x = inputs("volumes")[:, :, 0] - 0.3
    bounds = ([-0.3, -0.4], [0.7, 0.9])
    heatmap = heatmaps.with_data_range(heatmaps.get(name), bounds)
    wanted = heatmap(of_images, x, TARGET)
    ours = heatmap(of_volumes, x[:, :, None], TARGET)
    torch.testing.assert_close(ours[:, 0], wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", [n for n in heatmaps.names() if n not in ("random", "grad_cam")])
def test_a_table_is_an_image_of_one_row(name: str) -> None:
    table, x = classifier("tables"), inputs("tables")
    as_images = nn.Sequential(nn.Flatten(), table)
    heatmap = heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    if name == "occlusion":
        heatmap = Occlusion(region_size=1, replacement=Constant(0.4))
    # Each feature a pixel of its own, in one channel.
    wanted = heatmap(as_images, x[:, None, None], TARGET)[:, 0]
    torch.testing.assert_close(heatmap(table, x, TARGET), wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_gradient_and_its_mean_at_noisy_copies(kind: str) -> None:
    model, x = classifier(kind), inputs(kind)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).gather(1, TARGET[:, None]).sum(), leaf)
    wanted = gradient.abs() if kind == "tables" else torch.linalg.vector_norm(gradient, dim=1)
    torch.testing.assert_close(Sensitivity("l2")(model, x, TARGET), wanted)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3)).double()
    smooth = SmoothGrad(samples=3)(linear, x, TARGET)
    torch.testing.assert_close(smooth, Sensitivity("l2")(linear, x, TARGET))


@pytest.mark.parametrize("kind", SHAPES)
def test_integrated_gradients_agree_with_captum(kind: str) -> None:
    model, x, baseline = classifier(kind), inputs(kind), inputs(kind).flip(0)[0]
    theirs = captum_attr.IntegratedGradients(model).attribute(
        x, baselines=baseline[None], target=TARGET, n_steps=20, method="gausslegendre"
    )
    ours = IntegratedGradients(20, baseline)(model, x, TARGET)
    wanted = theirs if kind == "tables" else theirs.sum(dim=1)
    torch.testing.assert_close(ours, wanted.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (DeepLIFT(0.2), from_captum(captum_attr.DeepLift, baselines=0.2)),
        (Deconvolution("l2"), from_captum(captum_attr.Deconvolution, pool="l2")),
        (Deconvolution("linf"), from_captum(captum_attr.Deconvolution, pool="linf")),
        (GuidedBackpropagation("l2"), from_captum(captum_attr.GuidedBackprop, pool="l2")),
        (heatmaps.GradientTimesInput(), from_captum(captum_attr.InputXGradient)),
    ],
    ids=lambda heatmap: getattr(heatmap, "name", None),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_agrees_with_captum(ours: Heatmap, theirs: Heatmap, kind: str) -> None:
    # The identity before the pooling keeps captum's hooks of two neighbours apart.
    model = nn.Sequential()
    for layer in classifier(kind, plain=True):
        if isinstance(layer, (nn.MaxPool1d, nn.MaxPool3d)):
            model.append(Apply(lambda values: values * 1.0))
        model.append(layer)
    x = inputs(kind) - 0.3
    wanted = theirs(model, x, TARGET)
    assert wanted.shape == (x.shape if kind == "tables" else x[:, 0].shape)
    torch.testing.assert_close(ours(model, x, TARGET), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", SHAPES)
def test_lrp_agrees_with_zennit(kind: str) -> None:
    composites = pytest.importorskip("zennit.composites")
    # Where zennit counts biases among positive contributions, eq. 8 does not.
    model, x = without_biases(classifier(kind, plain=True)), inputs(kind)
    theirs = from_zennit(composites.EpsilonPlus(epsilon=1e-9))(model, x, TARGET)
    ours = LRPEpsilonPlus(epsilon=1e-9)(model, x, TARGET)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    assert ours.shape == (x.shape if kind == "tables" else x[:, 0].shape)


@given(kind=st.sampled_from(list(SHAPES)), seed=st.integers(0, 1000), baseline=st.floats(-1, 1))
@settings(max_examples=15, deadline=None)
def test_heatmaps_along_a_path_sum_to_the_difference_of_scores(
    kind: str, seed: int, baseline: float
) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(*classifier(kind, plain=True), nn.Tanh()).double()
    x = torch.randn_like(inputs(kind))
    with torch.no_grad():
        wanted = (model(x) - model(torch.full_like(x, baseline)))[range(3), TARGET]
    exactly = DeepLIFT(baseline)(model, x, TARGET).flatten(1).sum(dim=1)
    torch.testing.assert_close(exactly, wanted, rtol=1e-6, atol=1e-8)
    nearly = IntegratedGradients(64, baseline)(model, x, TARGET).flatten(1).sum(dim=1)
    torch.testing.assert_close(nearly, wanted, rtol=0.05, atol=0.01)


@pytest.mark.parametrize(("kind", "mode"), [("series", "linear"), ("volumes", "trilinear")])
@pytest.mark.parametrize("layer", ["0", "3", "4", "5", "6"])
def test_grad_cam_agrees_with_captum(layer: str, kind: str, mode: str) -> None:
    model, x = classifier(kind), inputs(kind)
    method = captum_attr.LayerGradCam(model, model[int(layer)])
    coarse = method.attribute(x, target=TARGET, relu_attributions=True)
    wanted = F.interpolate(coarse, x.shape[2:], mode=mode)[:, 0].detach()
    torch.testing.assert_close(GradCAM(layer)(model, x, TARGET), wanted, rtol=1e-8, atol=1e-11)
    if layer == "5":
        torch.testing.assert_close(GradCAM()(model, x, TARGET), wanted, rtol=1e-8, atol=1e-11)
    assert wanted.std() > 0


@pytest.mark.parametrize("kind", SPACES)
def test_lrp_epsilon_agrees_with_its_formula(kind: str) -> None:
    """The epsilon rule of one layer as a loop over outputs, on its dense matrix."""
    epsilon, x = 0.05, inputs(kind) - 0.3
    layer = convolutions(kind)[0]
    dense, shape = as_matrix(layer, x.shape[1:])
    head = nn.Linear(shape.numel(), 3, bias=False).double()
    relevance = torch.zeros_like(x).flatten(1)
    for image, (a, target) in enumerate(zip(x.flatten(1), TARGET, strict=True)):
        z = dense(a).detach()
        score = head(z).detach()[target]
        share = score / (score + epsilon * score.sign())
        for j in range(len(z)):
            of_output = z[j] * head.weight.detach()[target, j] * share
            total = z[j] + epsilon * z[j].sign()
            relevance[image] += a * dense.weight.detach()[j] / total * of_output
    model = nn.Sequential(layer, nn.Flatten(), head)
    wanted = relevance.view_as(x).sum(dim=1)
    torch.testing.assert_close(LRPEpsilon(epsilon)(model, x, TARGET), wanted, rtol=1e-8, atol=1e-11)
