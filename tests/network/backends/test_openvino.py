"""A converted network answers as the network does, is never stale, and leaves it alone."""

from __future__ import annotations

import copy
import gc
import logging
import math
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, Execution, area_over_perturbation_curve
from aopc_monitor.metrics.functional.aopc import AOPCResult
from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.backends.checked import Checked
from aopc_monitor.network.isolation import untouched
from aopc_monitor.perturbation import Constant
from tests.metrics.test_execution_argument import CALLS
from tests.modules import small_network
from tests.network.backends.test_compiled import train_a_step

pytest.importorskip("openvino", reason="the extra fast-cpu is not installed")

from aopc_monitor.network.backends import openvino as backend
from aopc_monitor.network.backends import openvino_conversion as conversion

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that were converted."""
    converted, compiled = [], backend.requests_of

    def counted(network: nn.Module, *given: Any) -> Any:
        converted.append(network)
        return compiled(network, *given)

    monkeypatch.setattr(backend, "requests_of", counted)
    return converted


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions by tracing, at a tenth of the time."""

    def fail(network: nn.Module, example: Tensor) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(conversion, "_exported", fail)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch computes on two threads, and still does afterwards."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        yield
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def images() -> Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return small_network()


def area(
    model: nn.Module, name: str = "openvino", chunk_size: int = 24, **changes: Any
) -> AOPCResult:
    x = images()
    execution = Execution(chunk_size, backend=name)
    return area_over_perturbation_curve(
        model, x, x.mean(dim=1), execution=execution, **SETTINGS, **changes
    )


def assert_as_eager(model: nn.Module, **changes: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = area(model, **changes)
    expected = area(model, "eager", **changes)
    torch.testing.assert_close(found.curves, expected.curves, rtol=0, atol=1e-5)
    assert torch.equal(found.target, expected.target)


def test_values_are_the_same_and_the_module_is_left_alone() -> None:
    model, alone = network().train(), network().train()
    parts, attributes = list(model.modules()), set(vars(model))
    disabled, state = logging.root.manager.disable, torch.get_rng_state()
    for _ in range(2):
        assert_as_eager(model)
        assert torch.equal(torch.get_rng_state(), state)
        for one, other in zip(train_a_step(model), train_a_step(alone), strict=True):
            assert torch.equal(one, other)
        state = torch.get_rng_state()
    assert [id(part) for part in model.modules()] == [id(part) for part in parts]
    assert set(vars(model)) == attributes
    assert model.training
    assert logging.root.manager.disable == disabled


class Conditional(nn.Module):
    """Takes one of two ways by the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) if x.shape[1] == 3 else self.network(x[:, :3])


@pytest.mark.parametrize(
    ("make", "ways"), [(network, ["_surely_traced"]), (Conditional, ["_exported"])]
)
@pytest.mark.parametrize("read", [False, True])
def test_what_tracing_would_fix_is_exported(
    make: Callable[[], nn.Module], ways: list[str], read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def noted(name: str, way: Any) -> Any:
        def call(*given: Any) -> Any:
            decoder = way(*given)
            taken.append(name)
            return decoder

        return call

    for name in ("_surely_traced", "_exported"):
        monkeypatch.setattr(conversion, name, noted(name, getattr(conversion, name)))
    model: nn.Module = make().eval()
    asked = AskedNetwork(model) if read else model
    with untouched(model), torch.no_grad():
        for count in (2, 7, 3):
            inputs = images()[:count]
            answers = Checked("openvino", asked).prepare(inputs)
            torch.testing.assert_close(answers(inputs, None), model(inputs), rtol=0, atol=1e-5)
            assert answers.answers is not None
    assert taken == ways


@pytest.mark.parametrize("name", CALLS)
def test_every_metric_takes_it(name: str) -> None:
    found = CALLS[name](execution=Execution(backend="openvino"))
    assert found == pytest.approx(CALLS[name](), abs=1e-5)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 10, 3)), (2, 12)),
        ((nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 3)), (1, 4, 4, 4)),
        ((nn.Flatten(), nn.Linear(5, 1), nn.Flatten(0)), (5,)),
    ],
)
def test_inputs_of_any_shape_and_number(layers: tuple[nn.Module, ...], shape: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*layers).eval()
    # The layers were made when the tests were collected, of whatever numbers came then.
    for layer in model:
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv3d):
            layer.reset_parameters()
    with untouched(model), torch.no_grad():
        for count in (1, 7, 3):
            inputs = torch.randn(count, *shape)
            answers = Checked("openvino", model).prepare(inputs)
            found, expected = answers(inputs, None), model(inputs).view(count, -1)
            assert answers.answers is not None
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_network_is_converted_once(conversions: list[nn.Module]) -> None:
    model = network()
    for chunk_size in (24, 5, 8):
        assert_as_eager(model, chunk_size=chunk_size)
    metric = AOPC("sensitivity_l2", execution=Execution(backend="openvino"), **SETTINGS)
    for count in (3, 1):
        metric.update(model, images()[:count])
    assert len(conversions) == 1


def scaled() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.scale = network(), {"of": [1.0]}

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x) * self.scale["of"][0]

    return Scaled()


def _hook(model: nn.Module) -> None:
    model.network[0].register_forward_hook(lambda module, inputs, outputs: outputs * 2)


CHANGES: dict[str, Callable[[Any], object]] = {
    "in place": lambda model: model.network[9].weight.detach().mul_(-1),
    "past torch's count": lambda model: model.network[9].weight.data.mul_(-1),
    "another parameter": lambda model: setattr(
        model.network[9], "weight", nn.Parameter(-model.network[9].weight)
    ),
    "statistics": lambda model: model.network[1].running_mean.add_(0.5),
    "values in other places": lambda model: model.network[9].weight.data.copy_(
        model.network[9].weight.flip(0)
    ),
    "an attribute": lambda model: model.scale.update(of=[-1.0]),
    "a hook": _hook,
    "a layer": lambda model: model.network.__setitem__(2, nn.Tanh()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_network_that_has_changed_is_converted_again(
    change: Callable[[Any], object], conversions: list[nn.Module], traced: None
) -> None:
    model = scaled()
    before = area(model)
    change(model)
    assert_as_eager(model)
    assert (area(model).curves - before.curves).abs().max() > 1e-3
    assert len(conversions) == 2


def test_a_network_that_changes_again_and_again_is_called_as_it_is(
    conversions: list[nn.Module], traced: None
) -> None:
    model = network()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(6):
            train_a_step(model)
            result = area(model)
            expected = area(model, "eager").curves
            torch.testing.assert_close(result.curves, expected, rtol=0, atol=1e-5)
    (warning,) = caught
    assert "stay as they are" in str(warning.message)
    assert len(conversions) == backend.MOST_CONVERSIONS


def test_what_was_converted_is_dropped_with_the_network() -> None:
    model = network()
    area(model, output_fn=lambda answer: answer)
    (converted,) = (weakref.ref(one) for one in backend._KEPT[model].converted.values())
    assert converted() is not None
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert converted() is None


class WronglyConverted(nn.Module):
    """Answers otherwise while it is looked at by a converter, as some networks do on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.network(x)
        return -outputs if torch.jit.is_tracing() or torch.compiler.is_compiling() else outputs


class NotConverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + torch.linalg.svdvals(x[:, 0])[:, :4]


class NotCopied:
    def __deepcopy__(self, memo: object) -> NotCopied:
        raise TypeError("cannot be copied")


def with_what_cannot_be_copied() -> nn.Module:
    model: Any = network()
    model.handle = NotCopied()
    return cast("nn.Module", model)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (WronglyConverted(), r"outputs differ by up to [\d.]+ from the network's"),
        (NotConverted(), "it does not convert: by torch.export .*; by tracing "),
        (with_what_cannot_be_copied(), "TypeError: cannot be copied"),
    ],
)
def test_the_network_is_called_as_it_is_with_one_warning(model: nn.Module, why: str) -> None:
    with pytest.warns(UserWarning, match=f'backend="openvino": .*called as it is. .*{why}') as told:
        results = [area(model) for _ in range(2)]
    assert len(told) == 1
    for result in results:
        assert torch.equal(result.curves, area(model, "eager").curves)


def test_a_conversion_that_goes_stale_unseen_is_found_at_the_next_batch() -> None:
    """What a network reads elsewhere is not compared; one image of each batch is."""
    elsewhere = [1.0]

    class ReadsElsewhere(NotConverted):
        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.network(x)
            return outputs * elsewhere[0]

    model = ReadsElsewhere()
    assert_as_eager(model)
    elsewhere[0] = -1.0
    with pytest.warns(UserWarning, match="outputs differ"):
        found = area(model)
    assert torch.equal(found.curves, area(model, "eager").curves)


def test_other_inputs_are_not_for_it() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)).eval()
    tokens = torch.randint(9, (4, 3))
    with untouched(model), pytest.warns(UserWarning, match="floating-point inputs"):
        answers = Checked("openvino", model).prepare(tokens)
    assert torch.equal(answers(tokens, None), model(tokens))


def test_what_it_does_not_have_is_refused() -> None:
    execution = Execution(backend="openvino", autocast=torch.bfloat16)
    with pytest.raises(ValueError, match=r"autocast=torch\.bfloat16: .*computes in float32"):
        area_over_perturbation_curve(
            network(), images(), images()[:, 0], execution=execution, **SETTINGS
        )
    double, execution = images().double(), Execution(backend="openvino")
    with pytest.raises(ValueError, match=r"the inputs are torch\.float64"):
        area_over_perturbation_curve(
            network().double(), double, double[:, 0], execution=execution, **SETTINGS
        )
    with pytest.raises(ValueError, match="computes on a CPU, and the inputs are on meta"):
        backend.OpenVINO().check(images().to("meta"), None)


class Short:
    """A request that has memory for a few images."""

    def __init__(self, request: Any, raises: bool) -> None:
        self.request, self.raises = request, raises
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def start_async(self, inputs: Any, **how: Any) -> None:
        self.sizes.append(len(inputs))
        if len(inputs) <= 1:
            self.request.start_async(inputs, **how)

    def wait(self) -> None:
        if self.sizes[-1] <= 1:
            self.request.wait()
        elif self.raises:
            raise RuntimeError("Exception from src/core: std::bad_alloc")
        # or nothing, as OpenVINO does


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("which", [0, 2])
def test_chunks_are_halved_where_memory_is_short(raises: bool, which: int) -> None:
    model = network()
    expected = area(model)
    (converted,) = backend._KEPT[model].converted.values()
    converted._requests[which] = short = Short(converted._requests[which], raises)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = area(model, chunk_size=8)
    assert short.sizes[0] == 2  # of 8, in four parts
    assert set(short.sizes[1:]) == {1}
    torch.testing.assert_close(found.curves, expected.curves, rtol=0, atol=1e-6)


class Waited:
    """A request that notes when it was waited for, and may fail."""

    def __init__(self, request: Any, waited: list[int], fails: bool) -> None:
        self.request, self.waited, self.fails = request, waited, fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def wait(self) -> None:
        self.request.wait()
        self.waited.append(id(self))
        if self.fails:
            raise RuntimeError("it went wrong")


@pytest.mark.usefixtures("two_threads")
def test_parts_that_were_begun_are_waited_for_where_another_one_fails() -> None:
    model, waited = network(), list[int]()
    expected = area(model, "eager")
    area(model)
    (converted,) = backend._KEPT[model].converted.values()
    converted._requests = requests = [
        Waited(request, waited, fails=place == 1)
        for place, request in enumerate(converted._requests)
    ]
    with pytest.warns(UserWarning, match="it went wrong"):
        found = area(model)
    assert waited == [id(request) for request in requests]
    assert torch.equal(found.curves, expected.curves)


@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (2, 4), (5, 4)])
def test_parts_are_for_threads_to_share(threads: int, parts: int) -> None:
    model, before = network(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_as_eager(model, chunk_size=7)
    finally:
        torch.set_num_threads(before)
    (converted,) = backend._KEPT[model].converted.values()
    assert len(converted._requests) == parts


@pytest.mark.parametrize(
    ("layers", "uses"),
    [
        ([nn.Conv2d(3, 8, 3)], 14 * 14),
        ([nn.Conv2d(3, 6, 3, stride=2, groups=3)], 7 * 7),
        ([nn.Flatten(2), nn.Linear(256, 5)], 3),
        ([nn.Flatten(), nn.Linear(768, 5)], 1),
        # 216 weights that are used at 196 places each, and 1568 once.
        ([nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(1568, 1)], (216 * 196 + 1568) / 1784),
        ([nn.ReLU(), nn.Flatten()], math.inf),
    ],
)
def test_how_often_weights_are_used(layers: list[nn.Module], uses: float) -> None:
    """Where that is seldom, a chunk is not parted."""
    model = nn.Sequential(*layers).eval()
    with conversion._quiet(), torch.no_grad():
        converted = conversion._converted(conversion._traced(model, images()[:2]), images()[:2])
    assert conversion.uses_of_weights(converted) == pytest.approx(uses)


def test_processes_do_not_take_the_same_cores() -> None:
    """By default all begin with the first core (findings/openvino_pins_processes_...)."""
    model = network()
    area(model)
    (converted,) = backend._KEPT[model].converted.values()
    compiled = converted._requests[0].get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.usefixtures("two_threads")
def test_threads_that_ask_one_network_wait_for_each_other() -> None:
    model = network().eval()
    area(model)
    (converted,) = backend._KEPT[model].converted.values()
    inputs = torch.rand(40, 7, 3, 16, 16)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(converted, inputs))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(found), model(inputs.flatten(0, 1)))


def test_a_trainer_that_the_network_knows_is_not_copied() -> None:
    model: Any = network()
    model._trainer = NotCopied()
    assert_as_eager(model)
    assert copy.copy(model)._trainer is model._trainer


def test_answers_are_read_where_the_user_says() -> None:
    class Several(NotConverted):
        def forward(self, x: Tensor) -> Any:
            return {"aux": x.mean(dim=(2, 3)), "classes": [self.network(x)]}

    model = Several()
    assert_as_eager(model, output_fn=lambda answer: answer["classes"][0])
    assert_as_eager(model, output_fn=lambda answer: -answer["classes"][0])


def test_a_class_for_each_pixel() -> None:
    """What is summed up over pixels, and over which ones, is left to torch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    assert_as_eager(model, score="segmentation")


def test_nothing_is_told_over_the_internet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenVINO's own converter would start a session of its telemetry."""
    telemetry = pytest.importorskip("openvino.tools.ovc.telemetry_utils")
    started: list[object] = []
    monkeypatch.setattr(telemetry.tm, "Telemetry", lambda **how: started.append(how))
    assert_as_eager(network())
    assert started == []


@dataclass(frozen=True)
class Watched(Constant):
    """Notes the threads that torch has while images are perturbed."""

    is_random: ClassVar[bool] = True
    fresh_each_step: ClassVar[bool] = True
    threads: ClassVar[list[int]] = []

    def __call__(self, *given: Any) -> Tensor:
        self.threads.append(torch.get_num_threads())
        return super().__call__(*given)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("name", "expected"), [("openvino", 1), ("eager", 2)])
def test_torch_leaves_the_cores_to_openvino(
    name: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads look out for work for a while, where OpenVINO's have some."""
    monkeypatch.setattr(Watched, "threads", [])
    area(network(), name, replacement=Watched(0.5))
    assert set(Watched.threads) == {expected}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", CALLS)
def test_all_metrics_leave_the_cores_to_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    converted = backend._Converted.__call__

    def watched(of: Any, inputs: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return converted(of, inputs)

    monkeypatch.setattr(backend._Converted, "__call__", watched)
    CALLS[name](execution=Execution(backend="openvino"))
    assert seen[-1] == 1  # of perturbed images; the clean ones come first


IN_A_FORK = """
import os
import signal
import torch
from aopc_monitor.network.backends.checked import Checked
from tests.modules import small_network

torch.set_num_threads(1)
model, x = small_network().eval(), torch.rand(8, 3, 16, 16)
with torch.no_grad():
    expected = Checked("openvino", model).prepare(x)(x, None)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        answers = Checked("openvino", model).prepare(x)
        found = answers(x, None)
        os._exit(0 if answers.answers is not None and torch.equal(found, expected) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_goes_on_to_ask_what_was_converted_for_one_thread() -> None:
    subprocess.run([sys.executable, "-c", IN_A_FORK], check=True, timeout=120)
