"""Agreement with a reference over batches, processes and collections."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from aopc_monitor import Execution
from aopc_monitor.metrics import (
    Agreement,
    HeatmapComplexity,
    cohen_kappa,
    cohen_kappa_standard_error,
)
from tests.modules import small_network
from tests.processes import run

CLASSES = 4


def images(count: int = 24) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(seed: int = 1) -> nn.Module:
    """With the images' means taken off its outputs, so that it predicts more than one class."""
    torch.manual_seed(seed)
    made = small_network().eval()
    head: Any = made[-1]
    with torch.no_grad():
        head.bias -= made(images()).mean(dim=0)
    return made


def by_mean(given: Tensor) -> Tensor:
    """A reference that knows no networks: its scores are means over rows of pixels."""
    return given.mean(dim=(1, 3))[:, :CLASSES]


def metric(reference: Any = by_mean, **settings: Any) -> Agreement:
    return Agreement(reference, num_classes=CLASSES, **settings)


def updated(*parts: Tensor, **settings: Any) -> Agreement:
    made = metric(**settings)
    for part in parts:
        made.update(network(), part)
    return made


def predictions(given: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return network()(given).argmax(dim=1), by_mean(given).argmax(dim=1)


@pytest.mark.parametrize("size", [24, 7, 1])
def test_over_batches_it_is_the_function_of_all_images(size: int) -> None:
    made = updated(*images().split(size))
    both = predictions(images())
    assert len(both[0].unique()) == len(both[1].unique()) == 4
    assert float(made.compute()) == pytest.approx(float(cohen_kappa(*both)), abs=1e-6)
    error = float(cohen_kappa_standard_error(*both))
    assert float(made.standard_error()) == pytest.approx(error, abs=1e-6)
    assert int(made.table.sum()) == 24
    assert made.compute().dtype == torch.float32


def test_with_itself_a_network_agrees_entirely() -> None:
    made = metric(network())
    made.update(network(), images())
    assert float(made.compute()) == 1
    assert float(made.standard_error()) == pytest.approx(0, abs=1e-7)
    made = metric(network(seed=2))
    made.update(network(), images())
    assert abs(float(made.compute())) < 0.3


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_a_reference_may_give_classes(dtype: torch.dtype) -> None:
    made = updated(images(), reference=lambda x: by_mean(x).argmax(dim=1).to(dtype))
    assert torch.equal(made.compute(), updated(images()).compute())


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: SimpleNamespace(logits=scores),
        lambda scores: {"loss": scores.mean(), "logits": scores},
        lambda scores: (scores, scores[:, :1]),
        lambda scores: scores.numpy(),
        lambda scores: scores.argmax(dim=1).numpy(),
        lambda scores: scores.argmax(dim=1).tolist(),
    ],
)
def test_a_reference_may_answer_in_any_form(form: Any) -> None:
    made = updated(images(), reference=lambda x: form(by_mean(x)))
    assert torch.equal(made.compute(), updated(images()).compute())


def test_one_class_only_has_no_kappa() -> None:
    sure = network()
    sure[-1].bias.data[3] += 1e6
    made = metric(lambda x: torch.full((len(x),), 3))
    made.update(sure, images())
    assert made.compute().isnan()
    assert made.standard_error().isnan()
    made.update(network(), images())
    assert float(made.compute()) == 0  # by chance, of a reference that says one thing only


def test_network_and_reference_are_left_as_they_were() -> None:
    """A module is asked in eval mode, without gradients, and trained on afterwards."""
    seen: list[tuple[bool, bool]] = []

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3 * 256, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, torch.is_grad_enabled()))
            return self.head(self.norm(x).flatten(1))

    reference, model = Probe().train(), network().train()
    before = [copy.deepcopy(part.state_dict()) for part in (reference, model)]
    made, state = metric(reference), torch.get_rng_state()
    made.update(model, images())
    assert seen == [(False, False)]
    assert reference.training
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for part, kept in zip((reference, model), before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in part.state_dict().items())
    # The reference is none of the metric's parts.
    assert not list(made.parameters())
    assert made.state_dict() == {}
    made.half()
    assert reference.head.weight.dtype == torch.float32
    assert made.reference is reference


def test_a_reference_may_draw_and_write_unnoticed() -> None:
    def careless(given: Tensor) -> Tensor:
        return given.mul_(0).sum(dim=(2, 3))[:, :1] + torch.rand(len(given), CLASSES)

    model, given = network(), images()
    states = torch.get_rng_state()
    metric(careless).update(model, given)
    assert torch.equal(torch.get_rng_state(), states)
    assert torch.equal(given, images())


def test_a_network_of_one_number_has_two_classes() -> None:
    one = nn.Sequential(nn.Flatten(), nn.Linear(768, 1)).eval()
    made = Agreement(lambda x: (one(x)[:, 0] > 0).long(), num_classes=2, score="sigmoid")
    made.update(one, images())
    assert 0 < int(made.table[1, 1]) < 24
    assert float(made.compute()) == 1


def test_states_merge_copy_and_reset() -> None:
    first, second = images().split(12)
    made = updated(first)
    made.merge_state(updated(second))
    assert torch.equal(made.table, updated(images()).table)
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), made.clone()):
        assert torch.equal(copied.compute(), made.compute())
        assert copied.reference is by_mean
    with pytest.raises(ValueError, match="other settings"):
        made.merge_state(updated(second, reference=lambda x: by_mean(-x)))
    nn.ModuleDict({"agreement": made}).to(torch.bfloat16)
    assert made.table.dtype == torch.float64
    made.reset()
    assert int(made.table.sum()) == 0
    with torch.inference_mode():
        made.reset()
    made.update(network(), images())
    assert torch.equal(made.table, updated(images()).table)


def test_in_a_collection_metrics_of_two_references_stay_apart() -> None:
    both = MetricCollection(
        {
            "mean": metric(),
            "itself": metric(lambda x: network()(x)),
            "png": HeatmapComplexity(measure="entropy"),
        }
    )
    values = both(model=network(), images=images(), heatmaps=images()[:, 0])
    assert float(values["itself"]) == 1
    assert torch.equal(values["mean"], updated(images()).compute())
    assert both.compute().keys() == {"mean", "itself", "png"}


def test_the_execution_changes_the_cost_only() -> None:
    for execution in (Execution(5), Execution(channels_last=True)):
        assert torch.equal(updated(images(), execution=execution).table, updated(images()).table)
    assert "Execution(chunk_size=5" in repr(metric(execution=Execution(5)))
    assert repr(metric()) == "Agreement(reference=<function by_mean>, num_classes=4)"


SHARES = [[0, 1], [2]]


def _share(rank: int, world_size: int) -> tuple[float, float, int]:
    made = updated(*(images().split(8)[part] for part in SHARES[rank]))
    return float(made.compute()), float(made.standard_error()), int(made.table.sum())


def test_two_processes_have_the_value_of_one(tmp_path: Path) -> None:
    alone = updated(images())
    for rank, (value, error, count) in enumerate(run(_share, 2, tmp_path)):
        assert value == float(alone.compute())
        assert error == float(alone.standard_error())
        assert count == 8 * len(SHARES[rank])


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        (
            lambda x: torch.rand(len(x), 7),
            ValueError,
            "scores of 7 classes, .* has 4",
        ),
        (lambda x: torch.full((len(x),), 12), ValueError, r"reference\(images\) holds classes"),
        (lambda x: torch.rand(len(x)), TypeError, r"reference\(images\) is torch.float32"),
        (lambda x: torch.rand(len(x), 4) > 0.5, TypeError, r"reference\(images\) is torch.bool"),
        (lambda x: x[:, 0].long().abs(), ValueError, r"reference\(images\) has shape"),
        (lambda x: torch.zeros(3).long(), ValueError, "returned 3 answers to 24 images"),
        (lambda x: torch.full((len(x), 4), torch.nan), ValueError, "returned NaN"),
        (lambda x: ["cat"] * len(x), TypeError, "returned a list .* wanted are scores"),
        (lambda x: {"label": "cat"}, TypeError, "returned a dict with the keys 'label'"),
    ],
)
def test_bad_answers_of_a_reference_are_named(reference: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        metric(reference).update(network(), images())


def test_bad_settings_and_networks_are_named() -> None:
    with pytest.raises(TypeError, match="reference is a Tensor; wanted is something to call"):
        metric(torch.zeros(3))
    for number in (0, 1, 2.5):
        with pytest.raises(ValueError, match=f"num_classes={number}"):
            Agreement(by_mean, num_classes=number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="score='value'"):
        metric(score="value")
    with pytest.raises(TypeError, match=r"give \(model, images\) and not pred"):
        metric().update(torch.rand(3, 4), torch.tensor([0, 1, 2]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes=4, and the model tells 10 classes apart"):
        metric().update(nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), images())
