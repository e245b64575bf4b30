"""Random numbers are private, on the device of their generator, and of the same kind everywhere."""

from __future__ import annotations

import torch

from aopc_monitor.utilities.randomness import generator_for, seed_of_state, uniform_numbers


def test_defaults_of_the_user_have_no_part_in_the_numbers() -> None:
    images = torch.zeros(1)
    expected = uniform_numbers(torch.Size([7, 3]), generator_for(images, seed=0))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = uniform_numbers(torch.Size([7, 3]), generator_for(images, seed=0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)


def test_numbers_are_uniform() -> None:
    numbers = uniform_numbers(torch.Size([400_001]), torch.Generator().manual_seed(0)).double()
    assert len(numbers) == 400_001
    assert 0 < numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 5 * (1 / 12 / len(numbers)) ** 0.5
    assert abs(numbers.var() - 1 / 12) < 1e-3
    shares = torch.histc(numbers, bins=16, min=0, max=1) / len(numbers)
    assert ((shares - 1 / 16).abs() < 0.003).all()
    neighbours = torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1]
    assert abs(neighbours) < 0.01


def test_seeds_follow_from_the_state_alone() -> None:
    """What gives an accelerator's blocks their seeds, which nobody can wait for here."""
    one, other = (torch.Generator().manual_seed(seed) for seed in (0, 0))
    seeds = [seed_of_state(one) for _ in range(3)]
    assert seeds == [seed_of_state(other) for _ in range(3)]
    assert len({*seeds, seed_of_state(torch.Generator().manual_seed(1))}) == 4
    assert all(0 <= seed < 2**62 for seed in seeds)
