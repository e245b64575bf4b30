"""Networks that keep more than parameters and buffers train as they would without the monitor."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.measurement import device_of
from tests.modules import Classifier, Quadrants, loaders, small_network, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 20,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "every_n_steps": 2,
}
Data = Callable[[], tuple[DataLoader[Any], DataLoader[Any]]]


def fit(path: Path, module: Any, *callbacks: Any, data: Data = loaders, **kwargs: Any) -> Any:
    """The module after two epochs of six steps."""
    pl.seed_everything(0, verbose=False)
    made = module()
    trainer(path, *callbacks, **kwargs).fit(made, *data())
    return made


def trains_alike(path: Path, module: Any, heatmap: str = "lrp", **kwargs: Any) -> Any:
    """The module, of which nothing in training was different with the monitor."""
    watch = AOPCMonitor(heatmap, on_error="warn", **SETTINGS)
    without, watched = fit(path, module, **kwargs), fit(path, module, watch, **kwargs)
    # As many looks as there were to be, and none of them failed.
    assert [record["step"] for record in watch.history] == [0, 2, 4, 6, 8, 10, 12]
    assert watch.state_dict()["failures"] == 0
    expected, found = without.state_dict(), watched.state_dict()
    assert list(found) == list(expected)
    assert [key for key in expected if not same(found[key], expected[key])] == []
    return watched


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.to_dense(), other.to_dense())


# Buffers


def prepared_for_quantization() -> Classifier:
    quantization = pytest.importorskip("torch.ao.quantization")
    network: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 4)
    )
    network.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return Classifier(quantization.prepare_qat(network.train()))


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Please use quant_min")
@pytest.mark.parametrize("heatmap", ["sensitivity_l2", "grad_cam"])
def test_quantization_aware_training_with_fresh_observers(heatmap: str, tmp_path: Path) -> None:
    """Their buffers are empty at first, and take another size in the first forward."""
    module = trains_alike(tmp_path, prepared_for_quantization, heatmap, num_sanity_val_steps=0)
    sizes = [buffer.numel() for name, buffer in module.named_buffers() if name.endswith("min_val")]
    assert sizes
    assert all(size > 0 for size in sizes)


class Buffered(Classifier):
    """Its forward uses and changes a buffer of any kind."""

    def __init__(self, buffer: Tensor) -> None:
        super().__init__()
        self.register_buffer("seen", buffer)

    def forward(self, images: Tensor) -> Tensor:
        outputs = super().forward(images) * float(self.seen.to_dense().sum())
        self.change()
        return outputs


class Grows(Buffered):
    def __init__(self) -> None:
        super().__init__(torch.ones(1))

    def change(self) -> None:
        self.seen.resize_(len(self.seen) + 1).fill_(1 / (len(self.seen) + 1))


class Sparse(Buffered):
    def __init__(self) -> None:
        super().__init__(torch.eye(2).to_sparse())

    def change(self) -> None:
        self.seen.mul_(1.01)


class MadeInInferenceMode(Buffered):
    def __init__(self) -> None:
        with torch.inference_mode():
            buffer = torch.ones(2)
        super().__init__(buffer)

    def change(self) -> None:
        with torch.inference_mode():
            self.seen.mul_(1.01)


@pytest.mark.parametrize("heatmap", ["sensitivity_l2", "lrp"])
@pytest.mark.parametrize("module", [Grows, Sparse, MadeInInferenceMode])
def test_buffers_of_any_kind(module: Any, heatmap: str, tmp_path: Path) -> None:
    trains_alike(tmp_path, module, heatmap)


# Generators


class Holder:
    def __init__(self, generator: Any) -> None:
        self.inner = [generator]


class Draws(Classifier):
    """Its forward draws from a generator of its own, also while it is only looked at."""

    def __init__(self, generator: Any, hide: Callable[[Any], Any]) -> None:
        super().__init__()
        self.held = hide(generator)
        self.draw: Any = getattr(generator, "random", lambda: torch.rand((), generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * (0.5 + float(self.draw())))


GENERATORS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(1),
    "python": lambda: random.Random(1),
}


@pytest.mark.parametrize("hide", [lambda g: g, Holder], ids=["attribute", "in an object"])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_of_its_own(name: str, hide: Callable[[Any], Any], tmp_path: Path) -> None:
    trains_alike(tmp_path, lambda: Draws(GENERATORS[name](), hide))


class OwnNoise(Quadrants):
    """A data set that augments by a generator of its own, in training and in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image * (0.5 + 0.5 * torch.rand((), generator=self.generator)), label


def sharing_a_data_set() -> tuple[DataLoader[Any], DataLoader[Any]]:
    data = OwnNoise()
    return DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=8)


def sharing_a_generator() -> tuple[DataLoader[Any], DataLoader[Any]]:
    generator, data = torch.Generator().manual_seed(5), Quadrants()
    settings: dict[str, Any] = {"batch_size": 8, "shuffle": True, "generator": generator}
    return DataLoader(data, **settings), DataLoader(data, **settings)


@pytest.mark.parametrize("data", [sharing_a_data_set, sharing_a_generator])
def test_what_training_and_validation_share(data: Data, tmp_path: Path) -> None:
    trains_alike(tmp_path, Classifier, data=data)


# Other attributes


class Counts(Classifier):
    """Keeps state in attributes, and lets it tell on its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(())
        self.nested = {"means": [torch.ones(2)]}
        self.metric = torchmetrics.MeanMetric()

    def forward(self, images: Tensor) -> Tensor:
        self.count += 1
        self.nested["means"][0].mul_(1.01)
        self.metric.update(images.detach().mean() * self.count)
        scale = self.count.log1p() + self.nested["means"][0].sum() + self.metric.compute()
        return super().forward(images) * scale


def test_attributes_that_a_forward_writes_to(tmp_path: Path) -> None:
    made = trains_alike(tmp_path, Counts)
    # Two epochs of six steps, as many batches of validation and two of the sanity check.
    assert int(made.count) == 2 * (6 + 5) + 2


# Parts of modules


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_parameters_can_be_swapped_afterwards(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch does in `module.to` if it is told to, unless a weak reference was left."""
    watch = AOPCMonitor("lrp", backend=backend, **SETTINGS)
    watched = fit(tmp_path, Classifier, watch)
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    parameters = [*watched.parameters()]
    watched.to(torch.float64)
    assert all(one is other for one, other in zip(parameters, watched.parameters(), strict=True))
    assert {parameter.dtype for parameter in parameters} == {torch.float64}


def test_the_device_is_that_of_the_part_that_is_looked_at() -> None:
    assert (
        device_of(nn.Sequential(nn.ReLU(), nn.Linear(2, 2, device="meta")), Classifier()).type
        == "meta"
    )
    assert device_of(nn.BatchNorm2d(2, affine=False, device="meta"), Classifier()).type == "meta"


def test_images_go_to_the_device_of_the_part(tmp_path: Path) -> None:
    class Elsewhere(Classifier):
        """Says of itself that it is where no image can be looked at."""

        @property
        def device(self) -> torch.device:
            return torch.device("meta") if hasattr(self, "pretends") else super().device

        def on_train_start(self) -> None:
            self.pretends = True

    watch = AOPCMonitor(**SETTINGS, on_error="raise", model_fn=lambda module: module.network)
    fit(tmp_path, Elsewhere, watch, max_epochs=1)
    assert len(watch.history) == 4


def test_an_estimate_of_a_network_that_has_nothing_to_train() -> None:
    frozen = small_network().requires_grad_(False)
    for network in (frozen, Classifier(frozen), nn.Sequential(nn.AvgPool2d(8), nn.Flatten())):
        estimate = AOPCMonitor("occlusion", num_images=4).cost(network, torch.rand(4, 3, 16, 16))
        assert estimate.step_seconds > 0
        assert not any(parameter.requires_grad for parameter in network.parameters())
