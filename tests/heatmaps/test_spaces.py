"""Heatmaps of series, volumes and tables keep the promises that those of images keep."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import heatmaps
from aopc_monitor.heatmaps import GradCAM, IntegratedGradients, LRPEpsilon
from aopc_monitor.perturbation import input_kinds
from aopc_monitor.perturbation.dense_kinds import Volumes
from tests.heatmaps.networks import without_biases
from tests.heatmaps.spaces import SHAPES, TARGET, OverSteps, classifier, inputs

NAMES = [name for name in heatmaps.names() if name != "random"]
PAIRS = [
    (name, kind) for kind in SHAPES for name in NAMES if (name, kind) != ("grad_cam", "tables")
]


def made(name: str) -> heatmaps.Heatmap:
    if name == "occlusion":
        return heatmaps.get(name, replacement="constant", data_range=(0.0, 0.5))
    return heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))


@pytest.mark.parametrize(("name", "kind"), [*PAIRS, *(("random", kind) for kind in SHAPES)])
def test_one_number_per_location(name: str, kind: str) -> None:
    x = inputs(kind)
    relevance = made(name)(classifier(kind), x, TARGET)
    assert relevance.shape == (x.shape if kind == "tables" else x[:, 0].shape)
    assert bool(torch.isfinite(relevance).all())
    assert bool((relevance.flatten(1).std(dim=1) > 0).all())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_one_input_alone_has_the_heatmap_that_it_has_in_company(name: str, kind: str) -> None:
    model, x, heatmap = classifier(kind), inputs(kind), made(name)
    together = heatmap(model, x, TARGET)
    alone = [heatmap(model, x[i : i + 1], TARGET[i : i + 1]) for i in range(len(x))]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-7, atol=1e-10)
    assert bool((together != 0).any())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_network_in_training_is_left_as_it_was(name: str, kind: str) -> None:
    model, x = classifier(kind).train(), inputs(kind)
    model(x).sum().backward()
    before = copy.deepcopy(model.state_dict())
    kept = [(p, p.grad, p._version, p.requires_grad) for p in model.parameters()]
    state = torch.get_rng_state()
    given = x.clone()
    made(name)(model, x, TARGET)
    assert torch.equal(x, given)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [(p, p.grad, p._version, p.requires_grad) for p in model.parameters()] == kept
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_check_finds_them_fine(name: str, kind: str) -> None:
    report = heatmaps.check(classifier(kind), inputs(kind), made(name), TARGET)
    assert report.is_fine, report.line()


def recurrent(kind: Any, **options: Any) -> Callable[[], nn.Module]:
    directions = 2 if options.get("bidirectional") else 1
    return lambda: OverSteps(lambda: kind(2, 6, batch_first=True, **options), 6 * directions)


def encoder() -> nn.Module:
    layer = lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)  # noqa: E731
    return OverSteps(lambda: nn.Sequential(nn.Linear(2, 8), layer()), 8)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "grad_cam"])
def test_check_finds_them_fine_on_recurrent_networks(name: str, kind: Any) -> None:
    report = heatmaps.check(recurrent(kind)(), inputs("series"), made(name), TARGET)
    assert report.is_fine, report.line()


def smooth(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)).double().eval()


CONSERVED: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "convolutions": ("series", lambda: classifier("series")),
    "transposed": (
        "series",
        lambda: smooth(
            nn.Conv1d(2, 6, 5, stride=2), nn.GELU(), nn.ConvTranspose1d(6, 4, 3, stride=2),
            nn.InstanceNorm1d(4), nn.SiLU(), nn.AdaptiveMaxPool1d(3),
        ),
    ),
    "lstm": ("series", recurrent(nn.LSTM)),
    "lstm of two layers, both ways": (
        "series", recurrent(nn.LSTM, num_layers=2, bidirectional=True)
    ),
    "gru": ("series", recurrent(nn.GRU)),
    "rnn": ("series", recurrent(nn.RNN)),
    "transformer": ("series", encoder),
    "convolutions over volumes": ("volumes", lambda: classifier("volumes")),
    "transposed over volumes": (
        "volumes",
        lambda: smooth(
            nn.Conv3d(2, 6, 3, padding=1), nn.SiLU(), nn.ConvTranspose3d(6, 4, 2, stride=2),
            nn.GroupNorm(2, 4), nn.GELU(), nn.AdaptiveMaxPool3d(2),
        ),
    ),
    "linear layers": ("tables", lambda: classifier("tables")),
    "smooth linear layers": (
        "tables", lambda: smooth(nn.Linear(9, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8))
    ),
}  # fmt: skip


def scores_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = model(x).gather(1, TARGET[: len(x), None])[:, 0]
    return scores


@pytest.mark.parametrize("name", CONSERVED)
@pytest.mark.filterwarnings("error")
def test_lrp_sums_to_the_score(name: str) -> None:
    kind, make = CONSERVED[name]
    x = 4 * inputs(kind) - 2
    model = make()
    model(x)  # lazy layers get their shape
    without_biases(model)
    relevance = LRPEpsilon(epsilon=1e-9)(model, x, TARGET)
    torch.testing.assert_close(relevance.flatten(1).sum(1), scores_of(model, x), rtol=1e-6, atol=0)


def test_grad_cam_refuses_tables_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^Grad-CAM does not apply to tables \(N, F\), which"):
        GradCAM()(classifier("tables"), inputs("tables"), TARGET)


def test_grad_cam_refuses_kinds_that_it_cannot_interpolate() -> None:
    class Scans(Volumes):
        """A kind of somebody's own, with one dimension more."""

        name = "scans"
        num_dimensions = 6

    x = torch.rand(3, 2, 2, 2, 2, 2, dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3)).double()
    with mock.patch.object(input_kinds, "INPUT_KINDS", (*input_kinds.INPUT_KINDS, Scans())):
        assert LRPEpsilon()(model, x, TARGET).shape == (3, 2, 2, 2, 2)
        with pytest.raises(ValueError, match="Grad-CAM is for inputs of one to three dimensions"):
            GradCAM()(model, x, TARGET)


def test_grad_cam_says_what_activations_it_needs() -> None:
    model = recurrent(nn.LSTM)()
    with pytest.raises(ValueError, match=r"no convolution with an output \(N, channels, l\)"):
        GradCAM()(model, inputs("series"), TARGET)
    with pytest.raises(ValueError, match=r"gave \(3, 3\); Grad-CAM needs .*\(N, channels, d, h"):
        GradCAM("6")(classifier("volumes", plain=True), inputs("volumes"), TARGET)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_baseline_is_a_number_one_per_channel_or_an_input(kind: str) -> None:
    model, x = classifier(kind), inputs(kind)
    channels = x.shape[1]
    by_number, by_channel, by_input = (
        IntegratedGradients(4, baseline)(model, x, TARGET)
        for baseline in (0.25, [0.25] * channels, torch.full_like(x[0], 0.25))
    )
    assert torch.equal(by_number, by_channel)
    assert torch.equal(by_number, by_input)
    with pytest.raises(ValueError, match=rf"baseline has shape \(5,\) for {kind} of shape"):
        IntegratedGradients(4, [0.0] * 5)(model, x, TARGET)


def test_a_data_range_has_one_number_per_channel() -> None:
    x, ends = inputs("tables"), torch.linspace(1, 2, 9)
    narrow, wide = (
        heatmaps.get("deep_taylor", data_range=(0.0, high))(classifier("tables"), x, TARGET)
        for high in (1.0, ends.tolist())
    )
    assert not torch.equal(narrow, wide)
    with pytest.raises(ValueError, match="data_range"):
        heatmaps.get("deep_taylor", data_range=(0.0, ends.tolist()))(
            classifier("series"), inputs("series"), TARGET
        )


def test_a_report_counts_what_the_inputs_consist_of() -> None:
    line = heatmaps.check(classifier("tables"), inputs("tables"), "lrp", TARGET).line()
    assert "what reaches the features misses the score" in line
