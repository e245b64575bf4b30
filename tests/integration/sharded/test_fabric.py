"""Fabric under ModelParallelStrategy: the example trains the same network, looked at or not."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.processes import run

pytestmark = pytest.mark.full
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "fabric_fsdp2.py"


def _trained(rank: int, world_size: int) -> list[list[Tensor]]:
    """What is left on this process without looks, and with them."""
    # By this Fabric knows that the processes are there already.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(world_size))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE.parent))
        main: Any = runpy.run_path(str(EXAMPLE))["main"]
    found = []
    for look_every in (0, 25):
        network = main(look_every=look_every)
        shards = [parameter.to_local().detach().clone() for parameter in network.parameters()]
        gradients = [parameter.grad.to_local().clone() for parameter in network.parameters()]
        found.append([*shards, *gradients, *network.buffers(), torch.get_rng_state()])
    return found


def test_training_is_bit_identical_shard_by_shard(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    for plain, watched in run(_trained, 2, tmp_path):
        assert len(plain) == 2 * 8 + 3 + 1
        assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
