"""What tests on a device share: they run on a CPU too, so that they are known to work at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
import torch

# Products are bit-identical on CUDA only under this, which is read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

Within: TypeAlias = Callable[[float, float], None]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def within(record_property: Callable[[str, object], None]) -> Within:
    """Fails for an error beyond a tolerance, and keeps both for those who run the tests."""

    def check(error: float, tolerance: float) -> None:
        record_property("error", f"{error:.1e}")
        record_property("tolerance", f"{tolerance:.0e}")
        assert error <= tolerance  # which NaN is not

    return check


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    """Tests start without TF32, and leave torch as it was."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)
