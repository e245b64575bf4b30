"""Layout of images in memory: cheaper forwards, the same values, and nothing left behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, area_over_perturbation_curve
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.network.execution import Execution, Forward
from tests.modules import small_network
from tests.settings import with_execution

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 12, "data_range": (0.0, 1.0)}
CHUNKS = -(-6 * 12 // 24) + 1  # of the perturbed images, and the clean ones


def images(side: int = 16) -> Tensor:
    return torch.rand(6, 3, side, side, generator=torch.Generator().manual_seed(0))


def area(model: nn.Module, x: Tensor | None = None, **changes: Any) -> AOPCResult:
    x = images() if x is None else x
    settings = {**SETTINGS, "chunk_size": 24, **changes}
    return area_over_perturbation_curve(model, x, x.mean(dim=1), **with_execution(settings))


class Residual(nn.Module):
    """A convolution around which the signal goes as well; takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        outputs: Tensor = self.last((x + self.second(x).relu()).amax(dim=(2, 3)))
        return outputs


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Flatten(),
        nn.Linear(8 * 6 * 6, 4),
    )


class Reading(nn.Module):
    """Scores features by what a function makes of them, (N, C, H, W) to (N, C * H * W)."""

    def __init__(self, flattened: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features, self.last = nn.Conv2d(3, 2, 3, padding=1), nn.Linear(2 * 16 * 16, 4)
        self.flattened = flattened

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.flattened(self.features(x)))
        return outputs


def in_place_in_memory(features: Tensor) -> Tensor:
    """The numbers of each image in the order in which they lie in memory."""
    return features.as_strided((len(features), 512), (512, 1))


def noisy(features: Tensor) -> Tensor:
    """Draws from the global generator, as dropout that somebody forgot to switch off."""
    return nn.functional.dropout(features.flatten(1), p=0.2, training=True)


def asserting(features: Tensor) -> Tensor:
    assert features.is_contiguous()
    return features.flatten(1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain, "BatchNorm": small_network, "residual": Residual
}  # fmt: skip
PARTICULAR = {
    "view": lambda features: features.view(len(features), -1),
    "strides": in_place_in_memory,
    "assert": asserting,
}


class Log:
    """Beside the model, not on it: what a model keeps is put back after each look."""

    def __init__(self) -> None:
        self.layouts: list[bool] = []
        self.dtypes: list[torch.dtype] = []


class Logged(nn.Module):
    """Takes down how the images lie that a network gets, and in what precision it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.log = network, Log()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.network(x)
        # What a network is asked to know its traits is followed by a mode, and not meant here.
        if torch._C._len_torch_function_stack() == 0:
            self.log.layouts.append(x.is_contiguous(memory_format=torch.channels_last))
            self.log.dtypes.append(outputs.dtype)
        return outputs


def logged(make: Callable[[], nn.Module]) -> Logged:
    torch.manual_seed(0)
    return Logged(make()).eval()


@pytest.fixture
def no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_channels_last_is_used_for_convolutions_and_changes_no_value(
    make: Callable[[], nn.Module], no_warnings: None
) -> None:
    model = logged(make)
    usual = area(model, channels_last=False)
    assert model.log.layouts == [False] * CHUNKS
    model.log.layouts.clear()
    result = area(model)
    assert model.log.layouts == [False, True] + [True] * CHUNKS  # two to find out
    torch.testing.assert_close(result.curves, usual.curves, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.per_image, usual.per_image, rtol=0, atol=1e-4)
    assert usual.curves.std() > 1e-3


@pytest.mark.parametrize("flattened", PARTICULAR.values(), ids=PARTICULAR)
def test_networks_that_count_on_the_usual_layout_get_it(
    flattened: Callable[[Tensor], Tensor], no_warnings: None
) -> None:
    model = logged(lambda: Reading(flattened))
    result = area(model)
    assert model.log.layouts[-CHUNKS:] == [False] * CHUNKS
    assert torch.equal(result.curves, area(model, channels_last=False).curves)


def test_what_is_asked_for_is_done() -> None:
    for wanted in (False, True):
        model = logged(plain)
        area(model, channels_last=wanted)
        assert model.log.layouts == [wanted] * CHUNKS
    with pytest.raises(RuntimeError, match="view"):
        area(logged(lambda: Reading(PARTICULAR["view"])), channels_last=True)
    metric = AOPC(
        heatmap=lambda model, x, target: x[:, 0],
        execution=Execution(channels_last=False),
        **SETTINGS,
    )
    model = logged(plain)
    metric.update(model, images())
    assert not any(model.log.layouts)


def test_networks_without_convolutions_get_images_as_they_come_untried() -> None:
    model = logged(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)))
    usual = area(model)
    assert model.log.layouts == [False] * CHUNKS
    model.log.layouts.clear()
    laid_out = area(model, images().contiguous(memory_format=torch.channels_last))
    assert model.log.layouts == [True] * CHUNKS
    torch.testing.assert_close(laid_out.curves, usual.curves, rtol=0, atol=1e-6)


def test_a_layout_that_somebody_chose_is_kept_unless_another_is_asked_for() -> None:
    laid_out = images().contiguous(memory_format=torch.channels_last)
    for wanted, kept in ((None, True), (True, True), (False, False)):
        model = logged(plain)
        area(model, laid_out, channels_last=wanted)
        assert model.log.layouts == [kept] * CHUNKS


def test_the_layout_is_tried_once_per_network_and_shape() -> None:
    model, other = logged(Residual), logged(Residual)
    counts = []
    for network, side in ((model, 16), (model, 16), (model, 20), (model, 16), (other, 16)):
        network.log.layouts.clear()
        area(network, images(side))
        counts.append(len(network.log.layouts) - CHUNKS)
    assert counts == [2, 0, 2, 0, 2]


def test_the_trial_draws_no_random_numbers() -> None:
    """The noise of a network is the same whether or not its layout was tried before."""
    model = logged(lambda: Reading(noisy))
    state = torch.get_rng_state()
    first, second = area(model), area(model)
    assert torch.equal(first.curves, second.curves)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(model.log.layouts[-CHUNKS:])


@pytest.mark.parametrize("given", [{}, {"channels_last": True}, {"autocast": torch.bfloat16}])
def test_the_network_is_not_converted(given: dict[str, Any]) -> None:
    model = small_network().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    before = [(tensor.clone(), tensor.stride(), tensor._version) for tensor in tensors]
    state = torch.get_rng_state()
    area(model, **given)
    after = [*model.parameters(), *model.buffers()]
    for tensor, now, (value, stride, version) in zip(tensors, after, before, strict=True):
        assert now is tensor
        assert torch.equal(tensor, value)
        assert tensor.stride() == stride
        assert tensor._version == version
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_a_layout_that_did_not_matter_yet_is_tried_again() -> None:
    """Before the first step a head of zeros says the same of every image."""
    model = Reading(in_place_in_memory).eval()
    head = model.last
    trained = head.weight.detach().clone()
    with torch.no_grad():
        head.weight.zero_()
    area(model)
    with torch.no_grad():
        head.weight.copy_(trained)
    assert torch.equal(area(model).curves, area(model, channels_last=False).curves)


def test_images_that_come_with_the_channels_last_stay_so() -> None:
    """Whoever trains a network in that layout gets it, whatever its weights and device."""
    x = images().contiguous(memory_format=torch.channels_last)
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3 * 16, 4)).eval()
    forward = Forward.of(model, x, Execution())
    assert forward.memory_format == torch.channels_last
    assert Forward.of(model, images(), Execution()).memory_format == torch.contiguous_format
