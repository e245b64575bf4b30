"""The planner converts a network where that pays, and leaves one that changes to torch."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution, estimate_aopc
from aopc_monitor.network.backends import checked, planned, table
from aopc_monitor.network.backends.base import Answers, asked
from tests.modules import small_network
from tests.network.backends.test_compiled import train_a_step

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}


class Counting:
    """Stands in for OpenVINO: the network itself, and how often it was asked for and called."""

    needs = None

    def __init__(self) -> None:
        self.made, self.inputs = 0, 0

    def check(self, inputs: Tensor, autocast: torch.dtype | None) -> None:
        pass

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        self.made += 1

        def call(inputs: Tensor, rows: Tensor | None) -> Tensor:
            self.inputs += len(inputs)
            return asked(model, inputs, rows)

        return Answers(call)


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setitem(table.BACKENDS, "openvino", counting)
    return counting


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setitem(table.BACKENDS, "fused", counting)
    return counting


@pytest.fixture
def price(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that a conversion takes, and those of a chunk by the clock."""
    now = {"price": 10.0, "chunk": 0.5, "at": 0.0}

    def clock() -> float:
        now["at"] += now["chunk"]  # asked before a chunk, and after it
        return now["at"]

    monkeypatch.setitem(table.BACKENDS, "fused", None)  # torch as it is
    monkeypatch.setattr(planned.time, "perf_counter", clock)
    monkeypatch.setattr(planned, "SECONDS_PER_LAYER", 0.0)
    monkeypatch.setattr(planned, "SAVED", 0.5)
    monkeypatch.setattr(planned, "SECONDS", now["price"])
    return now


def images(count: int = 8) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def metric(**changes: Any) -> AOPC:
    return AOPC("sensitivity_l2", execution=Execution(8, backend="auto"), **{**SETTINGS, **changes})


def test_what_is_known_to_come_decides_before_the_first_perturbed_image(
    faster: Counting, price: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """16 images of half a second each are to come, and more than 20 seconds of them would pay."""
    price["chunk"] = 4.0  # of eight images
    caplog.set_level(logging.INFO, "aopc_monitor")
    metric(steps=4).update(network(), images())
    assert faster.made == 0
    assert not caplog.records
    metric(steps=8).update(network(), images())
    assert (faster.made, faster.inputs) == (1, 8 * 8)
    (told,) = caplog.records
    assert told.getMessage().startswith("about 64 forwards of 5e+02 ms are to come: OpenVINO")


def test_as_many_as_there_were_are_expected(faster: Counting, price: dict[str, float]) -> None:
    """Chunks of half a second: after 40 of them as many more are worth ten seconds."""
    model, one = network(), metric()
    for _ in range(4):
        one.update(model, images())
    assert faster.made == 0
    one.update(model, images())
    assert faster.made == 1
    one.update(model, images())
    assert faster.inputs >= 9 * 8
    assert metric_of(model, "auto") == pytest.approx(metric_of(model, "eager"), abs=1e-6)


def metric_of(model: nn.Module, name: str) -> float:
    one = AOPC("sensitivity_l2", execution=Execution(8, backend=name), **SETTINGS)
    one.update(model, images())
    return float(one.compute())


def test_an_estimate_knows_its_batches(faster: Counting, price: dict[str, float]) -> None:
    """A loader of known length is converted for at once; its 3 batches of 9 chunks take 13.5 s."""
    price["chunk"] = 1.0
    settings = {**SETTINGS, "sampled_steps": None, "control": False}
    execution = Execution(8, backend="auto")
    batches = [images()] * 3
    estimate_aopc(network(), iter(batches), "sensitivity_l2", execution=execution, **settings)
    converted_late = faster.inputs
    estimate_aopc(network(), batches, "sensitivity_l2", execution=execution, **settings)
    assert faster.inputs - converted_late == 3 * 9 * 8 - 8


def test_a_network_in_training_is_left_to_torch(faster: Counting, price: dict[str, float]) -> None:
    model, one = network(), metric()
    price["chunk"] = 0.01
    one.update(model, images())
    train_a_step(model)
    price["chunk"] = 1000.0
    for _ in range(2):
        one.update(model.eval(), images())
    assert faster.made == 0


def test_it_is_used_only_where_it_can_be(
    faster: Counting, price: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    price["chunk"] = 1000.0
    AOPC(
        "sensitivity_l2",
        execution=Execution(8, backend="auto", autocast=torch.bfloat16),
        **SETTINGS,
    ).update(network(), images())
    metric().update(network().double(), images().double())
    monkeypatch.setattr(planned, "is_installed", lambda name: False)
    metric().update(network(), images())
    assert faster.made == 0


def test_one_that_fails_leaves_the_network_to_torch(
    faster: Counting, price: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: nn.Module, inputs: Tensor) -> Answers:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(faster, "answers_of", fail)
    price["chunk"] = 1000.0
    model = network()
    with pytest.warns(UserWarning, match='backend="openvino": .*no such operation') as caught:
        found = [metric_of(model, "auto") for _ in range(2)]
    assert len(caught) == 1
    assert found == [metric_of(model, "eager")] * 2
    assert "openvino" in checked._REFUSED[model]


def test_until_then_forwards_are_fused(
    price: dict[str, float], at_once: Counting, faster: Counting
) -> None:
    """The first chunk of each batch is compared, and so not counted."""
    model, one = network(), metric(steps=5)
    price["chunk"] = 3.5
    one.update(model, images())
    assert (at_once.made, at_once.inputs, faster.made) == (1, 6 * 8, 0)
    one.update(model, images())
    assert (at_once.made, faster.made) == (2, 1)
    one.update(model, images())
    assert (at_once.made, faster.made) == (2, 2)
    assert faster.inputs > 6 * 8


def test_they_stay_fused_where_openvino_fails(
    price: dict[str, float],
    at_once: Counting,
    faster: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(model: nn.Module, inputs: Tensor) -> Answers:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(faster, "answers_of", fail)
    price["chunk"] = 1000.0
    model, one = network(), metric()
    with pytest.warns(UserWarning, match="no such operation"):
        one.update(model, images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.update(model, images())
    assert at_once.made == 2
    assert at_once.inputs >= 2 * 9 * 8


def test_they_are_fused_without_openvino(
    at_once: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "is_installed", lambda name: False)
    metric().update(network(), images())
    assert at_once.inputs == 9 * 8
    metric().update(network().double(), images().double())
    assert at_once.inputs == 9 * 8


def test_one_that_turns_out_to_be_slower_is_left_again(
    price: dict[str, float],
    at_once: Counting,
    faster: Counting,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    price["chunk"] = 20.0  # of eight images: worth converting for at once
    answers_of = faster.answers_of

    def slow(model: nn.Module, inputs: Tensor) -> Answers:
        price["chunk"] = 21.0
        return answers_of(model, inputs)

    monkeypatch.setattr(faster, "answers_of", slow)
    caplog.set_level(logging.INFO, "aopc_monitor")
    model, one = network(), metric()
    one.update(model, images())
    compared, timed = 1, planned.TURNS
    assert faster.inputs == (compared + timed) * 8
    assert "torch carries them out" in caplog.messages[-1]
    before = faster.inputs
    one.update(model, images())
    assert (faster.made, faster.inputs) == (1, before)
    assert metric_of(model, "auto") == pytest.approx(metric_of(model, "eager"), abs=1e-6)


def test_one_that_is_as_fast_is_kept(
    price: dict[str, float], at_once: Counting, faster: Counting
) -> None:
    price["chunk"] = 20.0
    model, one = network(), metric()
    one.update(model, images())
    before = faster.inputs
    one.update(model, images())
    assert faster.inputs == before + 9 * 8
