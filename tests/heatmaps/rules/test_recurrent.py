"""LSTM, GRU and RNN against slow references, and relevance is conserved in all their forms."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from aopc_monitor import area_over_perturbation_curve, heatmaps
from aopc_monitor.heatmaps import AttnLRP, DeepLIFT, LRPEpsilon
from tests.heatmaps.networks import assert_conserved, without_biases
from tests.heatmaps.rules.slow_recurrent import slow_relevance

EPSILON = 0.05
STEPS, FEATURES = 5, 3
LENGTHS = torch.tensor([2, 5, 4])


def sequences() -> Tensor:
    """(N, 1, steps, features): images whose rows are steps."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 1, STEPS, FEATURES, dtype=torch.double, generator=generator)


class Network(nn.Module):
    """A recurrent layer over the rows, and a weighted sum of all that it returns."""

    def __init__(self, layer: nn.Module, *, packed: bool = False, ends: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer, self.packed, self.ends = layer, packed, ends
        self.head = nn.LazyLinear(4, bias=False)
        self.double()
        self(sequences())

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0] if self.layer.batch_first else x[:, 0].transpose(0, 1)
        values: Any = x
        if self.packed:
            values = pack_padded_sequence(x, LENGTHS, self.layer.batch_first, enforce_sorted=False)
        values, state = self.layer(values)
        if self.packed:
            values, _ = pad_packed_sequence(values, self.layer.batch_first)
        if self.ends:
            state = state if isinstance(state, tuple) else (state,)
            outputs: Tensor = self.head(
                torch.cat([part.transpose(0, 1).flatten(1) for part in state], 1)
            )
            return outputs
        values = values if self.layer.batch_first else values.transpose(0, 1)
        return self.head(values.flatten(1))  # type: ignore[no-any-return]


def random_layer(kind: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    layer: nn.Module = kind(FEATURES, 4, **{"batch_first": True, **options}).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    return layer


BOTH = {"bidirectional": True}
DEEP = {"num_layers": 2}


@pytest.mark.parametrize("options", [{}, BOTH, DEEP, BOTH | DEEP], ids=str)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_relevance_equals_explicit_sums(kind: Any, options: dict[str, Any]) -> None:
    model = Network(random_layer(kind, **options)).eval()
    x, target = sequences(), torch.tensor([0, 1, 3])
    head = model.head.weight.tolist()
    expected = [
        slow_relevance(model.layer, head, image[0].tolist(), int(t), EPSILON)
        for image, t in zip(x, target, strict=True)
    ]
    ours = LRPEpsilon(EPSILON)(model, x, target)
    torch.testing.assert_close(
        ours, torch.tensor(expected, dtype=torch.double), rtol=1e-10, atol=1e-10
    )


LAYERS: dict[str, nn.Module] = {
    "lstm": random_layer(nn.LSTM),
    "lstm of three layers": random_layer(nn.LSTM, num_layers=3, dropout=0.5),
    "lstm, steps first": random_layer(nn.LSTM, batch_first=False, bidirectional=True),
    "lstm with projections": random_layer(nn.LSTM, proj_size=2, num_layers=2, bidirectional=True),
    "gru": random_layer(nn.GRU, num_layers=2, bidirectional=True),
    "gru without biases": random_layer(nn.GRU, bias=False),
    "rnn": random_layer(nn.RNN, bidirectional=True),
    "rnn of ReLUs": random_layer(nn.RNN, nonlinearity="relu", num_layers=2),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ends", [False, True], ids=["outputs", "last states"])
@pytest.mark.parametrize("name", LAYERS)
def test_relevance_is_conserved(name: str, ends: bool, packed: bool) -> None:
    model = Network(LAYERS[name], packed=packed, ends=ends).eval()
    with torch.no_grad():
        expected = model(sequences())
    report = heatmaps.check(model, sequences(), LRPEpsilon(1e-12), torch.tensor([0, 1, 2]))
    assert report.is_fine, report.line()
    assert report.forward_difference is not None
    assert report.forward_difference < 1e-12
    relevance = LRPEpsilon(1e-12)(model, sequences(), torch.tensor([0, 1, 2])).sum((1, 2))
    scores = expected[torch.arange(3), torch.arange(3)]
    assert report.absorbed is not None
    assert float((relevance / scores).mean()) + report.absorbed == pytest.approx(1, abs=1e-6)
    if packed:  # what lies beyond the end of a sequence has no relevance
        beyond = torch.arange(STEPS) >= LENGTHS[:, None]
        assert not bool(LRPEpsilon()(model, sequences(), torch.arange(3))[beyond].any())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_without_biases_all_relevance_reaches_the_pixels(kind: Any) -> None:
    model = Network(random_layer(kind, bias=False, num_layers=2, bidirectional=True)).eval()
    assert_conserved(LRPEpsilon(1e-12), model, sequences())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_where_nothing_is_a_gate_gates_share(kind: Any) -> None:
    model, target = Network(random_layer(kind, bias=False)).eval(), torch.tensor([0, 1, 2])
    scores = model(sequences()).gather(1, target[:, None])[:, 0].detach()
    shares = AttnLRP(1e-12)(model, sequences(), target).sum((1, 2)) / scores
    report = heatmaps.check(model, sequences(), AttnLRP(1e-12), target)
    assert report.is_fine, report.line()
    assert report.absorbed is not None  # by the 1 of 1 - z in a GRU
    assert float(shares.mean()) + report.absorbed == pytest.approx(1, abs=1e-6)
    gated = LRPEpsilon(1e-12)(model, sequences(), target)
    assert not torch.allclose(gated, AttnLRP(1e-12)(model, sequences(), target))


@pytest.mark.parametrize("name", LAYERS)
def test_differences_from_a_reference_are_conserved(name: str) -> None:
    model, x, target = Network(LAYERS[name]).eval(), sequences(), torch.tensor([0, 1, 2])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        relevance = DeepLIFT()(model, x, target).sum((1, 2))
        expected = (model(x) - model(0 * x)).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(relevance, expected)


class Cells(nn.Module):
    """The cell of a layer, called for each step, from a start of its own."""

    def __init__(self, cell: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, head

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x[:, 0].unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        found: Tensor = self.head(torch.stack(outputs, dim=1).flatten(1))
        return found


@pytest.mark.parametrize(
    ("kind", "cell"),
    [(nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell), (nn.RNN, nn.RNNCell)],
)
def test_cells_are_layers_of_one_step(kind: Any, cell: Any) -> None:
    model = Network(random_layer(kind)).eval()
    alone = cell(FEATURES, 4).double()
    state = {name.removesuffix("_l0"): value for name, value in model.layer.state_dict().items()}
    alone.load_state_dict(state)
    target = torch.tensor([0, 1, 2])
    expected = LRPEpsilon(EPSILON)(model, sequences(), target)
    ours = LRPEpsilon(EPSILON)(Cells(alone, model.head), sequences(), target)
    torch.testing.assert_close(ours, expected)


def test_a_start_that_was_learnt_absorbs_relevance() -> None:
    class Started(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = random_layer(nn.LSTM, bias=False).double()
            self.start = nn.Parameter(torch.full((2, 1, 1, 4), 0.5).double())
            self.head = nn.Linear(4, 3, bias=False).double()

        def forward(self, x: Tensor) -> Tensor:
            h, c = self.start.expand(2, 1, len(x), 4)
            outputs: Tensor = self.head(self.layer(x[:, 0], (h, c))[0].mean(1))
            return outputs

    model, target = Started().eval(), torch.tensor([0, 1, 2])
    report = heatmaps.check(model, sequences(), LRPEpsilon(1e-12), target)
    scores = model(sequences()).gather(1, target[:, None])[:, 0].detach()
    shares = LRPEpsilon(1e-12)(model, sequences(), target).sum((1, 2)) / scores
    assert report.absorbed is not None
    assert abs(report.absorbed) > 1e-3
    assert float(shares.mean()) + report.absorbed == pytest.approx(1, abs=1e-6)


def test_rectifiers_of_a_recurrent_layer_are_rectifiers() -> None:
    model = without_biases(Network(random_layer(nn.RNN, nonlinearity="relu"))).eval()
    target = torch.tensor([0, 1, 2])
    unrolled = nn.RNNCell(FEATURES, 4, nonlinearity="relu").double()
    state = {name.removesuffix("_l0"): value for name, value in model.layer.state_dict().items()}
    unrolled.load_state_dict(state)
    plain = heatmaps.get("sensitivity_l2")(model, sequences(), target)
    for name in ("deconvolution_l2", "guided_backpropagation_l2"):
        ours = heatmaps.get(name)(model, sequences(), target)
        assert not torch.allclose(ours, plain)
        expected = heatmaps.get(name)(Cells(unrolled, model.head), sequences(), target)
        torch.testing.assert_close(ours, expected)


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 2)
        for parameter in self.layer.parameters():
            parameter.data *= 8

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.layer(series.transpose(1, 2))
        scores: Tensor = self.head(states[:, -1])
        return scores


def test_relevance_beyond_the_range_of_numbers_is_told_and_not_ranked() -> None:
    """Where gates share, relevance may grow at each step: beyond 1e40 after 150 of them."""
    torch.manual_seed(0)
    network, series, target = LastStep().eval(), torch.randn(2, 1, 150), torch.tensor([0, 1])
    with pytest.warns(UserWarning, match=r"left the range of torch.float32 in 2 of 2 inputs"):
        heatmap = AttnLRP()(network, series, target)
    assert (~heatmap.isfinite()).any(dim=1).all()
    settings: dict[str, Any] = {"target": target, "data_range": (-3.0, 3.0), "steps": 2}
    with (
        pytest.warns(UserWarning, match="left the range"),
        pytest.raises(ValueError, match="NaN or infinite values in 2 of 2"),
    ):
        area_over_perturbation_curve(network, series, AttnLRP(), region_size=50, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LRPEpsilon()(network, series, target).isfinite().all()
        wide = AttnLRP()(network.double(), series.double(), target)
    assert wide.isfinite().all()
    assert (wide.abs().amax(dim=1) > torch.finfo(torch.float32).max).all()
