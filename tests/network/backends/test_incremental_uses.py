"""Forwards on patches in whatever a metric and its network are used for."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution
from aopc_monitor.perturbation import Constant, Uniform
from tests.network.backends.test_incremental import Between, _dense, _residual, on_patches

__all__ = ["on_patches"]  # a fixture

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)
SETTINGS: dict[str, Any] = {"steps": 12, "data_range": (0.0, 1.0)}


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    """A network that is called as it is would be one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message='backend="incremental"')
        yield


def images(side: int = 24) -> Tensor:
    return torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))


def metric(backend: str = "incremental", **more: Any) -> AOPC:
    choices = {"region_size": 3, "replacement": Constant(0.2), **SETTINGS, **more}
    return AOPC("sensitivity_l2", execution=Execution(backend=backend), **choices)


def assert_as_eager(model: nn.Module, x: Tensor, forwards: list[object], **more: Any) -> None:
    before, found = len(forwards), {}
    for backend in ("incremental", "eager"):
        one = metric(backend, **more)
        one.update(model, x)
        found[backend] = float(one.compute())
    assert found["incremental"] == pytest.approx(found["eager"], abs=1e-6)
    assert len(forwards) > before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda of: pickle.loads(pickle.dumps(of))])
def test_copies_of_a_metric_and_a_network_that_have_used_it(
    copied: Callable[[Any], Any], on_patches: list[object]
) -> None:
    model, one = Between(_residual), metric()
    one.update(model, images())
    metrics = (one, copied(one))
    for each in metrics:
        each.update(model, images())
    assert float(metrics[0].compute()) == float(metrics[1].compute())
    other = copied(model)
    other.first.weight.data.mul_(-2)
    assert_as_eager(other, images(), on_patches)
    assert_as_eager(model, images(), on_patches)


def test_two_metrics_in_alternation_on_one_network(on_patches: list[object]) -> None:
    """Of other images, regions and replacements, which make another plan each time."""
    model, noise = Between(_residual), Uniform(fresh_each_step=False)
    uses: list[tuple[dict[str, Any], Tensor]] = [
        ({}, images()),
        ({"region_size": 4, "replacement": noise}, images(30)),
    ]
    found = [
        [metric(backend, **choices) for choices, _ in uses] for backend in ("incremental", "eager")
    ]
    for _ in range(3):
        for metrics in found:
            for one, (_, x) in zip(metrics, uses, strict=True):
                one.update(model, x)
    for ours, eager in zip(*found, strict=True):
        assert float(ours.compute()) == pytest.approx(float(eager.compute()), abs=1e-6)
    assert len(on_patches) > 20


def test_two_threads_with_a_network_each(on_patches: list[object]) -> None:
    def used(between: Any) -> float:
        model, one, eager = Between(between), metric(), metric("eager")
        for _ in range(3):
            one.update(model, images())
        eager.update(model, images())
        return float(one.compute()) - float(eager.compute())

    with ThreadPoolExecutor(2) as pool:
        differences = list(pool.map(used, [_residual, _dense]))
    assert differences == pytest.approx([0.0, 0.0], abs=1e-6)
    assert len(on_patches) > 20


@dataclass
class Output:
    """What a network returns beside its logits."""

    logits: Tensor
    loss: Tensor | None = None


class Wrapping(lightning.LightningModule):
    """A network in a Lightning module, in what others return."""

    def __init__(self, output: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.inside, self.output = Between(_residual), output

    def forward(self, x: Tensor) -> Any:
        return self.output(self.inside(x))

    def training_step(self, batch: Any, index: int) -> Tensor:
        logits: Tensor = self(batch[0])
        return logits.square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize(
    ("output", "output_fn"),
    [
        (Output, None),
        (lambda logits: {"logits": logits}, None),
        (lambda logits: [logits.mean(), logits], lambda answer: answer[1]),
    ],
)
def test_outputs_of_other_forms(output: Any, output_fn: Any, on_patches: list[object]) -> None:
    assert_as_eager(Wrapping(output).eval(), images(), on_patches, output_fn=output_fn)


def test_a_lightning_module_between_fits(on_patches: list[object]) -> None:
    model = Wrapping()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images()), 2)
    for _ in range(2):
        assert_as_eager(model.eval(), images(), on_patches)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(model.train(), loader)
    assert_as_eager(model.eval(), images(), on_patches)


def test_a_network_of_transformers(on_patches: list[object]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=4
    )
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config).eval()
    assert_as_eager(model, images(48), on_patches)


def test_a_network_is_gone_when_nobody_else_has_it() -> None:
    model, one = Between(_dense), metric()
    one.update(model, images())
    gone = [weakref.ref(held) for held in (model, *model.parameters())]
    del model
    gc.collect()
    assert all(held() is None for held in gone)
