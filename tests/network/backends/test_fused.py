"""Fused forwards answer as the network does, whatever it does with what its convolutions return."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aopc_monitor import Execution, area_over_perturbation_curve
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.network.backends import fused as backend
from aopc_monitor.network.backends.chains import Chain, OtherPathError
from aopc_monitor.network.backends.checked import _REFUSED, Checked
from aopc_monitor.network.backends.fused import Fused
from aopc_monitor.network.backends.fusible_calls import BatchNorm
from aopc_monitor.network.isolation import untouched
from tests.metrics.test_execution_argument import CALLS
from tests.modules import small_network
from tests.network.backends.test_compiled import train_a_step

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)
SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}


def images(count: int = 8) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def calibrated(model: nn.Module) -> nn.Module:
    """With statistics and weights of BatchNorm that are not those of a new one."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 2, generator=generator)
            module.running_mean.sub_(1.25)
    return model.eval()


def network() -> nn.Module:
    torch.manual_seed(0)
    return calibrated(small_network())


def area(model: nn.Module, name: str = "fused", chunk_size: int = 24) -> AOPCResult:
    x = images()
    execution = Execution(chunk_size, backend=name)
    return area_over_perturbation_curve(model, x, x.mean(dim=1), execution=execution, **SETTINGS)


def assert_as_eager(model: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = area(model)
    torch.testing.assert_close(found.curves, area(model, "eager").curves, rtol=0, atol=1e-5)


class Around(nn.Module):
    """Convolution and BatchNorm, and something done with what they return.

    Args:
        between: from the convolution, BatchNorm and images to features.
        bias: whether the convolution has one.
        affine: whether BatchNorm has weights.
    """

    def __init__(
        self,
        between: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor],
        bias: bool = False,
        affine: bool = True,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.convolution = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=bias)
        self.norm = nn.BatchNorm2d(8, affine=affine)
        self.last = nn.Linear(8 * 256, 4)
        self.between = between
        calibrated(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.convolution, self.norm, self.first(x)).flatten(1))


def _usual(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.relu(norm(conv(x)))


def _in_place(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return norm(conv(x)).relu_()


def _in_place_and_again(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = norm(conv(x))
    z = F.relu6(y, inplace=True)
    return y + z.sigmoid()


def _before_it(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = conv(x)
    return norm(y) + y


def _in_a_list(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = conv(x)
    return torch.cat([norm(y), y], dim=1)[:, 4:12]


def _first_changed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = conv(x)
    y.mul_(2)
    return norm(y)


def _between(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = norm(conv(x))
    return y.tanh() + F.relu(y)


def _past_torch(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = conv(x)
    return norm(y) * torch.from_numpy(y.detach().numpy().mean((2, 3), keepdims=True))


def _twice(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.silu(norm(conv(x))) + F.leaky_relu(norm(conv(F.hardswish(conv(x)))), 0.2)


def _shape_asked(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = conv(x)
    return norm(y) / y.shape[1] * y.size(0) / len(y)


def _of_the_batch(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    y = conv(x)
    return F.relu(F.batch_norm(y, None, None, training=True))


def _same(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return norm(F.conv2d(x, conv.weight, padding="same", groups=2))


FOLDED = {
    _usual: ["BatchNorm", "Activation"],
    _in_place: ["BatchNorm", "Activation"],
    _in_place_and_again: ["BatchNorm", "Activation"],
    _before_it: [],
    _in_a_list: [],
    _first_changed: [],
    _between: ["BatchNorm"],
    _past_torch: [],
    _shape_asked: ["BatchNorm"],
    _of_the_batch: [],
}


def chains_of(model: nn.Module) -> list[Chain | None]:
    with untouched(model):
        call: Any = Fused().answers_of(model, images()).call
    found: list[Chain | None] = call.keywords["call"].args[1]
    return found


@pytest.mark.parametrize("between", FOLDED)
@pytest.mark.parametrize(("bias", "affine"), [(False, True), (True, False)])
def test_only_what_nobody_else_sees_is_fused(between: Any, bias: bool, affine: bool) -> None:
    model = Around(between, bias, affine)
    if between is not _of_the_batch:  # which sees other images
        assert_as_eager(model)
    _, chain = chains_of(model)
    links = [] if chain is None else chain.links
    assert [type(link).__name__ for link in links] == FOLDED[between]


@pytest.mark.parametrize("between", [_twice, _same])
def test_calls_of_other_kinds_and_of_the_same_layer(between: Any) -> None:
    assert_as_eager(Around(between))


def test_what_a_hook_keeps_and_what_is_returned_stays_as_it_is() -> None:
    model = Around(_usual)
    kept: list[Tensor] = []
    model.convolution.register_forward_hook(lambda module, given, output: kept.append(output))
    assert_as_eager(model)
    x = images().contiguous(memory_format=torch.channels_last)
    with untouched(model), torch.no_grad():
        kept.clear()
        Checked("fused", model).prepare(x)(x, None)
        (seen,) = (output for output in kept if len(output) == len(x))
        torch.testing.assert_close(seen, model.convolution(model.first(x)))


class Capricious(nn.Module):
    """Does the usual as often as it is told to, and something else from then on."""

    def __init__(self, other: Any, usual: int) -> None:
        super().__init__()
        self.inside, self.other, self.calls, self.usual = Around(_usual), other, [0], usual

    def forward(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        self.inside.between = _usual if self.calls[0] <= self.usual else self.other
        return self.inside(x)


@pytest.mark.parametrize("other", [_before_it, _between, _past_torch, _first_changed])
def test_another_path_later_is_noticed_and_called_as_it_is(other: Any) -> None:
    """Watched, answered and compared once each the usual way; the next chunk goes another one."""
    model, x = Capricious(other, 100), images()
    with untouched(model), torch.no_grad():
        answers = Checked("fused", model).prepare(x)
        x = x.contiguous(memory_format=torch.channels_last)
        answers(x, None)
        model.usual = 0
        with pytest.warns(UserWarning, match='backend="fused".* OtherPathError'):
            found = answers(x, None)
        torch.testing.assert_close(found, model(x))
        assert not answers.answers
    assert _REFUSED[model] == {"fused"}


def test_a_network_cannot_hide_that_it_went_another_path() -> None:
    def hiding(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        y = conv(x)
        try:
            return norm(y) + y
        except OtherPathError:
            return y

    model, x = Capricious(hiding, 100), images().contiguous(memory_format=torch.channels_last)
    with untouched(model), torch.no_grad():
        call = Fused().answers_of(model, x).call
        model.usual = 0
        with pytest.raises(OtherPathError, match="given what a convolution returned"):
            call(x, None)


def test_another_convolution_or_normalisation_in_its_place_is_noticed() -> None:
    model, x = Around(_usual), images().contiguous(memory_format=torch.channels_last)
    with untouched(model), torch.no_grad():
        call = Fused().answers_of(model, x).call
        call(x, None)
        model.convolution.weight = nn.Parameter(torch.ones_like(model.convolution.weight))
        torch.testing.assert_close(call(x, None), model(x))
    with untouched(model), torch.no_grad():
        call = Fused().answers_of(model, x).call
        model.norm.eps = 1.0
        with pytest.raises(OtherPathError):
            call(x, None)


def test_the_weights_are_those_of_the_batch() -> None:
    """Changes that torch counts, and some that it does not."""
    model = network()
    for change in (
        lambda: train_a_step(model),
        lambda: model[0].weight.data.mul_(-2),  # type: ignore[index]
        lambda: model[1].running_var.mul_(3),  # type: ignore[index]
        lambda: None,
    ):
        assert_as_eager(model.eval())
        change()


def test_weights_are_folded_once_as_long_as_they_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folded, fold = [], BatchNorm.folded

    def counted(norm: BatchNorm, weight: Tensor, bias: Tensor | None) -> Any:
        folded.append(norm)
        return fold(norm, weight, bias)

    monkeypatch.setattr(BatchNorm, "folded", counted)
    model: Any = network()
    for _ in range(3):
        assert_as_eager(model)
    assert len(folded) == 1
    changes: list[Callable[[], object]] = [
        lambda: model[0].weight.data[0, 0, 0].mul_(2),
        lambda: model[1].running_var[0].add_(1),
        lambda: setattr(model[0], "weight", nn.Parameter(model[0].weight.detach().clone())),
        lambda: setattr(model[0].weight, "data", model[0].weight.data * 1.001),
        lambda: setattr(model[1].running_var, "data", model[1].running_var * 1.001),
        lambda: setattr(model[1], "running_mean", model[1].running_mean + 1),
        lambda: setattr(model[1], "bias", nn.Parameter(model[1].bias.detach() + 1)),
        lambda: setattr(model[1], "eps", 0.5),
        lambda: model[1].register_forward_hook(lambda module, given, output: output * 2),
    ]
    for number, change in enumerate(changes, start=2):
        change()
        for _ in range(3):
            assert_as_eager(model)
        assert len(folded) == number


class Counts(nn.Module):
    """A network that writes into an attribute, which a look at it puts back."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.calls = network(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        outputs: Tensor = self.network(images)
        return outputs


def test_what_forwards_write_into_attributes_is_no_change() -> None:
    model = Counts()
    assert_as_eager(model)
    known = backend._KEPT[model]
    assert_as_eager(model)
    assert backend._KEPT[model] is known
    assert model.calls == 0


def test_what_was_made_goes_with_the_network() -> None:
    model = network()
    assert_as_eager(model)
    chain = next(chain for chain in backend._KEPT[model].chains if chain is not None)
    gone = weakref.ref(model), weakref.ref(chain)
    del model, chain
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_the_module_is_left_alone() -> None:
    model, alone = network().train(), network().train()
    parts, attributes = list(model.modules()), set(vars(model))
    state, before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    for _ in range(2):
        assert_as_eager(model)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        for one, other in zip(train_a_step(model), train_a_step(alone), strict=True):
            assert torch.equal(one, other)
        state, before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    assert [id(part) for part in model.modules()] == [id(part) for part in parts]
    assert set(vars(model)) == attributes
    assert model.training


def test_the_same_network_has_the_same_numbers_to_the_last_bit() -> None:
    model = network()
    first = area(model).curves
    assert torch.equal(area(model).curves, first)
    assert torch.equal(area(copy.deepcopy(model)).curves, first)


@pytest.mark.parametrize("name", CALLS)
def test_every_metric_takes_it(name: str) -> None:
    found = CALLS[name](execution=Execution(backend="fused"))
    assert found == pytest.approx(CALLS[name](), abs=1e-5)


@pytest.mark.parametrize(
    ("layers", "shape", "reason"),
    [
        ((nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 10, 3)), (2, 12), "only .* of images"),
        ((torch.jit.script(nn.Conv2d(3, 4, 12)), nn.Flatten()), (3, 12, 12), "scripted"),
    ],
)
def test_where_nothing_can_be_fused_a_warning_says_so(
    layers: tuple[nn.Module, ...], shape: tuple[int, ...], reason: str
) -> None:
    model = nn.Sequential(*layers).eval()
    x = torch.rand(2, *shape)
    with untouched(model), torch.no_grad():
        with pytest.warns(UserWarning, match=reason):
            answers = Checked("fused", model).prepare(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Checked("fused", model).prepare(x)
        assert torch.equal(answers(x, None), model(x))


def test_a_network_under_autocast_is_called_as_it_is() -> None:
    model, x = network(), images()
    with torch.autocast("cpu", dtype=torch.bfloat16), untouched(model), torch.no_grad():
        with pytest.warns(UserWarning, match="half precision here"):
            answers = Checked("fused", model).prepare(x)
        assert torch.equal(answers(x, None), model(x))


def test_a_network_with_an_autocast_of_its_own_keeps_its_precision() -> None:
    class InHalf(Around):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    model = InHalf(_usual)
    assert torch.equal(area(model).curves, area(model, "eager").curves)
    assert not any(backend._KEPT[model].chains)


def test_one_that_counts_on_the_usual_layout_is_called_as_it_is() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.last = nn.Conv2d(3, 4, 5), nn.Linear(4 * 144, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.convolution(x).view(len(x), -1))

    model = Viewing().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(area(model).curves, area(model, "eager").curves)


def test_other_precisions_and_a_torch_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, model = images(), network()
    in_half = Execution(backend="fused", autocast=torch.bfloat16)
    with pytest.raises(ValueError, match=r'autocast=torch\.bfloat16: backend="fused" computes in'):
        area_over_perturbation_curve(model, x, x.mean(dim=1), execution=in_half, **SETTINGS)
    with pytest.raises(ValueError, match=r"inputs=torch\.float64"):
        Fused().check(x.double(), None)
    with pytest.raises(ValueError, match="computes on a CPU, and the inputs are on meta"):
        Fused().check(x.to("meta"), None)
    monkeypatch.setattr(backend.torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="this torch has no oneDNN"):
        found = area(model)
    assert torch.equal(found.curves, area(model, "eager").curves)


def test_a_network_that_returns_nan_is_not_answered_for() -> None:
    """An activation of oneDNN may make a number of it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, 4)).eval()
    x = images().contiguous(memory_format=torch.channels_last)
    with untouched(model), torch.no_grad():
        assert Checked("fused", model).prepare(x)(x, None).isfinite().all()
    model[0].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        area(model)
