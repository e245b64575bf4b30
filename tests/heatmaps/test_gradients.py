from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aopc_monitor.heatmaps import IntegratedGradients, Sensitivity, SmoothGrad
from tests.modules import small_network

captum_attr = pytest.importorskip("captum.attr")

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
COLOUR = torch.tensor([0.1, 0.2, 0.3]).double().view(1, 3, 1, 1)
TARGET = torch.tensor([0, 3, 1])


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().double().eval()


@pytest.mark.parametrize(
    ("baseline", "theirs"),
    [
        (0.0, 0.0),
        (0.5, 0.5),
        (COLOUR.flatten().tolist(), COLOUR.expand(3, 3, 16, 16)),
        (IMAGES[2], IMAGES[2:].expand(3, 3, 16, 16)),
    ],
)  # fmt: skip
def test_integrated_gradients_agree_with_captum(baseline: object, theirs: object) -> None:
    model = network()
    expected = captum_attr.IntegratedGradients(model).attribute(
        IMAGES, baselines=theirs, target=TARGET, n_steps=20, method="gausslegendre"
    )
    ours = IntegratedGradients(20, baseline)(model, IMAGES, TARGET)  # type: ignore[arg-type]
    # captum rounds the weights of the steps to float32.
    torch.testing.assert_close(ours, expected.sum(dim=1).detach(), rtol=1e-6, atol=1e-9)


@given(seed=st.integers(0, 1000), baseline=st.floats(-1, 1))
@settings(max_examples=15, deadline=None)
def test_integrated_gradients_sum_to_the_difference_of_scores(seed: int, baseline: float) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3), nn.Sigmoid()
    ).double()
    x = torch.randn(2, 1, 4, 4).double()
    relevance = IntegratedGradients(40, baseline)(model, x, torch.tensor([0, 2]))
    start = torch.full_like(x, baseline)
    with torch.no_grad():
        difference = (model(x) - model(start))[[0, 1], [0, 2]]
    torch.testing.assert_close(relevance.sum(dim=(1, 2)), difference, rtol=1e-4, atol=1e-6)


def test_a_baseline_that_does_not_fit_is_named() -> None:
    for baseline in ([0.0, 1.0], torch.zeros(3, 4, 4), torch.zeros(1, 3, 16, 16)):
        with pytest.raises(ValueError, match="baseline"):
            IntegratedGradients(baseline=baseline)(network(), IMAGES, TARGET)


def test_smoothgrad_is_the_gradient_where_the_network_is_linear() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).double()
    ours = SmoothGrad(samples=3, noise=0.5)(model, IMAGES, TARGET)
    torch.testing.assert_close(ours, Sensitivity("l2")(model, IMAGES, TARGET))


def test_smoothgrad_is_the_mean_gradient_under_its_own_noise() -> None:
    """Of one image with one sample: the gradient at the image plus the noise that it says."""
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach().clone())
            outputs: Tensor = self.network(images)
            return outputs

    model = Watched()
    Sensitivity()(model, IMAGES, TARGET)  # asks which layout the network takes
    seen.clear()
    ours = SmoothGrad(samples=8, noise=0.25)(model, IMAGES, TARGET)
    assert len(seen) == 8
    spread = torch.stack([x - IMAGES for x in seen]).std(dim=(0, 2, 3, 4))
    ranges = IMAGES.amax(dim=(1, 2, 3)) - IMAGES.amin(dim=(1, 2, 3))
    torch.testing.assert_close(spread, 0.25 * ranges, rtol=0.05, atol=0)
    gradients = []
    for noisy in list(seen):
        x = noisy.clone().requires_grad_()
        model(x).gather(1, TARGET[:, None]).sum().backward()
        gradients.append(x.grad)
    mean = torch.stack([g for g in gradients if g is not None]).mean(dim=0)
    torch.testing.assert_close(ours, torch.linalg.vector_norm(mean, dim=1))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="steps=0"):
        IntegratedGradients(steps=0)
    with pytest.raises(ValueError, match="samples=0"):
        SmoothGrad(samples=0)
    with pytest.raises(ValueError, match="noise=-1"):
        SmoothGrad(noise=-1)
    with pytest.raises(ValueError, match="norm='l1'"):
        SmoothGrad(norm="l1")  # type: ignore[arg-type]
