"""Processes with batches of their own give one estimate, stop together and fail together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from aopc_monitor.metrics.aopc_estimate import AOPCEstimate, difference
from aopc_monitor.metrics.collected_areas import FEWEST_IMAGES
from tests.metrics.test_estimate import SIZE, batches, estimate
from tests.processes import run

# Batches of the first and of the second process.
SHARES: dict[str, tuple[int, int]] = {"uneven": (5, 2), "more on the second": (1, 3), "one": (0, 3)}
TARGETS: dict[str, tuple[tuple[int, int], float]] = {
    "reached": ((6, 6), 0.0014), "reached by one alone": ((1, 6), 0.0017), "ended": ((3, 2), 1e-9)
}  # fmt: skip
FAILURES = ("later", "at once", "wrong type", "no images")


def share(rank: int, counts: tuple[int, int]) -> tuple[Tensor, ...]:
    everything = batches(sum(counts))
    return everything[: counts[0]] if rank == 0 else everything[counts[0] :]


def read_from(parts: tuple[Tensor, ...], read: list[Tensor]) -> Iterator[Tensor]:
    for part in parts:
        read.append(part)
        yield part


def failing(kind: str) -> Iterator[Any]:
    """What the second process is given."""
    if kind == "at once":
        raise ZeroDivisionError
    if kind == "wrong type":
        yield torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    if kind == "later":
        yield from batches(2)
        raise ZeroDivisionError


def failure(rank: int, kind: str) -> str:
    """How the estimate failed on this process."""
    if kind == "no images":
        of: Any = []
    else:
        of = batches(5) if rank == 0 else failing(kind)
    try:
        estimate(of)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _work(rank: int, world_size: int) -> dict[str, Any]:
    found: dict[str, Any] = {kind: failure(rank, kind) for kind in FAILURES}
    found |= {case: estimate(share(rank, counts)) for case, counts in SHARES.items()}
    for case, (counts, target) in TARGETS.items():
        read: list[Tensor] = []
        of_case = estimate(read_from(share(rank, counts), read), target_sem=target)
        found[case] = (of_case, len(read))
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both found, also after an estimate that failed on both."""
    return run(_work, 2, tmp_path_factory.mktemp("ranks"))


def assert_same(one: AOPCEstimate, other: AOPCEstimate) -> None:
    for of in ("aopc", "gain"):
        torch.testing.assert_close(one.per_image(of), other.per_image(of), rtol=1e-6, atol=1e-8)
    assert one.forwards == other.forwards
    assert one.reached == other.reached
    assert difference(one, other).mean == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("case", SHARES)
def test_all_processes_get_the_estimate_over_all_batches(
    ranks: list[dict[str, Any]], case: str
) -> None:
    alone = estimate(batches(sum(SHARES[case])))
    for found in ranks:
        assert_same(found[case], alone)


def rounds_until(target: float, counts: tuple[int, int]) -> int:
    """After how many batches of each process the error is small enough, or all are read."""
    alone = [estimate(share(rank, counts)).per_image() for rank in (0, 1)]
    for rounds in range(1, max(counts) + 1):
        values = torch.cat([of_rank[: rounds * SIZE] for of_rank in alone])
        if len(values) >= FEWEST_IMAGES and float(values.std() / len(values) ** 0.5) <= target:
            return rounds
    return max(counts)


@pytest.mark.parametrize("case", TARGETS)
def test_processes_stop_together(ranks: list[dict[str, Any]], case: str) -> None:
    counts, target = TARGETS[case]
    rounds = rounds_until(target, counts)
    assert (rounds < max(counts)) == (case != "ended")
    looked_at = [min(rounds, count) for count in counts]
    for found, count in zip(ranks, looked_at, strict=True):
        of_case, read = found[case]
        assert read == count
        assert of_case.reached is (case != "ended")
        assert of_case.num_images == sum(looked_at) * SIZE
    assert_same(*(found[case][0] for found in ranks))


def test_a_failure_of_one_process_is_raised_on_both(ranks: list[dict[str, Any]]) -> None:
    first, second = ranks
    for kind in ("later", "at once", "wrong type"):
        assert first[kind] == "RuntimeError: estimate_aopc failed on another process"
    assert second["later"].startswith("ZeroDivisionError")
    assert second["at once"].startswith("ZeroDivisionError")
    assert second["wrong type"].startswith("TypeError: images is torch.uint8")


def test_no_images_on_any_process_is_an_error_on_both(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert found["no images"].startswith("ValueError: batches holds no images")
