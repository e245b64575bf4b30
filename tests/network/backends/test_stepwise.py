"""The planner has steps in turn answered incrementally where it turns out that this is faster."""

from __future__ import annotations

import gc
import logging
import time
import warnings
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution
from aopc_monitor.network.backends import planned, stepwise, table
from aopc_monitor.network.backends.base import Answers
from aopc_monitor.network.backends.patches.forwards import OnPatches
from aopc_monitor.perturbation import Blur, Constant, Replacement, Uniform
from tests.network.backends.test_incremental import Between, _residual, on_patches, short_memory
from tests.network.backends.test_planned import Counting

__all__ = ["on_patches", "short_memory"]  # fixtures

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)
# Of one chunk, in one stretch.
IMAGES, STEPS = 4, 18


class Ticking(Counting):
    """Stands in for a back end by the network itself, which takes some time by the clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        of = super().answers_of(model, inputs)

        def call(inputs: Tensor, rows: Tensor | None) -> Tensor:
            self.clock.now += self.seconds
            return of.call(inputs, rows)

        return Answers(call)


class Clock:
    """What is told for the time.

    Attributes:
        on_patches: seconds of a forward on patches.
    """

    def __init__(self) -> None:
        self.now, self.on_patches = 0.0, 0.1

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, answer = Clock(), OnPatches.answer

    def answered(forward: OnPatches, network: Any) -> Any:
        clock.now += clock.on_patches
        return answer(forward, network)

    monkeypatch.setattr(OnPatches, "answer", answered)
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(planned, "is_installed", lambda name: False)
    monkeypatch.setattr(planned, "LEAST_CHUNKS", STEPS)
    return clock


@pytest.fixture
def usual(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Ticking:
    """What answers otherwise."""
    ticking = Ticking(clock, 0.2)
    monkeypatch.setitem(table.BACKENDS, "fused", ticking)
    return ticking


def area(
    model: nn.Module, backend: str = "auto", replacement: Replacement | None = None, **more: Any
) -> float:
    given = torch.rand(IMAGES, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    choices = {"region_size": 3, "steps": STEPS, "data_range": (0.0, 1.0), **more}
    execution = Execution(IMAGES, backend=backend)
    metric = AOPC(replacement=replacement or Constant(0.2), execution=execution, **choices)
    metric.update(model, given, given.mean(dim=1))
    return float(metric.compute())


@pytest.mark.parametrize("replacement", [Constant(0.2), Blur(), Uniform(fresh_each_step=False)])
def test_steps_in_turn_are_answered_on_patches(
    replacement: Replacement,
    usual: Ticking,
    on_patches: list[object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "aopc_monitor")
    model = Between(_residual)
    eager = area(model, "eager", replacement)
    for _ in range(2):
        assert area(model, replacement=replacement) == pytest.approx(eager, abs=1e-6)
    # The first step in full, and once the second, for a plan.
    assert len(on_patches) == 2 * (STEPS - 1) - 1
    # Clean images, and twice a step, to be timed beside patches of it.
    assert usual.inputs == IMAGES * (2 + 2)
    (told,) = caplog.messages
    assert told.startswith("a step takes 25 ms where only what it changes is computed, and 50 by")
    assert told.endswith("which are not made")


@pytest.mark.parametrize(
    "how",
    [
        {"replacement": Uniform()},
        {"sampled_steps": 4},
        {"steps": planned.LEAST_WALKED - 1},
    ],
)
def test_others_are_answered_as_usual(
    how: dict[str, Any], usual: Ticking, on_patches: list[object]
) -> None:
    model = Between(_residual)
    assert area(model, **how) == pytest.approx(area(model, "eager", **how), abs=1e-6)
    assert not on_patches


def test_it_begins_once_that_much_is_to_come(
    usual: Ticking, on_patches: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first batch one chunk is compared, and so not counted; nor is the clean one."""
    monkeypatch.setattr(planned, "LEAST_CHUNKS", 2 * STEPS - 1)
    model = Between(_residual)
    for _ in range(2):
        area(model)
        assert not on_patches
    area(model)
    assert len(on_patches) == STEPS - 2


def test_where_that_is_slower_the_rest_is_answered_as_usual(
    usual: Ticking, clock: Clock, on_patches: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aopc_monitor")
    clock.on_patches, model = 0.21, Between(_residual)
    eager = area(model, "eager")
    for _ in range(2):
        assert area(model) == pytest.approx(eager, abs=1e-6)
    assert len(on_patches) == 1 + stepwise.TURNS  # the first one is compared
    assert caplog.messages[-1].endswith("by whole forwards, which are made")
    # Of the first batch what was timed, and what then was left; and all of the second one.
    left = STEPS - 2 - len(on_patches)
    assert usual.inputs == IMAGES * (1 + stepwise.TURNS + left + 1 + STEPS)


def test_a_converted_network_may_be_faster(
    usual: Ticking, clock: Clock, on_patches: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = Ticking(clock, 0.05)
    monkeypatch.setitem(table.BACKENDS, "openvino", converted)
    monkeypatch.setattr(planned, "is_installed", lambda name: True)
    monkeypatch.setattr(planned, "SECONDS", 0.0)
    monkeypatch.setattr(planned, "SECONDS_PER_LAYER", 0.0)
    model = Between(_residual)
    area(model, replacement=Uniform())
    assert converted.made == 1
    before = converted.inputs
    assert area(model) == pytest.approx(area(model, "eager"), abs=1e-6)
    assert len(on_patches) == 1 + stepwise.TURNS
    assert converted.inputs >= before + IMAGES * (STEPS - len(on_patches))


class Flat(nn.Module):
    """A network of which nothing can be computed in part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(36, 2))

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.layers(images)
        return answer


def test_only_the_log_tells_of_a_network_that_cannot_be_followed(
    usual: Ticking, on_patches: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aopc_monitor")
    model = Flat().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert area(model) == pytest.approx(area(model, "eager"), abs=1e-6)
    assert not on_patches
    (told,) = caplog.messages
    assert told.startswith('backend="incremental" is left out. RuntimeError: hardly anything of')
    with pytest.warns(UserWarning, match="hardly anything of the network"):
        area(model, "incremental")


def test_a_wrong_answer_is_told(usual: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = OnPatches.answer
    monkeypatch.setattr(OnPatches, "answer", lambda *of: answer(*of) + 0.1)
    model = Between(_residual)
    with pytest.warns(UserWarning, match="DifferenceError"):
        found = area(model)
    assert found == pytest.approx(area(model, "eager"), abs=1e-6)


def test_memory_that_is_short_halves_the_images(usual: Ticking, short_memory: list[int]) -> None:
    model = Between(_residual)
    assert area(model) == pytest.approx(area(model, "eager"), abs=1e-6)
    assert [*dict.fromkeys(short_memory)] == [4, 2, 1]


def test_what_was_found_out_goes_with_the_network(usual: Ticking) -> None:
    model = Between(_residual)
    area(model)
    assert model in stepwise._FOUND
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
