from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.cost import Cost, Overhead, expected_share
from tests.modules import Classifier, Quadrants, loaders, trainer


def test_estimate_counts_measures_and_leaves_the_model_alone() -> None:
    monitor = AOPCMonitor("lrp", num_images=100, region_size=4, steps=8, data_range=(0.0, 1.0))
    module, batch = Classifier().train(), next(iter(loaders()[0]))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    cost = monitor.cost(module, batch)
    assert cost.forwards == 100 * (1 + 2 * 4)
    assert cost.seconds > 0
    assert cost.step_seconds > 0
    assert cost.share(cost.interval(0.05)) == pytest.approx(0.05, rel=0.1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_estimate_uses_images_fn_and_model_fn() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = Classifier()

    monitor = AOPCMonitor(
        images_fn=lambda batch: batch["deep"]["x"], model_fn=lambda module: module.student
    )
    batch = {"deep": {"x": torch.rand(4, 3, 16, 16)}}
    assert monitor.cost(Wrapped(), batch).forwards == 128 * 9
    with pytest.raises(TypeError, match="no images were found"):
        AOPCMonitor().cost(Classifier(), {"deep": 1})


def test_estimate_reads_as_a_sentence() -> None:
    cost = Cost(forwards=8320, seconds=1.9, step_seconds=0.1)
    first, second = str(cost).splitlines()
    assert first == "8,320 forwards, 1.9 s an evaluation, the time of 19 training steps."
    assert second == "5% would be every 361 steps"
    with pytest.raises(ValueError, match="every_n_steps is missing"):
        cost.share()


def test_estimate_knows_the_schedule_of_the_monitor() -> None:
    cost = AOPCMonitor(every_n_steps=100).cost(Classifier(), torch.rand(8, 3, 16, 16))
    assert cost.share() == cost.share(100)
    assert "Every 100 steps: " in str(cost)


class Asks(pl.Callback):
    """What would be expected for several schedules, once the trainer is ready."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.found = [
            expected_share(trainer, every, at_validation, cost=144)
            for every, at_validation in ((None, True), (2, False), (3, True), ([2, 4], False))
        ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # Every epoch trains on 48 images, which counts as 144 forwards.
        ({}, [1 / 2, 3 / 4, 2 / 3, 1 / 2]),
        ({"val_check_interval": 3}, [2 / 3, 3 / 4, 2 / 3, 1 / 2]),
        ({"check_val_every_n_epoch": 2}, [1 / 3, 3 / 4, 2 / 3, 1 / 2]),
        ({"accumulate_grad_batches": 2}, [1 / 2, 3 / 5, 1 / 2, 1 / 2]),
        ({"limit_train_batches": 0.5}, [2 / 3, 3 / 4, 2 / 3, 2 / 3]),
    ],
)
def test_expected_share_follows_the_schedule(
    settings: dict[str, Any], expected: list[float], tmp_path: Path
) -> None:
    asks = Asks()
    trainer(tmp_path, asks, **settings).fit(Classifier(), *loaders())
    assert asks.found == pytest.approx(expected)


def test_nothing_is_expected_of_a_stream(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(Quadrants(16))

    asks = Asks()
    trainer(tmp_path, asks).fit(Classifier(), DataLoader(Stream(), batch_size=8), loaders()[1])
    assert asks.found == [None] * 4


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_share_never_exceeds_the_limit_when_asked_before_each() -> None:
    clock = Clock()
    overhead = Overhead(clock)
    made = 0
    for step in range(1000):
        clock.now += 1.0
        if step % 10 == 0 and (made == 0 or overhead.allows(overhead.last, 0.05)):
            with overhead.timed():
                clock.now += 2.0
            made += 1
            assert made == 1 or overhead.share() <= 0.05
    assert made > 20
    assert overhead.spent == 2.0 * made


def test_a_failure_costs_time_too() -> None:
    clock = Clock()
    overhead = Overhead(clock)

    def fail() -> None:
        with overhead.timed():
            clock.now += 3.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert overhead.last == overhead.spent == 3.0


@pytest.mark.parametrize("wrong", [0, 1, -0.1, "5%", True])
def test_wrong_shares_are_named(wrong: object) -> None:
    with pytest.raises(ValueError, match="max_overhead="):
        AOPCMonitor(max_overhead=wrong)  # type: ignore[arg-type]


def test_figures_are_counted_beside_evaluations() -> None:
    clock = Clock()
    overhead = Overhead(clock)
    with overhead.timed():
        clock.now += 2.0

    def fail() -> None:
        with overhead.timed_figures():
            clock.now += 1.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (overhead.last, overhead.last_figures, overhead.spent) == (2.0, 1.0, 3.0)
