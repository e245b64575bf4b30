"""Forwards on patches answer as whole ones do, whatever a network does with its maps."""

from __future__ import annotations

import gc
import logging
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aopc_monitor import Execution, area_over_perturbation_curve
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.functional.deletion_insertion import deletion, insertion
from aopc_monitor.network.backends import incremental as backend
from aopc_monitor.network.backends.chains import OtherPathError
from aopc_monitor.network.backends.checked import _REFUSED, Checked
from aopc_monitor.network.backends.incremental import Incremental
from aopc_monitor.network.backends.patches import forwards
from aopc_monitor.network.backends.patches.forwards import OnPatches
from aopc_monitor.network.isolation import untouched
from aopc_monitor.perturbation import Blur, Constant, Replacement, Uniform
from aopc_monitor.perturbation.walk import _tell
from tests.network.backends.test_compiled import train_a_step
from tests.network.backends.test_fused import calibrated

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)
LAST: dict[str, Any] = {"memory_format": torch.channels_last}
SIDE = 24


class Between(nn.Module):
    """Convolutions, and something done with maps between them.

    Args:
        between: from a map of 8 channels, a convolution to as many, and BatchNorm.
        side: of images; what is done may not depend on it.
    """

    def __init__(self, between: Callable[[Tensor, nn.Conv2d, nn.BatchNorm2d], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.convolution, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.between = between
        self.head = nn.LazyLinear(5)
        self.eval()(torch.rand(1, 3, SIDE, SIDE))
        calibrated(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.between(self.first(images).relu(), self.convolution, self.norm)
        return self.head(F.adaptive_avg_pool2d(maps, 3).flatten(1))


def walk(count: int = 3, steps: int = 6, box: int = 3, seed: int = 0) -> Iterator[Tensor]:
    """Images in which a box changes at each step, also at the borders and corners."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator).contiguous(**LAST)
    yield images.clone(**LAST)
    for _ in range(steps):
        for image in images:
            low = torch.randint(-2, SIDE - box + 3, (2,), generator=generator)
            top, left = low.clamp(0, SIDE - box).tolist()
            sides = (slice(None), slice(top, top + box), slice(left, left + box))
            image[sides] = torch.rand(3, box, box, generator=generator)
        yield images.clone(**LAST)


@pytest.fixture
def on_patches(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What forwards on patches there were."""
    made: list[object] = []
    answer = OnPatches.answer

    def noted(forward: OnPatches, network: Any) -> Any:
        made.append(forward)
        return answer(forward, network)

    monkeypatch.setattr(OnPatches, "answer", noted)
    return made


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many images forwards on patches were asked for; there is memory for one."""
    counts: list[int] = []
    answer = OnPatches.answer

    def short(forward: OnPatches, network: Any) -> Any:
        counts.append(forward._count)
        if forward._count > 1:
            raise MemoryError
        return answer(forward, network)

    monkeypatch.setattr(OnPatches, "answer", short)
    return counts


def assert_as_eager(model: nn.Module, **how: Any) -> None:
    images = list(walk(**how))
    with untouched(model), torch.no_grad():
        call = Incremental().answers_of(model, images[0]).call
        for given_ in images:
            found, expected = call(given_.clone(**LAST), None), model(given_.clone(**LAST))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def _residual(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = norm(conv(x))
    y += x
    return conv(y.relu_()) + y


def _seen_before_it_is_written(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = norm(conv(x))
    z = conv(y)  # which looks beside its own position
    y.add_(x)
    F.relu(y, inplace=True)
    return conv(z + y)


def _written_onto_itself(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = conv(conv(x))
    return conv(y + y) + y * y


def _dense(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    features = [x]
    for _ in range(2):
        y = torch.cat(features, dim=1)[:, :8] if len(features) > 2 else features[-1]
        features.append(conv(F.relu(norm(y))))
    joined = torch.cat(features, 1)
    y = F.avg_pool2d(joined, 2) * 2.0 - 1
    return y[:, :8] + y[:, 8:16] * y[:, 16:]


def _with_borders(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = F.pad(x, (0, 1, 2, 3), value=0.5)
    y = F.conv2d(y, conv.weight, None, stride=(2, 1), dilation=(1, 2), groups=2)
    y = F.max_pool2d(-y, 3, stride=2, padding=1, dilation=2)
    return F.avg_pool2d(y, 3, 1, 1)


def _excited(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = norm(conv(x))
    return conv(F.dropout(y * y.mean((2, 3), keepdim=True).sigmoid(), training=False))


def _seen_past_torch(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = conv(conv(x))
    return y * torch.from_numpy(y.detach().numpy().mean((2, 3), keepdims=True))


def _layout_asked(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = conv(conv(x))
    return y * (2 if y.is_contiguous(**LAST) else 3) + y.stride(1) + y.shape[2]


DONE = [_residual, _seen_before_it_is_written, _written_onto_itself, _dense, _with_borders]
DONE += [_excited, _seen_past_torch, _layout_asked]


@pytest.mark.parametrize("between", DONE)
@pytest.mark.parametrize("count", [1, 3])
def test_as_whole_forwards(between: Any, count: int, on_patches: list[object]) -> None:
    assert_as_eager(Between(between), count=count)
    assert len(on_patches) == 5  # the first image in full, the second one with a plan made


@settings(max_examples=25, deadline=None)
@given(
    sides=st.tuples(*[st.integers(1, 4)] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    dilations=st.tuples(*[st.integers(1, 2)] * 2),
    padding=st.tuples(*[st.integers(0, 3)] * 2),
    pooled=st.sampled_from(["max", "ceil", "average", "no"]),
    seed=st.integers(0, 100),
)
def test_windows_of_any_kind(
    sides: Any, strides: Any, dilations: Any, padding: Any, pooled: str, seed: int
) -> None:
    torch.manual_seed(seed)
    ceil = nn.MaxPool2d(3, 2, ceil_mode=True)
    kinds = {
        "max": nn.MaxPool2d(3, 2, 1),
        "ceil": ceil,
        "average": nn.AvgPool2d(2, 1, 1),
        "no": nn.Identity(),
    }
    layers = nn.Sequential(
        nn.Conv2d(3, 4, sides, strides, padding, dilations),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1),
        kinds[pooled],
        nn.Conv2d(4, 4, 3, 1, 1, groups=4),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )
    # Patches of whole maps, too.
    with mock.patch.object(forwards, "MOST_OF_MAP", 1.0):
        assert_as_eager(calibrated(layers), count=2, steps=3, seed=seed)


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(1, 2), nn.AvgPool2d((1, 2)), nn.MaxPool2d((3, 1), 2)]
)
def test_pooling_may_pick_single_positions(pool: nn.Module, on_patches: list[object]) -> None:
    assert_as_eager(Between(lambda x, conv, norm: conv(pool(norm(conv(x))))))
    assert len(on_patches) == 5


class Normalised(nn.Module):
    """Images normalised by buffers, in place: the network's own affair."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("deviation", torch.rand(3, 1, 1) + 0.5)
        self.inside = Between(_residual)

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(self.mean)
        return self.inside(images / self.deviation)


def test_images_are_normalised_on_patches(on_patches: list[object]) -> None:
    model = Normalised().eval()
    assert_as_eager(model)
    assert len(on_patches) == 5
    model.mean.add_(0.1)  # which no convolution holds
    assert_as_eager(model)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, on_patches: list[object]) -> None:
    whole = 3 * 8 * SIDE * SIDE * 4  # a map of all images
    monkeypatch.setattr(forwards, "MOST_BYTES", 2 * whole)
    model = Between(_residual)
    assert_as_eager(model)
    assert len(on_patches) == 5
    plan: Any = backend._KNOWN[model].plan
    # Two convolutions, and what is then done in place.
    assert [step.operation is None for step in plan.steps] == [False] * 4 + [True] * 2
    assert not any(step.args for step in plan.steps[4:])  # which would hold whole maps


def test_larger_boxes_other_numbers_and_other_images(on_patches: list[object]) -> None:
    model = Between(_residual)
    for how in ({"box": 2}, {"box": 4}, {"box": 3}, {"count": 2}, {"seed": 5}):
        assert_as_eager(model, **how)
    # A plan is made for the first boxes and the larger ones; then all but the first are patches.
    assert len(on_patches) == 5 + 5 + 6 + 6 + 6
    with untouched(model), torch.no_grad():
        first, second = next(walk()), next(walk(seed=1))
        call = Incremental().answers_of(model, first).call
        for given_ in (first, second, first, second[:2], first):
            torch.testing.assert_close(call(given_, None), model(given_), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("between", [_residual, _dense])
def test_weights_are_those_of_the_batch(between: Any, on_patches: list[object]) -> None:
    model: Any = Between(between)
    for change in (
        lambda: train_a_step(model),
        lambda: model.first.weight.data.mul_(-2),
        lambda: model.norm.running_var.mul_(3),
        lambda: model.norm.weight.data.mul_(2),
        lambda: None,
    ):
        assert_as_eager(model.eval())
        change()
    assert len(on_patches) > 20


class Blended(nn.Module):
    """A network with a number that a schedule changes."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.2
        self.inside = Between(lambda x, conv, norm: conv(norm(conv(x)) * self.share + x))

    def forward(self, images: Tensor) -> Tensor:
        return self.inside(images)


def test_settings_are_those_of_the_batch(on_patches: list[object]) -> None:
    model = Blended()
    for share, eps in ((0.2, 1e-5), (0.7, 1e-5), (0.7, 0.5)):
        model.share, model.inside.norm.eps = share, eps
        assert_as_eager(model)
    assert len(on_patches) == 15


def _changed_by_another_call(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = conv(conv(x))
    y.exp_()
    return y


def _changed_under_a_view(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = conv(conv(x))
    flat = y.permute(0, 2, 3, 1)
    y += 1
    return y * flat.mean((1, 2))[:, :, None, None]


KEPT: list[Tensor] = []


def _kept(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    y = conv(conv(x))
    KEPT[:] = [y]
    return y


REFUSED = {
    _changed_by_another_call: "writes into a map",
    _changed_under_a_view: "there are views",
    _kept: "somebody keeps a map",
}


@pytest.mark.parametrize("between", REFUSED)
def test_what_cannot_be_followed_is_told(between: Any) -> None:
    model = Between(between)
    with untouched(model), torch.no_grad():
        first, second, *_ = walk()
        answers = Checked("incremental", model).prepare(first)
        torch.testing.assert_close(answers(first, None), model(first))
        with pytest.warns(UserWarning, match=f'backend="incremental".*{REFUSED[between]}'):
            found = answers(second, None)
        torch.testing.assert_close(found, model(second))
    assert _REFUSED[model] == {"incremental"}
    KEPT.clear()


class Gated(nn.Module):
    """A network that writes what it has seen into a buffer, which its maps are multiplied by."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gate", torch.ones(1, 8, 1, 1))
        self.inside = Between(self._gated)

    def _gated(self, x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        self.gate.copy_(x.mean((0, 2, 3))[:, None, None])
        return conv(x * self.gate)

    def forward(self, images: Tensor) -> Tensor:
        return self.inside(images)


def test_a_forward_that_writes_into_a_buffer_is_told() -> None:
    """A patch has little of the error that the whole map has, which grows from step to step."""
    model, images = Gated(), list(walk())
    with untouched(model), torch.no_grad():
        call = Incremental().answers_of(model, images[0]).call
        call(images[0], None)
        call(images[1], None)
        with pytest.raises(OtherPathError, match="writes into weights or buffers"):
            call(images[2], None)


class Turning(nn.Module):
    """A network that does something else when told to."""

    def __init__(self, others: list[Any]) -> None:
        super().__init__()
        self.inside, self.others = Between(_residual), others

    def forward(self, images: Tensor) -> Tensor:
        if self.others:
            self.inside.between = self.others[0]
        return self.inside(images)


@pytest.mark.parametrize("other", [_dense, _with_borders, _seen_before_it_is_written])
def test_another_path_is_noticed_and_called_as_it_is(other: Any) -> None:
    model, images = Turning([]), list(walk())
    with untouched(model), torch.no_grad():
        answers = Checked("incremental", model).prepare(images[0])
        for given_ in images[:4]:
            answers(given_, None)
        model.others[:] = [other]
        with pytest.warns(UserWarning, match="OtherPathError"):
            found = answers(images[4], None)
        torch.testing.assert_close(found, model(images[4]), rtol=1e-5, atol=2e-5)
    assert _REFUSED[model] == {"incremental"}


def test_a_network_cannot_hide_that_it_went_another_path() -> None:
    def hiding(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        y = conv(x)
        try:
            return norm(y) + y
        except OtherPathError:
            return y

    model = Turning([])
    with untouched(model), torch.no_grad():
        first, second, third, fourth, *_ = walk()
        call = Incremental().answers_of(model, first).call
        for images in (first, second, third):
            call(images, None)
        model.others[:] = [hiding]
        with pytest.raises(OtherPathError, match="given what a convolution returned"):
            call(fourth, None)


def test_networks_with_little_to_gain_are_called_as_they_are() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 8, 8), nn.Flatten(2), nn.LayerNorm(9), nn.Flatten(), nn.Linear(36, 2)
    )
    with untouched(model), torch.no_grad():
        first, second, *_ = walk()
        answers = Checked("incremental", model).prepare(first)
        answers(first, None)
        with pytest.warns(UserWarning, match="hardly anything of the network.*flatten needs"):
            torch.testing.assert_close(answers(second, None), model(second))


def test_a_wrong_patch_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third chunk is held against the network's own answers, too."""
    model, answer = Between(_residual), OnPatches.answer
    monkeypatch.setattr(OnPatches, "answer", lambda *of: answer(*of) + 0.1)
    with untouched(model), torch.no_grad():
        first, second, third, *_ = walk()
        answers = Checked("incremental", model).prepare(first)
        answers(first, None)
        answers(second, None)
        with pytest.warns(UserWarning, match="DifferenceError"):
            found = answers(third, None)
        torch.testing.assert_close(found, model(third))


def test_the_first_patch_is_held_against_the_network_whenever_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps that change much of the images come first, of regions that are not alike."""
    model, answer = Between(_residual), OnPatches.answer
    monkeypatch.setattr(OnPatches, "answer", lambda *of: answer(*of) + 0.1)
    with untouched(model), torch.no_grad():
        answers = Checked("incremental", model).prepare(next(walk()))
        for images in (*walk(steps=3, box=16), *walk(steps=1)):
            torch.testing.assert_close(answers(images, None), model(images), rtol=1e-5, atol=2e-5)
        *_, images = walk(steps=2)
        with pytest.warns(UserWarning, match="DifferenceError"):
            torch.testing.assert_close(answers(images, None), model(images))


SETTINGS: dict[str, Any] = {"region_size": 3, "steps": 8, "data_range": (0.0, 1.0)}


def area(
    model: nn.Module,
    replacement: Replacement,
    name: str,
    repeats: int = 1,
    count: int = 5,
    chunk: int = 2,
    **more: Any,
) -> AOPCResult:
    x = next(walk(count=count)).contiguous()
    return area_over_perturbation_curve(
        model,
        x,
        x.mean(dim=1),
        replacement=replacement,
        repeats=repeats,
        execution=Execution(chunk, backend=name),
        **{**SETTINGS, **more},
    )


@pytest.mark.parametrize(
    ("replacement", "repeats"),
    [(Constant(0.2), 1), (Blur(), 1), (Uniform(fresh_each_step=False), 2)],
)
def test_areas_are_those_of_eager_forwards(
    replacement: Replacement, repeats: int, on_patches: list[object]
) -> None:
    model = Between(_residual)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = area(model, replacement, "incremental", repeats)
    eager = area(model, replacement, "eager", repeats)
    torch.testing.assert_close(found.curves, eager.curves, rtol=0, atol=1e-5)
    chunks = -(-5 * repeats // 2)
    assert len(on_patches) == 7 * chunks - 1  # the first step in full, and once the second


@pytest.mark.parametrize("measure", [deletion, insertion])
def test_deletion_and_insertion_are_those_of_eager_forwards(
    measure: Any, on_patches: list[object]
) -> None:
    model, x = Between(_dense), next(walk(count=4)).contiguous()
    found, eager = (
        measure(
            model, x, x.mean(dim=1), steps=36, region_size=4, execution=Execution(4, backend=name)
        )
        for name in ("incremental", "eager")
    )
    torch.testing.assert_close(found.per_image, eager.per_image, rtol=0, atol=1e-5)
    assert len(on_patches) > 30


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"replacement": Uniform()}, "Uniform draws anew at each step"),
        ({"replacement": Constant(0.2), "sampled_steps": 2}, "differ by more than a region"),
    ],
)
def test_what_has_no_steps_in_turn_is_said_once(
    how: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture, on_patches: list[object]
) -> None:
    model = Between(_residual)
    _tell.cache_clear()
    with caplog.at_level(logging.INFO, logger="aopc_monitor"):
        found = [area(model, name="incremental", **how) for _ in range(2)]
    told = [record.message for record in caplog.records if "incremental" in record.message]
    assert len(told) == 1
    assert reason in told[0]
    assert not on_patches
    eager = area(model, name="eager", **how)
    torch.testing.assert_close(found[0].per_image, eager.per_image, rtol=0, atol=1e-5)


def test_memory_that_is_short_halves_the_images(short_memory: list[int]) -> None:
    model = Between(_residual)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = area(model, Constant(0.2), "incremental")
    eager = area(model, Constant(0.2), "eager")
    torch.testing.assert_close(found.curves, eager.curves, rtol=0, atol=1e-5)
    assert short_memory[0] == 2
    assert set(short_memory[1:]) == {1}


def test_what_is_known_goes_with_the_network() -> None:
    model = Between(_residual)
    assert_as_eager(model)
    assert model in backend._KNOWN
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"x": torch.rand(2, 3, 8, 8, dtype=torch.float64)}, 'backend="incremental" computes in'),
        ({"x": torch.rand(2, 3, 8, 8), "autocast": torch.bfloat16}, "autocast=torch.bfloat16"),
    ],
)
def test_other_precisions_are_errors(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Incremental().check(given_["x"], given_.get("autocast"))
