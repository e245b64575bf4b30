"""The global random generators: what an observer must give back as it found them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class GeneratorStates:
    """States of the generators of Python, numpy, torch and its accelerators."""

    python: Any
    numpy: Any
    torch: Tensor
    accelerators: list[tuple[Callable[[Any], None], Any]]


def _initialized_accelerators() -> list[ModuleType]:
    # One that nobody has used yet has no state to keep, and asking it would start it.
    return [module for module in (torch.cuda, torch.xpu) if module.is_initialized()]


def generator_states() -> GeneratorStates:
    """The states as they are."""
    accelerators: list[tuple[Callable[[Any], None], Any]] = [
        (module.set_rng_state_all, module.get_rng_state_all())
        for module in _initialized_accelerators()
    ]
    if torch.backends.mps.is_available():
        accelerators.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    return GeneratorStates(
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
        torch.get_rng_state(),
        accelerators,
    )


def seed_generators(seed: int) -> None:
    """Start all of them from a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    # torch.manual_seed would also leave a seed behind for accelerators that start later.
    torch.default_generator.manual_seed(seed)
    for module in _initialized_accelerators():
        module.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def restore_generators(states: GeneratorStates) -> None:
    """Put them back."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)  # noqa: NPY002
    torch.set_rng_state(states.torch)
    for set_state, state in states.accelerators:
        set_state(state)
