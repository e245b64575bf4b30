"""The metric in Lightning Fabric, on one process and on two."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopc_monitor import heatmaps
from tests.metrics.test_aopc import images, metric, network

PACKAGES = pytest.mark.parametrize("package", ["lightning_fabric", "lightning.fabric"])
NEED_A_RANGE = {"lrp_epsilon_gamma_box", "deep_taylor"}


def fabric_of(package: str = "lightning_fabric", **settings: Any) -> Any:
    pytest.importorskip(package)
    return import_module(package).Fabric(accelerator="cpu", **{"devices": 1, **settings})


def value_of(model: nn.Module, x: Tensor | None = None, **changes: Any) -> float:
    made = metric(score="logit", **changes)
    made.update(model, images() if x is None else x)
    return float(made.compute())


@PACKAGES
@pytest.mark.parametrize("heatmap", ["lrp", "sensitivity_l2", "random"])
def test_wrapped_model_has_the_value_of_the_network(package: str, heatmap: str) -> None:
    model = fabric_of(package).setup(network())
    assert value_of(model, heatmap=heatmap) == value_of(network(), heatmap=heatmap)
    assert value_of(model.module, heatmap=heatmap) == value_of(network(), heatmap=heatmap)


@pytest.mark.parametrize("name", sorted(set(heatmaps.names()) - NEED_A_RANGE - {"random"}))
def test_heatmaps_of_a_wrapped_model(name: str) -> None:
    model, x = fabric_of().setup(network()), images()
    target = torch.zeros(len(x), dtype=torch.long)
    heatmap = heatmaps.get(name)
    assert torch.equal(heatmap(model, x, target), heatmap(network(), x, target))


@pytest.mark.parametrize(
    "precision",
    [
        "64-true",
        "bf16-true",
        "bf16-mixed",
    ],
)
def test_wrapped_model_in_other_precisions(precision: str) -> None:
    model = fabric_of(precision=precision).setup(network())
    assert value_of(model) == pytest.approx(value_of(network()), abs=0.02)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_module_of_a_wrapped_model_in_other_precisions(precision: str) -> None:
    model = fabric_of(precision=precision).setup(network())
    x = images().to(next(model.parameters()).dtype)
    expected = value_of(network().to(x.dtype), x)
    assert value_of(model.module, x) == pytest.approx(expected, abs=1e-6)


def test_module_of_a_wrapped_model_under_autocast() -> None:
    fabric = fabric_of(precision="bf16-mixed")
    model = fabric.setup(network())
    with fabric.autocast():
        found = value_of(model.module)
    assert found == pytest.approx(value_of(network()), abs=0.02)


def test_narrow_images_under_autocast_are_taken_as_by_the_network() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = value_of(network(), images().bfloat16())
    assert found == pytest.approx(value_of(network()), abs=0.1)


def train(fabric: Any, looked_at: str) -> list[Tensor]:
    """Three steps, with a look before each and one between its forward and its backward."""
    fabric.seed_everything(0, verbose=False)
    plain = network().train()
    model, optimizer = fabric.setup(plain, torch.optim.SGD(plain.parameters(), lr=0.1))
    looks = {"nothing": [], "module": [model.module], "wrapped": [model]}[looked_at]
    made, x = metric(), images() * (1.0 - 0.1 * fabric.global_rank)
    for _ in range(3):
        for look in looks:
            made.update(look, images())
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), torch.arange(12) % 4)
        if looked_at == "module":
            made.update(model.module, images())
        fabric.backward(loss)
        optimizer.step()
    return [*plain.state_dict().values(), torch.get_rng_state()]


def is_unharmed(fabric: Any, looked_at: str) -> bool:
    pairs = zip(train(fabric, looked_at), train(fabric, "nothing"), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@PACKAGES
@pytest.mark.parametrize("looked_at", ["module", "wrapped"])
def test_training_is_bit_identical(package: str, looked_at: str) -> None:
    assert is_unharmed(fabric_of(package), looked_at)


def _on_two_processes(fabric: Any) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    model, parts, found = fabric.setup(network()), images().split(3), {}
    unequal = parts[:3] if fabric.global_rank == 0 else parts[3:]
    # A wrapped model takes part in every forward of the others, so that shares have to be equal.
    shares = {"wrapped": (model, parts[fabric.global_rank :: 2]), "module": (model.module, unequal)}
    for name, (looked_at, share) in shares.items():
        made = metric().to(fabric.device)
        for part in share:
            made.update(looked_at, part)
        found[name] = fabric.all_gather(made.compute()).tolist()
        unharmed = torch.tensor(is_unharmed(fabric, name))
        found[f"{name}, unharmed"] = fabric.all_gather(unharmed).tolist()
    return found


@pytest.fixture(scope="module")
def on_two_processes(quick_processes: None) -> dict[str, list[float]]:
    found: dict[str, list[float]] = fabric_of(devices=2, strategy="ddp_spawn").launch(
        _on_two_processes
    )
    return found


@pytest.mark.parametrize("looked_at", ["module", "wrapped"])
def test_two_processes_have_the_value_of_one(
    on_two_processes: dict[str, list[float]], looked_at: str
) -> None:
    alone = metric()
    for part in images().split(3):
        alone.update(network(), part)
    assert on_two_processes[looked_at] == pytest.approx([float(alone.compute())] * 2, abs=1e-6)


def test_training_on_two_processes_is_bit_identical(
    on_two_processes: dict[str, list[float]],
) -> None:
    assert on_two_processes["module, unharmed"] == [True, True]


def test_training_is_bit_identical_where_the_wrapped_model_is_looked_at(
    on_two_processes: dict[str, list[float]],
) -> None:
    assert on_two_processes["wrapped, unharmed"] == [True, True]
