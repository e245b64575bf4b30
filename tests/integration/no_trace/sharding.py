"""Trainings under ModelParallelStrategy: how the network is spread, and what a process keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils._pytree import tree_map

from tests.integration.no_trace.cases import MESHES, Case


def strategy_of(case: Case) -> ModelParallelStrategy:
    count, cut_over = MESHES[case.processes]
    return ModelParallelStrategy(
        data_parallel_size=count // cut_over, tensor_parallel_size=cut_over
    )


def shard(network: Any, mesh: Any) -> None:
    """Cuts the linear layers of the head, and shards each block and the rest."""
    if mesh["tensor_parallel"].size() > 1:
        plan = {"1": ColwiseParallel(), "3": RowwiseParallel()}
        parallelize_module(network.head, mesh["tensor_parallel"], plan)
    if mesh["data_parallel"].size() > 1:
        for block in (*network.children(), network):
            fully_shard(block, mesh=mesh["data_parallel"])


def local_shards(trace: Any) -> Any:
    """What one process has of all tensors; other values as they are."""
    return tree_map(lambda value: value.to_local() if isinstance(value, DTensor) else value, trace)


def content_of_folder(checkpoint: Path) -> dict[str, Any]:
    """All of a distributed checkpoint: whole tensors, and what Lightning keeps beside them."""
    whole = checkpoint.with_suffix(f".{torch.distributed.get_rank()}")
    dcp_to_torch_save(checkpoint, whole)
    metadata = torch.load(checkpoint / "meta.pt", weights_only=True)
    return {**metadata, "tensors": torch.load(whole, weights_only=True)}
