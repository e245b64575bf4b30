"""FSDP2's settings: what is gathered when, precision, offloading; checkpointed, compiled blocks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy
from torch.nn import functional as F

from aopc_monitor import AOPC, heatmaps
from tests.integration.sharded.models import CLASSES, fully_sharded, images, mlps, network
from tests.processes import run

PROTOCOL: dict[str, Any] = {"region_size": 3, "steps": 4, "data_range": (0.0, 1.0)}


def checkpointed(model: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*(checkpoint_wrapper(block) for block in model))


def compiled(model: nn.Sequential) -> nn.Sequential:
    for block in model:
        block.compile(backend="eager")
    return model


def bf16() -> MixedPrecisionPolicy:
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.float32)


# Settings of `fully_shard`, what is done to the blocks before, and by how much values may differ.
CASES: dict[str, tuple[dict[str, Any], Callable[[nn.Sequential], nn.Sequential], float]] = {
    "always resharded": ({"reshard_after_forward": True}, lambda model: model, 1e-6),
    "never resharded": ({"reshard_after_forward": False}, lambda model: model, 1e-6),
    "half precision": ({"mp_policy": bf16()}, lambda model: model, 1e-6),
    "half precision of the weights": ({}, lambda model: model.bfloat16(), 1e-6),
    "offloaded": (
        {"offload_policy": CPUOffloadPolicy(pin_memory=False)}, lambda model: model, 1e-6
    ),
    "checkpointed": ({}, checkpointed, 1e-6),
    "compiled": ({}, compiled, 1e-6),
}  # fmt: skip


def whole(case: str) -> nn.Sequential:
    # BatchNorm does not train in half precision with statistics in float32.
    return mlps() if case.startswith("half precision") else network()


def made(case: str) -> nn.Sequential:
    settings, change, _ = CASES[case]
    return fully_sharded(change(whole(case)), **settings)


def by_backward(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """A heatmap as many write one: it leaves gradients at the weights, too."""
    x = x.detach().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    return x.grad.abs().sum(dim=1)


class AsUnderThePolicy(nn.Module):
    """What a network makes of float32 images in half precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.bfloat16()).float()


def as_precise_as_it_is(name: str) -> Any:
    heatmap = heatmaps.get(name)
    return name if name == "random" else replace(heatmap, keep_precision=True)  # type: ignore[type-var]


def taken_by(model: nn.Module, x: Tensor) -> Tensor:
    is_cast = isinstance(model, AsUnderThePolicy)
    return x if is_cast else x.to(next(model.parameters()).dtype)


def value_of(model: nn.Module, heatmap: Any) -> float | str:
    metric = AOPC(heatmap, **PROTOCOL)
    try:
        metric.update(model, taken_by(model, images(8)))
    except RuntimeError as error:
        return str(error)
    return float(metric.compute())


def trained(case: str, looking: bool) -> list[Tensor]:
    """Two steps, of which the first accumulates gradients, with looks everywhere or without."""
    model = made(case)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for number in range(3):
        model.set_requires_gradient_sync(number != 0)
        torch.manual_seed(number)
        x = taken_by(model, images(4, seed=number))
        F.cross_entropy(model(x), torch.arange(4) % CLASSES).backward()
        if looking:
            value_of(model, "lrp")
            value_of(model, by_backward)
        if number != 0:
            optimizer.step()
            optimizer.zero_grad()
    tensors = [*model.parameters(), *model.buffers()]
    return [getattr(tensor, "_local_tensor", tensor).detach().clone() for tensor in tensors]


def _work(rank: int, world_size: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    return {
        case: {
            "values": [value_of(made(case), name) for name in ("lrp", "sensitivity_l2", "random")],
            "trained": (trained(case, looking=False), trained(case, looking=True)),
        }
        for case in CASES
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(_work, 2, tmp_path_factory.mktemp("ranks"))


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_one_process(ranks: list[dict[str, Any]], case: str) -> None:
    alone: nn.Module = whole(case)
    names: list[Any] = ["lrp", "sensitivity_l2", "random"]
    if case.startswith("half precision"):  # which no process has room to widen
        names = list(map(as_precise_as_it_is, names))
        alone = AsUnderThePolicy(alone) if case == "half precision" else alone.bfloat16()
    expected = [value_of(alone, name) for name in names]
    for found in ranks:
        values = found[case]["values"]
        if case == "checkpointed":  # the second forward knows nothing of rules
            assert "activation checkpointing also in eval mode" in values[0]
            values[0] = expected[0]
        assert values == pytest.approx(expected, abs=CASES[case][2])


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
def test_training_is_bit_identical(ranks: list[dict[str, Any]], case: str) -> None:
    """Also while gradients that are not reduced yet are being accumulated."""
    for found in ranks:
        plain, watched = found[case]["trained"]
        assert len(plain) > 10
        assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
