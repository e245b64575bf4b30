from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from recipes.shared.data.corruptions import (
    CORRUPTIONS,
    OTHER_CORRUPTIONS,
    SEVERITIES,
    corrupted,
)

DRAWN = ("noise", "occlusion", "salt and pepper")


def photographs(size: int = 32) -> Tensor:
    """Smooth colours with some detail: what blur and JPEG take away must be there."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, size // 4, size // 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    detail = 0.15 * torch.rand(4, 3, size, size, generator=generator)
    return (255 * (0.85 * smooth + detail)).round().to(torch.uint8)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("corruption", [*CORRUPTIONS, *OTHER_CORRUPTIONS])
def test_each_severity_takes_more_away(corruption: str, size: int) -> None:
    images = photographs(size)
    worse = [corrupted(images, corruption, severity) for severity in SEVERITIES]
    assert all(w.dtype == torch.uint8 and w.shape == images.shape for w in worse)
    errors = [float((w.float() - images.float()).square().mean()) for w in worse]
    assert errors[0] > 0
    assert all(a < b for a, b in pairwise(errors))


@pytest.mark.parametrize("corruption", [*CORRUPTIONS, *OTHER_CORRUPTIONS])
def test_always_the_same_and_the_global_generator_is_left_alone(corruption: str) -> None:
    images = photographs()
    before = images.clone()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = corrupted(images, corruption, 3, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(corrupted(images, corruption, 3, seed=1), first)
    assert torch.equal(images, before)
    other = corrupted(images, corruption, 3, seed=2)
    assert torch.equal(other, first) == (corruption not in DRAWN)


def test_noise_has_the_strength_it_names() -> None:
    grey = torch.full((8, 3, 32, 32), 128, dtype=torch.uint8)
    assert float(corrupted(grey, "noise", 2).float().std()) / 255 == pytest.approx(0.08, rel=0.05)


def test_bad_input_is_named() -> None:
    images = photographs()
    with pytest.raises(ValueError, match=r"noise, blur, contrast, JPEG, darkness, .*; got 'fog'"):
        corrupted(images, "fog", 1)
    with pytest.raises(ValueError, match="severity must be one of"):
        corrupted(images, "noise", 6)
    with pytest.raises(ValueError, match=r"images are torch\.float32"):
        corrupted(images.float(), "noise", 1)
