"""Operations whose own gradient shares relevance by contributions: conserved, and no warning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import LRPEpsilon
from tests.heatmaps.engine.test_engine import EXACT, images
from tests.heatmaps.networks import Apply, assert_conserved, between_convolutions, without_biases

Function = Callable[[Tensor], Tensor]


def parameter(*shape: int) -> nn.Parameter:
    """A parameter that no module registers."""
    generator = torch.Generator().manual_seed(4)
    return nn.Parameter(torch.randn(shape, dtype=torch.double, generator=generator))


FILTER = parameter(6, 6, 4, 2)
TO_GROUPS = torch.tensor([0, 1, 2, 0, 1, 2]).view(1, 6, 1, 1).expand(2, 6, 6, 6)


def filtered(x: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * torch.view_as_complex(FILTER), s=(6, 6))


def rotated(x: Tensor) -> Tensor:
    """Rotary embedding by complex numbers."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], 3, 2))
    turned = pairs * torch.polar(torch.ones(3).double(), torch.tensor([0.1, 0.5, 2.0]).double())
    return torch.view_as_real(turned).flatten(-2)


def spectrum(x: Tensor) -> Tensor:
    """Magnitudes: complex numbers go through a nonlinearity, and come out real."""
    return torch.fft.fft(x).abs()


def reduced(how: str) -> Function:
    def function(x: Tensor) -> Tensor:
        groups = torch.zeros(2, 3, 6, 6).double().scatter_reduce(1, TO_GROUPS, x, how)
        return torch.cat([groups, groups], dim=1)

    return function


EXACTLY: dict[str, Function] = {
    "filter of frequencies": filtered,
    "cosine part": lambda x: torch.fft.fft2(x).real,
    "sine part": lambda x: torch.fft.fftn(x, dim=(1, 2)).imag,
    "shifted spectrum": lambda x: torch.fft.ifft(torch.fft.fftshift(torch.fft.fft(x), dim=-1)).real,
    "complex pairs": rotated,
    "magnitudes": spectrum,
    "magnitudes over time": lambda x: torch.stft(
        x.flatten(1), 12, hop_length=36, window=torch.hann_window(12).double(), return_complex=True
    ).abs().reshape(2, 7, 7)[:, None, :6, :6].expand(2, 6, 6, 6),
    "sum into groups": reduced("sum"),
    "mean of groups": reduced("mean"),
    "maximum of groups": reduced("amax"),
    "quantile": lambda x: x.quantile(0.3, dim=1, keepdim=True).expand_as(x),
    "running maximum": lambda x: x.cummax(dim=2).values,
    "norm": lambda x: torch.linalg.norm(x, dim=1, keepdim=True).expand_as(x),
    "norm of matrices": lambda x: x * 0 + torch.linalg.matrix_norm(x)[..., None, None],
    "integral": lambda x: torch.trapezoid(x, dim=1)[:, None].expand_as(x),
    "diagonals": lambda x: torch.diag_embed(x.diagonal(dim1=2, dim2=3)) + x,
    "right triangles": lambda x: torch.hypot(x, x.flip(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACTLY)
def test_relevance_is_conserved_without_a_warning(name: str) -> None:
    model = without_biases(between_convolutions(Apply(EXACTLY[name])))
    assert_conserved(EXACT, model, images())


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("kind", ["roi_align", "ps_roi_align", "roi_pool"])
def test_regions_of_interest_are_averages_and_maxima(kind: str, aligned: bool) -> None:
    ops = pytest.importorskip("torchvision").ops
    boxes = [torch.tensor([[0.0, 0.0, 5.0, 4.0]]).double()] * 2
    options = {"aligned": aligned} if kind == "roi_align" else {}

    def regions(x: Tensor) -> Tensor:
        channels = x.repeat(1, 6, 1, 1) if kind.startswith("ps") else x
        size = 6 if kind != "ps_roi_align" else 2
        found: Tensor = getattr(ops, kind)(channels, boxes, size, **options)
        return (
            F.interpolate(found, (6, 6)).expand(2, 6, 6, 6)
            if size == 6
            else (F.interpolate(found[:, :6], (6, 6)))
        )

    assert_conserved(EXACT, without_biases(between_convolutions(Apply(regions))), images())


def test_a_product_over_places_is_no_sum() -> None:
    model = between_convolutions(Apply(reduced("prod")))
    report = heatmaps.check(model, images(), LRPEpsilon(1e-9))
    assert report.without_rule == ("scatter_reduce",)


UNREGISTERED = parameter(6, 6, 1, 1)
HELD = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1, bias=False).double())


def written_into(x: Tensor) -> Tensor:
    """A constant into which a signal is written becomes one."""
    buffer = (UNREGISTERED * 0).view(6, 6).repeat(2, 6, 1, 1)
    buffer.copy_(x)
    return F.conv2d(buffer, UNREGISTERED.tanh())


OF_CONSTANTS: dict[str, Function] = {
    "computed": lambda x: F.conv2d(x, UNREGISTERED.tanh()),
    "computed in two steps": lambda x: F.conv2d(x, (UNREGISTERED * 2).tanh() + 1),
    "in a list": lambda x: F.conv2d(x, HELD.weight),
    "multiplied": lambda x: x * UNREGISTERED.mean((1, 2, 3)).exp().view(6, 1, 1),
    "written into": written_into,
}
COMPUTED_EARLIER = UNREGISTERED.tanh()


@pytest.mark.parametrize("name", [*OF_CONSTANTS, "computed earlier"])
def test_functions_of_unregistered_parameters_are_constants(name: str) -> None:
    function = OF_CONSTANTS.get(name, lambda x: F.conv2d(x, COMPUTED_EARLIER))
    model = without_biases(between_convolutions(Apply(function)))
    assert_conserved(EXACT, model, images())
