"""Steps are walked in stretches, as many at once as go through the network."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aopc_monitor import Execution, heatmaps
from aopc_monitor.metrics import evaluate
from aopc_monitor.network.backends.patches.forwards import OnPatches
from aopc_monitor.network.chunks import ChunkSizes
from aopc_monitor.perturbation import Constant, PerturbationProtocol, Replacement, Uniform
from aopc_monitor.perturbation.walk import LEAST_STEPS, Stretches
from tests.network.backends.test_incremental import Between, _residual, area, walk

CPU = torch.device("cpu")


@given(count=st.integers(1, 40), steps=st.integers(1, 60), most=st.integers(1, 70), data=st.data())
def test_every_step_of_every_draw_is_in_a_stretch(
    count: int, steps: int, most: int, data: Any
) -> None:
    done, found = 0, []
    while done < count:
        stretches = Stretches.of(done, count, steps, most)
        assert len(stretches) <= most
        assert stretches.each == 1 or stretches.length >= LEAST_STEPS
        # Memory may be short on the way, so that not all go at once.
        cut = data.draw(st.integers(0, len(stretches)))
        for start, end in ((0, cut), (cut, len(stretches))):
            draw, first = stretches.rows(start, end, CPU)
            for step in range(stretches.length):
                now = [*zip(draw.tolist(), (first + step).tolist(), strict=True)]
                assert len({*now}) == len(now)
                found += now
        done += stretches.draws
    assert done == count
    assert {*found} == {(draw, step) for draw in range(count) for step in range(steps)}


def test_few_images_fill_a_chunk() -> None:
    for draws in (1, 2, 3, 5, 8):
        stretches = Stretches.of(0, draws, steps=100, most=16)
        assert 12 <= len(stretches) <= 16


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of each forward on patches."""
    found: list[int] = []
    answer = OnPatches.answer

    def noted(forward: OnPatches, network: Any) -> Any:
        found.append(forward._count)
        return answer(forward, network)

    monkeypatch.setattr(OnPatches, "answer", noted)
    return found


@pytest.mark.parametrize(
    ("replacement", "repeats"), [(Constant(0.2), 1), (Uniform(fresh_each_step=False), 3)]
)
@pytest.mark.parametrize(
    ("count", "chunk", "steps"), [(1, 8, 30), (1, 64, 4), (5, 4, 24), (3, 64, 14)]
)
def test_areas_are_those_of_eager_forwards(
    replacement: Replacement, repeats: int, count: int, chunk: int, steps: int, sizes: list[int]
) -> None:
    model, how = Between(_residual), {"steps": steps, "count": count, "chunk": chunk}
    found = area(model, replacement, "incremental", repeats, **how)
    eager = area(model, replacement, "eager", repeats, **how)
    torch.testing.assert_close(found.curves, eager.curves, rtol=0, atol=1e-5)
    most = min(chunk, count * repeats * max(1, steps // LEAST_STEPS))
    assert count * repeats <= max(sizes) <= most or max(sizes) == chunk


def evaluated(model: Any, x: Tensor, backend: str, chunk: int) -> dict[str, float]:
    protocol = PerturbationProtocol(
        3, 20, (0.0, 1.0), Constant(0.2), execution=Execution(chunk, backend=backend)
    )
    makers = {"sensitivity": heatmaps.get("sensitivity_l2")}
    chunks = ChunkSizes.of(chunk, x)
    return evaluate(model, x, None, makers, protocol, 0, chunks, lerf=True).summary()


def test_several_orders_are_walked(sizes: list[int]) -> None:
    model, x = Between(_residual), next(walk(count=5)).contiguous()
    found = evaluated(model, x, "incremental", 8)
    assert found == pytest.approx(evaluated(model, x, "eager", 8), abs=1e-5)
    # The first step of each order is made in full.
    assert sizes == [5] * (3 * 19)


def test_memory_that_is_short_in_the_middle_halves_the_stretches(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    model, answer = Between(_residual), OnPatches.answer

    def short(forward: OnPatches, network: Any) -> Any:
        found = answer(forward, network)
        if len(sizes) in (3, 10):
            raise MemoryError
        return found

    monkeypatch.setattr(OnPatches, "answer", short)
    how: dict[str, Any] = {"steps": 48, "count": 2, "chunk": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = area(model, Constant(0.2), "incremental", **how)
    eager = area(model, Constant(0.2), "eager", **how)
    torch.testing.assert_close(found.curves, eager.curves, rtol=0, atol=1e-5)
    assert [*dict.fromkeys(sizes)] == [16, 8, 4]
