"""An estimate is the metric over a loader, and ends where the wanted precision is reached."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aopc_monitor import AOPC, area_over_perturbation_curve
from aopc_monitor.heatmaps import Sensitivity
from aopc_monitor.metrics.aopc_estimate import AOPCEstimate
from aopc_monitor.metrics.collected_areas import FEWEST_IMAGES, Quantity
from aopc_monitor.metrics.estimate import estimate_aopc
from aopc_monitor.utilities.randomness import generator_for
from tests.modules import Quadrants, small_network
from tests.settings import with_execution

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 12, "data_range": (0.0, 1.0)}
SIZE = 20


def network(seed: int = 0) -> nn.Sequential:
    """Confident in what it says, so that images differ in their area."""
    torch.manual_seed(seed)
    model = small_network().eval()
    model[-1].weight.data.mul_(10)
    return model


def batches(count: int = 3) -> tuple[Tensor, ...]:
    return Quadrants(count * SIZE).images.split(SIZE)


def brightness(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    return x.mean(dim=1)


def estimate(of: Any = None, model: nn.Module | None = None, **changes: Any) -> AOPCEstimate:
    of = batches() if of is None else of
    settings = {"heatmap": brightness, "chunk_size": 128, **SETTINGS, **changes}
    return estimate_aopc(network() if model is None else model, of, **with_execution(settings))


def read_from(parts: Sequence[Tensor], read: list[int]) -> Iterator[Tensor]:
    """The batches, and a note of each one that is asked for."""
    for number, part in enumerate(parts):
        read.append(number)
        yield part


def metric_of(parts: Sequence[Tensor], **changes: Any) -> AOPC:
    metric = AOPC(**with_execution({"heatmap": brightness, **SETTINGS, **changes}))
    for part in parts:
        metric.update(network(), part)
    return metric


CHOICES: dict[str, dict[str, Any]] = {
    "sampled": {"sampled_steps": 3, "seed": 5},
    "all steps": {"sampled_steps": None},
    "other choices": {
        "sampled_steps": 2, "replacement": "mean", "score": "logit", "autocast": torch.bfloat16,
        "channels_last": False, "chunk_size": 7, "heatmap": Sensitivity("linf"),
    },
    "repeats": {"sampled_steps": 2, "repeats": 3, "heatmap": "lrp"},
}  # fmt: skip


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_estimate_is_the_metric_over_all_batches(choices: dict[str, Any]) -> None:
    found, metric = estimate(**choices), metric_of(batches(), **choices)
    control = metric_of(batches(), order="random", **choices)
    assert found.aopc.mean == pytest.approx(float(metric.compute()), rel=1e-5)
    assert found.aopc.sem == pytest.approx(float(metric.standard_error()), rel=1e-4)
    gain = float(metric.compute() - control.compute())
    assert found.gain.mean == pytest.approx(gain, rel=1e-4, abs=1e-6)
    alone = estimate(control=False, **choices)
    assert torch.equal(alone.per_image(), found.per_image())


def test_gain_is_paired_image_by_image() -> None:
    found = estimate(sampled_steps=3, seed=5)
    gains = []
    for part in batches():
        morf, control = (
            area_over_perturbation_curve(
                network(), part, part.mean(1), order=order, sampled_steps=3,
                generator=generator_for(part, seed=5), **SETTINGS,
            ).per_image
            for order in ("morf", "random")
        )  # fmt: skip
        gains.append(morf - control)
    expected = torch.cat(gains)
    torch.testing.assert_close(found.per_image("gain"), expected, rtol=1e-5, atol=1e-7)
    assert found.gain.sem == pytest.approx(float(expected.std() / len(expected) ** 0.5))
    assert found.gain.z == pytest.approx(found.gain.mean / found.gain.sem)


def first_precise(found: AOPCEstimate, of: Quantity, target: float) -> int:
    """After how many images, batch by batch, the standard error is as small as the target."""
    values, counts = found.per_image(of), range(SIZE, found.num_images + 1, SIZE)
    return next(
        n for n in counts if n >= FEWEST_IMAGES and float(values[:n].std() / n**0.5) <= target
    )


@pytest.mark.parametrize("of", ["aopc", "gain"])
@pytest.mark.parametrize("count", [3, 6, 9])
def test_no_more_images_are_read_once_the_precision_is_reached(of: Quantity, count: int) -> None:
    whole, read = estimate(batches(10)), list[int]()
    assert whole.num_images == 10 * SIZE
    assert whole.reached is None
    target = float(whole.per_image()[: count * SIZE].std() / (count * SIZE) ** 0.5) * 1.0001
    expected = first_precise(whole, of, target)
    assert (expected > count * SIZE) == (of == "gain")  # whose error here is a little larger
    found = estimate(read_from(batches(10), read), target_sem=target, sem_of=of)
    assert found.num_images == expected
    assert read == list(range(expected // SIZE))
    assert found.reached is True
    assert torch.equal(found.per_image(of), whole.per_image(of)[:expected])
    assert f"a standard error of {target} was reached" in str(found)


def test_a_standard_error_of_few_images_is_not_believed() -> None:
    assert estimate(batches(10), target_sem=100.0).num_images == 3 * SIZE >= FEWEST_IMAGES
    few = estimate(batches(2), target_sem=100.0)
    assert few.num_images == 2 * SIZE < FEWEST_IMAGES
    assert few.reached is False
    assert f"too few images to tell a standard error, which takes {FEWEST_IMAGES}" in str(few)


def test_the_end_of_the_images_is_told() -> None:
    found = estimate(target_sem=1e-9)
    assert found.reached is False
    assert found.num_images == 3 * SIZE
    assert "the images ended before a standard error of 1e-09" in str(found)
    assert "standard error" not in str(estimate())


def test_without_the_control_half_of_the_perturbed_forwards_are_saved() -> None:
    with_it, without = estimate(), estimate(control=False)
    assert with_it.forwards == 3 * SIZE * (1 + 2 * 4)
    assert without.forwards == 3 * SIZE * (1 + 4)
    assert "gain" in str(with_it)
    assert "gain" not in str(without)
    with pytest.raises(ValueError, match="control=True"):
        _ = without.gain


def test_forwards_are_those_that_were_made() -> None:
    counts: list[int] = []
    model = network()
    model.register_forward_hook(lambda module, inputs, output: counts.append(len(output)))
    # The layout is given, so that none has to be tried; and its traits are known by then.
    estimate(model=model, channels_last=False)
    counts.clear()
    found = estimate(model=model, channels_last=False)
    assert sum(counts) == found.forwards


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_sem": 0}, "target_sem=0 must be a positive number"),
        ({"target_sem": -1.0}, "target_sem=-1.0 must be"),
        ({"target_sem": float("nan")}, "target_sem=nan must be"),
        ({"target_sem": float("inf")}, "target_sem=inf must be"),
        ({"target_sem": "x"}, "target_sem='x' must be"),
        ({"sem_of": "x"}, "sem_of='x' is unknown"),
        ({"sem_of": "gain", "control": False}, 'sem_of="gain" needs control=True'),
        ({"of": []}, "batches holds no images"),
        ({"of": [torch.rand(0, 3, 16, 16)]}, "images is empty"),
        ({"of": [torch.full((2, 3, 16, 16), float("nan"))]}, "images holds NaN"),
        ({"sampled_steps": 0}, "sampled_steps=0 must be"),
        ({"sampled_steps": 13}, "sampled_steps=13 is more than steps=12"),
        ({"steps": 17}, "steps=17 is more than the 16 regions"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"chunk_size": 0}, "chunk_size=0 must be"),
        ({"autocast": torch.float64}, "autocast=torch.float64"),
        ({"heatmap": "lpr"}, "heatmap='lpr' is unknown"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepz": 3}, "stepz"),
        ({"of": [torch.zeros(2, 3, 16, 16, dtype=torch.uint8)]}, "images is torch.uint8"),
        ({"of": ["x"]}, "no images were found in a batch that is a str"),
    ],
)
def test_bad_types_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        estimate(**changes)


def test_fewer_steps_than_the_usual_samples_are_all_evaluated() -> None:
    assert estimate(steps=3).forwards == 3 * SIZE * (1 + 2 * 3)


def test_batches_may_have_any_usual_form() -> None:
    whole, data = estimate(), Quadrants(3 * SIZE)
    loader = DataLoader(TensorDataset(data.images, data.labels), batch_size=SIZE)
    dicts = ({"pixel_values": x, "label": torch.zeros(SIZE)} for x in batches())
    for of in (loader, dicts, [[x] for x in batches()], iter(batches())):
        assert torch.equal(estimate(of).per_image("gain"), whole.per_image("gain"))


def test_images_outside_the_data_range_are_told_once() -> None:
    with pytest.warns(UserWarning, match="outside data_range") as caught:
        estimate(data_range=(0.4, 0.5))
    assert len(caught) == 1


def test_same_batches_get_the_same_noise_again() -> None:
    first, last = estimate(), estimate(batches()[::-1])
    both = [torch.stack(list(found.per_image().split(SIZE))) for found in (first, last)]
    assert torch.equal(both[0], both[1].flip(0))
    assert not torch.equal(estimate(seed=1).per_image(), first.per_image())


def test_model_and_generators_are_left_alone() -> None:
    model = network().train()
    model[1].eval()
    state, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    generator = torch.get_rng_state()
    estimate(model=model, heatmap="lrp")
    assert torch.equal(torch.get_rng_state(), generator)
    assert random.random() == random.Random(1).random()
    assert np.random.rand() == np.random.RandomState(1).rand()  # noqa: NPY002
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
