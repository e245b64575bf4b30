from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DataParallel

from aopc_monitor.heatmaps import IntegratedGradients, RandomOrder
from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.functional.sensitivity_n import (
    SensitivityNResult,
    results_of_subsets,
    sensitivity_n,
)
from aopc_monitor.metrics.functional.subsets import SubsetChoices
from aopc_monitor.network.chunks import ChunkSizes
from aopc_monitor.network.execution import Execution
from aopc_monitor.network.isolation import untouched
from tests.modules import small_network


def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network().eval()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES, HEATMAPS = random(4, 3, 16, 16), random(4, 16, 16, seed=1)
SETTINGS: dict[str, Any] = {"n": [1, 5, 12], "subsets": 20, "region_size": 4}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def found(model: nn.Module, images: Tensor, heatmaps: Tensor, **changes: Any) -> SensitivityNResult:
    changes = {"generator": seeded(), **changes}
    return sensitivity_n(model, images, heatmaps, **{**SETTINGS, **changes})


def test_all_features_have_one_subset_and_no_correlation_even_of_complete_heatmaps() -> None:
    model = network()
    heatmaps = IntegratedGradients()(model, IMAGES)
    result = found(model, IMAGES, heatmaps, n=[8, 16])
    assert result.undefined.tolist() == [0, 4]
    assert result.curve[1].isnan()
    assert torch.equal(result.per_image, result.correlations[:, 0])
    with pytest.warns(UserWarning, match="4 of 4 images is undefined at every n"):
        assert found(model, IMAGES, heatmaps, n=16).mean.isnan()


def test_constant_heatmaps_count_as_0_and_are_counted() -> None:
    heatmaps = HEATMAPS.double()
    heatmaps[0], heatmaps[1] = 0.1, 0.0
    result = found(network(), IMAGES, heatmaps, n=[1, 50, 200], region_size=1)
    assert (result.correlations[:2] == 0).all()
    assert result.ignored.sum(dim=0).tolist() == [2, 2, 2]
    assert result.undefined.tolist() == [0, 0, 0]
    assert (result.correlations[2:] != 0).all()


def test_scores_that_never_change_are_left_out_and_counted() -> None:
    images = IMAGES.clone()
    images[1] = 0  # removing nothing but zeros
    with pytest.warns(UserWarning, match="1 of 4 images is undefined"):
        result = found(network(), images, HEATMAPS)
    assert result.undefined.tolist() == [1, 1, 1]
    rest = result.per_image[[0, 2, 3]]
    torch.testing.assert_close(result.mean, rest.mean())
    torch.testing.assert_close(result.sem, rest.std() / 3**0.5)


class Flicker(nn.Module):
    """Answers every other image of a chunk differently, whatever it shows."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, images: Tensor) -> Tensor:
        outputs = torch.ones(len(images), 2)
        outputs[::2] += self.by
        return outputs


@pytest.mark.parametrize(("by", "n"), [(2e-7, 5), (0.1, 16)])
def test_rounding_is_no_answer_nor_is_anything_at_all_features(by: float, n: int) -> None:
    score: Any = lambda outputs, target: outputs[:, 0]  # noqa: E731
    with pytest.warns(UserWarning, match="4 of 4"):
        assert found(Flicker(by), IMAGES, HEATMAPS, n=n, score=score).undefined.tolist() == [4]
    assert found(Flicker(0.1), IMAGES, HEATMAPS, n=5, score=score).undefined.tolist() == [0]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(1e-6, 1e6),
    chunk_size=st.integers(1, 300),
    score=st.sampled_from(["logit", "probability", "log_probability"]),
)
def test_properties(seed: int, scale: float, chunk_size: int, score: Any) -> None:
    model, images = network(), random(3, 3, 16, 16, seed=seed)
    heatmaps = random(3, 16, 16, seed=seed + 1).double()
    given_: dict[str, Any] = {"n": [2, 9], "subsets": 5, "score": score}
    result = found(model, images, heatmaps, **given_).correlations
    assert (result.abs() <= 1).all()

    def close(other: Tensor) -> None:
        torch.testing.assert_close(other, result, rtol=0, atol=2e-3)

    close(found(model, images, heatmaps, **given_, execution=Execution(chunk_size)).correlations)
    close(found(model, images, heatmaps * scale + 7, **given_).correlations)
    close(-found(model, images, heatmaps * -scale, **given_).correlations)


def test_batch_permuted_with_its_subsets() -> None:
    """Subsets follow the position; where all that exist are drawn, they are the same for all."""
    model, order = network(), torch.tensor([2, 0, 3, 1])
    choices: dict[str, Any] = {"n": [1, 3], "subsets": 4000, "region_size": 8}
    result = found(model, IMAGES, HEATMAPS, **choices).correlations
    permuted = found(model, IMAGES[order], HEATMAPS[order], **choices).correlations
    torch.testing.assert_close(permuted, result[order], rtol=0, atol=0.03)


def test_random_heatmaps_have_an_expectation_of_0() -> None:
    images = random(40, 3, 16, 16)
    result = found(network(), images, RandomOrder()(nn.Identity(), images))
    assert float(result.mean.abs()) < 4 * float(result.sem)


def test_private_generator_is_the_same_for_the_same_images() -> None:
    model = network()
    first, again, other = (
        found(model, images, HEATMAPS, generator=None)
        for images in (IMAGES, IMAGES.clone(), IMAGES + 1e-3)
    )
    assert torch.equal(first.correlations, again.correlations)
    assert (first.correlations - other.correlations).abs().max() > 0.01


class ShortOfMemory(nn.Module):
    def __init__(self, at_most: int) -> None:
        super().__init__()
        self.inner, self.at_most = network(), at_most

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.at_most:
            raise torch.OutOfMemoryError
        outputs: Tensor = self.inner(images)
        return outputs


def test_short_memory_changes_chunks_and_not_subsets() -> None:
    plenty = found(network(), IMAGES, HEATMAPS).correlations
    scarce = found(ShortOfMemory(7), IMAGES, HEATMAPS).correlations
    torch.testing.assert_close(scarce, plenty, rtol=0, atol=1e-4)
    with pytest.raises(torch.OutOfMemoryError):
        found(ShortOfMemory(0), IMAGES, HEATMAPS)


@contextmanager
def leaving_no_trace() -> Iterator[tuple[nn.Module, Tensor]]:
    """A network under training and images, that what is done to them must leave as they were."""
    model = network().train()
    model(IMAGES).sum().backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [p.grad for p in model.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    images = IMAGES.clone()
    yield model, images
    assert all(module.training for module in model.modules())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert torch.equal(images, IMAGES)


def test_no_trace_is_left() -> None:
    heatmaps = HEATMAPS.clone().requires_grad_()
    with leaving_no_trace() as (model, images), torch.inference_mode():
        found(model, images, heatmaps, generator=None)


def test_half_precision_extreme_heatmaps_and_own_scores() -> None:
    model = network()
    result = found(model, IMAGES, HEATMAPS).correlations
    for scale in (1e-300, 1e300):
        other = found(model, IMAGES, HEATMAPS.double() * scale).correlations
        torch.testing.assert_close(other, result)
    tiny, usual = (
        found(network().double(), IMAGES.double(), HEATMAPS, score=score)
        for score in (lambda outputs, _: outputs[:, 1] * 1e-250, lambda outputs, _: outputs[:, 1])
    )
    torch.testing.assert_close(tiny.correlations, usual.correlations)
    own = found(model, IMAGES, HEATMAPS, score=lambda outputs, target: -outputs[:, 0],
                target=torch.zeros(4, dtype=torch.long))  # fmt: skip
    named = found(model, IMAGES, HEATMAPS, target=torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(own.correlations, -named.correlations)
    half = found(network().bfloat16(), IMAGES.bfloat16(), HEATMAPS.bfloat16(), n=[8])
    assert half.forwards == 84
    assert (half.correlations[~half.correlations.isnan()] - result[:, 1]).abs().max() < 2


class OfTraining(DataParallel[nn.Module]):
    """Takes every forward for one of training, as DistributedDataParallel does."""

    def forward(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a forward through the wrapper")


def test_wrapped_models_are_looked_through() -> None:
    expected = found(network(), IMAGES, HEATMAPS).correlations
    model = OfTraining(network().train())
    assert torch.equal(found(model, IMAGES, HEATMAPS).correlations, expected)
    assert all(module.training for module in model.module.modules())


def test_a_model_of_fabric_sees_images_in_its_own_precision() -> None:
    fabric = pytest.importorskip("lightning_fabric").Fabric(
        accelerator="cpu", devices=1, precision="64-true"
    )
    result = found(fabric.setup(network()), IMAGES, HEATMAPS)
    expected = found(network().double(), IMAGES.double(), HEATMAPS)
    assert torch.equal(result.correlations, expected.correlations)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    on_cpu = found(network().double(), IMAGES.double(), HEATMAPS).correlations
    on_gpu = found(network().double().cuda(), IMAGES.double().cuda(), HEATMAPS.cuda()).correlations
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-6)


def test_several_heatmaps_share_subsets_and_forwards() -> None:
    model, execution = network(), Execution()
    choices = SubsetChoices(**SETTINGS, baseline=0.0, score="logit", execution=execution)
    chunks = ChunkSizes.of(None, IMAGES)
    with untouched(model):
        clean = CleanBatch.of(model, IMAGES, "logit", execution, chunks)
        both = results_of_subsets(clean, [HEATMAPS, -HEATMAPS], choices, seeded(), chunks)
    alone = found(model, IMAGES, HEATMAPS)
    assert torch.equal(both[0].correlations, alone.correlations)
    torch.testing.assert_close(both[1].correlations, -alone.correlations)
    assert both[0].forwards == both[1].forwards == alone.forwards
