"""What fails on one process of a sharded model fails on all, and none waits for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from aopc_monitor import AOPC, estimate_aopc
from aopc_monitor.network.exchanges import Exchanges
from tests.integration.sharded.models import fully_sharded, images, network
from tests.processes import run

PROTOCOL: dict[str, Any] = {"region_size": 3, "steps": 4, "data_range": (0.0, 1.0)}


class Faulty(nn.Module):
    """Does what it is told to do in a certain forward, counted from the last order on.

    Args:
        rank: of the process.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank, self.calls = rank, 0
        self.order: tuple[int, int, Callable[[Tensor], Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        counter = vars(self)
        counter["calls"] += 1
        if self.order is not None:
            number, rank, act = self.order
            if _CALLS[0] >= number and rank in (self.rank, BOTH):
                x = act(x)
            _CALLS[0] += 1
        return x


BOTH = -1
GATHER = "c10d::_allgather_base_"
# A fault, on which process, in which forward, and whether the network was looked at before.
Case = tuple[str, int, int, bool]
# Outside of the module, whose attributes a look gives back.
_CALLS = [0]


def raises(x: Tensor) -> Tensor:
    raise ValueError("only here")


def without_memory(x: Tensor) -> Tensor:
    raise MemoryError("can't allocate memory")


def short_of_memory(x: Tensor) -> Tensor:
    if len(x) > 3:
        raise MemoryError("can't allocate memory")
    return x


def not_finite(x: Tensor) -> Tensor:
    return x * torch.nan


FAULTS = {"raises": raises, "without memory": without_memory, "NaN": not_finite}
# A forward of clean images, one of a heatmap, one of perturbed images: all that a look makes of a
# network that is known; before, it makes two to see what is returned and two of another layout.
KNOWN_FORWARDS, FIRST_FORWARDS = (0, 1, 2), (0, 1, 3, 4, 5, 6)
CASES = [
    (name, where, number, known)
    for name in FAULTS
    for where in (0, 1, BOTH)
    for known, numbers in ((True, KNOWN_FORWARDS), (False, FIRST_FORWARDS))
    for number in numbers
]
QUICK = [
    ("raises", 0, 1, True),
    ("raises", 1, 2, True),
    ("raises", 1, 4, False),
    ("without memory", 0, 6, False),
    ("NaN", 0, 0, True),
    ("raises", BOTH, 5, False),
]


def faulty(rank: int) -> tuple[nn.Sequential, Faulty]:
    stem, *blocks = network()
    fault = Faulty(rank)
    return fully_sharded(nn.Sequential(stem, fault, *blocks)), fault


def update(model: nn.Module, heatmap: Any = "lrp") -> float:
    metric = AOPC(heatmap, **PROTOCOL)
    metric.update(model, images(8, seed=4))
    return float(metric.compute())


def outcome(model: nn.Module, heatmap: Any = "lrp") -> str:
    try:
        return f"{update(model, heatmap):.6f}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def of_model(rank: int, cases: list[Case]) -> dict[Case, tuple[str, str]]:
    """How a look fares under a fault, and how the next one does without it."""
    found = {}
    for case in cases:
        name, where, number, known = case
        model, fault = faulty(rank)
        if known:
            outcome(model)
        _CALLS[0], fault.order = 0, (number, where, FAULTS[name])
        under = outcome(model)
        fault.order = None
        found[case] = (under, outcome(model))
    return found


def raising_heatmap(rank: int) -> Callable[..., Tensor]:
    def heatmap(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        model(x)
        if dist.get_rank() == rank:
            raise ZeroDivisionError("only here")
        model(x)
        return x[:, 0]

    return heatmap


def of_halving(rank: int) -> list[str]:
    """Values where memory is short on one process; smaller chunks change nothing else."""
    found = []
    for where in (None, 0, 1):
        model, fault = faulty(rank)
        _CALLS[0] = 0
        fault.order = None if where is None else (0, where, short_of_memory)
        found.append(outcome(model))
    return found


def exchanges_of(call: Callable[[], object]) -> list[str]:
    kinds: list[str] = []
    with Exchanges(lambda exchange: kinds.append(exchange.kind)):
        call()
    return kinds


def counted(rank: int) -> dict[str, list[str]]:
    """The exchanges of forwards and backward passes, and of a look."""
    model, _ = faulty(rank)
    model.eval()
    x = images(8, seed=4).requires_grad_()
    update(model)

    def forward() -> None:
        with torch.no_grad():
            model(x)
        model.reshard()

    def both() -> None:
        model.reset_iter_state()  # so that nothing of the forward before is gathered again
        torch.autograd.grad(model(x).sum(), x)

    return {
        "forward": exchanges_of(forward),
        "both": exchanges_of(both),
        "look": exchanges_of(lambda: AOPC("lrp", **PROTOCOL).update(model, images(8, seed=4))),
    }


class OtherWay(nn.Module):
    """Leaves a block out, on one process."""

    def __init__(self, block: nn.Module, rank: int) -> None:
        super().__init__()
        self.block, self.rank = block, rank

    def forward(self, x: Tensor) -> Tensor:
        return x if self.rank == 1 and not self.training else self.block(x)


def misuses(rank: int) -> dict[str, str]:
    model, _ = faulty(rank)
    found = {"heatmap": outcome(model, raising_heatmap(1))}
    metric = AOPC("lrp", **PROTOCOL)
    try:
        metric.update(model, images(8 - 2 * rank))
    except Exception as error:
        found["counts"] = f"{type(error).__name__}: {error}"
    first, second, *rest = network()
    way = OtherWay(fully_shard(second), rank)
    other = fully_sharded(nn.Sequential(first, way, *rest))
    found["ways"] = outcome(other)
    return found


def uneven(rank: int) -> tuple[float, int]:
    """An estimate of batches of other sizes and numbers on each process."""
    shares = images(23).split([4, 4, 4, 4, 4, 3])
    mine = shares[:4] if rank == 0 else shares[4:]
    estimate = estimate_aopc(fully_sharded(network()), mine, **PROTOCOL)
    return estimate.aopc.mean, estimate.num_images


def _work(rank: int, world_size: int) -> dict[str, Any]:
    return {
        "model": of_model(rank, QUICK),
        "halving": of_halving(rank),
        "counted": counted(rank),
        "misuses": misuses(rank),
        "uneven": uneven(rank),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(_work, 2, tmp_path_factory.mktemp("ranks"))


def assert_fails_on_all(case: Case, first: str, second: str) -> None:
    name, where, _, _ = case
    kind = {"raises": "only here", "without memory": "does not suffice", "NaN": "NaN"}[name]
    for rank, told in enumerate((first, second)):
        if where in (rank, BOTH):
            assert kind in told, case
        else:
            assert "it failed on another process" in told, case


@pytest.mark.parametrize("case", QUICK)
def test_a_fault_of_one_process_is_raised_on_both(ranks: list[Any], case: Case) -> None:
    (first, after), (second, after_second) = (found["model"][case] for found in ranks)
    assert_fails_on_all(case, first, second)
    assert after == after_second == outcome(network())


def _all_faults(rank: int, world_size: int) -> dict[Case, tuple[str, str]]:
    return of_model(rank, CASES)


@pytest.mark.long
def test_each_fault_of_each_process(tmp_path: Path) -> None:
    expected = outcome(network())
    first, second = run(_all_faults, 2, tmp_path)
    assert len(first) == len(CASES) == 81
    for case in CASES:
        assert_fails_on_all(case, first[case][0], second[case][0])
        assert first[case][1] == second[case][1] == expected


def test_all_take_smaller_chunks_where_memory_is_short_on_one(ranks: list[Any]) -> None:
    expected = outcome(network())
    for found in ranks:
        assert found["halving"] == [expected] * 3


def test_a_look_makes_the_exchanges_of_its_forwards_and_one_small_one_a_chunk(
    ranks: list[Any],
) -> None:
    for found in ranks:
        forward, both, look = (Counter(found["counted"][k]) for k in ("forward", "both", "look"))
        assert forward == {GATHER: 5}  # a stem and four blocks
        assert both == {GATHER: 10}
        # Clean images, heatmaps and perturbed images are a chunk each: one exchange before it and
        # one after the last of its kind, and one at the end.
        assert look == {GATHER: 5 + 10 + 5, "c10d::allreduce_": 3 * 2 + 1}


def test_misuse_is_an_error_on_all(ranks: list[Any]) -> None:
    first, second = (found["misuses"] for found in ranks)
    assert first["heatmap"] == "FailedElsewhereError: it failed on another process"
    assert second["heatmap"] == "ZeroDivisionError: only here"
    for found in (first, second):
        assert found["counts"].startswith("OutOfStepError: the processes ask the sharded model")
    assert first["ways"] == "FailedElsewhereError: it failed on another process"
    assert second["ways"].startswith("OutOfStepError: the network takes different ways")


def test_shares_of_an_estimate_may_differ(ranks: list[Any]) -> None:
    batches = images(23).split([4, 4, 4, 4, 4, 3])
    expected = estimate_aopc(network(), batches, **PROTOCOL)
    assert len(expected.per_image()) == 23
    for found in ranks:
        assert found["uneven"] == pytest.approx((expected.aopc.mean, 23), abs=1e-6)
